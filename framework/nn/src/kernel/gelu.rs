//! GELU (Hendrycks and Gimpel, 2016) in its exact form, x · Φ(x), and its derivative, with dropout behind it.
//!
//! Φ is the normal distribution function. It is taken as ½ + x · P(x²) / Q(x²), a rational function fitted for this purpose
//! on |x| ≤ 5.45 with an error of 1e-8 before rounding; beyond, Φ is 0 or 1 to single precision. GELU is then written as
//! max(x, 0) − |x| · Φ(−|x|), whose second term vanishes at both ends, so that large arguments come out exact.

use super::{
    Level,
    columns::columns,
    mask::Mask,
    simd::{Kernel, Simd},
};

/// Where Φ has reached its ends.
const END: f32 = 5.45;
/// P, by rising powers of x².
const NUMERATOR: [f32; 6] = [
    0.398_942_26,
    0.033_417_69,
    4.651_467e-3,
    1.645_001_9e-4,
    6.333_764_8e-6,
    2.317_173_5e-8,
];
/// Q, by rising powers of x².
const DENOMINATOR: [f32; 6] = [
    1.0,
    0.250_431_95,
    0.028_399_073,
    1.860_071_9e-3,
    7.231_507e-5,
    1.208_416e-6,
];
/// 1 / √(2π).
const DENSITY: f32 = 0.398_942_3;

#[inline(always)]
fn polynomial<S: Simd>(s: S, coefficients: &[f32; 6], t: S::Vector) -> S::Vector {
    let mut sum = s.splat(coefficients[5]);
    for i in (0..5).rev() {
        sum = s.fmadd(sum, t, s.splat(coefficients[i]));
    }
    sum
}

/// |x|, at most [`END`], and Φ(−|x|).
#[inline(always)]
fn tail<S: Simd>(s: S, x: S::Vector) -> (S::Vector, S::Vector) {
    let a = s.min(s.splat(END), s.max(s.sub(s.zero(), x), x));
    let t = s.mul(a, a);
    let ratio = s.mul(
        polynomial(s, &NUMERATOR, t),
        s.reciprocal(polynomial(s, &DENOMINATOR, t)),
    );
    let negative = s.sub(s.zero(), a);
    (a, s.fmadd(negative, ratio, s.splat(0.5)))
}

/// x · Φ(x).
#[inline(always)]
pub fn gelu<S: Simd>(s: S, x: S::Vector) -> S::Vector {
    let (a, tail) = tail(s, x);
    s.sub(s.max(s.zero(), x), s.mul(a, tail))
}

/// x · Φ(x), and its derivative Φ(x) + x · exp(−x²/2) / √(2π).
#[inline(always)]
pub fn gelu_and_slope<S: Simd>(s: S, x: S::Vector) -> (S::Vector, S::Vector) {
    let (a, tail) = tail(s, x);
    let value = s.sub(s.max(s.zero(), x), s.mul(a, tail));
    let density = s.exp(s.mul(s.mul(x, x), s.splat(-0.5)));
    // Φ(x) is 1 − Φ(−|x|) for positive x: the sign decides both terms.
    let inner = s.sub(tail, s.mul(a, s.mul(density, s.splat(DENSITY))));
    let one = s.sub(s.splat(1.0), inner);
    let positive = s.where_greater(x, s.zero(), s.sub(one, inner));
    (value, s.add(inner, positive))
}

struct Forward<'a> {
    width: usize,
    x: &'a [f32],
    out: &'a mut [f32],
    mask: Option<(Mask, u64)>,
    factors: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let rows = self
            .x
            .chunks(self.width)
            .zip(self.out.chunks_mut(self.width));
        for (row, (x, out)) in rows.enumerate() {
            if let Some((mask, first)) = &self.mask {
                mask.fill(first + row as u64, self.factors);
            }
            columns!(s, self.width, |i, lanes| {
                // SAFETY: the three rows have `width` numbers; lanes behind them are masked.
                unsafe {
                    let mut v = gelu(s, s.load_masked(x.as_ptr().add(i), lanes));
                    if self.mask.is_some() {
                        v = s.mul(v, s.load_masked(self.factors.as_ptr().add(i), lanes));
                    }
                    s.store_masked(out.as_mut_ptr().add(i), v, lanes);
                }
            });
        }
    }
}

