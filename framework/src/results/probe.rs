//! What a stage of classifiers comes to.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{ScoreRecord, SetRecord};

/// What the stage came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The network, with its parameters.
    pub backbone: String,
    /// Where the weights came from.
    pub weights: String,
    /// The samples that the classifiers learnt from; those left out were replaced by others where images are augmented
    /// anew.
    pub train: SetRecord,
    /// The samples that they were tested on.
    pub test: SetRecord,
    /// Number of classes.
    pub classes: usize,
    /// Epochs trained.
    pub epochs: usize,
    /// Every classifier.
    pub classifiers: Vec<Record>,
    /// The state after the last epoch, relative to the run folder.
    pub checkpoint: String,
    /// The best of every classifier, relative to the run folder.
    pub best: Vec<String>,
}

/// What a classifier came to. Accuracies are in percent; a number that is none is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Learning rate.
    pub rate: f64,
    /// Whether it sees features divided by their length.
    pub unit_length: bool,
    /// Seed.
    pub seed: u64,
    /// The epoch, from 1, in which its loss was no number; none where all were.
    pub diverged: Option<usize>,
    /// Mean loss of the last epoch's training.
    pub loss: Option<f64>,
    /// Accuracy on the test images after the last epoch.
    pub acc1: Option<f64>,
    /// Share of test images whose class was among the first five after the last epoch.
    pub acc5: Option<f64>,
    /// The epoch, from 1, after which the accuracy was highest.
    pub best_epoch: usize,
    /// The accuracy then.
    pub best_acc1: Option<f64>,
    /// The share among the first five then.
    pub best_acc5: Option<f64>,
}

/// One classifier of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// Its learning rate.
    pub rate: f64,
    /// Whether it sees features divided by their length.
    pub unit_length: bool,
    /// Its seed.
    pub seed: u64,
}

/// A figure of a classifier, where it has one.
type Figure = fn(&Record) -> Option<f64>;

/// What classifiers are called in log and report: by what sets them apart.
pub struct Names<'a> {
    labels: &'a [Label],
    kinds: bool,
    seeds: bool,
}

impl<'a> Names<'a> {
    /// Those of `labels`.
    pub fn of(labels: &'a [Label]) -> Self {
        let differs = |f: fn(&Label) -> u64| {
            let values: BTreeSet<_> = labels.iter().map(f).collect();
            values.len() > 1
        };
        Self {
            labels,
            kinds: differs(|label| label.unit_length.into()),
            seeds: differs(|label| label.seed),
        }
    }

    /// The name of classifier `i`, such as `lr 30, seed 1`.
    pub fn label(&self, i: usize) -> String {
        let mut text = self.setting(i);
        if self.seeds {
            text += &format!(", seed {}", self.labels[i].seed);
        }
        text
    }

    /// The name of classifier `i` without its seed.
    pub fn setting(&self, i: usize) -> String {
        let label = &self.labels[i];
        let mut text = format!("lr {}", label.rate);
        if self.kinds {
            text += if label.unit_length {
                ", unit length"
            } else {
                ", raw"
            };
        }
        text
    }

    /// The name of a figure of classifier `i` in the log.
    pub fn measure(&self, figure: &str, i: usize) -> String {
        format!("{figure} {}", self.label(i))
    }
}

impl Outcome {
    /// The classifiers by rate and kind of features, the seeds of each side by side.
    pub fn groups(&self) -> Vec<(String, Vec<&Record>)> {
        let labels: Vec<_> = self.classifiers.iter().map(Record::label).collect();
        let names = Names::of(&labels);
        let mut groups: Vec<(String, Vec<&Record>)> = Vec::new();
        for (i, record) in self.classifiers.iter().enumerate() {
            let setting = names.setting(i);
            match groups.iter_mut().find(|(of, _)| *of == setting) {
                Some((_, records)) => records.push(record),
                None => groups.push((setting, vec![record])),
            }
        }
        groups
    }

