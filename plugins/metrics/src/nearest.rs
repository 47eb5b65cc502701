//! Exact nearest neighbours by Euclidean distance, in bounded memory.
//!
//! Half the squared distance of features a and b is |a|²/2 minus their closeness a·b − |b|²/2, and the closenesses of many
//! features are one large matrix product in single precision, whose start values are −|b|²/2. That alone may order near
//! neighbours wrongly, so it serves only to pass over what cannot be among the nearest: how far a closeness may be off is
//! known (`Bounds`), and every feature that may still be near enough is measured again, in double precision. Features are
//! taken relative to a centre first, which changes no distance and keeps the products small where all features lie
//! together far from zero. Equal distances go to the earlier feature. The result depends on neither the number of threads
//! nor the size of any chunk.

use std::cmp::Ordering;

use rayon::prelude::*;
use smallfry::{
    metric::Watch,
    nn::kernel::{
        Level,
        gemm::{Finish, Packed, Rows, multiply_packed},
    },
};

use crate::space::Represented;

mod candidates;

use candidates::Candidates;

/// Bytes of training features that are in memory at once; the packed ones take as many again.
const CHUNK_BYTES: usize = 64 << 20;

/// Training features that are packed together.
const PACK: usize = 256;

/// Test features that a thread takes at once: the rows that a product keeps in the cache.
const TILE: usize = 84;

/// Training features whose mean is the centre.
const CENTRE_ROWS: usize = 4096;

/// Closenesses that are looked through at once for one that counts.
const LOOK: usize = 32;

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
/// If a training feature is not finite, or the user stops.
///
/// # Panics
/// If `count` is zero.
pub fn nearest(
    train: &Represented<'_>,
    tests: &[f32],
    count: usize,
    watch: Watch<'_>,
) -> Result<Vec<Vec<Neighbour>>, String> {
    assert!(count > 0, "no neighbour is asked for");
    let width = train.width().max(1);
    let chunk = (CHUNK_BYTES / (4 * width)).max(1).next_multiple_of(PACK);
    let centre = mean(&train.read(0..train.rows().min(CENTRE_ROWS))?, width);
    let moved = centred(tests, &centre);
    let mut found: Vec<Vec<Neighbour>> = vec![Vec::new(); tests.len() / width];
    for start in (0..train.rows()).step_by(chunk) {
        watch.reached(start as f64 / train.rows() as f64)?;
        let features = train.read(start..train.rows().min(start + chunk))?;
        let pieces: Vec<Piece> = features
            .par_chunks(PACK * width)
            .map(|features| Piece::new(features, &centre))
            .collect();
        let tiles = tests
            .par_chunks(TILE * width)
            .zip(moved.par_chunks(TILE * width))
            .zip(found.par_chunks_mut(TILE));
        tiles.try_for_each_init(
            || vec![0.0f32; TILE * PACK],
            |closeness, ((tests, moved), found)| {
                watch.go_on()?;
                let chunk = Chunk {
                    features: &features,
                    pieces: &pieces,
                    first: start,
                };
                chunk.search(tests, moved, count, closeness, found);
                Ok::<_, String>(())
            },
        )?;
    }
    Ok(found)
}

/// Training features that are in memory.
struct Chunk<'a> {
    /// As they are, `[rows, width]`.
    features: &'a [f32],
    /// Less the centre, made ready for products.
    pieces: &'a [Piece],
    /// Row of the first of them.
    first: usize,
}

impl Chunk<'_> {
    /// Takes what is near the `tests`, `[rows, width]`, into `found`; `moved` are the same less the centre.
    fn search(
        &self,
        tests: &[f32],
        moved: &[f32],
        count: usize,
        closeness: &mut [f32],
        found: &mut [Vec<Neighbour>],
    ) {
        let width = tests.len() / found.len();
        let mut searches: Vec<Candidates> = tests
            .chunks_exact(width)
            .zip(moved.chunks_exact(width))
            .zip(found)
            .map(|((test, moved), found)| Candidates::new(test, square(moved), count, found))
            .collect();
        for (i, piece) in self.pieces.iter().enumerate() {
            let finish = Finish {
                start: Some(&piece.start),
                ..Finish::default()
            };
            let rows = Rows::dense(moved, width);
            multiply_packed(searches.len(), rows, &piece.packed, closeness, PACK, finish);
            let rows = closeness.chunks(PACK);
            for (search, row) in searches.iter_mut().zip(rows) {
                let bounds = Bounds::new(width, search.length(), piece.longest);
                search.look(&row[..piece.packed.n()], i * PACK, bounds, self);
            }
        }
        for search in searches {
            search.finish(self);
        }
    }

    /// Feature `row` of the chunk as a neighbour of `test`.
    fn measure(&self, test: &[f32], row: usize) -> Neighbour {
        let feature = &self.features[row * test.len()..][..test.len()];
        Neighbour {
            square: distance(test, feature),
            row: self.first + row,
        }
    }
}