/// `out` = dropout(gelu(x)) for rows of `width` numbers; the mask comes with the number of the first row.
///
/// # Panics
/// If the slices differ in length, or are no whole rows.
pub fn forward(level: Level, width: usize, x: &[f32], out: &mut [f32], mask: Option<(Mask, u64)>) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(width));
    let mut factors = vec![0.0; width];
    // SAFETY: the lengths were checked.
    unsafe {
        level.run(Forward {
            width,
            x,
            out,
            mask,
            factors: &mut factors,
        });
    }
}

struct Backward<'a> {
    width: usize,
    x: &'a [f32],
    out: &'a mut [f32],
    gradient: &'a mut [f32],
    mask: Option<(Mask, u64)>,
    factors: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let rows = self
            .x
            .chunks(self.width)
            .zip(self.out.chunks_mut(self.width))
            .zip(self.gradient.chunks_mut(self.width));
        for (row, ((x, out), gradient)) in rows.enumerate() {
            if let Some((mask, first)) = &self.mask {
                mask.fill(first + row as u64, self.factors);
            }
            columns!(s, self.width, |i, lanes| {
                // SAFETY: the four rows have `width` numbers; lanes behind them are masked.
                unsafe {
                    let x = s.load_masked(x.as_ptr().add(i), lanes);
                    let (mut value, mut slope) = gelu_and_slope(s, x);
                    if self.mask.is_some() {
                        let factor = s.load_masked(self.factors.as_ptr().add(i), lanes);
                        value = s.mul(value, factor);
                        slope = s.mul(slope, factor);
                    }
                    s.store_masked(out.as_mut_ptr().add(i), value, lanes);
                    let p = gradient.as_mut_ptr().add(i);
                    s.store_masked(p, s.mul(s.load_masked(p, lanes), slope), lanes);
                }
            });
        }
    }
}

/// `out` as in [`forward`], and `gradient` of `out` turned into that of `x`.
///
/// # Panics
/// As [`forward`].
pub fn backward(
    level: Level,
    width: usize,
    x: &[f32],
    out: &mut [f32],
    gradient: &mut [f32],
    mask: Option<(Mask, u64)>,
) {
    assert!(x.len() == out.len() && x.len() == gradient.len() && x.len().is_multiple_of(width));
    let mut factors = vec![0.0; width];
    // SAFETY: the lengths were checked.
    unsafe {
        level.run(Backward {
            width,
            x,
            out,
            gradient,
            mask,
            factors: &mut factors,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Φ by Simpson's rule on the density, in double precision.
    fn distribution(x: f64) -> f64 {
        let density = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let n = 2000;
        let h = x / f64::from(n);
        let sum: f64 = (0..=n)
            .map(|i| {
                let weight = match i {
                    0 => 1.0,
                    i if i == n => 1.0,
                    i if i % 2 == 1 => 4.0,
                    _ => 2.0,
                };
                weight * density(f64::from(i) * h)
            })
            .sum();
        0.5 + sum * h / 3.0
    }

    #[test]
    fn agrees_with_the_integral_on_every_level() {
        let x: Vec<f32> = (-130..=130).map(|i| i as f32 * 0.07).collect();
        for level in Level::available() {
            let mut value = vec![0.0; x.len()];
            forward(level, x.len(), &x, &mut value, None);
            let (mut again, mut slope) = (vec![0.0; x.len()], vec![1.0; x.len()]);
            backward(level, x.len(), &x, &mut again, &mut slope, None);
            assert_eq!(value, again);
            for i in 0..x.len() {
                let z = f64::from(x[i]);
                let phi = distribution(z);
                let (exact, density) =
                    (z * phi, (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt());
                let error = (f64::from(value[i]) - exact).abs();
                assert!(error <= 3e-7 * z.abs().max(1.0), "{level} {z} {error:e}");
                let error = (f64::from(slope[i]) - (phi + z * density)).abs();
                assert!(error <= 5e-7, "{level} {z} {error:e}");
            }
        }
    }

    #[test]
    fn ends_are_exact_and_what_is_not_a_number_stays_so() {
        for level in Level::available() {
            let x = [-1e30, -100.0, 100.0, 1e30, f32::NAN];
            let mut value = [0.0; 5];
            forward(level, 5, &x, &mut value, None);
            assert!(value[0].abs() < 1e-6 && value[1].abs() < 1e-6, "{level}");
            assert_eq!(value[2..4], [100.0, 1e30]);
            assert!(value[4].is_nan());
            let mut slope = [1.0; 5];
            backward(level, 5, &x, &mut value, &mut slope, None);
            assert!(slope[0].abs() < 1e-6 && (slope[3] - 1.0).abs() < 1e-6);
            assert!(slope[4].is_nan());
        }
    }
}
