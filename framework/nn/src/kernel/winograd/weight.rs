//! Transforms of filters, and of their gradient.
//!
//! Weights are stored `[output, input, 3, 3]`, nine numbers side by side, but a vector should hold sixteen filters. So
//! both kernels go through a small buffer that turns `[filter, tap]` to `[tap, filter]`, several rows of filters at a time:
//! a vector that is read right behind the single numbers it is made of would have to wait for them.

use super::{POINTS, SIDE, filter_line, weight_line};
use crate::kernel::{
    gemm::{packed_len, panels},
    simd::{Kernel, Level, Simd},
};

/// Numbers of a 3×3 filter.
const TAPS: usize = 9;
/// Rows of filters that are turned together.
const ROWS: usize = 8;
/// Most lanes of a vector.
const MOST: usize = 16;

/// The filters of the right-hand sides, one for every row (input of the product) and column (output of the product).
#[derive(Clone, Copy, Debug)]
pub struct FilterSource<'a> {
    /// All weights.
    pub weights: &'a [f32],
    /// Distance between filters of neighbouring rows.
    pub row: usize,
    /// Distance between filters of neighbouring columns.
    pub column: usize,
    /// Filters are turned by half a turn: for the input gradient.
    pub flip: bool,
    /// Factor of every column.
    pub scale: Option<&'a [f32]>,
}

/// Writes the transformed filters of `n` columns from `first` on: for each point a packed right-hand side `[k, n]`,
/// `plane` numbers apart.
///
/// # Panics
/// If a slice is too short.
pub fn filters(
    level: Level,
    source: FilterSource<'_>,
    k: usize,
    first: usize,
    n: usize,
    plane: usize,
    out: &mut [f32],
) {
    assert!(plane >= packed_len(k, n) && out.len() >= POINTS * plane);
    if k == 0 || n == 0 {
        return;
    }
    let last = (k - 1) * source.row + (first + n - 1) * source.column;
    assert!(source.weights.len() >= last + TAPS);
    assert!(source.scale.is_none_or(|scale| scale.len() >= first + n));
    for (column, vectors) in panels(level, n) {
        let width = vectors * level.lanes();
        let kernel = Filters {
            weights: source.weights[(first + column) * source.column..].as_ptr(),
            row: source.row,
            column: source.column,
            flip: source.flip,
            scale: source.scale.map(|scale| &scale[first + column..]),
            rows: k,
            columns: width.min(n - column),
            width,
            plane,
            out: out[k * column..].as_mut_ptr(),
        };
        // SAFETY: the weights reach to the last filter, and every point has room for k rows of all panels.
        unsafe { level.run(kernel) }
    }
}

/// One panel.
struct Filters<'a> {
    weights: *const f32,
    row: usize,
    column: usize,
    flip: bool,
    scale: Option<&'a [f32]>,
    rows: usize,
    columns: usize,
    width: usize,
    plane: usize,
    out: *mut f32,
}

impl Kernel for Filters<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut turned = [[[0.0f32; MOST]; TAPS]; ROWS];
        // SAFETY: filters below `rows` and `columns`; vectors within the panel.
        unsafe {
            for first in (0..self.rows).step_by(ROWS) {
                let rows = ROWS.min(self.rows - first);
                for lane in (0..self.width).step_by(S::LANES) {
                    let count = S::LANES.min(self.columns.saturating_sub(lane));
                    if count < S::LANES {
                        turned = [[[0.0; MOST]; TAPS]; ROWS];
                    }
                    for i in 0..count {
                        let factor = self.scale.map_or(1.0, |scale| scale[lane + i]);
                        let mut at = self
                            .weights
                            .add(first * self.row + (lane + i) * self.column);
                        for turned in &mut turned[..rows] {
                            let filter = &*at.cast::<[f32; TAPS]>();
                            for (turned, &weight) in turned.iter_mut().zip(filter) {
                                turned[i] = factor * weight;
                            }
                            at = at.wrapping_add(self.row);
                        }
                    }
                    for (row, turned) in turned[..rows].iter().enumerate() {
                        self.filter(s, turned, self.out.add((first + row) * self.width + lane));
                    }
                }
            }
        }
    }
}

impl Filters<'_> {
    /// G·g·Gᵀ for a vector of filters.
    #[inline(always)]
    unsafe fn filter<S: Simd>(&self, s: S, taps: &[[f32; MOST]; TAPS], out: *mut f32) {
        // SAFETY: `out` is a vector of every point.
        unsafe {
            let mut lines = [[s.zero(); 3]; SIDE];
            for j in 0..3 {
                let line = [0, 1, 2].map(|i| {
                    let tap = 3 * i + j;
                    let tap = if self.flip { TAPS - 1 - tap } else { tap };
                    s.load(taps[tap].as_ptr())
                });
                for (row, v) in lines.iter_mut().zip(filter_line(s, line)) {
                    row[j] = v;
                }
            }
            for (i, &line) in lines.iter().enumerate() {
                for (j, v) in filter_line(s, line).into_iter().enumerate() {
                    s.store(out.add((i * SIDE + j) * self.plane), v);
                }
            }
        }
    }
}

/// Adds the gradient of filters, given the sums over tiles at every point.
#[derive(Clone, Copy, Debug)]
pub struct WeightGradient {
    /// `[copies, point, outputs, inputs]`, from the row of one output on; copies are added in their order.
    pub sums: *const f32,
    /// Number of copies.
    pub copies: usize,
    /// Distance between copies.
    pub copy: usize,
    /// Distance between points.
    pub plane: usize,
    /// Input channels.
    pub inputs: usize,
    /// `[inputs, 3, 3]` gradients.
    pub out: *mut f32,
}

impl Kernel for WeightGradient {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut c = 0;
        // SAFETY: the caller's promise: every point has that many inputs, and so has the gradient.
        unsafe {
            while c < self.inputs {
                self.vector(s, c);
                c += S::LANES;
            }
        }
    }
}

impl WeightGradient {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, s: S, c: usize) {
        let mask = s.mask(self.inputs - c);
        // SAFETY: channels behind the last are masked.
        unsafe {
            let mut lines = [[s.zero(); SIDE]; 3];
            for j in 0..SIDE {
                let mut line = [s.zero(); SIDE];
                for (i, v) in line.iter_mut().enumerate() {
                    let p = self.sums.add((i * SIDE + j) * self.plane + c);
                    *v = s.load_masked(p, mask);
                    for copy in 1..self.copies {
                        *v = s.add(*v, s.load_masked(p.add(copy * self.copy), mask));
                    }
                }
                for (row, v) in lines.iter_mut().zip(weight_line(s, line)) {
                    row[j] = v;
                }
            }
            let mut turned = [[0.0f32; MOST]; TAPS];
            for (i, &line) in lines.iter().enumerate() {
                for (j, v) in weight_line(s, line).into_iter().enumerate() {
                    s.store(turned[3 * i + j].as_mut_ptr(), v);
                }
            }
            for lane in 0..S::LANES.min(self.inputs - c) {
                let out = &mut *self.out.add((c + lane) * TAPS).cast::<[f32; TAPS]>();
                for (out, taps) in out.iter_mut().zip(&turned) {
                    *out += taps[lane];
                }
            }
        }
    }
}
