//! The products of all pairs of columns of a matrix that passes by in pieces.

use rayon::prelude::*;
use smallfry_nn::kernel::double;

/// Rows that are in double precision at once, so that they stay in the cache.
const ROWS: usize = 64;

/// XᵀX of the rows of X seen so far, in double precision. Rows are added in order, so that the sums are the same however
/// they are cut into pieces and however many threads there are.
#[derive(Clone, Debug)]
pub struct Gram {
    width: usize,
    rows: usize,
    /// The upper half of `[width, width]`.
    products: Vec<f64>,
}

impl Gram {
    /// That of no rows of `width` numbers.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            rows: 0,
            products: vec![0.0; width * width],
        }
    }

    /// That of `features`, `[rows, width]`.
    pub fn of(features: &[f32], width: usize) -> Self {
        let mut gram = Self::new(width);
        gram.add(features);
        gram
    }

    /// Takes in more `features`, `[rows, width]`.
    ///
    /// # Panics
    /// If the width does not divide the number of values.
    pub fn add(&mut self, features: &[f32]) {
        let width = self.width.max(1);
        assert!(features.len().is_multiple_of(width), "whole rows");
        for features in features.chunks(ROWS * width) {
            let rows: Vec<f64> = features.iter().map(|&value| f64::from(value)).collect();
            let sums = self.products.par_chunks_exact_mut(width).enumerate();
            sums.for_each(|(i, sums)| {
                double::add_column_products(&rows, width, i, &mut sums[i..]);
            });
            self.rows += features.len() / width;
        }
    }

    /// Rows seen so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The product of two columns.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn product(&self, i: usize, j: usize) -> f64 {
        self.products[i.min(j) * self.width + i.max(j)]
    }

    /// All products, `[width, width]`.
    pub fn symmetric(&self) -> Vec<f64> {
        let places = (0..self.width).flat_map(|i| (0..self.width).map(move |j| (i, j)));
        places.map(|(i, j)| self.product(i, j)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_the_products_of_the_whole() {
        let (rows, width) = (150, 5);
        let values: Vec<f32> = (0..rows * width).map(|i| (i * 37 % 101) as f32).collect();
        let whole = Gram::of(&values, width);
        let mut pieces = Gram::new(width);
        for piece in values.chunks(7 * width) {
            pieces.add(piece);
        }
        assert_eq!((whole.rows(), pieces.rows()), (rows, rows));
        assert_eq!(whole.symmetric(), pieces.symmetric());
        for (i, j) in [(0, 0), (1, 3), (4, 2)] {
            let pairs = values.chunks(width).map(|row| f64::from(row[i] * row[j]));
            assert_eq!(whole.product(i, j), pairs.sum::<f64>());
        }
    }
}
