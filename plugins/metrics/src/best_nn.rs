//! Best-NN: k-nearest-neighbour classification, at the best of all odd k.
//!
//! Each test feature gets the class that most of its k nearest training features have; a tie goes to the smallest class,
//! and among equally good k the smallest counts. Distances are plain Euclidean ones, not cosine similarities: that is
//! what the spaces `norm` and `shift-norm` are for. Taking the best k on the test set flatters a little, alike for all
//! encoders compared. Memory holds at most a block of test features, a chunk of training features, and for the block
//! the K nearest of each.

use smallfry::{
    Context, Invalid, Metric,
    data::random::Random,
    metric::{Evaluation, FeatureSet, Judged, Needs, Original, Score},
    plugin,
};

use crate::{
    nearest::{Neighbour, nearest},
    space::{Centre, Represented, Space},
};

/// Bytes of test features that are in memory at once.
const BLOCK_BYTES: usize = 256 << 20;

plugin! {
    /// Accuracy of k nearest neighbours at the best odd k
    pub struct BestNN: Metric {
        /// The largest k, at least 1; all odd numbers up to it, and up to the number of training features, are tried.
        k: usize = 101,
        /// Representation space: `original`, `norm`, or `shift-norm` (also spelled `shifted-norm`).
        space: String = "original".into(),
        /// The mean that `shift-norm` subtracts: `Batches(512)`, that of a shuffled batch of so many features, or `Whole`.
        centre: Centre = Centre::Batches(512),
    }

    fn build(self, _: &Context) -> Result<Box<dyn Metric>, Invalid> {
        if self.k == 0 {
            return Err(Invalid::new("k", "must be at least 1"));
        }
        let Some(space) = Space::named(&self.space) else {
            return Err(Invalid::new("space", format!("`{}` is no representation space", self.space))
                .help("spaces are `original`, `norm` and `shift-norm`"));
        };
        if let Centre::Batches(..2) = self.centre {
            return Err(Invalid::new("centre", "batches must hold at least 2 features"));
        }
        Ok(Box::new(Voting { k: self.k, space, centre: self.centre }))
    }
}

/// The metric with its space recognised.
pub struct Voting {
    /// The largest k.
    pub k: usize,
    /// Representation space.
    pub space: Space,
    /// The mean that [`Space::ShiftNorm`] subtracts.
    pub centre: Centre,
}

impl Voting {
    /// The predicted class of every test feature for k = 1, 3, 5, …: as many classes a row as there are odd k.
    ///
    /// # Errors
    /// As [`Metric::evaluate`].
    pub fn predictions(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Vec<u32>>, String> {
        let (train, labels) = training_set(evaluation)?;
        let test = evaluation.test;
        if train.width() != test.width() {
            return Err(format!(
                "training features have {} numbers and test features {}: both must come from one encoder",
                train.width(),
                test.width()
            ));
        }
        let shuffle = |name: u64| Random::new(&[evaluation.seed, name]);
        let train = Represented::new(train, "training", self.space, self.centre, shuffle(0))?;
        let test = Represented::new(test, "test", self.space, self.centre, shuffle(1))?;
        let count = self.k.min(train.rows());
        // A test feature, the same less the centre, and its neighbours.
        let bytes = 8 * test.width() + size_of::<Neighbour>() * count;
        let block = (BLOCK_BYTES / bytes.max(1)).max(1);
        let mut counts = vec![0; labels.iter().max().map_or(0, |&last| last as usize + 1)];
        let mut predictions = Vec::with_capacity(test.rows());
        for start in (0..test.rows()).step_by(block) {
            let tests = test.read(start..test.rows().min(start + block))?;
            for neighbours in nearest(&train, &tests, count, evaluation.watch)? {
                predictions.push(votes(&neighbours, labels, &mut counts));
            }
        }
        Ok(predictions)
    }
}

impl Metric for Voting {
    fn needs(&self) -> Needs {
        Needs {
            train: true,
            classes: true,
            ..Needs::default()
        }
    }

    fn original(&self, scores: &[Score], _: &Judged<'_>) -> Option<Original> {
        let score = scores.first()?;
        let best = score.setting.split(',').next()?.strip_prefix("k = ")?;
        let line = format!("best-NN={:.2}%, k={best}.", score.value);
        Some(Original::Line(line))
    }

    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let truth = evaluation.test.labels().ok_or(
            "the test set has no classes to predict; name a labelled one, such as a folder of a folder per class",
        )?;
        if truth.is_empty() {
            return Err("the test set is empty".into());
        }
        let predictions = self.predictions(evaluation)?;
        let tried = predictions.first().map_or(0, Vec::len);
        let accuracies: Vec<(usize, f64)> = (0..tried)
            .map(|i| {
                let pairs = predictions.iter().zip(truth);
                let correct = pairs
                    .filter(|(predicted, truth)| predicted[i] == **truth)
                    .count();
                (2 * i + 1, 100.0 * correct as f64 / truth.len() as f64)
            })
            .collect();
        let best = accuracies
            .iter()
            .copied()
            .reduce(|best, next| if next.1 > best.1 { next } else { best });
        let (k, value) = best.expect("a neighbour is asked for and the training set is not empty");
        let space = match self.space {
            Space::Original => String::new(),
            other => format!(", {}", other.name()),
        };
        Ok(vec![Score {
            name: "best-NN".into(),
            value,
            unit: "%",
            higher_is_better: true,
            error: None,
            setting: format!("k = {k}{space}"),
            table: accuracies
                .into_iter()
                .map(|(k, accuracy)| (format!("k = {k}"), accuracy))
                .collect(),
        }])
    }
}

/// The training set and its classes.
fn training_set<'a>(
    evaluation: &Evaluation<'a>,
) -> Result<(&'a dyn FeatureSet, &'a [u32]), String> {
    let train = evaluation
        .train
        .ok_or("best-NN needs a training set, whose classes vote; give the stage a `train` set")?;
    let labels = train.labels().ok_or(
        "the training set has no classes that could vote; name a labelled one, such as a folder of a folder per class",
    )?;
    match labels.len() {
        0 => Err("the training set is empty".into()),
        _ => Ok((train, labels)),
    }
}

/// The winning class among the nearest 1, 3, 5, … of `neighbours`; `counts` has a zero for each class before and after.
fn votes(neighbours: &[Neighbour], labels: &[u32], counts: &mut [usize]) -> Vec<u32> {
    let mut winners = Vec::with_capacity(neighbours.len().div_ceil(2));
    let (mut winner, mut most) = (0, 0);
    for (i, neighbour) in neighbours.iter().enumerate() {
        let label = labels[neighbour.row];
        let count = &mut counts[label as usize];
        *count += 1;
        // Counts only grow, so the class that just grew is the only one that can overtake or draw level.
        if *count > most || (*count == most && label < winner) {
            (winner, most) = (label, *count);
        }
        if i % 2 == 0 {
            winners.push(winner);
        }
    }
    for neighbour in neighbours {
        counts[labels[neighbour.row] as usize] = 0;
    }
    winners
}

#[cfg(test)]
mod tests;