/// Training features made ready for products.
struct Piece {
    packed: Packed,
    /// −|b|²/2 of each.
    start: Vec<f32>,
    /// The greatest length.
    longest: f64,
}

impl Piece {
    fn new(features: &[f32], centre: &[f32]) -> Self {
        let width = centre.len();
        let moved = centred(features, centre);
        let mut packed = Packed::new(Level::current(), width, features.len() / width);
        packed.set_transposed(&moved, width, None);
        let squares: Vec<f64> = moved.chunks_exact(width).map(square).collect();
        Self {
            packed,
            start: squares.iter().map(|s| (-0.5 * s) as f32).collect(),
            longest: squares.iter().copied().fold(0.0, f64::max).sqrt(),
        }
    }
}

/// How far a closeness may be from the exact one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bounds {
    /// By so much.
    Within(f32),
    /// By anything: the numbers are too large for single precision.
    Open,
}

impl Bounds {
    /// For features of `width` numbers, a test feature of length `test` and training features up to length `train`.
    ///
    /// Adding up n products with start value is off by n + 1 roundings, each of at most u = 2⁻²⁴, of a sum of magnitudes of
    /// at most |a||b| + |b|²/2; taking the centre off moves each feature by u of its length and so half the squared
    /// distance by u (|a| + |b|)². A few units are spared for the arithmetic with bounds; products that underflow lose less
    /// than the smallest normal number each.
    fn new(width: usize, test: f64, train: f64) -> Self {
        let unit = 1.01 * 0.5f64.powi(24);
        let magnitude = test * train + 0.5 * train * train;
        let off = unit * ((width + 12) as f64 * magnitude + 2.0 * (test + train).powi(2))
            + (width + 12) as f64 * f64::from(f32::MIN_POSITIVE);
        match magnitude < 1e37 {
            true => Self::Within(off as f32),
            false => Self::Open,
        }
    }
}

/// The mean of `features`, `[rows, width]`, rounded to single precision; zeros without any.
fn mean(features: &[f32], width: usize) -> Vec<f32> {
    let rows = (features.len() / width).max(1) as f64;
    let mut mean = vec![0.0f64; width];
    for feature in features.chunks_exact(width) {
        for (mean, value) in mean.iter_mut().zip(feature) {
            *mean += f64::from(*value) / rows;
        }
    }
    mean.into_iter().map(|value| value as f32).collect()
}

/// `features`, `[rows, width]`, less the centre.
fn centred(features: &[f32], centre: &[f32]) -> Vec<f32> {
    let mut moved = features.to_vec();
    moved.par_chunks_exact_mut(centre.len()).for_each(|row| {
        for (value, centre) in row.iter_mut().zip(centre) {
            *value -= centre;
        }
    });
    moved
}

fn square(feature: &[f32]) -> f64 {
    sum(feature.len(), |i| f64::from(feature[i]).powi(2))
}

/// The squared distance in double precision.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let b = &b[..a.len()];
    sum(a.len(), |i| (f64::from(a[i]) - f64::from(b[i])).powi(2))
}

/// The sum of `count` terms, by eight partial sums.
#[inline(always)]
fn sum(count: usize, term: impl Fn(usize) -> f64) -> f64 {
    let mut sums = [0.0f64; 8];
    let whole = count - count % 8;
    for first in (0..whole).step_by(8) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += term(first + i);
        }
    }
    for (i, sum) in sums.iter_mut().enumerate().take(count - whole) {
        *sum += term(whole + i);
    }
    sums.iter().sum()
}
