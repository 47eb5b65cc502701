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

    /// What the reference's program prints of `scores`, which this metric gave; none where it has no such program.
    fn original(&self, _scores: &[Score], _judged: &Judged<'_>) -> Option<Original> {
        None
    }

    /// What the sets must have, so that a lack is found before any features are extracted.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// What identifies the code or data that it takes from elsewhere, such as a library's hash: part of what identifies
    /// the run, and of its receipt. None where its parameters say everything.
    fn identity(&self) -> Option<String> {
        None
    }
}

kind!(Metric, "metric");

/// What the reference's programs name beside their figures.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// Where the weights came from: a path, or the name of a stage.
    pub checkpoint: &'a str,
    /// The judged set, as the experiment writes it.
    pub data: &'a str,
}

/// How the reference's program prints a figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Original {
    /// A line of its own.
    Line(String),
    /// Columns of a table that several metrics fill side by side: heading and number.
    Columns(Vec<(String, f64)>),
}

/// What a metric asks of the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// There must be a set to learn from or compare with.
    pub train: bool,
    /// All sets that it looks at must have classes.
    pub classes: bool,
    /// Files of an image that the judged set must have, the image itself among them; at least 1.
    pub views: usize,
    /// Files of an image that it makes use of where there are as many; at least `views`.
    pub most_views: usize,
}

impl Default for Needs {
    /// The judged images alone.
    fn default() -> Self {
        Self {
            train: false,
            classes: false,
            views: 1,
            most_views: 1,
        }
    }
}

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
    /// The judged set as the experiment writes it, with its path where it has one; empty where there is no such text.
    pub data: &'a str,
    /// Who is told of progress.
    pub watch: Watch<'a>,
}

impl<'a> Evaluation<'a> {
    /// The features of one set and nothing else: no classes, seed 0, nobody watching.
    pub fn of(test: &'a dyn FeatureSet) -> Self {
        Self {
            train: None,
            test,
            views: &[],
            classes: &[],
            seed: 0,
            data: "",
            watch: Watch::default(),
        }
    }
}

/// What a metric that works long tells of its progress, and asks whether to go on.
///
/// Nobody watches by default. A metric may ask from any thread, as often as every few milliseconds.
#[derive(Clone, Copy, Default)]
pub struct Watch<'a>(Option<&'a dyn Watcher>);

/// Who is told of progress, and knows whether the user wants to stop.
pub trait Watcher: Sync {
    /// The metric has done this share of its work, from 0 to 1.
    fn show(&self, share: f64);

    /// Whether the metric should stop.
    fn stop(&self) -> bool;
}

impl<'a> Watch<'a> {
    /// Progress goes to `watcher`.
    pub fn by(watcher: &'a dyn Watcher) -> Self {
        Self(Some(watcher))
    }

    /// Goes on unless the user wants to stop.
    ///
    /// # Errors
    /// That it was stopped; the metric passes it on and its result is not missed.
    pub fn go_on(self) -> Result<(), String> {
        match self.0 {
            Some(watcher) if watcher.stop() => Err("stopped".to_owned()),
            _ => Ok(()),
        }
    }

    /// Tells that `share` of the work is done, from 0 to 1, and goes on unless the user wants to stop.
    ///
    /// # Errors
    /// As [`go_on`](Self::go_on).
    pub fn reached(self, share: f64) -> Result<(), String> {
        if let Some(watcher) = self.0 {
            watcher.show(share);
        }
        self.go_on()
    }
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

    /// What a person finds a sample by.
    fn name(&self, row: usize) -> String {
        format!("row {row}")
    }
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
