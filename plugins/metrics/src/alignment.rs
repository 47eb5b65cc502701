//! Alignment: how near the features of two views of an image are (Wang and Isola 2020, equation 7 with α = 2).
//!
//! The mean squared distance of unit features, which is 2 − 2 · the mean cosine similarity: 0 where views are equal, 2 where
//! they have nothing to do with each other. D-SD compares the image with its first view, SD-SD its first view with its
//! second. Features that have all collapsed onto one point are perfectly aligned: read it beside the uniformity.

use smallfry::{
    Context, Invalid, Metric,
    metric::{Evaluation, FeatureSet, Judged, Needs, Original, Score},
    nn::kernel::double::distance,
    plugin,
};

use crate::judged;

/// Rows that are read at once.
const ROWS: usize = 4096;

/// The pairs of views that the reference compares.
const PAIRS: [(&str, usize, usize); 2] = [("D-SD", 0, 1), ("SD-SD", 1, 2)];

plugin! {
    /// Mean squared distance of the views of an image, D-SD and SD-SD
    pub struct Alignment: Metric {}

    fn build(self, _: &Context) -> Result<Box<dyn Metric>, Invalid> {
        Ok(Box::new(self))
    }
}

impl Metric for Alignment {
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let there = PAIRS
            .iter()
            .filter(|(_, _, second)| *second == 1 || *second <= evaluation.views.len());
        there
            .map(|&(name, first, second)| {
                let first = judged::view(evaluation, first)?;
                let second = judged::view(evaluation, second)?;
                Ok(Score {
                    name: format!("{name} alignment"),
                    value: alignment(first, second, evaluation)?,
                    unit: "",
                    higher_is_better: false,
                    error: None,
                    setting: String::new(),
                    table: Vec::new(),
                })
            })
            .collect()
    }

    fn original(&self, scores: &[Score], _: &Judged<'_>) -> Option<Original> {
        Some(judged::columns(
            scores,
            &[
                ("D-SD alignment", "D-SD align"),
                ("SD-SD alignment", "SD-SD align"),
            ],
        ))
    }

    fn needs(&self) -> Needs {
        Needs {
            views: 2,
            most_views: 3,
            ..Needs::default()
        }
    }
}

/// The mean squared distance of two views of the same images.
fn alignment(
    first: &dyn FeatureSet,
    second: &dyn FeatureSet,
    evaluation: &Evaluation<'_>,
) -> Result<f64, String> {
    let rows = first.rows();
    let mut sum = 0.0;
    for start in (0..rows).step_by(ROWS) {
        evaluation.watch.reached(start as f64 / rows as f64)?;
        let part = start..rows.min(start + ROWS);
        let first = judged::unit(first, part.clone())?;
        let second = judged::unit(second, part.clone())?;
        let distances = (0..part.len()).map(|i| distance(first.row(i), second.row(i)));
        sum += distances.sum::<f64>();
    }
    Ok(sum / rows as f64)
}
