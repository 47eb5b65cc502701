//! Layer normalisation of rows, forward and backward, and the passes on rows that surround it.
//!
//! Mean and variance are taken in two passes over a row that lies in the first-level cache, as PyTorch's results demand:
//! the sum of squares alone loses digits where the mean is large. Backward has no need of the normalised rows: it works
//! them out again from the rows, their means and deviations.

use super::{
    Level,
    columns::columns,
    mask::Mask,
    simd::{Kernel, Simd},
};

/// The sum of a vector's lanes, added in pairs.
#[inline(always)]
fn total<S: Simd>(s: S, v: S::Vector) -> f32 {
    let mut lanes = [0.0f32; 16];
    // SAFETY: no vector has more than 16 lanes.
    unsafe { s.store(lanes.as_mut_ptr(), v) };
    let mut n = S::LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0]
}

/// The mean of a row and the inverse of its deviation.
pub type Statistics = [f32; 2];

struct Normalise<'a> {
    width: usize,
    epsilon: f32,
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [f32],
    statistics: &'a mut [Statistics],
    known: bool,
}

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let (width, share) = (self.width, 1.0 / self.width as f32);
        let rows = self.x.chunks(width).zip(self.out.chunks_mut(width));
        for ((x, out), statistics) in rows.zip(self.statistics) {
            let (x, out) = (x.as_ptr(), out.as_mut_ptr());
            // SAFETY: rows, weight and bias have `width` numbers; lanes behind them are masked.
            unsafe {
                if !self.known {
                    let mut sum = s.zero();
                    columns!(s, width, |i, lanes| {
                        sum = s.add(sum, s.load_masked(x.add(i), lanes));
                    });
                    let mean = total(s, sum) * share;
                    let (centre, mut squares) = (s.splat(mean), s.zero());
                    columns!(s, width, |i, lanes| {
                        let v = s.sub(s.load_masked(x.add(i), lanes), centre);
                        squares = s.fmadd(v, v, squares);
                    });
                    // The lanes behind the row counted as zeros.
                    let behind = width.next_multiple_of(S::LANES) - width;
                    let excess = behind as f32 * mean * mean;
                    let variance = (total(s, squares) - excess).max(0.0) * share;
                    *statistics = [mean, 1.0 / (variance + self.epsilon).sqrt()];
                }
                let [mean, inverse] = *statistics;
                let (scale, shift) = (s.splat(inverse), s.splat(-mean * inverse));
                columns!(s, width, |i, lanes| {
                    let v = s.fmadd(s.load_masked(x.add(i), lanes), scale, shift);
                    let weight = s.load_masked(self.weight.as_ptr().add(i), lanes);
                    let bias = s.load_masked(self.bias.as_ptr().add(i), lanes);
                    s.store_masked(out.add(i), s.fmadd(v, weight, bias), lanes);
                });
            }
        }
    }
}

/// A layer norm's weight and bias.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// A factor for each column.
    pub weight: &'a [f32],
    /// An addend for each column.
    pub bias: &'a [f32],
}

/// `out` = norm(x) for rows of the affine map's width; the rows' statistics are written.
///
/// # Panics
/// If the slices do not fit each other.
pub fn normalise(
    level: Level,
    affine: Affine<'_>,
    epsilon: f32,
    x: &[f32],
    out: &mut [f32],
    statistics: &mut [Statistics],
) {
    run(level, affine, epsilon, x, out, statistics, false);
}

/// As [`normalise`], with statistics from there.
///
/// # Panics
/// If the slices do not fit each other.
pub fn normalise_again(
    level: Level,
    affine: Affine<'_>,
    x: &[f32],
    out: &mut [f32],
    statistics: &mut [Statistics],
) {
    run(level, affine, 0.0, x, out, statistics, true);
}

