//! Over-clustering: features that tell every image apart and no longer see what belongs together.
//!
//! The paper finds that small models solve the pretext task and yet learn little, because their features fall into many
//! more clusters than there are classes. Three looks at that, none of which needs training: whose nearest neighbour is what
//! (its own view, an image of its class), into how many clusters a class falls, and how well clusters agree with classes.
//!
//! Clusters are those of k-means on unit features, as many as classes unless told otherwise. A class that lies in one of
//! them has 1 cluster; the exponential of the entropy of a class over the clusters counts them with their sizes. Agreement
//! is the normalised mutual information (by the arithmetic mean of the entropies; Vinh et al. 2010) and the adjusted Rand
//! index (Hubert and Arabie 1985), which is 0 for chance. Neighbour shares fall with the number of images of a class, so
//! compare on the same images.

use std::ops::Range;

use smallfry::{
    Context, Invalid, Metric,
    data::random::Random,
    measure::UnitRows,
    metric::{Evaluation, FeatureSet, Needs, Score, Watch},
    plugin,
    tensor::{Features, Plain, import},
};

use crate::{
    instance_discrimination::ranks,
    judged,
    nearest::nearest,
    space::{Centre, Represented, Space},
};

mod agreement;
mod k_means;

use agreement::Agreement;
use k_means::{Search, k_means};

/// The random stream of images and centres.
const STREAM: u64 = 0x6f76_6572;

plugin! {
    /// Nearest neighbours by image and by class, and clusters against classes
    pub struct OverClustering: Metric {
        /// The most images that are looked at; of a larger set as many are drawn by the seed.
        images: usize = 20_000,
        /// Clusters, such as `Some(100)`; as many as there are classes where none.
        clusters: Option<usize> = None,
        /// Draws of first centres for k-means, of which the one that ends with the least sum of squares counts.
        starts: usize = 4,
        /// The most rounds of k-means from each of them.
        rounds: usize = 50,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Metric>, Invalid> {
        if self.images < 2 {
            return Err(Invalid::new("images", "must be at least 2"));
        }
        if self.clusters.is_some_and(|clusters| clusters < 2) {
            return Err(Invalid::new("clusters", "must be at least 2"));
        }
        for (field, value) in [("starts", self.starts), ("rounds", self.rounds)] {
            if value == 0 {
                return Err(Invalid::new(field, "must be at least 1"));
            }
        }
        Ok(Box::new(self))
    }
}

impl Metric for OverClustering {
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let labels = judged::labels(evaluation)?;
        let set = judged::view(evaluation, 0)?;
        let random = |stream| Random::new(&[evaluation.seed, STREAM, stream]);
        let chosen = judged::draw(set.rows(), self.images, random(0));
        let labels: Vec<u32> = chosen.iter().map(|&row| labels[row as usize]).collect();
        let classes = judged::by_class(&labels);
        let present = classes.iter().filter(|rows| !rows.is_empty()).count();
        if present < 2 {
            return Err("needs images of at least two classes".to_owned());
        }
        let images = Chosen(judged::unit_rows(set, &chosen)?);
        let drawn = match chosen.len() < set.rows() {
            true => format!(", {} drawn images", chosen.len()),
            false => String::new(),
        };
        let score = |name: &str, value, unit, higher_is_better, setting: String| Score {
            name: name.to_owned(),
            value,
            unit,
            higher_is_better,
            error: None,
            setting: (setting + &drawn).trim_start_matches(", ").to_owned(),
            table: Vec::new(),
        };
        let alike = same_class(&images, &labels, evaluation.watch)?;
        let chance = format!("chance {:.2} %", chance(&classes));
        let mut scores = vec![score(
            "nearest image of its class",
            alike,
            "%",
            true,
            chance,
        )];
        if let Some(views) = evaluation.views.first() {
            let views = Chosen(judged::unit_rows(*views, &chosen)?);
            let ranks = ranks(&images, &views, evaluation.watch)?;
            let own = ranks.iter().filter(|rank| rank.nearer == 0).count();
            let own = 100.0 * own as f64 / ranks.len() as f64;
            scores.push(score("own view nearest", own, "%", true, String::new()));
            scores.push(score(
                "over-clustering",
                own - alike,
                "%",
                false,
                String::new(),
            ));
        }
        let wanted = self.clusters.unwrap_or(present).min(images.rows());
        let search = Search {
            wanted,
            starts: self.starts,
            rounds: self.rounds,
        };
        let starts = |start| random(1 + start);
        let found = k_means(&images.0, search, starts, evaluation.watch)?;
        let agreement = Agreement::of(&found, &labels);
        let setting = format!("{wanted} clusters, {present} classes");
        let mut per_class = score(
            "clusters of a class",
            agreement.clusters_per_class(),
            "clusters",
            false,
            setting.clone(),
        );
        per_class.table = agreement
            .clusters_by_class()
            .map(|(label, clusters)| {
                let name = judged::class_name(evaluation.classes, label as usize);
                (name, clusters)
            })
            .collect();
        scores.push(per_class);
        let (information, rand) = (agreement.normalised_information(), agreement.rand());
        scores.push(score("NMI", information, "", true, setting.clone()));
        scores.push(score("ARI", rand, "", true, setting));
        Ok(scores)
    }

    fn needs(&self) -> Needs {
        Needs {
            classes: true,
            most_views: 2,
            ..Needs::default()
        }
    }
}

/// The share of images whose nearest other image is of their class, in percent.
fn same_class(images: &Chosen, labels: &[u32], watch: Watch<'_>) -> Result<f64, String> {
    let random = Random::new(&[]);
    let all = Represented::new(images, "judged", Space::Original, Centre::Whole, random)?;
    let found = nearest(&all, images.0.values(), 2, watch)?;
    let alike = found.iter().enumerate().filter(|(row, neighbours)| {
        // The image is a neighbour of itself, unless enough equal ones stand before it.
        let other = neighbours.iter().find(|neighbour| neighbour.row != *row);
        other.is_some_and(|other| labels[other.row] == labels[*row])
    });
    Ok(100.0 * alike.count() as f64 / labels.len() as f64)
}

/// The share of images whose class a random other image has, in percent.
fn chance(classes: &[Vec<u32>]) -> f64 {
    let images: usize = classes.iter().map(Vec::len).sum();
    let pairs: f64 = classes
        .iter()
        .map(|rows| rows.len() as f64 * (rows.len() as f64 - 1.0))
        .sum();
    100.0 * pairs / (images as f64 * (images as f64 - 1.0))
}

/// Unit features in memory as a set.
struct Chosen(UnitRows);

impl FeatureSet for Chosen {
    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn width(&self) -> usize {
        self.0.width()
    }

    fn labels(&self) -> Option<&[u32]> {
        None
    }

    fn read(&self, rows: Range<usize>) -> Plain<Features> {
        let (count, width) = (rows.len(), self.width());
        let values = &self.0.values()[rows.start * width..rows.end * width];
        import(values.to_vec(), (count, width))
    }
}

#[cfg(test)]
mod tests;
