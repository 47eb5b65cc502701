//! The loops of the passes over rows, one group of rows and one column of channels at a time.

use super::{Addend, Affine, GROUP, GradientSums};
use crate::{
    kernel::{
        activation::{apply, gradient},
        simd::{Kernel, Simd},
    },
    network::Activation,
};

/// Most vectors of a column.
const COLUMN: usize = 4;
/// Most numbers of a column.
const NUMBERS: usize = COLUMN * 16;

/// A column of up to [`COLUMN`] vectors; only the last may be incomplete.
#[derive(Clone, Copy)]
struct Lanes<S: Simd> {
    s: S,
    mask: Option<S::Mask>,
}

impl<S: Simd> Lanes<S> {
    #[inline(always)]
    unsafe fn load<const Q: usize>(self, p: *const f32) -> [S::Vector; Q] {
        let mut v = [self.s.zero(); Q];
        // SAFETY: the caller's promise.
        unsafe {
            match self.mask {
                Some(mask) => v[0] = self.s.load_masked(p, mask),
                None => {
                    for (q, v) in v.iter_mut().enumerate() {
                        *v = self.s.load(p.add(q * S::LANES));
                    }
                }
            }
        }
        v
    }

    #[inline(always)]
    unsafe fn store<const Q: usize>(self, p: *mut f32, v: [S::Vector; Q]) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.mask {
                Some(mask) => self.s.store_masked(p, v[0], mask),
                None => {
                    for (q, v) in v.iter().enumerate() {
                        self.s.store(p.add(q * S::LANES), *v);
                    }
                }
            }
        }
    }

    /// scale · x + shift (+ addend), for the columns from `c` of the row that starts at number `at`.
    #[inline(always)]
    unsafe fn map<const Q: usize>(
        self,
        x: [S::Vector; Q],
        affine: [[S::Vector; Q]; 2],
        addend: Option<(Addend<'_>, [[S::Vector; Q]; 2])>,
        at: usize,
    ) -> [S::Vector; Q] {
        let mut z = x;
        for q in 0..Q {
            z[q] = self.s.fmadd(affine[0][q], x[q], affine[1][q]);
        }
        if let Some((addend, own)) = addend {
            // SAFETY: the addend is as long as x.
            let other: [S::Vector; Q] = unsafe { self.load(addend.values.as_ptr().add(at)) };
            for q in 0..Q {
                let other = if addend.affine.is_some() {
                    self.s.fmadd(own[0][q], other[q], own[1][q])
                } else {
                    other[q]
                };
                z[q] = self.s.add(z[q], other);
            }
        }
        z
    }

    #[inline(always)]
    unsafe fn affine<const Q: usize>(self, affine: Affine<'_>, c: usize) -> [[S::Vector; Q]; 2] {
        // SAFETY: both arrays have a number for every channel.
        unsafe {
            [
                self.load(affine.scale.as_ptr().add(c)),
                self.load(affine.shift.as_ptr().add(c)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn addend<const Q: usize>(
        self,
        addend: Option<Addend<'_>>,
        c: usize,
    ) -> Option<(Addend<'_>, [[S::Vector; Q]; 2])> {
        addend.map(|addend| {
            let own = match addend.affine {
                // SAFETY: as above.
                Some(affine) => unsafe { self.affine(affine, c) },
                None => [[self.s.zero(); Q]; 2],
            };
            (addend, own)
        })
    }
}

/// Work on one column of a group of rows.
trait Columns {
    /// Rows from `first` to before `last`, channels from `c` to before `c + width`.
    ///
    /// # Safety
    /// The rows and channels must exist.
    unsafe fn column<S: Simd, const Q: usize>(
        &mut self,
        lanes: Lanes<S>,
        first: usize,
        last: usize,
        c: usize,
        width: usize,
    );
}

/// Cuts rows into groups and channels into columns.
///
/// # Safety
/// As [`Columns::column`].
#[inline(always)]
unsafe fn sweep<S: Simd>(s: S, rows: usize, n: usize, work: &mut impl Columns) {
    let full = Lanes { s, mask: None };
    let mut first = 0;
    while first < rows {
        let last = (first + GROUP).min(rows);
        let mut c = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while c + COLUMN * S::LANES <= n {
                work.column::<S, COLUMN>(full, first, last, c, COLUMN * S::LANES);
                c += COLUMN * S::LANES;
            }
            while c + S::LANES <= n {
                work.column::<S, 1>(full, first, last, c, S::LANES);
                c += S::LANES;
            }
            if c < n {
                let mask = Some(s.mask(n - c));
                work.column::<S, 1>(Lanes { s, mask }, first, last, c, n - c);
            }
        }
        first = last;
    }
}

/// The numbers of a column in memory.
#[inline(always)]
fn spill<S: Simd, const Q: usize>(s: S, v: [S::Vector; Q]) -> [f32; NUMBERS] {
    let mut numbers = [0.0; NUMBERS];
    for (q, v) in v.iter().enumerate() {
        // SAFETY: a column has at most `NUMBERS` numbers.
        unsafe { s.store(numbers.as_mut_ptr().add(q * S::LANES), *v) };
    }
    numbers
}

/// Adds a group of rows to counts, means and squares.
pub(super) struct MomentsOf<'a> {
    pub(super) values: *const f32,
    pub(super) rows: usize,
    pub(super) n: usize,
    /// Rows seen before · rows of this group / rows of both.
    pub(super) old: f64,
    /// Rows of this group / rows of both.
    pub(super) share: f64,
    pub(super) mean: &'a mut [f64],
    pub(super) squares: &'a mut [f64],
}

impl Kernel for MomentsOf<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        // SAFETY: the caller's promise.
        unsafe { sweep(s, self.rows, self.n, &mut self) }
    }
}