fn run(
    level: Level,
    Affine { weight, bias }: Affine<'_>,
    epsilon: f32,
    x: &[f32],
    out: &mut [f32],
    statistics: &mut [Statistics],
    known: bool,
) {
    let width = weight.len();
    assert!(bias.len() == width && x.len() == out.len() && x.len() == width * statistics.len());
    // SAFETY: the lengths were checked.
    unsafe {
        level.run(Normalise {
            width,
            epsilon,
            x,
            weight,
            bias,
            out,
            statistics,
            known,
        });
    }
}

struct Gradient<'a> {
    width: usize,
    x: &'a [f32],
    statistics: &'a [Statistics],
    weight: &'a [f32],
    dy: &'a [f32],
    residual: &'a [f32],
    dx: &'a mut [f32],
    dweight: &'a mut [f32],
    dbias: &'a mut [f32],
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let (width, share) = (self.width, 1.0 / self.width as f32);
        let rows = self.x.chunks(width).zip(self.dy.chunks(width));
        let mut residuals = self.residual.chunks(width);
        for (((x, dy), dx), &[mean, inverse]) in
            rows.zip(self.dx.chunks_mut(width)).zip(self.statistics)
        {
            let (x, dy, dx) = (x.as_ptr(), dy.as_ptr(), dx.as_mut_ptr());
            let (scale, shift) = (s.splat(inverse), s.splat(-mean * inverse));
            // SAFETY: all rows have `width` numbers; lanes behind them are masked.
            unsafe {
                let (mut sum, mut products) = (s.zero(), s.zero());
                columns!(s, width, |i, lanes| {
                    let standard = s.fmadd(s.load_masked(x.add(i), lanes), scale, shift);
                    let d = s.load_masked(dy.add(i), lanes);
                    for (to, v) in [
                        (self.dweight.as_mut_ptr(), s.mul(d, standard)),
                        (self.dbias.as_mut_ptr(), d),
                    ] {
                        let p = to.add(i);
                        s.store_masked(p, s.add(s.load_masked(p, lanes), v), lanes);
                    }
                    let d = s.mul(d, s.load_masked(self.weight.as_ptr().add(i), lanes));
                    sum = s.add(sum, d);
                    products = s.fmadd(d, standard, products);
                });
                // dx = (d − mean(d) − standard · mean(d · standard)) / deviation, and standard is linear in x.
                let own = s.splat(total(s, sum) * share * -inverse);
                let along = s.splat(total(s, products) * share * -inverse);
                let residual = residuals.next();
                columns!(s, width, |i, lanes| {
                    let standard = s.fmadd(s.load_masked(x.add(i), lanes), scale, shift);
                    let d = s.load_masked(dy.add(i), lanes);
                    let d = s.mul(d, s.load_masked(self.weight.as_ptr().add(i), lanes));
                    let mut v = s.fmadd(d, scale, s.fmadd(standard, along, own));
                    if let Some(residual) = residual {
                        v = s.add(v, s.load_masked(residual.as_ptr().add(i), lanes));
                    }
                    s.store_masked(dx.add(i), v, lanes);
                });
            }
        }
    }
}

/// The gradients of a layer norm: those of the affine map are added to.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// The gradient of the rows.
    pub dx: &'a mut [f32],
    /// Of the weight.
    pub dweight: &'a mut [f32],
    /// Of the bias.
    pub dbias: &'a mut [f32],
}

/// dx = the gradient of the rows `x`, given `dy`, that of their norm; plus `residual` in the first rows, as many as it has.
///
/// # Panics
/// If the slices do not fit each other.
pub fn gradient(
    level: Level,
    weight: &[f32],
    x: &[f32],
    statistics: &[Statistics],
    dy: &[f32],
    residual: &[f32],
    Gradients { dx, dweight, dbias }: Gradients<'_>,
) {
    let width = weight.len();
    assert!(dweight.len() == width && dbias.len() == width);
    assert!(x.len() == width * statistics.len() && x.len() == dy.len() && x.len() == dx.len());
    assert!(residual.len() <= x.len() && residual.len().is_multiple_of(width));
    // SAFETY: the lengths were checked.
    unsafe {
        level.run(Gradient {
            width,
            x,
            statistics,
            weight,
            dy,
            residual,
            dx,
            dweight,
            dbias,
        });
    }
}

