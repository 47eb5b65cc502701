//! What a metric must do.

use std::ops::Range;

use super::noise;
use crate::{
    Metric,
    metric::{Evaluation, FeatureSet},
    tensor::{Features, Plain, import},
};

/// Features in memory: what a metric sees in tests.
pub struct Set {
    /// Row-major features, `[rows, width]`.
    pub values: Vec<f32>,
    /// Width of a feature.
    pub width: usize,
    /// The class of each row, where there are classes.
    pub labels: Option<Vec<u32>>,
}

impl FeatureSet for Set {
    fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    fn width(&self) -> usize {
        self.width
    }

    fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    fn read(&self, rows: Range<usize>) -> Plain<Features> {
        let values = &self.values[rows.start * self.width..rows.end * self.width];
        import(values.to_vec(), (rows.len(), self.width))
    }
}

/// Three classes that lie apart, with noise around their centres.
fn clusters(seed: u64, rows: usize) -> Set {
    let width = 8;
    let labels: Vec<u32> = (0..rows).map(|row| row as u32 % 3).collect();
    let mut values = noise(seed, rows * width);
    for (row, label) in labels.iter().enumerate() {
        values[row * width + *label as usize] += 5.0;
    }
    Set {
        values,
        width,
        labels: Some(labels),
    }
}

/// A view of each image of `set`, near it.
fn beside(set: &Set, seed: u64) -> Set {
    let noise = noise(seed, set.values.len());
    let values = set.values.iter().zip(noise).map(|(a, b)| a + 0.1 * b);
    Set {
        values: values.collect(),
        width: set.width,
        labels: None,
    }
}

/// What is wrong with `metric`: its scores must be numbers, the same when asked again, and features without labels, without
/// views or without a second set must be an answer or a message, never a panic.
pub fn metric_faults(metric: &dyn Metric) -> Vec<String> {
    let mut faults = Vec::new();
    let (train, test) = (clusters(1, 90), clusters(2, 30));
    let (first, second) = (beside(&test, 3), beside(&test, 4));
    let views: [&dyn FeatureSet; 2] = [&first, &second];
    let classes: Vec<String> = ["a", "b", "c"].map(String::from).into();
    let whole = Evaluation {
        train: Some(&train),
        test: &test,
        views: &views,
        classes: &classes,
        seed: 1,
        ..Evaluation::of(&test)
    };
    match (metric.evaluate(&whole), metric.evaluate(&whole)) {
        (Ok(first), Ok(second)) => {
            if first != second {
                faults.push("gives two results for the same features".to_owned());
            }
            if first.is_empty() {
                faults.push("gives no score".to_owned());
            }
            for score in &first {
                if score.name.is_empty() || !score.value.is_finite() {
                    faults.push(format!(
                        "gives the score `{}` = {}",
                        score.name, score.value
                    ));
                }
            }
        }
        (Err(reason), _) | (_, Err(reason)) => {
            faults.push(format!("refuses three clear clusters: {reason}"));
        }
    }
    let bare = Set {
        values: test.values.clone(),
        width: test.width,
        labels: None,
    };
    for evaluation in [
        Evaluation {
            train: None,
            ..whole
        },
        Evaluation {
            views: &[],
            ..whole
        },
        Evaluation {
            test: &bare,
            ..whole
        },
        Evaluation {
            train: Some(&bare),
            test: &bare,
            ..whole
        },
    ] {
        if let Err(reason) = metric.evaluate(&evaluation)
            && reason.is_empty()
        {
            faults.push("refuses features without saying why".to_owned());
        }
    }
    faults
}
