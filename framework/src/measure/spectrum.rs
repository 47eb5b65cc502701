//! The singular values of features, and how many of them count: the effective rank of RankMe (Garrido et al. 2023).
//!
//! Singular values are the roots of the eigenvalues of the smaller Gram matrix, in double precision: Householder's
//! reflections make it tridiagonal, bisection on Sturm's count finds each eigenvalue to the last bits. This has no case in
//! which it fails to converge. Roots halve the digits: singular values below 10⁻⁸ of the largest are noise.

use std::ops::Range;

use rayon::prelude::*;

use super::Gram;
use crate::metric::Watch;

/// What RankMe adds to the share of each singular value.
pub const RANK_EPSILON: f64 = 1e-7;

/// Halvings of an interval, after which doubles leave nothing to halve.
const HALVINGS: usize = 64;

/// Rows of a matrix that are worth a thread of their own.
const ROWS: usize = 64;

/// The exponential of the entropy of the singular values' shares of `features`, `[rows, width]`: the number of
/// directions that the features use, from 1 to the smaller of rows and width. 0 where all are zero, not a number where a
/// feature is not finite or there is none.
///
/// # Panics
/// If `width` is 0 or does not divide the number of values.
pub fn effective_rank(features: &[f32], width: usize) -> f64 {
    if features.is_empty() || features.iter().any(|value| !value.is_finite()) {
        return f64::NAN;
    }
    rank_of(&singular_values(features, width))
}

/// The exponential of the entropy of the shares of `singular` values; 0 where all are zero, not a number without any.
pub fn rank_of(singular: &[f64]) -> f64 {
    let sum: f64 = singular.iter().sum();
    if singular.is_empty() {
        return f64::NAN;
    }
    if sum == 0.0 {
        return 0.0;
    }
    let entropy: f64 = singular
        .iter()
        .map(|value| value / sum + RANK_EPSILON)
        .map(|share| -share * share.ln())
        .sum();
    entropy.exp()
}

impl Gram {
    /// The singular values of the rows, largest first; as many as the smaller of rows and width.
    pub fn singular_values(&self) -> Vec<f64> {
        let values = self.watched_singular_values(Watch::default());
        values.expect("nobody watches")
    }

    /// The same, until who watches wants it to stop.
    ///
    /// # Errors
    /// That it was stopped.
    pub fn watched_singular_values(&self, watch: Watch<'_>) -> Result<Vec<f64>, String> {
        let reduced = Tridiagonal::new(self.symmetric(), self.width(), watch)?;
        let mut eigenvalues = reduced.eigenvalues(0..self.width());
        eigenvalues.reverse();
        eigenvalues.truncate(self.rows());
        let roots = eigenvalues.into_iter().map(|value| value.max(0.0).sqrt());
        Ok(roots.collect())
    }
}

/// The singular values of `features`, `[rows, width]`, largest first; as many as the smaller of the two.
///
/// # Panics
/// If `width` is 0 or does not divide the number of values.
pub fn singular_values(features: &[f32], width: usize) -> Vec<f64> {
    assert!(
        width > 0 && features.len().is_multiple_of(width),
        "{} numbers are no rows of {width}",
        features.len()
    );
    let rows = features.len() / width;
    let gram = if rows < width {
        let turned: Vec<f32> = (0..features.len())
            .map(|i| features[i % rows * width + i / rows])
            .collect();
        Gram::of(&turned, rows)
    } else {
        Gram::of(features, width)
    };
    gram.singular_values()
}

/// The eigenvalues of the symmetric `matrix`, `[size, size]`, smallest first.
#[cfg(test)]
fn eigenvalues(matrix: Vec<f64>, size: usize) -> Vec<f64> {
    let reduced = Tridiagonal::new(matrix, size, Watch::default());
    reduced.expect("nobody watches").eigenvalues(0..size)
}

/// A symmetric matrix that reflections made tridiagonal, which keeps its eigenvalues.
pub(crate) struct Tridiagonal {
    /// Its diagonal.
    pub diagonal: Vec<f64>,
    /// The squares of the numbers beside it.
    squares: Vec<f64>,
    /// Of each row what stood behind the diagonal when its turn came, `[size, size]`: what a reflection is made from.
    rows: Vec<f64>,
}

