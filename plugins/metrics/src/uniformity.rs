//! Uniformity: how evenly features spread over the sphere (Wang and Isola 2020, equation 8 with t = 2).
//!
//! The logarithm of the mean over pairs of images of exp(−2 · squared distance) of unit features: 0 where all are equal,
//! near −4 where they are spread evenly over many dimensions. D is of the images themselves, SD of their first views. The
//! reference takes it on three random subsets of 128 images and averages the logarithms; papers quote that, and its last
//! digits are chance. Both values stand here side by side: the estimate, drawn by the seed and with its standard error, and
//! that of all pairs. The mean of logarithms lies a little below the logarithm of the whole mean.

use smallfry::{
    Context, Invalid, Metric,
    data::random::Random,
    measure::{UnitRows, uniformity, watched_uniformity},
    metric::{Evaluation, FeatureSet, Judged, Needs, Original, Score, Watch},
    plugin,
};

use crate::judged;

/// The random stream of the subsets.
const SUBSETS: u64 = 0x756e_6966;

/// Groups of images that tell how far a value of drawn images may be off.
const GROUPS: usize = 8;

plugin! {
    /// Logarithm of the mean Gaussian potential of the images, D and SD: all pairs, and the reference's estimate
    pub struct Uniformity: Metric {
        /// Random subsets of the estimate.
        subsets: usize = 3,
        /// Images in a subset; a set of fewer than `subsets` times as many is cut into as many equal subsets.
        subset_size: usize = 128,
        /// The most images whose pairs are all taken; of a larger set as many are drawn by the seed.
        images: usize = 50_000,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Metric>, Invalid> {
        for (name, value, least) in [
            ("subsets", self.subsets, 1),
            ("subset_size", self.subset_size, 2),
            ("images", self.images, 2),
        ] {
            if value < least {
                return Err(Invalid::new(name, format!("must be at least {least}")));
            }
        }
        Ok(Box::new(self))
    }
}

impl Metric for Uniformity {
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let mut scores = Vec::new();
        for (view, name) in ["D", "SD"].into_iter().enumerate() {
            if view > evaluation.views.len() {
                break;
            }
            let set = judged::view(evaluation, view)?;
            if set.rows() < 2 {
                return Err("needs at least two images".to_owned());
            }
            evaluation.watch.reached(0.5 * view as f64)?;
            scores.push(self.all_pairs(set, name, evaluation)?);
            scores.extend(self.estimate(set, name, evaluation.seed)?);
        }
        Ok(scores)
    }

    fn original(&self, scores: &[Score], _: &Judged<'_>) -> Option<Original> {
        Some(judged::columns(
            scores,
            &[
                ("D uniformity, subsets", "D uniform"),
                ("SD uniformity, subsets", "SD uniform"),
            ],
        ))
    }

    fn needs(&self) -> Needs {
        Needs {
            most_views: 2,
            ..Needs::default()
        }
    }
}

impl Uniformity {
    /// The value over all pairs of all images, or of those drawn.
    fn all_pairs(
        &self,
        set: &dyn FeatureSet,
        name: &str,
        evaluation: &Evaluation<'_>,
    ) -> Result<Score, String> {
        let (seed, watch) = (evaluation.seed, evaluation.watch);
        let (rows, drawn) = (set.rows(), self.images.min(set.rows()));
        let chosen = judged::draw(rows, drawn, Random::new(&[seed, SUBSETS, 1]));
        let features = judged::unit_rows(set, &chosen)?;
        let whole = drawn == rows;
        let error = match whole {
            true => None,
            false => {
                let size = drawn / GROUPS;
                let order = Random::new(&[seed, SUBSETS, 2]).permutation(drawn);
                let groups = order.chunks_exact(size.max(1)).take(GROUPS);
                let values: Result<Vec<f64>, String> = groups
                    .map(|group| of_rows(&features, group, watch))
                    .collect();
                judged::mean_and_error(&values?).1
            }
        };
        Ok(Score {
            name: format!("{name} uniformity"),
            value: watched_uniformity(&features, watch)?,
            unit: "",
            higher_is_better: false,
            error,
            setting: match whole {
                true => "all pairs".to_owned(),
                false => format!("all pairs of {drawn} drawn images"),
            },
            table: Vec::new(),
        })
    }

    /// The mean over the subsets, each a run of one random order of the images, the same for every view; none where a
    /// subset would not hold a pair.
    fn estimate(
        &self,
        set: &dyn FeatureSet,
        name: &str,
        seed: u64,
    ) -> Result<Option<Score>, String> {
        let size = self.subset_size.min(set.rows() / self.subsets);
        if size < 2 {
            return Ok(None);
        }
        let order = Random::new(&[seed, SUBSETS, 0]).permutation(set.rows());
        let mut values = Vec::with_capacity(self.subsets);
        for subset in order.chunks(size).take(self.subsets) {
            let mut subset = subset.to_vec();
            subset.sort_unstable();
            values.push(uniformity(&judged::unit_rows(set, &subset)?));
        }
        let (value, error) = judged::mean_and_error(&values);
        Ok(Some(Score {
            name: format!("{name} uniformity, subsets"),
            value,
            unit: "",
            higher_is_better: false,
            error,
            setting: format!("{} × {size} images", self.subsets),
            table: Vec::new(),
        }))
    }
}

/// The uniformity of some of `features`.
fn of_rows(features: &UnitRows, rows: &[u32], watch: Watch<'_>) -> Result<f64, String> {
    let chosen: Vec<f32> = rows
        .iter()
        .flat_map(|&row| features.row(row as usize))
        .copied()
        .collect();
    let unit = UnitRows::new(&chosen, features.width());
    watched_uniformity(&unit.expect("they are finite already"), watch)
}
