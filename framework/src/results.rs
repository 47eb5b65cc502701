//! `results.json`: what each finished stage came to, and the table of it.

pub mod map;
pub mod probe;
pub mod views;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{failure::Failure, metric::Score, text::digits};

/// The contents of `results.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Version of this layout.
    pub format: u32,
    /// Name of the experiment.
    pub experiment: String,
    /// Finished stages, in the order of the experiment file.
    pub stages: Vec<StageResult>,
}

/// What a finished stage came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageResult {
    /// Name of the stage.
    pub stage: String,
    /// Hash of everything that the result depends on; a resumed run skips stages whose hash is the same.
    pub hash: String,
    /// The result.
    #[serde(flatten)]
    pub outcome: StageOutcome,
}

/// The result of a stage by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum StageOutcome {
    /// Training.
    Pretrain {
        /// Epochs trained.
        epochs: usize,
        /// Optimiser steps taken.
        steps: u64,
        /// Mean loss of the last epoch.
        loss: Option<f64>,
        /// Means of the last epoch's other figures.
        measures: Vec<(String, Option<f64>)>,
        /// The last checkpoint, relative to the run folder.
        checkpoint: String,
        /// Unreadable images that were replaced in any epoch: name and reason.
        replaced: Vec<(String, String)>,
    },
    /// Metrics.
    Evaluate {
        /// The network, with its parameters.
        backbone: String,
        /// Where the weights came from.
        weights: String,
        /// The samples that metrics learnt from.
        train: Option<SetRecord>,
        /// The samples that were judged.
        test: SetRecord,
        /// What the metrics gave.
        scores: Vec<ScoreRecord>,
        /// Metrics that could not be computed: the plugin with its parameters, and why.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        refused: Vec<(String, String)>,
        /// The lines that the reference's programs print of it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        original: Vec<String>,
    },
    /// Images and their views.
    Views(views::Outcome),
    /// Classifiers.
    Probe(probe::Outcome),
    /// A map.
    Map(map::Outcome),
}

impl StageOutcome {
    /// What the stage came to, number by number; those of a training stand in its log.
    pub fn scores(&self) -> Vec<ScoreRecord> {
        match self {
            Self::Pretrain { .. } => Vec::new(),
            Self::Evaluate { scores, .. } => scores.clone(),
            Self::Views(outcome) => outcome.scores(),
            Self::Probe(outcome) => outcome.scores(),
            Self::Map(outcome) => outcome.scores(),
        }
    }

    /// The lines that the reference's programs print of it.
    pub fn original(&self) -> Vec<String> {
        match self {
            Self::Evaluate { original, .. } => original.clone(),
            Self::Probe(outcome) => outcome.original(),
            _ => Vec::new(),
        }
    }

    /// The metrics that could not be computed: the plugin with its parameters, and why.
    pub fn refused(&self) -> &[(String, String)] {
        match self {
            Self::Evaluate { refused, .. } => refused,
            _ => &[],
        }
    }

    /// The images that could not be read and were left out: name and reason.
    pub fn left_out(&self) -> Vec<&(String, String)> {
        match self {
            Self::Pretrain { .. } => Vec::new(),
            Self::Evaluate { train, test, .. } => {
                let sets = train.iter().chain([test]);
                sets.flat_map(|set| &set.left_out).collect()
            }
            Self::Views(outcome) => outcome.left_out.iter().collect(),
            Self::Probe(outcome) => {
                let sets = [&outcome.train, &outcome.test].into_iter();
                sets.flat_map(|set| &set.left_out).collect()
            }
            Self::Map(outcome) => outcome.data.left_out.iter().collect(),
        }
    }
}

/// A data set as it was evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetRecord {
    /// The set, with its parameters.
    pub data: String,
    /// Samples that took part.
    pub samples: usize,
    /// Unreadable samples that were left out: name and reason.
    pub left_out: Vec<(String, String)>,
}

/// A score as it is written to disk; a value that is no number is null there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreRecord {
    /// The metric plugin, with its parameters.
    pub metric: String,
    /// What it is, such as `best-NN`.
    pub name: String,
    /// The number.
    pub value: Option<f64>,
    /// Its unit; empty for a pure number.
    pub unit: String,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Standard error, where the value is sampled.
    pub error: Option<f64>,
    /// The setting that gave it; empty for none.
    pub setting: String,
    /// The values behind it.
    pub table: Vec<(String, Option<f64>)>,
}

impl ScoreRecord {
    /// The record of a score of `metric`.
    pub fn new(metric: &str, score: Score) -> Self {
        Self {
            metric: metric.to_owned(),
            name: score.name,
            value: finite(score.value),
            unit: score.unit.to_owned(),
            higher_is_better: score.higher_is_better,
            error: score.error.and_then(finite),
            setting: score.setting,
            table: score
                .table
                .into_iter()
                .map(|(name, value)| (name, finite(value)))
                .collect(),
        }
    }

