//! Alignment and uniformity (Wang and Isola 2020), and the spread of each number of a feature.

use std::fmt;

use super::products::{dot, fold};
use crate::metric::Watch;

/// Features scaled to length one, `[rows, width]`, all of them finite.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitRows {
    values: Vec<f32>,
    width: usize,
}

/// A feature that is no number, or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// Its row.
    pub row: usize,
    /// The first of its numbers that is not finite.
    pub column: usize,
    /// Rows that have such a number.
    pub rows: usize,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, column, rows } = self;
        write!(
            f,
            "{rows} of the features are not finite; the first is number {column} of row {row}"
        )
    }
}

impl UnitRows {
    /// Scales `features`, `[rows, width]`, to length one; a feature of zeros stays one.
    ///
    /// # Errors
    /// A feature is not finite.
    ///
    /// # Panics
    /// If `width` is 0 or does not divide the number of values.
    pub fn new(features: &[f32], width: usize) -> Result<Self, NotFinite> {
        assert!(
            width > 0 && features.len().is_multiple_of(width),
            "{} numbers are no rows of {width}",
            features.len()
        );
        let broken = |row: &[f32]| row.iter().position(|value| !value.is_finite());
        let mut bad = features
            .chunks_exact(width)
            .enumerate()
            .filter_map(|(row, values)| Some((row, broken(values)?)));
        if let Some((row, column)) = bad.next() {
            let rows = 1 + bad.count();
            return Err(NotFinite { row, column, rows });
        }
        let mut values = features.to_vec();
        for row in values.chunks_exact_mut(width) {
            let length = dot(row, row).sqrt();
            if length > 0.0 {
                for value in row {
                    *value = (f64::from(*value) / length) as f32;
                }
            }
        }
        Ok(Self { values, width })
    }

    /// Number of features.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// Numbers in a feature.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All features, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Feature `row`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }
}

/// The mean squared distance of the features of two views of the same images: 0 where they are equal, 2 where they have
/// nothing to do with each other, 4 at most. Not a number without images.
///
/// # Panics
/// If the two differ in shape.
pub fn alignment(first: &UnitRows, second: &UnitRows) -> f64 {
    assert_eq!(
        (first.rows(), first.width),
        (second.rows(), second.width),
        "two views of the same images"
    );
    let pairs = first.values.iter().zip(&second.values);
    let sum: f64 = pairs
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum();
    sum / first.rows() as f64
}

/// The logarithm of the mean over all pairs of images of exp(−2 · squared distance): 0 where all features are equal, about
/// −4 where they are spread evenly over a sphere of many dimensions. Not a number with fewer than two images.
pub fn uniformity(features: &UnitRows) -> f64 {
    watched_uniformity(features, Watch::default()).expect("nobody watches")
}

/// The same, until who watches wants it to stop.
///
/// # Errors
/// That it was stopped.
pub fn watched_uniformity(features: &UnitRows, watch: Watch<'_>) -> Result<f64, String> {
    let (values, width) = (&features.values, features.width);
    let squares: Vec<f64> = values
        .chunks_exact(width)
        .map(|row| dot(row, row))
        .collect();
    let sums = fold(
        values,
        values,
        width,
        true,
        || 0.0f64,
        |sum, products| {
            for (i, row) in products.rows() {
                // The pairs of image `i` with those after it.
                let begin = (i + 1).saturating_sub(products.right).min(row.len());
                let others = &squares[products.right + begin..];
                for (&product, &square) in row[begin..].iter().zip(others) {
                    let distance = squares[i] + square - 2.0 * f64::from(product);
                    *sum += (-2.0 * distance.max(0.0)).exp();
                }
            }
        },
        watch,
    )?;
    let rows = features.rows();
    let pairs = (rows * rows.saturating_sub(1) / 2) as f64;
    Ok((sums.iter().sum::<f64>() / pairs).ln())
}

/// The standard deviation over the images of each of a feature's numbers, averaged over the numbers: 1/√width where
/// features are spread evenly over the sphere, 0 where all are equal. Not a number without images.
pub fn deviation(features: &UnitRows) -> f64 {
    let (rows, width) = (features.rows() as f64, features.width);
    let mut means = vec![0.0f64; width];
    let mut squares = vec![0.0f64; width];
    for row in features.values.chunks_exact(width) {
        for (mean, &value) in means.iter_mut().zip(row) {
            *mean += f64::from(value) / rows;
        }
    }
    for row in features.values.chunks_exact(width) {
        for ((square, &value), mean) in squares.iter_mut().zip(row).zip(&means) {
            *square += (f64::from(value) - mean).powi(2) / rows;
        }
    }
    let sum: f64 = squares.iter().map(|square| square.sqrt()).sum();
    match rows {
        0.0 => f64::NAN,
        _ => sum / width as f64,
    }
}

