//! The softmax of attention, forward and backward, on the rows of a matrix of scores.
//!
//! Forward leaves exponentials that are not yet divided by their sum: dividing the few numbers of a head behind the product
//! with the values is less work. Backward gets the raw scores again and the logarithm of each row's sum, from which
//! the probabilities follow in one step, so that they need not be kept.

use super::{
    Level,
    columns::columns,
    gemm::Rows,
    simd::{Kernel, Simd},
};

/// The lanes of a vector, reduced in pairs.
#[inline(always)]
fn reduced<S: Simd>(s: S, v: S::Vector, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    // SAFETY: no vector has more than 16 lanes.
    unsafe { s.store(lanes.as_mut_ptr(), v) };
    let mut n = S::LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] = f(lanes[i], lanes[i + n]);
        }
    }
    lanes[0]
}

struct Forward<'a> {
    scores: &'a mut [f32],
    width: usize,
    stride: usize,
    scale: f32,
    inverse: &'a mut [f32],
    logarithms: &'a mut [f32],
}

/// Rows whose maxima are taken before their exponentials: so many that the chains of one row need not wait for each other's
/// ends, and so few that they stay in the first-level cache.
const GROUP: usize = 8;

impl Forward<'_> {
    /// The largest of a row.
    #[inline(always)]
    fn largest<S: Simd>(&self, s: S, row: &[f32]) -> f32 {
        let Some(end) = row.len().checked_sub(S::LANES) else {
            return row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        };
        let p = row.as_ptr();
        // SAFETY: all vectors end within the row; the last two may overlap.
        unsafe {
            let last = s.load(p.add(end));
            let mut largest = [last; 4];
            let mut i = 0;
            while i + 4 * S::LANES <= end {
                for (j, largest) in largest.iter_mut().enumerate() {
                    *largest = s.max(*largest, s.load(p.add(i + j * S::LANES)));
                }
                i += 4 * S::LANES;
            }
            while i < end {
                largest[0] = s.max(largest[0], s.load(p.add(i)));
                i += S::LANES;
            }
            let [a, b, c, d] = largest;
            reduced(s, s.max(s.max(a, b), s.max(c, d)), f32::max)
        }
    }

    /// Replaces a row by its exponentials; their sum.
    #[inline(always)]
    fn exponentials<S: Simd>(&self, s: S, row: &mut [f32], shift: f32) -> f32 {
        let (scale, shift) = (s.splat(self.scale), s.splat(shift));
        let width = row.len();
        let p = row.as_mut_ptr();
        // What a masked load reads behind the row has an exponential too, which must not count.
        let behind = width.next_multiple_of(S::LANES) - width;
        let mut sum = s.zero();
        // SAFETY: the row has `width` numbers; lanes behind them are masked.
        unsafe {
            columns!(s, width, |i, lanes| {
                let v = s.exp(s.fmadd(s.load_masked(p.add(i), lanes), scale, shift));
                s.store_masked(p.add(i), v, lanes);
                // Only the row's last vector may have lanes to leave out, and it is read back.
                let v = if behind > 0 && i + S::LANES > width {
                    s.load_masked(p.add(i), lanes)
                } else {
                    v
                };
                sum = s.add(sum, v);
            });
        }
        reduced(s, sum, |a, b| a + b)
    }
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        let (width, stride) = (self.width, self.stride);
        let scores = std::mem::take(&mut self.scores);
        let inverse = std::mem::take(&mut self.inverse);
        let logarithms = std::mem::take(&mut self.logarithms);
        let groups = scores.chunks_mut(GROUP * stride);
        let figures = inverse.chunks_mut(GROUP).zip(logarithms.chunks_mut(GROUP));
        for (rows, (inverse, logarithms)) in groups.zip(figures) {
            for (row, top) in rows.chunks(stride).zip(&mut *logarithms) {
                *top = self.scale * self.largest(s, &row[..width]);
            }
            let figures = inverse.iter_mut().zip(&*logarithms);
            for (row, (sum, top)) in rows.chunks_mut(stride).zip(figures) {
                *sum = self.exponentials(s, &mut row[..width], -top);
            }
            for (sum, logarithm) in inverse.iter_mut().zip(logarithms) {
                *logarithm += sum.ln();
                *sum = 1.0 / *sum;
            }
        }
    }
}