impl Columns for MomentsOf<'_> {
    #[inline(always)]
    unsafe fn column<S: Simd, const Q: usize>(
        &mut self,
        lanes: Lanes<S>,
        first: usize,
        last: usize,
        c: usize,
        width: usize,
    ) {
        let s = lanes.s;
        let mut sum = [s.zero(); Q];
        let mut squares = [s.zero(); Q];
        let inverse = s.splat(1.0 / (last - first) as f32);
        // SAFETY: rows and channels exist.
        unsafe {
            for row in first..last {
                let x: [S::Vector; Q] = lanes.load(self.values.add(row * self.n + c));
                for q in 0..Q {
                    sum[q] = s.add(sum[q], x[q]);
                }
            }
            for sum in &mut sum {
                *sum = s.mul(*sum, inverse);
            }
            for row in first..last {
                let x: [S::Vector; Q] = lanes.load(self.values.add(row * self.n + c));
                for q in 0..Q {
                    let d = s.sub(x[q], sum[q]);
                    squares[q] = s.fmadd(d, d, squares[q]);
                }
            }
        }
        let (m, v) = (spill(s, sum), spill(s, squares));
        let (mean, squares) = (
            &mut self.mean[c..c + width],
            &mut self.squares[c..c + width],
        );
        for i in 0..width {
            let difference = f64::from(m[i]) - mean[i];
            mean[i] += difference * self.share;
            squares[i] += f64::from(v[i]) + difference * difference * self.old;
        }
    }
}

/// Kernel of [`normalise`](super::normalise).
pub(super) struct Normalise<'a> {
    pub(super) x: *const f32,
    pub(super) y: *mut f32,
    pub(super) n: usize,
    pub(super) rows: usize,
    pub(super) affine: Affine<'a>,
    pub(super) addend: Option<Addend<'a>>,
    pub(super) activation: Activation,
}

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        // SAFETY: the caller's promise.
        unsafe { sweep(s, self.rows, self.n, &mut self) }
    }
}

impl Columns for Normalise<'_> {
    #[inline(always)]
    unsafe fn column<S: Simd, const Q: usize>(
        &mut self,
        lanes: Lanes<S>,
        first: usize,
        last: usize,
        c: usize,
        _: usize,
    ) {
        // SAFETY: rows and channels exist.
        unsafe {
            let affine = lanes.affine::<Q>(self.affine, c);
            let addend = lanes.addend::<Q>(self.addend, c);
            for row in first..last {
                let at = row * self.n + c;
                let x = lanes.load::<Q>(self.x.add(at));
                let mut z = lanes.map(x, affine, addend, at);
                apply(lanes.s, self.activation, &mut z);
                lanes.store(self.y.add(at), z);
            }
        }
    }
}

/// Kernel of [`activation_gradient`](super::activation_gradient).
pub(super) struct ActivationGradient<'a> {
    pub(super) x: *const f32,
    pub(super) d: *mut f32,
    pub(super) n: usize,
    pub(super) rows: usize,
    pub(super) affine: Affine<'a>,
    pub(super) addend: Option<Addend<'a>>,
    pub(super) activation: Activation,
    pub(super) standard: Affine<'a>,
    pub(super) sums: &'a mut GradientSums,
}

impl Kernel for ActivationGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        // SAFETY: the caller's promise.
        unsafe { sweep(s, self.rows, self.n, &mut self) }
    }
}

impl Columns for ActivationGradient<'_> {
    #[inline(always)]
    unsafe fn column<S: Simd, const Q: usize>(
        &mut self,
        lanes: Lanes<S>,
        first: usize,
        last: usize,
        c: usize,
        width: usize,
    ) {
        let s = lanes.s;
        let mut plain = [s.zero(); Q];
        let mut normalised = [s.zero(); Q];
        // SAFETY: rows and channels exist.
        unsafe {
            let affine = lanes.affine::<Q>(self.affine, c);
            let standard = lanes.affine::<Q>(self.standard, c);
            let addend = lanes.addend::<Q>(self.addend, c);
            for row in first..last {
                let at = row * self.n + c;
                let x = lanes.load::<Q>(self.x.add(at));
                let mut d = lanes.load::<Q>(self.d.add(at));
                if self.activation != Activation::Identity {
                    let mut z = lanes.map(x, affine, addend, at);
                    gradient(s, self.activation, &mut z, &mut d);
                    lanes.store(self.d.add(at), d);
                }
                for q in 0..Q {
                    let standard = s.fmadd(standard[0][q], x[q], standard[1][q]);
                    plain[q] = s.add(plain[q], d[q]);
                    normalised[q] = s.fmadd(d[q], standard, normalised[q]);
                }
            }
        }
        let (p, m) = (spill(s, plain), spill(s, normalised));
        for i in 0..width {
            self.sums.plain[c + i] += f64::from(p[i]);
            self.sums.normalised[c + i] += f64::from(m[i]);
        }
    }
}