    /// The outcome in numbers: for each rate and kind of features the mean over seeds, with their standard deviation.
    pub fn scores(&self) -> Vec<ScoreRecord> {
        let figures: [(&str, Figure); 3] = [
            ("Acc@1", |record| record.acc1),
            ("Acc@5", |record| record.acc5),
            ("best Acc@1", |record| record.best_acc1),
        ];
        let mut scores = Vec::new();
        for (setting, records) in self.groups() {
            for (name, figure) in figures {
                let values: Vec<_> = records.iter().map(|record| figure(record)).collect();
                let (value, error) = spread(&values);
                let mut setting = setting.clone();
                if records.len() > 1 {
                    setting += &format!(", {} seeds", records.len());
                }
                let diverged = records.iter().find_map(|record| record.diverged);
                if let (Some(epoch), None) = (diverged, value) {
                    setting += &format!(", diverged in epoch {epoch}");
                }
                let seeds = records.iter().map(|record| format!("seed {}", record.seed));
                scores.push(ScoreRecord {
                    metric: "Probe".to_owned(),
                    name: name.to_owned(),
                    value,
                    unit: "%".to_owned(),
                    higher_is_better: true,
                    error,
                    setting,
                    table: seeds.zip(values).collect(),
                });
            }
        }
        scores
    }
}

impl Outcome {
    /// The line that the reference's programs print of each classifier (`main_lincls.py`, `main_transfer.py`).
    pub fn original(&self) -> Vec<String> {
        let accuracy = |value: Option<f64>| value.map_or("nan".to_owned(), |v| format!("{v:.3}"));
        let line = |record: &Record| {
            let [first, fifth] = [record.acc1, record.acc5].map(accuracy);
            format!(" * Acc@1 {first} Acc@5 {fifth}")
        };
        self.classifiers.iter().map(line).collect()
    }
}

impl Record {
    fn label(&self) -> Label {
        Label {
            rate: self.rate,
            unit_length: self.unit_length,
            seed: self.seed,
        }
    }
}

/// Mean of `values`, and their standard deviation where there are several; none where one is missing.
pub fn spread(values: &[Option<f64>]) -> (Option<f64>, Option<f64>) {
    let Some(values) = values.iter().copied().collect::<Option<Vec<f64>>>() else {
        return (None, None);
    };
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
    (Some(mean), deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(rate: f64, unit_length: bool, seed: u64) -> Label {
        Label {
            rate,
            unit_length,
            seed,
        }
    }

    #[test]
    fn names_say_what_differs() {
        let alone = [label(30.0, true, 4)];
        assert_eq!(Names::of(&alone).measure("acc1", 0), "acc1 lr 30");
        let all = [label(0.1, false, 1), label(0.1, true, 2)];
        let names = Names::of(&all);
        assert_eq!(names.label(0), "lr 0.1, raw, seed 1");
        assert_eq!(names.setting(1), "lr 0.1, unit length");
    }

    #[test]
    fn seeds_are_averaged_and_divergence_is_told() {
        let record = |rate, seed, acc1: Option<f64>| Record {
            rate,
            unit_length: false,
            seed,
            diverged: acc1.is_none().then_some(3),
            loss: acc1,
            acc1,
            acc5: acc1,
            best_epoch: 1,
            best_acc1: Some(50.0),
            best_acc5: Some(60.0),
        };
        let set = SetRecord {
            data: "Folder()".to_owned(),
            samples: 4,
            left_out: Vec::new(),
        };
        let outcome = Outcome {
            backbone: "Tiny()".to_owned(),
            weights: "untrained".to_owned(),
            train: set.clone(),
            test: set,
            classes: 2,
            epochs: 3,
            classifiers: vec![
                record(1.0, 1, Some(40.0)),
                record(9.0, 1, None),
                record(1.0, 2, Some(44.0)),
                record(9.0, 2, Some(41.0)),
            ],
            checkpoint: String::new(),
            best: Vec::new(),
        };
        let scores = outcome.scores();
        assert_eq!(scores.len(), 6);
        assert_eq!(
            (scores[0].value, scores[0].error),
            (Some(42.0), Some(8f64.sqrt()))
        );
        assert_eq!(scores[0].setting, "lr 1, 2 seeds");
        assert_eq!(outcome.original()[0], " * Acc@1 40.000 Acc@5 40.000");
        assert_eq!(outcome.original()[1], " * Acc@1 nan Acc@5 nan");
        assert_eq!(scores[3].value, None);
        assert_eq!(scores[3].setting, "lr 9, 2 seeds, diverged in epoch 3");
        assert_eq!(
            (scores[5].name.as_str(), scores[5].value),
            ("best Acc@1", Some(50.0))
        );
    }
}
