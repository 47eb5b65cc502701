//! Exact nearest neighbours by Euclidean distance, in bounded memory.
//!
//! The squared distance is |a|² + |b|² − 2 a·b, and the products a·b are one large matrix product in single precision.
//! That alone may order near neighbours wrongly, so it serves only to pass over what cannot be among the nearest: a
//! product of width n is off by at most n · 2⁻²⁴ · |a| · |b|, and every feature that may still be near enough is measured
//! again, in double precision. Equal distances go to the earlier feature. The result depends on neither the number of
//! threads nor the size of any chunk.

use std::{cmp::Ordering, collections::BinaryHeap};

use rayon::prelude::*;
use smallfry::nn::kernel::{
    Level,
    gemm::{Finish, Packed, Rows, multiply_packed},
};

use crate::space::Represented;

/// Bytes of training features that are in memory at once.
const CHUNK_BYTES: usize = 16 << 20;

/// Training features that are packed together.
const PACK: usize = 256;

/// Test features that a thread takes at once.
const TILE: usize = 32;

/// A training feature near a test feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Squared Euclidean distance.
    pub square: f64,
    /// Its row in the training set.
    pub row: usize,
}

impl Eq for Neighbour {}

impl Ord for Neighbour {
    fn cmp(&self, other: &Self) -> Ordering {
        self.square
            .total_cmp(&other.square)
            .then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Neighbour {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The `count` training features nearest to each of the `tests`, `[rows, width]`, nearest first; all of them where the
/// training set has fewer.
///
/// # Errors
/// If a training feature is not finite.
///
/// # Panics
/// If `count` is zero.
pub fn nearest(
    train: &Represented<'_>,
    tests: &[f32],
    count: usize,
) -> Result<Vec<Vec<Neighbour>>, String> {
    assert!(count > 0, "no neighbour is asked for");
    let width = train.width().max(1);
    let chunk = (CHUNK_BYTES / (4 * width)).next_multiple_of(PACK);
    let squares: Vec<f64> = tests.par_chunks_exact(width).map(square).collect();
    let mut found: Vec<BinaryHeap<Neighbour>> = vec![BinaryHeap::new(); tests.len() / width];
    for start in (0..train.rows()).step_by(chunk) {
        let features = train.read(start..train.rows().min(start + chunk))?;
        let pieces: Vec<Piece<'_>> = features
            .par_chunks(PACK * width)
            .enumerate()
            .map(|(i, features)| Piece::new(features, width, start + i * PACK))
            .collect();
        tests
            .par_chunks(TILE * width)
            .zip(squares.par_chunks(TILE))
            .zip(found.par_chunks_mut(TILE))
            .for_each_init(
                || vec![0.0f32; TILE * PACK],
                |products, ((tests, squares), found)| {
                    for piece in &pieces {
                        piece.search(tests, squares, count, products, found);
                    }
                },
            );
    }
    Ok(found
        .into_par_iter()
        .map(BinaryHeap::into_sorted_vec)
        .collect())
}

/// Training features made ready for products.
struct Piece<'a> {
    features: &'a [f32],
    first: usize,
    packed: Packed,
    squares: Vec<f64>,
    lengths: Vec<f64>,
}

impl<'a> Piece<'a> {
    fn new(features: &'a [f32], width: usize, first: usize) -> Self {
        let rows = features.len() / width;
        let mut packed = Packed::new(Level::current(), width, rows);
        packed.set_transposed(features, width, None);
        let squares: Vec<f64> = features.chunks_exact(width).map(square).collect();
        Self {
            features,
            first,
            packed,
            lengths: squares.iter().map(|square| square.sqrt()).collect(),
            squares,
        }
    }

    /// Takes what is near `tests`, whose squared lengths are `squares`, into `found`.
    fn search(
        &self,
        tests: &[f32],
        squares: &[f64],
        count: usize,
        products: &mut [f32],
        found: &mut [BinaryHeap<Neighbour>],
    ) {
        let width = self.packed.k();
        let rows = Rows::dense(tests, width);
        multiply_packed(
            found.len(),
            rows,
            &self.packed,
            products,
            PACK,
            Finish::default(),
        );
        // Twice the error of a product relative to both lengths, with two units to spare for the sums around it.
        let slack = 2.0 * (width + 2) as f64 * (0.5f64).powi(24);
        let tests = tests.chunks_exact(width).zip(squares);
        for (((test, &test_square), products), found) in tests.zip(products.chunks(PACK)).zip(found)
        {
            let mut farthest = bound(found, count);
            // The root of each pair's product would cost more than all the rest.
            let slack = slack * test_square.sqrt();
            let trains = self.squares.iter().zip(&self.lengths);
            for (i, (&product, (&train_square, &length))) in products.iter().zip(trains).enumerate()
            {
                let estimate = test_square + train_square - 2.0 * f64::from(product);
                if estimate - slack * length > farthest {
                    continue;
                }
                let neighbour = Neighbour {
                    square: distance(test, &self.features[i * width..][..width]),
                    row: self.first + i,
                };
                if found.len() < count {
                    found.push(neighbour);
                } else if found.peek().is_some_and(|last| neighbour < *last) {
                    found.pop();
                    found.push(neighbour);
                }
                farthest = bound(found, count);
            }
        }
    }
}

/// The squared distance beyond which nothing is taken any more.
fn bound(found: &BinaryHeap<Neighbour>, count: usize) -> f64 {
    match found.peek() {
        Some(last) if found.len() == count => last.square,
        _ => f64::INFINITY,
    }
}

fn square(feature: &[f32]) -> f64 {
    feature.iter().map(|&value| f64::from(value).powi(2)).sum()
}

/// The squared distance in double precision, by eight partial sums.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (a, b) = (a.chunks(8), b.chunks(8));
    for (a, b) in a.zip(b) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            let gap = f64::from(a) - f64::from(b);
            *sum += gap * gap;
        }
    }
    sums.iter().sum()
}
