//! The leading principal components of features: what t-SNE works on, as differences beyond them are mostly noise.
//!
//! The reference takes the eigenvectors that a solver for general matrices happens to give first; here they are those of
//! the largest eigenvalues. The smaller Gram matrix is made tridiagonal, bisection finds its largest eigenvalues, inverse
//! iteration their vectors. All vectors are kept orthogonal to each other, so equal eigenvalues do no harm.

use rayon::prelude::*;
use smallfry_data::random::Random;
use smallfry_nn::kernel::{
    Level,
    gemm::{Finish, Rows, multiply, multiply_transposed},
};

use crate::{measure::Tridiagonal, metric::Watch};

/// Rows whose products are added in single precision, before they go into sums in double precision.
const SLICE: usize = 512;

/// Columns of a Gram matrix that a thread takes at once.
const STRIP: usize = 64;

/// Rounds of inverse iteration: each gains as many digits as an eigenvalue is exact to, one would nearly do.
const ROUNDS: usize = 4;

/// Points given by their leading principal components.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Components {
    /// Coordinates, `[points, width]`, the component of the largest variance first.
    pub values: Vec<f32>,
    /// Number of components.
    pub width: usize,
}

impl Components {
    /// At most `count` leading principal components of `features`, `[points, width]`: fewer where there are fewer points or
    /// numbers in a feature.
    ///
    /// # Errors
    /// Who watches wants it to stop.
    pub fn of(
        features: &[f32],
        width: usize,
        count: usize,
        watch: Watch<'_>,
    ) -> Result<Self, String> {
        let points = features.len() / width;
        let centred = centred(features, width);
        let count = count.min(points).min(width);
        if points < width {
            // The products of points with each other have the same eigenvalues, and their eigenvectors are coordinates.
            let turned: Vec<f32> = (0..centred.len())
                .map(|i| centred[i % points * width + i / points])
                .collect();
            let axes = leading(gram(&turned, points, watch)?, points, count, watch)?;
            let values = (0..points * count).map(|i| {
                let (value, axis) = &axes[i % count];
                (value.max(0.0).sqrt() * axis[i / count]) as f32
            });
            return Ok(Self {
                values: values.collect(),
                width: count,
            });
        }
        let axes = leading(gram(&centred, width, watch)?, width, count, watch)?;
        let turned: Vec<f32> = (0..width * count)
            .map(|i| axes[i % count].1[i / count] as f32)
            .collect();
        let mut values = vec![0.0; points * count];
        let pieces = values.par_chunks_mut(SLICE * count);
        pieces
            .zip(centred.par_chunks(SLICE * width))
            .for_each(|(values, rows)| {
                let (left, right) = (Rows::dense(rows, width), Rows::dense(&turned, count));
                multiply(
                    Level::current(),
                    rows.len() / width,
                    width,
                    count,
                    left,
                    right,
                    values,
                    count,
                    Finish::default(),
                );
            });
        Ok(Self {
            values,
            width: count,
        })
    }
}

/// The features without their mean.
fn centred(features: &[f32], width: usize) -> Vec<f32> {
    let points = (features.len() / width) as f64;
    let mut mean = vec![0.0f64; width];
    for row in features.chunks_exact(width) {
        for (mean, &value) in mean.iter_mut().zip(row) {
            *mean += f64::from(value);
        }
    }
    mean.iter_mut().for_each(|mean| *mean /= points);
    let mut values = features.to_vec();
    values.par_chunks_exact_mut(width).for_each(|row| {
        for (value, mean) in row.iter_mut().zip(&mean) {
            *value = (f64::from(*value) - mean) as f32;
        }
    });
    values
}

/// The products of all pairs of columns of `rows`, a symmetric `[width, width]`.
fn gram(rows: &[f32], width: usize, watch: Watch<'_>) -> Result<Vec<f64>, String> {
    let mut gram = vec![0.0f64; width * width];
    let strips = gram.par_chunks_mut(STRIP * width).enumerate();
    strips.try_for_each_init(
        || vec![0.0f32; STRIP * width],
        |products, (strip, sums)| {
            let first = strip * STRIP;
            let (height, across) = (sums.len() / width, width - first);
            for slice in rows.chunks(SLICE * width) {
                watch.go_on()?;
                products.fill(0.0);
                let columns = Rows {
                    values: &slice[first..],
                    stride: width,
                };
                multiply_transposed(
                    Level::current(),
                    slice.len() / width,
                    height,
                    across,
                    columns,
                    columns,
                    products,
                    width,
                );
                let products = products.chunks(width);
                for (sums, products) in sums.chunks_mut(width).zip(products) {
                    for (sum, &product) in sums[first..].iter_mut().zip(&products[..across]) {
                        *sum += f64::from(product);
                    }
                }
            }
            Ok::<_, String>(())
        },
    )?;
    for i in 0..width {
        for j in 0..i {
            gram[i * width + j] = gram[j * width + i];
        }
    }
    Ok(gram)
}

