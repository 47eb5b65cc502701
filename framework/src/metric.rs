//! Metrics: numbers that tell how good features are.

use std::ops::Range;

use crate::{
    registry::kind,
    tensor::{Features, Plain},
};

/// A number, or several, computed from labelled features.
pub trait Metric: Send + Sync {
    /// Computes the scores.
    ///
    /// # Errors
    /// Says what the features lack, such as labels or a second set.
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String>;

    /// What identifies the code or data that it takes from elsewhere, such as a library's hash: part of what identifies
    /// the run, and of its receipt. None where its parameters say everything.
    fn identity(&self) -> Option<String> {
        None
    }
}

kind!(Metric, "metric");

/// What a metric is given.
#[derive(Clone, Copy)]
pub struct Evaluation<'a> {
    /// Features to learn from or compare with, where the experiment names such a set.
    pub train: Option<&'a dyn FeatureSet>,
    /// Features to judge.
    pub test: &'a dyn FeatureSet,
    /// Features of further views of the images of `test`, row by row; none where the set holds one file an image.
    pub views: &'a [&'a dyn FeatureSet],
    /// Names of the classes, by label.
    pub classes: &'a [String],
    /// Seed of anything that is sampled.
    pub seed: u64,
}

/// The features of a data set, read in pieces so that memory stays bounded.
pub trait FeatureSet: Sync {
    /// Number of samples.
    fn rows(&self) -> usize;

    /// Width of a feature.
    fn width(&self) -> usize;

    /// The class of each sample, where there are classes.
    fn labels(&self) -> Option<&[u32]>;

    /// The features of some samples, `[rows, width]`.
    fn read(&self, rows: Range<usize>) -> Plain<Features>;
}

/// A result.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Score {
    /// What it is, such as `best-NN`.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit, such as `%`; empty for a pure number.
    pub unit: &'static str,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Standard error, where the value is sampled.
    pub error: Option<f64>,
    /// The setting that gave it, such as `k = 5`; empty for none.
    pub setting: String,
    /// The values behind it, such as the accuracy for each k.
    pub table: Vec<(String, f64)>,
}