/// Turns rows of `width` scores, `stride` apart, into exp(scale · (score − the row's largest)), for a `scale` above 0; writes
/// the inverse of each row's sum and the logarithm of the sum of exp(scale · score).
///
/// # Panics
/// If there are fewer rows than sums, or rows are empty or overlap.
pub fn forward(
    level: Level,
    scores: &mut [f32],
    width: usize,
    stride: usize,
    scale: f32,
    inverse: &mut [f32],
    logarithms: &mut [f32],
) {
    assert!(0 < width && width <= stride && inverse.len() == logarithms.len());
    assert!(inverse.is_empty() || scores.len() >= (inverse.len() - 1) * stride + width);
    // SAFETY: the lengths were checked.
    unsafe {
        level.run(Forward {
            scores,
            width,
            stride,
            scale,
            inverse,
            logarithms,
        });
    }
}

struct Backward<'a> {
    scores: &'a mut [f32],
    gradient: &'a mut [f32],
    width: usize,
    stride: usize,
    logarithms: &'a [f32],
    along: &'a [f32],
    scale: f32,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let width = self.width;
        let rows = self
            .scores
            .chunks_mut(self.stride)
            .zip(self.gradient.chunks_mut(self.stride));
        let figures = self.logarithms.iter().zip(self.along);
        for ((scores, gradient), (&logarithm, &along)) in rows.zip(figures) {
            let scores = scores[..width].as_mut_ptr();
            let gradient = gradient[..width].as_mut_ptr();
            let (scale, shift) = (s.splat(self.scale), s.splat(-logarithm));
            let along = s.splat(along);
            // SAFETY: both rows have `width` numbers; lanes behind them are masked.
            unsafe {
                columns!(s, width, |i, lanes| {
                    let v = s.exp(s.fmadd(s.load_masked(scores.add(i), lanes), scale, shift));
                    s.store_masked(scores.add(i), v, lanes);
                    let d = s.sub(s.load_masked(gradient.add(i), lanes), along);
                    s.store_masked(gradient.add(i), s.mul(s.mul(d, scale), v), lanes);
                });
            }
        }
    }
}

/// Turns scores into probabilities, given the logarithms from [`forward`], and the gradient of the probabilities into that
/// of the scores; `along` is each row's sum of probability times gradient.
///
/// # Panics
/// If there are fewer rows than logarithms, or rows are empty or overlap.
#[expect(
    clippy::too_many_arguments,
    reason = "the operands of one pass over two matrices"
)]
pub fn backward(
    level: Level,
    scores: &mut [f32],
    gradient: &mut [f32],
    width: usize,
    stride: usize,
    logarithms: &[f32],
    along: &[f32],
    scale: f32,
) {
    assert!(0 < width && width <= stride && along.len() == logarithms.len());
    let shortest = scores.len().min(gradient.len());
    assert!(along.is_empty() || shortest >= (along.len() - 1) * stride + width);
    // SAFETY: the lengths were checked.
    unsafe {
        level.run(Backward {
            scores,
            gradient,
            width,
            stride,
            logarithms,
            along,
            scale,
        });
    }
}

struct Dots<'a> {
    a: Rows<'a>,
    b: Rows<'a>,
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for Dots<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let width = self.width;
        let rows = self.a.values.chunks(self.a.stride);
        let rows = rows.zip(self.b.values.chunks(self.b.stride));
        for ((a, b), out) in rows.zip(self.out) {
            let (a, b) = (a[..width].as_ptr(), b[..width].as_ptr());
            let mut sum = s.zero();
            // SAFETY: both rows have `width` numbers; lanes behind them are masked.
            unsafe {
                columns!(s, width, |i, lanes| {
                    let b = s.load_masked(b.add(i), lanes);
                    sum = s.fmadd(s.load_masked(a.add(i), lanes), b, sum);
                });
            }
            *out = reduced(s, sum, |a, b| a + b);
        }
    }
}

