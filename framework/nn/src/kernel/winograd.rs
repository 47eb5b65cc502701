//! Winograd's F(4×4, 3×3): 3×3 convolutions of stride 1 with a quarter of the multiplications (Lavin and Gray, 2015).
//!
//! A tile of 4×4 outputs needs 6×6 inputs. Input tile and filter are transformed to 36 numbers for each channel; at each
//! of these *points* a convolution is a matrix product of `[tiles, channels]` and `[channels, outputs]`, 36 products of
//! multiply-adds for 16 outputs where the direct way takes 144; a last transform leads back to 4×4 outputs. The input
//! gradient is the same with flipped filters. The weight gradient has products over tiles instead of channels.
//!
//! With interpolation points 0, ±1, ±2, ∞ the factors of the transforms reach 8, and results lose about two bits against
//! direct sums: relative errors of 1e-6 to 3e-6. Larger tiles would save more and lose too much.
//!
//! Layouts: transformed tensors are `[point, tile, channel]`, so that a point is a matrix without gaps. The kernels here
//! are the transforms; the products are those of [`gemm`](super::gemm), and the layer's file says how work is cut.

use super::simd::Simd;

mod tile;
mod weight;

#[cfg(test)]
mod tests;

pub use tile::{BandTiles, Gradient, GradientTiles, Input, InputTiles, Line, OutputTiles};
pub use weight::{FilterSource, WeightGradient, filters};

/// Rows and columns of outputs in a tile.
pub const TILE: usize = 4;
/// Rows and columns of inputs of a tile.
pub const SIDE: usize = 6;
/// Points of a transformed tile.
pub const POINTS: usize = SIDE * SIDE;

/// Bᵀd: six inputs of a line to six points.
#[inline(always)]
fn input_line<S: Simd>(s: S, d: [S::Vector; 6]) -> [S::Vector; 6] {
    let four = s.splat(4.0);
    let (two, minus_two) = (s.splat(2.0), s.splat(-2.0));
    let (minus_four, minus_five) = (s.splat(-4.0), s.splat(-5.0));
    let even = s.fmadd(minus_four, d[2], d[4]);
    let odd = s.fmadd(minus_four, d[1], d[3]);
    let (e, o) = (s.sub(d[4], d[2]), s.sub(d[3], d[1]));
    [
        s.fmadd(four, d[0], s.fmadd(minus_five, d[2], d[4])),
        s.add(even, odd),
        s.sub(even, odd),
        s.fmadd(two, o, e),
        s.fmadd(minus_two, o, e),
        s.fmadd(four, d[1], s.fmadd(minus_five, d[3], d[5])),
    ]
}

/// Aᵀm: six points to four outputs of a line.
#[inline(always)]
fn output_line<S: Simd>(s: S, m: [S::Vector; 6]) -> [S::Vector; 4] {
    let (p, q) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (r, t) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    [
        s.add(m[0], s.add(p, r)),
        s.fmadd(s.splat(2.0), t, q),
        s.fmadd(s.splat(4.0), r, p),
        s.add(s.fmadd(s.splat(8.0), t, q), m[5]),
    ]
}

/// A·y: four gradients of outputs to six points, the transpose of [`output_line`].
#[inline(always)]
fn gradient_line<S: Simd>(s: S, y: [S::Vector; 4]) -> [S::Vector; 6] {
    let four = s.splat(4.0);
    let (even, odd) = (s.add(y[0], y[2]), s.add(y[1], y[3]));
    let wide_even = s.fmadd(four, y[2], y[0]);
    let half = s.fmadd(four, y[3], y[1]);
    let wide_odd = s.add(half, half);
    [
        y[0],
        s.add(even, odd),
        s.sub(even, odd),
        s.add(wide_even, wide_odd),
        s.sub(wide_even, wide_odd),
        y[3],
    ]
}

/// G·g: three weights of a line to six points.
#[inline(always)]
fn filter_line<S: Simd>(s: S, [x, y, z]: [S::Vector; 3]) -> [S::Vector; 6] {
    let sixth = s.splat(-1.0 / 6.0);
    let twelfth = s.splat(1.0 / 12.0);
    let ends = s.add(x, z);
    let wide = s.mul(s.splat(1.0 / 24.0), s.fmadd(s.splat(4.0), z, x));
    let middle = s.mul(twelfth, y);
    [
        s.mul(s.splat(0.25), x),
        s.mul(sixth, s.add(ends, y)),
        s.mul(sixth, s.sub(ends, y)),
        s.add(wide, middle),
        s.sub(wide, middle),
        z,
    ]
}

/// Gᵀp: six points to the gradients of three weights, the transpose of [`filter_line`].
#[inline(always)]
fn weight_line<S: Simd>(s: S, p: [S::Vector; 6]) -> [S::Vector; 3] {
    let sixth = s.splat(1.0 / 6.0);
    let (a, b) = (s.add(p[1], p[2]), s.sub(p[1], p[2]));
    let (c, d) = (s.add(p[3], p[4]), s.sub(p[3], p[4]));
    let quarter = s.mul(s.splat(0.25), p[0]);
    let minus = s.splat(-1.0 / 6.0);
    [
        s.fmadd(minus, a, s.fmadd(s.splat(1.0 / 24.0), c, quarter)),
        s.fmadd(minus, b, s.mul(s.splat(1.0 / 12.0), d)),
        s.fmadd(minus, a, s.fmadd(sixth, c, p[5])),
    ]
}