impl Tridiagonal {
    /// The tridiagonal matrix with the eigenvalues of the symmetric `matrix`, `[size, size]`.
    ///
    /// # Errors
    /// Who watches wants it to stop.
    pub fn new(mut matrix: Vec<f64>, size: usize, watch: Watch<'_>) -> Result<Self, String> {
        let mut squares = Vec::with_capacity(size.saturating_sub(1));
        let mut axis = vec![0.0; size];
        let mut moved = vec![0.0; size];
        for column in 0..size.saturating_sub(1) {
            watch.go_on()?;
            // Reflects what stands below the diagonal onto its first place, which leaves the rest of the column zero.
            let rest = column + 1;
            let below = &matrix[column * size + rest..(column + 1) * size];
            squares.push(dot(below, below));
            let axis = &mut axis[rest..];
            if !reflection(below, axis) {
                continue;
            }
            let scale = 2.0 / dot(axis, axis);
            let block = &mut matrix[rest * size..];
            let moved = &mut moved[rest..];
            moved
                .par_iter_mut()
                .with_min_len(ROWS)
                .zip(block.par_chunks_exact(size))
                .for_each(|(moved, row)| *moved = scale * dot(&row[rest..], axis));
            let half = 0.5 * scale * dot(moved, axis);
            for (moved, axis) in moved.iter_mut().zip(&*axis) {
                *moved -= half * axis;
            }
            block
                .par_chunks_exact_mut(size)
                .with_min_len(ROWS)
                .enumerate()
                .for_each(|(i, row)| {
                    for ((value, &a), &m) in row[rest..].iter_mut().zip(&*axis).zip(&*moved) {
                        *value -= axis[i] * m + moved[i] * a;
                    }
                });
        }
        Ok(Self {
            diagonal: (0..size).map(|i| matrix[i * size + i]).collect(),
            squares,
            rows: matrix,
        })
    }

    /// The numbers beside the diagonal, with their signs.
    pub fn beside(&self) -> Vec<f64> {
        let size = self.diagonal.len();
        let signed = |(column, square): (usize, &f64)| {
            let below = &self.rows[column * size + column + 1..(column + 1) * size];
            match below[1..].iter().all(|&value| value == 0.0) {
                true => below[0],
                false => -square.sqrt().copysign(below[0]),
            }
        };
        self.squares.iter().enumerate().map(signed).collect()
    }

    /// Some of the eigenvalues, by their places; smallest first.
    pub fn eigenvalues(&self, places: Range<usize>) -> Vec<f64> {
        let Self {
            diagonal, squares, ..
        } = self;
        let off = |i: usize| squares.get(i).map_or(0.0, |square| square.sqrt());
        let radius = |i: usize| off(i) + i.checked_sub(1).map_or(0.0, off);
        let discs = || (0..diagonal.len()).map(|i| (diagonal[i], radius(i)));
        let low = discs().map(|(centre, radius)| centre - radius);
        let low = low.fold(f64::INFINITY, f64::min);
        let high = discs().map(|(centre, radius)| centre + radius);
        let high = high.fold(f64::NEG_INFINITY, f64::max);
        places
            .into_par_iter()
            .with_min_len(ROWS)
            .map(|k| {
                // The k-th eigenvalue is where more than k lie below.
                let (mut low, mut high) = (low, high);
                for _ in 0..HALVINGS {
                    let middle = 0.5 * (low + high);
                    if middle <= low || middle >= high {
                        break;
                    }
                    match below(diagonal, squares, middle) > k {
                        true => high = middle,
                        false => low = middle,
                    }
                }
                0.5 * (low + high)
            })
            .collect()
    }

    /// Turns an eigenvector of the tridiagonal matrix into one of the matrix that it was made from.
    pub fn reflect_back(&self, vector: &mut [f64]) {
        let size = self.diagonal.len();
        let mut axis = vec![0.0; size];
        for column in (0..self.squares.len()).rev() {
            let rest = column + 1;
            let axis = &mut axis[rest..];
            if reflection(&self.rows[column * size + rest..(column + 1) * size], axis) {
                let vector = &mut vector[rest..];
                let factor = 2.0 * dot(axis, vector) / dot(axis, axis);
                for (value, axis) in vector.iter_mut().zip(&*axis) {
                    *value -= factor * axis;
                }
            }
        }
    }
}

/// The axis of the reflection that takes `below` onto its first place; none where it lies there already.
fn reflection(below: &[f64], axis: &mut [f64]) -> bool {
    if below[1..].iter().all(|&value| value == 0.0) {
        return false;
    }
    axis.copy_from_slice(below);
    axis[0] += dot(below, below).sqrt().copysign(axis[0]);
    true
}

/// The number of eigenvalues below `bound` of the tridiagonal matrix with `diagonal` and the squares of the numbers
/// beside it: negative pivots of its elimination (Sturm).
fn below(diagonal: &[f64], squares: &[f64], bound: f64) -> usize {
    let mut pivot = 1.0;
    let mut count = 0;
    for (i, value) in diagonal.iter().enumerate() {
        let square = i.checked_sub(1).map_or(0.0, |before| squares[before]);
        pivot = value - bound - square / pivot;
        if pivot == 0.0 {
            // The eigenvalue at `bound` itself is moved by less than a rounding error.
            pivot = f64::MIN_POSITIVE.sqrt();
        }
        count += usize::from(pivot < 0.0);
    }
    count
}