struct Add<'a> {
    width: usize,
    x: Option<&'a [f32]>,
    z: &'a [f32],
    out: &'a mut [f32],
    mask: Option<(Mask, u64)>,
    factors: &'a mut [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let width = self.width;
        let rows = self.z.chunks(width).zip(self.out.chunks_mut(width));
        let mut sources = self.x.map(|x| x.chunks(width));
        for (row, (z, out)) in rows.enumerate() {
            let x = sources.as_mut().and_then(Iterator::next);
            if let Some((mask, first)) = &self.mask {
                mask.fill(first + row as u64, self.factors);
            }
            columns!(s, width, |i, lanes| {
                // SAFETY: all rows have `width` numbers; lanes behind them are masked.
                unsafe {
                    let mut v = s.load_masked(z.as_ptr().add(i), lanes);
                    if self.mask.is_some() {
                        v = s.mul(v, s.load_masked(self.factors.as_ptr().add(i), lanes));
                    }
                    if let Some(x) = x {
                        v = s.add(v, s.load_masked(x.as_ptr().add(i), lanes));
                    }
                    s.store_masked(out.as_mut_ptr().add(i), v, lanes);
                }
            });
        }
    }
}

/// `out` = x + dropout(z) for rows of `width` numbers, without x where there is none; the mask comes with the number of
/// the first row.
///
/// # Panics
/// If the slices do not fit each other.
pub fn add_dropped(
    level: Level,
    width: usize,
    x: Option<&[f32]>,
    z: &[f32],
    out: &mut [f32],
    mask: Option<(Mask, u64)>,
) {
    assert!(z.len() == out.len() && z.len().is_multiple_of(width));
    assert!(x.is_none_or(|x| x.len() == z.len()));
    let mut factors = vec![0.0; width];
    // SAFETY: the lengths were checked.
    unsafe {
        level.run(Add {
            width,
            x,
            z,
            out,
            mask,
            factors: &mut factors,
        });
    }
}

struct Sums<'a> {
    rows: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let width = self.sums.len();
        for row in self.rows.chunks(width) {
            columns!(s, width, |i, lanes| {
                // SAFETY: both rows have `width` numbers; lanes behind them are masked.
                unsafe {
                    let p = self.sums.as_mut_ptr().add(i);
                    let v = s.load_masked(row.as_ptr().add(i), lanes);
                    s.store_masked(p, s.add(s.load_masked(p, lanes), v), lanes);
                }
            });
        }
    }
}

