//! Depthwise convolution of a band of rows, forward and backward.
//!
//! Both kernels work on a *channel block*: `[row, column, channel]` with a few vectors of channels, small enough for the
//! second cache, with the zeros of the padding stored around it, so that no kernel has code for borders. Channels behind
//! the last real one are zero there and in the weights. Weights are `[tap, channel]`.
//!
//! Backward does four things in one sweep: the input gradient, the activation before the convolution (recomputed, never
//! stored) with its derivative, the sums that the batch norm before it needs, and the weight gradient. A stride of two
//! needs no buffer with gaps: input pixels of one parity in each direction see a fixed subset of the taps.

use super::{
    activation::{self, each},
    simd::{Kernel, Level, Simd},
};
use crate::network::Activation;

/// The geometry of a depthwise convolution along one axis, for both directions of the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Input pixels.
    pub input: usize,
    /// Output pixels.
    pub output: usize,
    /// Taps.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zeros before the first pixel.
    pub before: usize,
}

impl Axis {
    /// The axis of `input` pixels with zeros on both sides.
    ///
    /// # Panics
    /// If the kernel is longer than the padded input.
    pub fn new(input: usize, kernel: usize, stride: usize, before: usize, after: usize) -> Self {
        let padded = input + before + after;
        assert!(
            padded >= kernel,
            "the kernel is larger than the padded input"
        );
        Self {
            input,
            output: (padded - kernel) / stride + 1,
            kernel,
            stride,
            before,
        }
    }

    /// Pixels of the padded input that forward reads or stores.
    pub fn padded(&self) -> usize {
        (self.before + self.input).max((self.output - 1) * self.stride + self.kernel)
    }

    /// The output pixels, also beyond the borders, that the input pixels `first..end` contribute to.
    pub fn reached(&self, first: usize, end: usize) -> std::ops::Range<isize> {
        let low = (first + self.before) as isize - (self.kernel as isize - 1);
        low.div_euclid(self.stride as isize)..((end - 1 + self.before) / self.stride) as isize + 1
    }
}

/// The forward pass of a band.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// Taps along a side: 3, 5 or 7.
    pub kernel: usize,
    /// 1 or 2.
    pub stride: usize,
    /// Output rows.
    pub rows: usize,
    /// Output columns.
    pub width: usize,
    /// Real channels of the block.
    pub channels: usize,
    /// The padded input, from the first tap of the first output pixel.
    pub input: *const f32,
    /// Distance between rows of the input.
    pub pitch: usize,
    /// Distance between pixels of the input: channels of the block with padding.
    pub block: usize,
    /// `[kernel · kernel, …]`, zero behind the real channels up to a multiple of 16.
    pub weight: *const f32,
    /// Distance between taps.
    pub tap: usize,
    /// The output, without padding.
    pub output: *mut f32,
    /// Distance between pixels of the output; rows follow each other.
    pub pixel: usize,
    /// Per channel (up to the next multiple of 16), where the sum of the outputs is added.
    pub sum: *mut f32,
    /// Per channel, where the sum of their squares is added.
    pub squares: *mut f32,
}

/// The fused backward pass over the input rows `first..end`.
///
/// For every input pixel: da = Σ w·dy; z = γ·xhat + β; act(z) is written to `activated` and dz = da·act′(z) over xhat.
#[derive(Clone, Copy, Debug)]
pub struct Backward {
    /// The vertical axis.
    pub rows: Axis,
    /// The horizontal axis.
    pub columns: Axis,
    /// First input row of the band.
    pub first: usize,
    /// End of the input rows of the band.
    pub end: usize,
    /// Channels of the block, a multiple of 16.
    pub block: usize,
    /// The gradient of the output: the rows and columns [`Axis::reached`], zero beyond the borders.
    pub gradient: *const f32,
    /// `[kernel · kernel, …]`, zero behind the real channels.
    pub weight: *const f32,
    /// Distance between taps.
    pub tap: usize,
    /// In: normalised input of the activation; out: gradient of the activation's input. `[pixel, block]`.
    pub normalised: *mut f32,
    /// Out: the activation. `[pixel, block]`.
    pub activated: *mut f32,
    /// The activation before the convolution.
    pub activation: Activation,
    /// γ per channel.
    pub gamma: *const f32,
    /// β per channel.
    pub beta: *const f32,
    /// Where Σ dz is added.
    pub sum: *mut f32,
    /// Where Σ dz · xhat is added.
    pub product: *mut f32,
    /// Where the weight gradient is added, laid out as the weight.
    pub weight_gradient: *mut f32,
}