/// The `count` largest eigenvalues of the symmetric `matrix`, `[size, size]`, with eigenvectors of length one; largest
/// first.
fn leading(
    matrix: Vec<f64>,
    size: usize,
    count: usize,
    watch: Watch<'_>,
) -> Result<Vec<(f64, Vec<f64>)>, String> {
    let reduced = Tridiagonal::new(matrix, size, watch)?;
    let beside = reduced.beside();
    let mut values = reduced.eigenvalues(size - count..size);
    values.reverse();
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(count);
    for (place, &value) in values.iter().enumerate() {
        watch.go_on()?;
        let mut random = Random::new(&[place as u64]);
        let mut vector: Vec<f64> = (0..size).map(|_| random.normal()).collect();
        let elimination = Elimination::new(&reduced.diagonal, &beside, value);
        for _ in 0..ROUNDS {
            elimination.solve(&mut vector);
            // Once leaves what rounding of large parts leaves; twice is enough.
            for other in vectors.iter().chain(&vectors) {
                let part = dot(&vector, other);
                for (value, other) in vector.iter_mut().zip(other) {
                    *value -= part * other;
                }
            }
            let length = dot(&vector, &vector).sqrt();
            vector.iter_mut().for_each(|value| *value /= length);
        }
        vectors.push(vector);
    }
    vectors.par_iter_mut().for_each(|vector| {
        reduced.reflect_back(vector);
        // Of the two directions of an axis the one in which its largest number is positive.
        let largest = vector
            .iter()
            .fold(0.0f64, |a, &b| if b.abs() > a.abs() { b } else { a });
        if largest < 0.0 {
            vector.iter_mut().for_each(|value| *value = -*value);
        }
    });
    Ok(values.into_iter().zip(vectors).collect())
}

/// A tridiagonal matrix minus a multiple of the identity, taken apart by elimination with exchanged rows.
struct Elimination {
    /// Of each row the numbers from the diagonal on.
    rows: Vec<[f64; 3]>,
    /// Of each row but the last, by what factor it is taken from the next, and whether the two were exchanged.
    steps: Vec<(f64, bool)>,
}

impl Elimination {
    fn new(diagonal: &[f64], beside: &[f64], shift: f64) -> Self {
        let size = diagonal.len();
        let off = |i: usize| beside.get(i).copied().unwrap_or(0.0);
        let scale = diagonal
            .iter()
            .chain(beside)
            .fold(shift.abs(), |a, b| a.max(b.abs()));
        // A pivot of zero is what a perfect eigenvalue gives; so small a number in its place is a rounding error.
        let tiny = (scale * f64::EPSILON).max(f64::MIN_POSITIVE);
        let mut rows = Vec::with_capacity(size);
        let mut steps = Vec::with_capacity(size.saturating_sub(1));
        let mut current = [diagonal[0] - shift, off(0), 0.0];
        for (i, own) in diagonal.iter().enumerate().skip(1) {
            let mut next = [off(i - 1), own - shift, off(i)];
            let exchanged = next[0].abs() > current[0].abs();
            if exchanged {
                std::mem::swap(&mut current, &mut next);
            }
            if current[0].abs() < tiny {
                current[0] = tiny;
            }
            let factor = next[0] / current[0];
            rows.push(current);
            steps.push((factor, exchanged));
            current = [
                next[1] - factor * current[1],
                next[2] - factor * current[2],
                0.0,
            ];
        }
        if current[0].abs() < tiny {
            current[0] = tiny;
        }
        rows.push(current);
        Self { rows, steps }
    }