/// The products of rows: `out[i]` is the sum of a·b over the `width` columns of row i.
///
/// # Panics
/// If there are fewer rows than results.
pub fn dots(level: Level, a: Rows<'_>, b: Rows<'_>, width: usize, out: &mut [f32]) {
    for rows in [a, b] {
        assert!(0 < width && width <= rows.stride);
        assert!(out.is_empty() || rows.values.len() >= (out.len() - 1) * rows.stride + width);
    }
    // SAFETY: the lengths were checked.
    unsafe { level.run(Dots { a, b, width, out }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_probabilities_and_their_gradients() {
        for level in Level::available() {
            for (width, stride) in [(1usize, 1usize), (5, 8), (16, 16), (70, 80), (197, 208)] {
                let rows = 3;
                let scores: Vec<f32> = (0..rows * stride)
                    .map(|i| (i as f32 * 1.7).sin() * 9.0 + 40.0)
                    .collect();
                let upper: Vec<f32> = (0..rows * stride).map(|i| (i as f32).cos()).collect();
                let (mut p, mut inverse, mut logs) = (scores.clone(), vec![0.0; 3], vec![0.0; 3]);
                forward(level, &mut p, width, stride, 0.5, &mut inverse, &mut logs);
                let exact = |row: usize| -> Vec<f64> {
                    let row = &scores[row * stride..][..width];
                    let sum: f64 = row
                        .iter()
                        .map(|&v| (0.5 * (f64::from(v) - 40.0)).exp())
                        .sum();
                    row.iter()
                        .map(|&v| (0.5 * (f64::from(v) - 40.0)).exp() / sum)
                        .collect()
                };
                let mut along = vec![0.0; rows];
                for (row, along) in along.iter_mut().enumerate() {
                    let truth = exact(row);
                    for (i, truth) in truth.iter().enumerate() {
                        let own = f64::from(p[row * stride + i] * inverse[row]);
                        assert!((own - truth).abs() < 1e-6, "{level} {width}");
                    }
                    // Numbers between rows stay as they are.
                    assert_eq!(
                        p[row * stride + width..][..stride - width],
                        scores[row * stride + width..][..stride - width]
                    );
                    *along = (0..width)
                        .map(|i| truth[i] * f64::from(upper[row * stride + i]))
                        .sum::<f64>() as f32;
                }
                let (mut again, mut gradient) = (scores.clone(), upper.clone());
                backward(
                    level,
                    &mut again,
                    &mut gradient,
                    width,
                    stride,
                    &logs,
                    &along,
                    0.5,
                );
                for (row, along) in along.iter().enumerate() {
                    let truth = exact(row);
                    for (i, truth) in truth.iter().enumerate() {
                        let at = row * stride + i;
                        assert!((f64::from(again[at]) - truth).abs() < 3e-6);
                        let d = 0.5 * truth * f64::from(upper[at] - along);
                        assert!(
                            (f64::from(gradient[at]) - d).abs() < 3e-6,
                            "{level} {width}"
                        );
                    }
                }
                let mut products = vec![0.0; rows];
                let [a, b] = [&scores, &upper].map(|values| Rows { values, stride });
                dots(level, a, b, width, &mut products);
                for (row, own) in products.iter().enumerate() {
                    let truth: f64 = (0..width)
                        .map(|i| row * stride + i)
                        .map(|at| f64::from(scores[at]) * f64::from(upper[at]))
                        .sum();
                    assert!((f64::from(*own) - truth).abs() < 1e-3);
                }
            }
        }
    }
}
