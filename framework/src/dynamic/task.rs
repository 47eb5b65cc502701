//! What a loaded metric is given, in memory: whole sets of features.

use crate::{
    metric::{Evaluation, FeatureSet},
    tensor::values,
};

/// Rows that are read from a set at once.
pub(super) const ROWS: usize = 1024;

/// The features of a whole set, as a library sees them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Number of images.
    pub rows: usize,
    /// Width of a feature.
    pub columns: usize,
    /// All rows, one after the other: `[rows, columns]`.
    pub values: Vec<f32>,
    /// The label of each row, where there are classes.
    pub labels: Option<Vec<i64>>,
}

impl Table {
    /// Reads a whole set into memory.
    pub fn read(set: &dyn FeatureSet) -> Self {
        let mut all = Vec::with_capacity(set.rows() * set.width());
        for start in (0..set.rows()).step_by(ROWS) {
            let rows = start..(start + ROWS).min(set.rows());
            all.extend_from_slice(&values(&set.read(rows)));
        }
        let labels = set.labels();
        Self {
            rows: set.rows(),
            columns: set.width(),
            values: all,
            labels: labels.map(|labels| labels.iter().map(|label| i64::from(*label)).collect()),
        }
    }
}

/// An [`Evaluation`] in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// Features to learn from.
    pub train: Option<Table>,
    /// Features to judge.
    pub test: Table,
    /// Features of further views of the images of `test`.
    pub views: Vec<Table>,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// Seed of anything that is sampled.
    pub seed: u64,
}

impl Task {
    /// Reads everything into memory.
    pub fn read(evaluation: &Evaluation<'_>) -> Self {
        Self {
            train: evaluation.train.map(Table::read),
            test: Table::read(evaluation.test),
            views: evaluation
                .views
                .iter()
                .map(|view| Table::read(*view))
                .collect(),
            classes: evaluation.classes.to_vec(),
            seed: evaluation.seed,
        }
    }
}