    /// Replaces `vector` by what the matrix maps to it, up to a factor.
    fn solve(&self, vector: &mut [f64]) {
        for (i, &(factor, exchanged)) in self.steps.iter().enumerate() {
            if exchanged {
                vector.swap(i, i + 1);
            }
            vector[i + 1] -= factor * vector[i];
        }
        let mut behind = [0.0; 2];
        for (value, row) in vector.iter_mut().zip(&self.rows).rev() {
            *value = (*value - row[1] * behind[0] - row[2] * behind[1]) / row[0];
            behind = [*value, behind[0]];
        }
        // Large numbers of one round must not overflow in the next.
        let largest = vector.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        if largest > 0.0 {
            vector.iter_mut().for_each(|value| *value /= largest);
        }
    }
}

/// The product of two vectors.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(&[seed]);
        (0..count).map(|_| random.normal() as f32).collect()
    }

    /// Checks A·v = λ·v, length one and right angles.
    fn check(matrix: &[f64], size: usize, count: usize) -> Vec<f64> {
        let axes = leading(matrix.to_vec(), size, count, Watch::default()).unwrap();
        let scale = axes[0].0.abs().max(1e-300);
        for (i, (value, vector)) in axes.iter().enumerate() {
            for (row, expected) in matrix.chunks(size).zip(vector) {
                let error = (dot(row, vector) - value * expected).abs();
                assert!(error < 1e-11 * scale, "{i}: {error}");
            }
            for (j, (_, other)) in axes.iter().enumerate() {
                let expected = f64::from(u8::from(i == j));
                assert!((dot(vector, other) - expected).abs() < 1e-12, "{i} {j}");
            }
        }
        axes.into_iter().map(|(value, _)| value).collect()
    }

    #[test]
    fn eigenvectors_of_matrices_easy_and_degenerate() {
        let size = 70;
        let features = random(size * size, 3);
        let full: Vec<f64> = (0..size * size)
            .map(|i| f64::from(features[i]) + f64::from(features[i % size * size + i / size]))
            .collect();
        let values = check(&full, size, 50);
        assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
        check(&full, size, size);
        // One eigenvalue seventy times, one sixty-nine times, and none but zero.
        let identity: Vec<f64> = (0..size * size)
            .map(|i| f64::from(u8::from(i % (size + 1) == 0)))
            .collect();
        assert!(
            check(&identity, size, 50)
                .iter()
                .all(|v| (v - 1.0).abs() < 1e-12)
        );
        let values = check(&vec![1.0; size * size], size, 10);
        assert!((values[0] - 70.0).abs() < 1e-10 && values[1].abs() < 1e-10);
        check(&vec![0.0; size * size], size, 3);
        check(&[5.0], 1, 1);
    }

    #[test]
    fn all_components_keep_all_distances() {
        for (points, width) in [(40, 9), (9, 40), (700, 70)] {
            let features = random(points * width, 5);
            let found = Components::of(&features, width, 1000, Watch::default()).unwrap();
            assert_eq!(found.width, points.min(width));
            let distance = |values: &[f32], width: usize, i: usize, j: usize| -> f64 {
                let row = |i: usize| &values[i * width..(i + 1) * width];
                let differences = row(i).iter().zip(row(j));
                differences.map(|(a, b)| f64::from(a - b).powi(2)).sum()
            };
            for (i, j) in [(0, 1), (3, 8), (8, 2), (7, 7)] {
                let expected = distance(&features, width, i, j);
                let found = distance(&found.values, found.width, i, j);
                assert!((found - expected).abs() < 1e-4 * expected.max(1e-3));
            }
        }
    }

    #[test]
    fn the_leading_components_are_those_of_the_largest_variance() {
        // Deviations 9, 8, …, 1 along the axes, in shuffled order.
        let order = [3.0, 9.0, 1.0, 7.0, 5.0, 2.0, 8.0, 6.0, 4.0f32];
        let (points, width) = (4000, order.len());
        let features: Vec<f32> = random(points * width, 6)
            .iter()
            .zip(order.iter().cycle())
            .map(|(value, scale)| value * scale + 100.0)
            .collect();
        let found = Components::of(&features, width, 3, Watch::default()).unwrap();
        for (component, expected) in [9.0, 8.0, 7.0].into_iter().enumerate() {
            let column = found.values.iter().skip(component).step_by(3);
            let square: f64 = column.map(|&v| f64::from(v).powi(2)).sum();
            let deviation = (square / points as f64).sqrt();
            assert!((deviation / expected - 1.0).abs() < 0.05, "{deviation}");
        }
    }
}