    /// The value with its unit and error, as a person reads it.
    pub fn reading(&self) -> String {
        let Some(value) = self.value else {
            return "not a number".to_owned();
        };
        let mut text = match self.unit.as_str() {
            "%" => format!("{} %", digits(value, 2)),
            "" => digits(value, 4),
            unit => format!("{} {unit}", digits(value, 4)),
        };
        if let Some(error) = self.error {
            text.push_str(&format!(" ± {}", digits(error, 2)));
        }
        text
    }
}

/// The value, if it is a number: JSON has no other.
pub fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

impl Results {
    /// Empty results of an experiment.
    pub fn new(experiment: &str) -> Self {
        Self {
            format: 1,
            experiment: experiment.to_owned(),
            stages: Vec::new(),
        }
    }

    /// The result of a stage.
    pub fn stage(&self, name: &str) -> Option<&StageResult> {
        self.stages.iter().find(|stage| stage.stage == name)
    }

    /// The failure of a run some of whose metrics could not be computed; none where all were.
    pub fn refusal(&self) -> Option<Failure> {
        let refused: Vec<String> = self
            .stages
            .iter()
            .flat_map(|result| {
                let refused = result.outcome.refused().iter();
                refused.map(|(metric, reason)| {
                    format!("stage `{}`, metric {metric}: {reason}", result.stage)
                })
            })
            .collect();
        let message = match refused.as_slice() {
            [] => return None,
            [only] => only.clone(),
            more => format!(
                "{} metrics could not be computed\n  {}",
                more.len(),
                more.join("\n  ")
            ),
        };
        Some(Failure::fault(message).help("all other results are there"))
    }

    /// Puts a result in its place: after those before it, instead of one of the same stage.
    pub fn insert(&mut self, result: StageResult) {
        match self.stages.iter_mut().find(|s| s.stage == result.stage) {
            Some(place) => *place = result,
            None => self.stages.push(result),
        }
    }
}

/// Columns of equal width, two spaces apart; numbers are the caller's to format.
impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["stage", "score", "value", "setting"].map(str::to_owned)];
        for result in &self.stages {
            match &result.outcome {
                StageOutcome::Pretrain { epochs, loss, .. } => rows.push([
                    result.stage.clone(),
                    "loss".to_owned(),
                    loss.map_or("not a number".to_owned(), |loss| format!("{loss:.4}")),
                    format!("epoch {epochs}"),
                ]),
                other => {
                    rows.extend(other.scores().iter().map(|score| {
                        [
                            result.stage.clone(),
                            score.name.clone(),
                            score.reading(),
                            score.setting.clone(),
                        ]
                    }));
                    rows.extend(other.refused().iter().map(|(metric, reason)| {
                        [
                            result.stage.clone(),
                            metric.clone(),
                            "refused".to_owned(),
                            reason.clone(),
                        ]
                    }));
                }
            }
        }
        let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max();
        let widths = [0, 1, 2].map(|column| width(column).unwrap_or(0));
        for row in &rows {
            let [stage, score, value, setting] = row;
            let line = format!(
                "{stage:<0$}  {score:<1$}  {value:>2$}  {setting}",
                widths[0], widths[1], widths[2]
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(name: &str, value: f64) -> ScoreRecord {
        ScoreRecord::new(
            "KNN()",
            Score {
                name: name.to_owned(),
                value,
                unit: "%",
                higher_is_better: true,
                error: None,
                setting: "k = 5".to_owned(),
                table: vec![("1".to_owned(), 10.0), ("3".to_owned(), f64::NAN)],
            },
        )
    }

    fn results() -> Results {
        let mut results = Results::new("first");
        results.insert(StageResult {
            stage: "trained".to_owned(),
            hash: "00".to_owned(),
            outcome: StageOutcome::Evaluate {
                backbone: "Tiny()".to_owned(),
                weights: "stage pretrain".to_owned(),
                train: None,
                test: SetRecord {
                    data: "Folder()".to_owned(),
                    samples: 3,
                    left_out: vec![("a.jpg".to_owned(), "damaged".to_owned())],
                },
                scores: vec![score("best-NN", 61.25)],
                refused: Vec::new(),
                original: Vec::new(),
            },
        });
        results
    }

    #[test]
    fn comes_back_from_json() {
        let text = serde_json::to_string(&results()).unwrap();
        assert!(text.contains(r#""kind":"evaluate""#), "{text}");
        assert!(text.contains(r#"["3",null]"#), "{text}");
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), results());
    }

    #[test]
    fn the_table_is_aligned() {
        assert_eq!(
            results().to_string(),
            "stage    score      value  setting\ntrained  best-NN  61.25 %  k = 5\n"
        );
    }

    #[test]
    fn small_scores_keep_their_digits() {
        let mut record = score("Alignment", 0.00004);
        assert_eq!(record.reading(), "0.000040 %");
        (record.unit, record.error) = (String::new(), Some(0.000002));
        assert_eq!(record.reading(), "0.000040 ± 0.0000020");
    }

    #[test]
    fn a_stage_has_one_result() {
        let mut results = results();
        let again = results.stages[0].clone();
        results.insert(again);
        assert_eq!(results.stages.len(), 1);
    }
}