/// Whether there are kernels for this geometry.
pub fn is_supported(kernel: usize, stride: usize) -> bool {
    matches!(kernel, 3 | 5 | 7) && matches!(stride, 1 | 2)
}

macro_rules! choose {
    ($level:expr, $kernel:expr, $stride:expr, $name:ident, $argument:expr) => {
        match ($kernel, $stride) {
            (3, 1) => $level.run($name::<3, 1>($argument)),
            (3, 2) => $level.run($name::<3, 2>($argument)),
            (5, 1) => $level.run($name::<5, 1>($argument)),
            (5, 2) => $level.run($name::<5, 2>($argument)),
            (7, 1) => $level.run($name::<7, 1>($argument)),
            (7, 2) => $level.run($name::<7, 2>($argument)),
            (kernel, stride) => panic!("no depthwise kernel of {kernel} with stride {stride}"),
        }
    };
}

/// Runs a forward band.
///
/// # Safety
/// All pointers must be good for what their documentation says.
///
/// # Panics
/// If the geometry is not [supported](is_supported).
pub unsafe fn forward(level: Level, band: &Forward) {
    // SAFETY: the caller's promise.
    unsafe { choose!(level, band.kernel, band.stride, ForwardBand, band) }
}

/// Runs a backward band.
///
/// # Safety
/// All pointers must be good for what their documentation says.
///
/// # Panics
/// If the geometry is not [supported](is_supported).
pub unsafe fn backward(level: Level, band: &Backward) {
    // SAFETY: the caller's promise.
    unsafe {
        choose!(
            level,
            band.rows.kernel,
            band.rows.stride,
            BackwardBand,
            band
        )
    }
}

struct ForwardBand<'a, const K: usize, const T: usize>(&'a Forward);

impl<const K: usize, const T: usize> Kernel for ForwardBand<'_, K, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let b = self.0;
        let mut v = 0;
        while v < b.channels {
            // SAFETY: the caller's promise, for one vector of channels.
            unsafe {
                let mask = s.mask(b.channels - v);
                let mut sums = (s.load(b.sum.add(v)), s.load(b.squares.add(v)));
                for row in 0..b.rows {
                    let input = b.input.add(row * T * b.pitch + v);
                    let output = b.output.add(row * b.width * b.pixel + v);
                    let mut q = 0;
                    while q < b.width {
                        let left = b.width - q;
                        let (i, o) = (input.add(q * T * b.block), output.add(q * b.pixel));
                        let w = b.weight.add(v);
                        q += if left >= 7 && left != 8 {
                            self.pixels::<S, 7>(s, i, w, o, mask, &mut sums)
                        } else if left >= 4 {
                            self.pixels::<S, 4>(s, i, w, o, mask, &mut sums)
                        } else {
                            self.pixels::<S, 1>(s, i, w, o, mask, &mut sums)
                        };
                    }
                }
                s.store(b.sum.add(v), sums.0);
                s.store(b.squares.add(v), sums.1);
            }
            v += S::LANES;
        }
    }
}

impl<const K: usize, const T: usize> ForwardBand<'_, K, T> {
    /// Q neighbouring output pixels; returns Q.
    #[inline(always)]
    unsafe fn pixels<S: Simd, const Q: usize>(
        &self,
        s: S,
        input: *const f32,
        weight: *const f32,
        output: *mut f32,
        mask: S::Mask,
        sums: &mut (S::Vector, S::Vector),
    ) -> usize {
        let b = self.0;
        // SAFETY: the caller's promise; the input has all taps of Q pixels.
        unsafe {
            let mut acc = [s.zero(); Q];
            for y in 0..K {
                let row = input.add(y * b.pitch);
                for x in 0..K {
                    let w = s.load(weight.add((y * K + x) * b.tap));
                    each!(Q, q, {
                        acc[q] = s.fmadd(w, s.load(row.add((q * T + x) * b.block)), acc[q]);
                    });
                }
            }
            each!(Q, q, {
                s.store_masked(output.add(q * b.pixel), acc[q], mask);
                sums.0 = s.add(sums.0, acc[q]);
                sums.1 = s.fmadd(acc[q], acc[q], sums.1);
            });
        }
        Q
    }
}