/// The product of two vectors, by eight partial sums.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0f64; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use smallfry_data::random::Random;

    use super::*;

    fn random(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(&[seed]);
        (0..count).map(|_| random.normal() as f32).collect()
    }

    #[track_caller]
    fn assert_close(found: &[f64], expected: &[f64], error: f64) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < error, "{found} {expected}");
        }
    }

    #[test]
    fn eigenvalues_in_closed_form() {
        assert_close(
            &eigenvalues(vec![2.0, 1.0, 1.0, 2.0], 2),
            &[1.0, 3.0],
            1e-14,
        );
        assert_close(&eigenvalues(vec![0.0; 9], 3), &[0.0; 3], 1e-300);
        assert_close(&eigenvalues(vec![7.0], 1), &[7.0], 1e-14);
        assert!(eigenvalues(Vec::new(), 0).is_empty());
        // Second differences on a line: 2 − 2 cos(kπ / (n + 1)).
        let n = 90;
        let line = |i: usize, j: usize| match i.abs_diff(j) {
            0 => 2.0,
            1 => -1.0,
            _ => 0.0,
        };
        let matrix = (0..n * n).map(|i| line(i / n, i % n)).collect();
        let expected: Vec<f64> = (1..=n)
            .map(|k| 2.0 - 2.0 * (k as f64 * std::f64::consts::PI / (n + 1) as f64).cos())
            .collect();
        assert_close(&eigenvalues(matrix, n), &expected, 1e-13);
        // All ones: n once, 0 otherwise. A full matrix, so that reflections have work to do.
        let mut expected = vec![0.0; n];
        expected[n - 1] = n as f64;
        assert_close(&eigenvalues(vec![1.0; n * n], n), &expected, 1e-12);
    }

    #[test]
    fn eigenvalues_keep_sums_and_sums_of_squares_and_cubes() {
        let n = 150;
        let features = random(n * n, 8);
        let symmetric: Vec<f64> = (0..n * n)
            .map(|i| f64::from(features[i]) + f64::from(features[i % n * n + i / n]))
            .collect();
        let found = eigenvalues(symmetric.clone(), n);
        assert!(found.windows(2).all(|pair| pair[0] <= pair[1]));
        let trace: f64 = (0..n).map(|i| symmetric[i * n + i]).sum();
        let square: f64 = symmetric.iter().map(|v| v * v).sum();
        let row = |i: usize| &symmetric[i * n..(i + 1) * n];
        let cube: f64 = (0..n * n)
            .map(|i| symmetric[i] * dot(row(i / n), row(i % n)))
            .sum();
        let power = |p: i32| found.iter().map(|v| v.powi(p)).sum::<f64>();
        assert!((power(1) - trace).abs() < 1e-10);
        assert!((power(2) / square - 1.0).abs() < 1e-12);
        assert!((power(3) - cube).abs() < 1e-7 * square);
    }

    #[test]
    fn singular_values_of_known_factors() {
        // Rows (3, 0), (0, 4) and (0, 0), and the same lying down.
        let values = [3.0, 0.0, 0.0, 4.0, 0.0, 0.0];
        assert_close(&singular_values(&values, 2), &[4.0, 3.0], 1e-12);
        let turned = [3.0, 0.0, 0.0, 0.0, 4.0, 0.0];
        assert_close(&singular_values(&turned, 3), &[4.0, 3.0], 1e-12);
        let tall = random(40 * 9, 2);
        let wide: Vec<f32> = (0..9 * 40).map(|i| tall[i % 40 * 9 + i / 40]).collect();
        assert_close(
            &singular_values(&tall, 9),
            &singular_values(&wide, 40),
            1e-9,
        );
    }

    #[test]
    fn ranks_by_hand() {
        // One direction: every other singular value adds ε ln(1/ε).
        let one: Vec<f32> = (0..60).map(|i| [1.0, 2.0, 2.0][i % 3]).collect();
        let noise = -2.0 * RANK_EPSILON * RANK_EPSILON.ln();
        assert!((effective_rank(&one, 3) - noise.exp()).abs() < 1e-6);
        // The axes: all directions alike.
        let axes: Vec<f32> = (0..64).map(|i| f32::from(u8::from(i % 9 == 0))).collect();
        assert!((effective_rank(&axes, 8) - 8.0).abs() < 1e-4);
        // Shares of 3/4 and 1/4.
        let uneven = [3.0, 0.0, 0.0, 1.0];
        let expected = 4.0 / 3.0f64.powf(0.75);
        assert!((effective_rank(&uneven, 2) - expected).abs() < 1e-5);
        // More directions than images.
        assert!((effective_rank(&axes[..32], 8) - 4.0).abs() < 1e-5);
        assert_eq!(effective_rank(&[0.0; 6], 2), 0.0);
        assert!(effective_rank(&[1.0, f32::NAN], 2).is_nan());
        assert!(effective_rank(&[], 2).is_nan());
        let full = effective_rank(&random(4000 * 16, 6), 16);
        assert!(full > 15.9 && full <= 16.001, "{full}");
    }
}
