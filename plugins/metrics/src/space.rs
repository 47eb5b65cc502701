//! Representation spaces: what is done to features before distances are taken.
//!
//! The reference centres features by the mean of the batch they happen to come in, training and test features each by
//! their own, and shuffles so that batches are alike. Here the shuffle is seeded, so that the numbers can be had again;
//! [`Centre::Whole`] centres by the mean of the whole set instead.

use std::ops::Range;

use rayon::prelude::*;
use smallfry::{
    data::random::Random,
    metric::FeatureSet,
    serde::{Deserialize, Serialize},
    tensor::values,
};

/// Rows that are read at once.
const ROWS: usize = 4096;

/// The least length that a feature is divided by.
const LEAST_NORM: f64 = 1e-12;

/// A representation space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Features as they are.
    Original,
    /// Features divided by their Euclidean length.
    Norm,
    /// Features less a mean, then divided by their Euclidean length.
    ShiftNorm,
}

impl Space {
    /// The space of that name; the reference's two spellings of `shift-norm` both count.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "original" => Some(Self::Original),
            "norm" => Some(Self::Norm),
            "shift-norm" | "shifted-norm" => Some(Self::ShiftNorm),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Norm => "norm",
            Self::ShiftNorm => "shift-norm",
        }
    }
}

/// The mean that [`Space::ShiftNorm`] subtracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "smallfry::serde")]
pub enum Centre {
    /// That of a shuffled batch of so many features, as in the reference; the last batch may be smaller.
    Batches(usize),
    /// That of the whole set.
    Whole,
}

/// A set of features in a space.
pub struct Represented<'a> {
    set: &'a dyn FeatureSet,
    name: &'static str,
    space: Space,
    /// The batch of each row; empty where all rows are one batch.
    batches: Vec<u32>,
    /// The mean of each batch, `[batches, width]`; empty but in [`Space::ShiftNorm`].
    means: Vec<f64>,
}

impl<'a> Represented<'a> {
    /// The features of `set`, called `name` in messages. For [`Space::ShiftNorm`] it is read once to take the means;
    /// `shuffle` makes the batches.
    ///
    /// # Errors
    /// If a feature is not finite.
    pub fn new(
        set: &'a dyn FeatureSet,
        name: &'static str,
        space: Space,
        centre: Centre,
        shuffle: Random,
    ) -> Result<Self, String> {
        let mut represented = Self {
            set,
            name,
            space,
            batches: Vec::new(),
            means: Vec::new(),
        };
        if space == Space::ShiftNorm {
            if let Centre::Batches(size) = centre {
                represented.batches = shuffled_batches(set.rows(), size, shuffle);
            }
            represented.take_means()?;
        }
        Ok(represented)
    }

    /// Number of features.
    pub fn rows(&self) -> usize {
        self.set.rows()
    }

    /// Width of a feature.
    pub fn width(&self) -> usize {
        self.set.width()
    }

    /// Some features in the space, `[rows, width]`.
    ///
    /// # Errors
    /// If one is not finite.
    pub fn read(&self, rows: Range<usize>) -> Result<Vec<f32>, String> {
        let mut features = self.read_original(rows.clone())?;
        if self.space == Space::Original {
            return Ok(features);
        }
        let width = self.width().max(1);
        let first = rows.start;
        features
            .par_chunks_exact_mut(width)
            .enumerate()
            .for_each_init(
                || vec![0.0f64; width],
                |centred, (i, feature)| self.represent(first + i, feature, centred),
            );
        Ok(features)
    }

    /// Takes feature `row` into the space; `centred` is room for as many numbers.
    fn represent(&self, row: usize, feature: &mut [f32], centred: &mut [f64]) {
        for (centred, value) in centred.iter_mut().zip(&*feature) {
            *centred = f64::from(*value);
        }
        if self.space == Space::ShiftNorm {
            let mean = &self.means[self.batch(row) * feature.len()..];
            for (centred, mean) in centred.iter_mut().zip(mean) {
                *centred -= mean;
            }
        }
        let square: f64 = centred.iter().map(|value| value * value).sum();
        let length = square.sqrt().max(LEAST_NORM);
        for (value, centred) in feature.iter_mut().zip(&*centred) {
            *value = (centred / length) as f32;
        }
    }

    fn read_original(&self, rows: Range<usize>) -> Result<Vec<f32>, String> {
        let width = self.width().max(1);
        let features = values(&self.set.read(rows.clone())).into_owned();
        let broken = features
            .par_iter()
            .position_first(|value| !value.is_finite());
        match broken {
            None => Ok(features),
            Some(at) => Err(format!(
                "feature {} of the {} set is not finite: the encoder has diverged or its checkpoint is damaged",
                rows.start + at / width,
                self.name
            )),
        }
    }

    fn batch(&self, row: usize) -> usize {
        self.batches.get(row).map_or(0, |&batch| batch as usize)
    }

    fn take_means(&mut self) -> Result<(), String> {
        let (rows, width) = (self.rows(), self.width());
        let batches = self
            .batches
            .iter()
            .max()
            .map_or(1, |&last| last as usize + 1);
        let mut counts = vec![0usize; batches];
        let mut sums = vec![0.0f64; batches * width];
        for start in (0..rows).step_by(ROWS) {
            let end = rows.min(start + ROWS);
            let features = self.read_original(start..end)?;
            for (row, feature) in (start..end).zip(features.chunks_exact(width.max(1))) {
                let batch = self.batch(row);
                counts[batch] += 1;
                for (sum, value) in sums[batch * width..].iter_mut().zip(feature) {
                    *sum += f64::from(*value);
                }
            }
        }
        for (sums, count) in sums.chunks_exact_mut(width.max(1)).zip(counts) {
            for sum in sums {
                *sum /= count as f64;
            }
        }
        self.means = sums;
        Ok(())
    }
}

/// The batch of each row, batches being dealt out in random order.
fn shuffled_batches(rows: usize, size: usize, mut random: Random) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows as u32).collect();
    for last in (1..rows).rev() {
        let other = (random.unit() * (last + 1) as f64) as usize;
        order.swap(last, other);
    }
    let mut batches = vec![0; rows];
    for (place, row) in order.into_iter().enumerate() {
        batches[row as usize] = (place / size) as u32;
    }
    batches
}