struct BackwardBand<'a, const K: usize, const T: usize>(&'a Backward);

impl<const K: usize, const T: usize> Kernel for BackwardBand<'_, K, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut v = 0;
        while v < self.0.block {
            // SAFETY: the caller's promise, for one vector of channels.
            unsafe {
                if T == 1 {
                    self.class::<S, 0, 0>(s, v);
                } else {
                    self.class::<S, 0, 0>(s, v);
                    self.class::<S, 0, 1>(s, v);
                    self.class::<S, 1, 0>(s, v);
                    self.class::<S, 1, 1>(s, v);
                }
            }
            v += S::LANES;
        }
    }
}

impl<const K: usize, const T: usize> BackwardBand<'_, K, T> {
    /// The input pixels whose padded row and column are PY and PX modulo the stride: they see the taps of that parity.
    #[inline(always)]
    unsafe fn class<S: Simd, const PY: usize, const PX: usize>(&self, s: S, v: usize) {
        let b = self.0;
        let reached_rows = b.rows.reached(b.first, b.end);
        let reached_columns = b.columns.reached(0, b.columns.input);
        let pitch = (reached_columns.end - reached_columns.start) as usize * b.block;
        let first_row = b.first + (PY + T - (b.first + b.rows.before) % T) % T;
        let first_column = (PX + T - b.columns.before % T) % T;
        if first_column >= b.columns.input {
            return;
        }
        let pixels = (b.columns.input - first_column).div_ceil(T);
        // The output column that the first pixel of a row reaches with tap PX, counted in the buffer.
        let column = ((first_column + b.columns.before - PX) / T) as isize - reached_columns.start;
        let gradient_row = |row: usize| {
            let line = ((row + b.rows.before - PY) / T) as isize - reached_rows.start;
            line as usize * pitch + column as usize * b.block + v
        };
        let pixel_row =
            |row: usize| ((row - b.first) * b.columns.input + first_column) * b.block + v;
        // SAFETY: the buffers have these rows and columns, by the caller's promise.
        unsafe {
            let (gamma, beta) = (s.load(b.gamma.add(v)), s.load(b.beta.add(v)));
            let mut sums = (s.load(b.sum.add(v)), s.load(b.product.add(v)));
            let mut row = first_row;
            while row < b.end {
                let d = b.gradient.add(gradient_row(row));
                let offset = pixel_row(row);
                let mut q = 0;
                while q < pixels {
                    let left = pixels - q;
                    let (d, o) = (d.add(q * b.block), offset + q * T * b.block);
                    let w = b.weight.add(v);
                    q += if left >= 7 && left != 8 {
                        self.pixels::<S, PY, PX, 7>(s, d, pitch, w, o, gamma, beta, &mut sums)
                    } else if left >= 4 {
                        self.pixels::<S, PY, PX, 4>(s, d, pitch, w, o, gamma, beta, &mut sums)
                    } else {
                        self.pixels::<S, PY, PX, 1>(s, d, pitch, w, o, gamma, beta, &mut sums)
                    };
                }
                row += T;
            }
            s.store(b.sum.add(v), sums.0);
            s.store(b.product.add(v), sums.1);

            macro_rules! taps {
                ($($low:literal..$high:literal),*) => {$(
                    let mut acc = [[s.zero(); K]; K];
                    let mut row = first_row;
                    while row < b.end {
                        let d = b.gradient.add(gradient_row(row));
                        let a = b.activated.add(pixel_row(row));
                        self.taps::<S, PY, PX, $low, $high>(s, d, pitch, a, pixels, &mut acc);
                        row += T;
                    }
                    self.add_taps::<S, PY, PX, $low, $high>(s, v, &acc);
                )*};
            }
            // As many taps at a time as there are registers for.
            match (K, S::LANES) {
                (3, _) => {
                    taps!(0..3);
                }
                (5, 16) => {
                    taps!(0..5);
                }
                (5, _) => {
                    taps!(0..2, 2..4, 4..5);
                }
                (_, 16) => {
                    taps!(0..3, 3..6, 6..7);
                }
                _ => {
                    taps!(0..1, 1..2, 2..3, 3..4, 4..5, 5..6, 6..7);
                }
            }
        }
    }

    /// The input gradient of Q pixels of a class, fused with the activation; returns Q.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "registers of the loop around it")]
    unsafe fn pixels<S: Simd, const PY: usize, const PX: usize, const Q: usize>(
        &self,
        s: S,
        gradient: *const f32,
        pitch: usize,
        weight: *const f32,
        offset: usize,
        gamma: S::Vector,
        beta: S::Vector,
        sums: &mut (S::Vector, S::Vector),
    ) -> usize {
        let b = self.0;
        // SAFETY: the gradient has the reached pixels, the other buffers the pixels themselves.
        unsafe {
            let mut acc = [s.zero(); Q];
            for y in 0..K {
                for x in 0..K {
                    if y % T == PY && x % T == PX {
                        let w = s.load(weight.add((y * K + x) * b.tap));
                        let d = gradient.sub((y / T) * pitch + (x / T) * b.block);
                        each!(Q, q, {
                            acc[q] = s.fmadd(w, s.load(d.add(q * b.block)), acc[q]);
                        });
                    }
                }
            }
            let (normalised, activated) = (b.normalised.add(offset), b.activated.add(offset));
            let mut z = [s.zero(); Q];
            each!(Q, q, {
                z[q] = s.fmadd(gamma, s.load(normalised.add(q * T * b.block)), beta);
            });
            activation::gradient(s, b.activation, &mut z, &mut acc);
            each!(Q, q, {
                let o = q * T * b.block;
                let x = s.load(normalised.add(o));
                s.store(activated.add(o), z[q]);
                s.store(normalised.add(o), acc[q]);
                sums.0 = s.add(sums.0, acc[q]);
                sums.1 = s.fmadd(acc[q], x, sums.1);
            });
        }
        Q
    }

    /// The weight gradient of the tap rows LOW..HIGH along one row of a class.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "taps are two-dimensional")]
    unsafe fn taps<
        S: Simd,
        const PY: usize,
        const PX: usize,
        const LOW: usize,
        const HIGH: usize,
    >(
        &self,
        s: S,
        gradient: *const f32,
        pitch: usize,
        activated: *const f32,
        pixels: usize,
        acc: &mut [[S::Vector; K]; K],
    ) {
        let block = self.0.block;
        for q in 0..pixels {
            // SAFETY: the gradient has the reached pixels of each pixel.
            unsafe {
                let a = s.load(activated.add(q * T * block));
                for y in LOW..HIGH {
                    for x in 0..K {
                        if y % T == PY && x % T == PX {
                            let d = gradient.sub((y / T) * pitch + (x / T) * block);
                            acc[y][x] = s.fmadd(a, s.load(d.add(q * block)), acc[y][x]);
                        }
                    }
                }
            }
        }
    }

    /// Adds the tap rows LOW..HIGH to the weight gradient.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "taps are two-dimensional")]
    unsafe fn add_taps<
        S: Simd,
        const PY: usize,
        const PX: usize,
        const LOW: usize,
        const HIGH: usize,
    >(
        &self,
        s: S,
        v: usize,
        acc: &[[S::Vector; K]; K],
    ) {
        for y in LOW..HIGH {
            for x in 0..K {
                if y % T == PY && x % T == PX {
                    // SAFETY: the weight gradient has K · K taps.
                    unsafe {
                        let p = self.0.weight_gradient.add((y * K + x) * self.0.tap + v);
                        s.store(p, s.add(s.load(p), acc[y][x]));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