/// Adds every row to `sums`.
///
/// # Panics
/// If there are no whole rows.
pub fn add_columns(level: Level, rows: &[f32], sums: &mut [f32]) {
    assert!(rows.len().is_multiple_of(sums.len()));
    // SAFETY: the lengths were checked.
    unsafe { level.run(Sums { rows, sums }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize, pace: f32) -> Vec<f32> {
        (0..len)
            .map(|i| (i as f32 * pace + 0.3).sin() * 2.0 + 0.5)
            .collect()
    }

    /// norm(x) · weight + bias in double precision.
    fn slow(x: &[f64], weight: &[f32], bias: &[f32], epsilon: f64) -> Vec<f64> {
        let width = weight.len();
        let mut out = Vec::new();
        for row in x.chunks(width) {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
            for (i, v) in row.iter().enumerate() {
                let standard = (v - mean) / (variance + epsilon).sqrt();
                out.push(standard * f64::from(weight[i]) + f64::from(bias[i]));
            }
        }
        out
    }

    #[test]
    fn rows_are_normalised_and_gradients_are_differences() {
        for level in Level::available() {
            for width in [1usize, 3, 16, 37, 192] {
                let rows = 3;
                let x = wave(rows * width, 0.7);
                let (weight, bias) = (wave(width, 0.9), wave(width, 1.3));
                let affine = Affine {
                    weight: &weight,
                    bias: &bias,
                };
                let (mut out, mut statistics) = (vec![0.0; x.len()], [[0.0; 2]; 3]);
                normalise(level, affine, 0.1, &x, &mut out, &mut statistics);
                let exact: Vec<f64> = x.iter().map(|&v| v.into()).collect();
                for (own, truth) in out.iter().zip(slow(&exact, &weight, &bias, 0.1)) {
                    assert!((f64::from(*own) - truth).abs() < 5e-6, "{level} {width}");
                }
                let mut again = vec![0.0; x.len()];
                normalise_again(level, affine, &x, &mut again, &mut statistics);
                assert_eq!(out, again);

                let (dy, residual) = (wave(x.len(), 0.4), wave(width, 2.1));
                let mut dx = vec![0.0; x.len()];
                let (mut dweight, mut dbias) = (vec![1.0; width], vec![2.0; width]);
                let gradients = Gradients {
                    dx: &mut dx,
                    dweight: &mut dweight,
                    dbias: &mut dbias,
                };
                gradient(level, &weight, &x, &statistics, &dy, &residual, gradients);
                let loss = |x: &[f64], weight: &[f32], bias: &[f32]| -> f64 {
                    let out = slow(x, weight, bias, 0.1);
                    out.iter().zip(&dy).map(|(y, d)| y * f64::from(*d)).sum()
                };
                for i in 0..x.len() {
                    let moved = |by| {
                        let mut x = exact.clone();
                        x[i] += by;
                        loss(&x, &weight, &bias)
                    };
                    let mut truth = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    truth += residual.get(i).map_or(0.0, |&r| r.into());
                    assert!((f64::from(dx[i]) - truth).abs() < 2e-5, "{level} {width}");
                }
                for i in 0..width {
                    let moved = |weight_by, bias_by| {
                        let (mut weight, mut bias) = (weight.clone(), bias.clone());
                        weight[i] += weight_by;
                        bias[i] += bias_by;
                        loss(&exact, &weight, &bias)
                    };
                    let truth = (moved(0.5, 0.0) - moved(-0.5, 0.0)) + 1.0;
                    assert!(
                        (f64::from(dweight[i]) - truth).abs() < 2e-5,
                        "{level} {width}"
                    );
                    let truth = (moved(0.0, 0.5) - moved(0.0, -0.5)) + 2.0;
                    assert!(
                        (f64::from(dbias[i]) - truth).abs() < 2e-5,
                        "{level} {width}"
                    );
                }
            }
        }
    }

    #[test]
    fn dropped_rows_are_added() {
        let mask = Mask::new(9, 0.3);
        for level in Level::available() {
            for width in [5usize, 40] {
                let (x, z) = (wave(3 * width, 0.7), wave(3 * width, 0.2));
                let mut out = vec![0.0; 3 * width];
                add_dropped(level, width, Some(&x), &z, &mut out, mask.map(|m| (m, 4)));
                let mut factors = vec![0.0; width];
                for row in 0..3 {
                    mask.unwrap().fill(4 + row as u64, &mut factors);
                    for (i, factor) in factors.iter().enumerate() {
                        let at = row * width + i;
                        assert!((out[at] - (x[at] + z[at] * factor)).abs() < 1e-6);
                    }
                }
                let mut sums = vec![1.0; width];
                add_columns(level, &x, &mut sums);
                for i in 0..width {
                    let truth = 1.0 + x[i] + x[width + i] + x[2 * width + i];
                    assert!((sums[i] - truth).abs() < 1e-5);
                }
            }
        }
    }
}
