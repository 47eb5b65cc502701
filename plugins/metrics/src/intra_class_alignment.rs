//! Intra-class alignment: how near the images of a class are to one another.
//!
//! The mean squared distance of unit features over all pairs of a class, then the mean over the classes, each counting the
//! same: D for the images themselves, SD for their first views. Small models whose images scatter within a class
//! over-cluster; beside a better accuracy this figure may all the same grow, as features spread (see uniformity). All pairs
//! of n unit features take no more than their sum: Σ ‖a − b‖² = n · Σ‖a‖² − ‖Σ a‖² over the pairs.

use smallfry::{
    Context, Invalid, Metric,
    metric::{Evaluation, FeatureSet, Judged, Needs, Original, Score},
    plugin,
};

use crate::judged;

/// Rows that are read at once.
const ROWS: usize = 4096;

plugin! {
    /// Mean squared distance of the images of a class, D and SD
    pub struct IntraClassAlignment: Metric {}

    fn build(self, _: &Context) -> Result<Box<dyn Metric>, Invalid> {
        Ok(Box::new(self))
    }
}

impl Metric for IntraClassAlignment {
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let labels = judged::labels(evaluation)?;
        let there = ["D", "SD"].into_iter().enumerate();
        there
            .take(1 + evaluation.views.len())
            .map(|(view, name)| {
                let set = judged::view(evaluation, view)?;
                let found = by_class(set, labels, evaluation)?;
                let pairs = found.iter().flatten().count();
                if pairs == 0 {
                    return Err("no class has two images".to_owned());
                }
                let single = found.len() - pairs;
                let table = found.iter().enumerate().filter_map(|(label, value)| {
                    Some((judged::class_name(evaluation.classes, label), (*value)?))
                });
                Ok(Score {
                    name: format!("{name} intra-class alignment"),
                    value: found.iter().flatten().sum::<f64>() / pairs as f64,
                    unit: "",
                    higher_is_better: false,
                    error: None,
                    setting: match single {
                        0 => String::new(),
                        _ => format!("{single} classes of fewer than two images left out"),
                    },
                    table: table.collect(),
                })
            })
            .collect()
    }

    fn original(&self, scores: &[Score], _: &Judged<'_>) -> Option<Original> {
        Some(judged::columns(
            scores,
            &[
                ("D intra-class alignment", "D cls-align"),
                ("SD intra-class alignment", "SD cls-align"),
            ],
        ))
    }

    fn needs(&self) -> Needs {
        Needs {
            classes: true,
            most_views: 2,
            ..Needs::default()
        }
    }
}

/// The mean squared distance of the pairs of each class; none where a class has fewer than two images.
fn by_class(
    set: &dyn FeatureSet,
    labels: &[u32],
    evaluation: &Evaluation<'_>,
) -> Result<Vec<Option<f64>>, String> {
    let (rows, width) = (set.rows(), set.width());
    let named = labels.iter().max().map_or(0, |&last| last as usize + 1);
    let classes = named.max(evaluation.classes.len());
    let mut sums = vec![0.0f64; classes * width];
    let (mut squares, mut counts) = (vec![0.0f64; classes], vec![0usize; classes]);
    for start in (0..rows).step_by(ROWS) {
        evaluation.watch.reached(start as f64 / rows as f64)?;
        let part = start..rows.min(start + ROWS);
        let features = judged::unit(set, part.clone())?;
        for (i, &label) in labels[part].iter().enumerate() {
            let class = label as usize;
            counts[class] += 1;
            for (sum, &value) in sums[class * width..].iter_mut().zip(features.row(i)) {
                let value = f64::from(value);
                *sum += value;
                squares[class] += value * value;
            }
        }
    }
    let mean = |class: usize| {
        let (count, sum) = (counts[class] as f64, &sums[class * width..][..width]);
        let length: f64 = sum.iter().map(|value| value * value).sum();
        let pairs = count * (count - 1.0) / 2.0;
        (counts[class] > 1).then(|| ((count * squares[class] - length) / pairs).max(0.0))
    };
    Ok((0..classes).map(mean).collect())
}
