//! A dense 3×3 convolution of a few input channels, row by row.
//!
//! The first layer of a network has so few input channels that packing patches into a matrix would cost as much as the
//! convolution. A row of outputs reads three input rows where they lie; in each the three taps of a pixel are `3 · input`
//! neighbouring numbers, broadcast one by one against vectors of output channels. Borders are the caller's: it hands
//! pixels that touch them over as patches of their own.

use super::simd::{Kernel, Level, Simd};

/// Neighbouring output pixels of one row.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// First tap of the first pixel in each of the three input rows.
    pub rows: [*const f32; 3],
    /// Numbers of a pixel's three taps in a row: three times the input channels.
    pub taps: usize,
    /// Distance between the first taps of neighbouring pixels.
    pub step: usize,
    /// Output pixels.
    pub pixels: usize,
    /// Output channels, a multiple of 16; also the distance between output pixels.
    pub channels: usize,
    /// `[3 · taps, channels]`.
    pub weight: *const f32,
    /// The output.
    pub output: *mut f32,
    /// Where the sum of every channel is added.
    pub sum: *mut f32,
    /// Where the sum of squares of every channel is added.
    pub squares: *mut f32,
}

/// The weight gradient of neighbouring output pixels of one row.
#[derive(Clone, Copy, Debug)]
pub struct Gradient {
    /// As in [`Forward`].
    pub rows: [*const f32; 3],
    /// As in [`Forward`].
    pub taps: usize,
    /// As in [`Forward`].
    pub step: usize,
    /// Output pixels.
    pub pixels: usize,
    /// Output channels, a multiple of 16.
    pub channels: usize,
    /// Gradient of the output.
    pub gradient: *const f32,
    /// Where the weight's gradient is added, `[3 · taps, channels]`.
    pub weight_gradient: *mut f32,
}

/// Computes a row.
///
/// # Safety
/// All pointers must be good for what their documentation says.
pub unsafe fn forward(level: Level, row: &Forward) {
    // SAFETY: the caller's promise.
    unsafe {
        match (level.name(), row.channels % 32) {
            ("avx512", 0) => level.run(ForwardRow::<7, 2>(row)),
            ("avx512", _) => level.run(ForwardRow::<14, 1>(row)),
            _ => level.run(ForwardRow::<4, 2>(row)),
        }
    }
}

/// Adds a row's share of the weight gradient.
///
/// # Safety
/// All pointers must be good for what their documentation says.
pub unsafe fn gradient(level: Level, row: &Gradient) {
    // SAFETY: the caller's promise.
    unsafe { level.run(GradientRow(row)) }
}

/// Q pixels by N vectors of channels.
struct ForwardRow<'a, const Q: usize, const N: usize>(&'a Forward);

impl<const Q: usize, const N: usize> Kernel for ForwardRow<'_, Q, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut v = 0;
        while v < self.0.channels {
            // SAFETY: channels are a multiple of N vectors.
            unsafe {
                let mut sums = [[s.zero(); N]; 2];
                let mut q = 0;
                while q + Q <= self.0.pixels {
                    self.pixels::<S, Q>(s, v, q, &mut sums);
                    q += Q;
                }
                while q < self.0.pixels {
                    self.pixels::<S, 1>(s, v, q, &mut sums);
                    q += 1;
                }
                for (to, sums) in [self.0.sum, self.0.squares].into_iter().zip(sums) {
                    for (j, sum) in sums.into_iter().enumerate() {
                        let to = to.add(v + j * S::LANES);
                        s.store(to, s.add(s.load(to), sum));
                    }
                }
            }
            v += N * S::LANES;
        }
    }
}

impl<const Q: usize, const N: usize> ForwardRow<'_, Q, N> {
    #[inline(always)]
    unsafe fn pixels<S: Simd, const P: usize>(
        &self,
        s: S,
        v: usize,
        first: usize,
        sums: &mut [[S::Vector; N]; 2],
    ) {
        let row = self.0;
        // SAFETY: the caller's promise; P pixels from `first`.
        unsafe {
            let mut acc = [[s.zero(); N]; P];
            let mut w = row.weight.add(v);
            for input in row.rows {
                let input = input.add(first * row.step);
                for t in 0..row.taps {
                    let mut weight = [s.zero(); N];
                    for (j, weight) in weight.iter_mut().enumerate() {
                        *weight = s.load(w.add(j * S::LANES));
                    }
                    for (q, acc) in acc.iter_mut().enumerate() {
                        let x = s.splat(*input.add(q * row.step + t));
                        for j in 0..N {
                            acc[j] = s.fmadd(x, weight[j], acc[j]);
                        }
                    }
                    w = w.add(row.channels);
                }
            }
            for (q, acc) in acc.iter().enumerate() {
                for j in 0..N {
                    let o = (first + q) * row.channels + v + j * S::LANES;
                    s.store(row.output.add(o), acc[j]);
                    sums[0][j] = s.add(sums[0][j], acc[j]);
                    sums[1][j] = s.fmadd(acc[j], acc[j], sums[1][j]);
                }
            }
        }
    }
}

struct GradientRow<'a>(&'a Gradient);

impl Kernel for GradientRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let row = self.0;
        let mut v = 0;
        while v < row.channels {
            // SAFETY: the caller's promise; nine taps of three input channels at a time, then one by one.
            unsafe {
                for (i, &input) in row.rows.iter().enumerate() {
                    let mut t = 0;
                    while t + 9 <= row.taps {
                        self.taps::<S, 9>(s, v, input.add(t), i * row.taps + t);
                        t += 9;
                    }
                    while t < row.taps {
                        self.taps::<S, 1>(s, v, input.add(t), i * row.taps + t);
                        t += 1;
                    }
                }
            }
            v += S::LANES;
        }
    }
}

impl GradientRow<'_> {
    /// The gradient of T neighbouring taps.
    #[inline(always)]
    unsafe fn taps<S: Simd, const T: usize>(&self, s: S, v: usize, input: *const f32, tap: usize) {
        let row = self.0;
        // SAFETY: the caller's promise.
        unsafe {
            let mut acc = [s.zero(); T];
            for q in 0..row.pixels {
                let d = s.load(row.gradient.add(q * row.channels + v));
                let input = input.add(q * row.step);
                for (t, acc) in acc.iter_mut().enumerate() {
                    *acc = s.fmadd(d, s.splat(*input.add(t)), *acc);
                }
            }
            for (t, acc) in acc.into_iter().enumerate() {
                let p = row.weight_gradient.add((tap + t) * row.channels + v);
                s.store(p, s.add(s.load(p), acc));
            }
        }
    }
}