#[cfg(test)]
mod tests {
    use smallfry_data::random::Random;

    use super::*;

    fn unit(values: &[f32], width: usize) -> UnitRows {
        UnitRows::new(values, width).unwrap()
    }

    fn random(rows: usize, width: usize, seed: u64) -> UnitRows {
        let mut random = Random::new(&[seed]);
        let values: Vec<f32> = (0..rows * width).map(|_| random.normal() as f32).collect();
        unit(&values, width)
    }

    /// The definition, pair by pair.
    fn slow_uniformity(features: &UnitRows) -> f64 {
        let (mut sum, mut pairs) = (0.0, 0.0);
        for i in 0..features.rows() {
            for j in 0..i {
                let gaps = features.row(i).iter().zip(features.row(j));
                let square: f64 = gaps.map(|(a, b)| f64::from(a - b).powi(2)).sum();
                sum += (-2.0 * square).exp();
                pairs += 1.0;
            }
        }
        f64::ln(sum / pairs)
    }

    #[test]
    fn rows_get_length_one_and_zeros_stay() {
        let rows = unit(&[3.0, 4.0, 0.0, 0.0, -1e30, 0.0], 2);
        assert_eq!(rows.values(), [0.6, 0.8, 0.0, 0.0, -1.0, 0.0]);
        assert_eq!((rows.rows(), rows.width()), (3, 2));
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let values = [0.0, 1.0, 2.0, f32::NAN, f32::INFINITY, 0.0];
        let error = UnitRows::new(&values, 2).unwrap_err();
        assert_eq!(
            error,
            NotFinite {
                row: 1,
                column: 1,
                rows: 2
            }
        );
    }

    #[test]
    fn orthogonal_features_by_hand() {
        // Four images on the four axes; the second view turns each to the next axis, or leaves it, or reverses it.
        let axes: Vec<f32> = (0..16).map(|i| f32::from(u8::from(i % 5 == 0))).collect();
        let mut turned = axes.clone();
        turned.rotate_right(4);
        let reversed: Vec<f32> = axes.iter().map(|value| -value).collect();
        let (axes, turned, reversed) = (unit(&axes, 4), unit(&turned, 4), unit(&reversed, 4));
        assert_eq!(alignment(&axes, &axes), 0.0);
        assert_eq!(alignment(&axes, &turned), 2.0);
        assert_eq!(alignment(&axes, &reversed), 4.0);
        // Every two are √2 apart.
        assert!((uniformity(&axes) + 4.0).abs() < 1e-12);
        // Each number is 1 once and 0 three times: a variance of 1/4 − 1/16.
        assert!((deviation(&axes) - (3.0f64 / 16.0).sqrt()).abs() < 1e-12);
        // Two images opposite each other are 2 apart.
        assert!((uniformity(&unit(&[1.0, 0.0, -1.0, 0.0], 2)) + 8.0).abs() < 1e-12);
    }

    #[test]
    fn equal_features_by_hand() {
        let same = unit(&[0.5, 0.5, 0.5, 0.5].repeat(70), 4);
        assert_eq!((alignment(&same, &same), uniformity(&same)), (0.0, 0.0));
        assert!(deviation(&same) < 1e-12);
        let none = unit(&[], 3);
        assert!(alignment(&none, &none).is_nan() && deviation(&none).is_nan());
        assert!(uniformity(&none).is_nan() && uniformity(&unit(&[1.0], 1)).is_nan());
    }

    #[test]
    fn all_pairs_across_tiles_and_pieces() {
        for (rows, width) in [(2, 5), (33, 8), (257, 3), (600, 20)] {
            let features = random(rows, width, 3);
            let (fast, slow) = (uniformity(&features), slow_uniformity(&features));
            assert!((fast - slow).abs() < 1e-6, "{rows}: {fast} {slow}");
        }
    }

    #[test]
    fn features_spread_evenly_have_the_deviation_of_the_sphere() {
        let features = random(4000, 64, 5);
        assert!((deviation(&features) - 0.125).abs() < 1e-3);
        // In 64 dimensions squared distances are 2 ± 2/8: the mean of exp(−2 x) is exp(−4 + 2 · (1/4)²) nearly.
        assert!((uniformity(&features) + 3.875).abs() < 0.02);
    }
}
