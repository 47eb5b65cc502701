//! `log.jsonl` and `timings.jsonl`: what happened, a JSON object a line.
//!
//! `log.jsonl` holds what the plan determines and nothing else: no time, no speed, no host name, so that equal runs
//! have equal bytes. Speed goes to `timings.jsonl`. Lines are only ever appended; a resumed run first cuts off what
//! came after its checkpoint, including a last line that a kill cut short.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    change::Change,
    events::Events,
    failure::{Failure, disk},
};

/// The means of further figures by name, such as `acc1` in percent.
pub type Measures = BTreeMap<String, Option<f64>>;

/// A line of `log.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Entry {
    /// Training begins.
    Start {
        /// Name of the stage.
        stage: String,
        /// Images in the data set.
        samples: usize,
        /// Epochs to train.
        epochs: usize,
        /// Optimiser steps in an epoch.
        steps_per_epoch: usize,
        /// The loss of an encoder that tells nothing apart, where the objective has one.
        chance_loss: Option<f64>,
        /// What was taken of an earlier training and what was not; empty for a start from random weights.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        initial: Vec<String>,
    },
    /// Some steps of an epoch are done.
    Step {
        /// Name of the stage.
        stage: String,
        /// Epoch, from 1.
        epoch: usize,
        /// Optimiser steps so far, over all epochs.
        step: u64,
        /// Learning rate.
        lr: f64,
        /// Mean loss since the last line of the epoch.
        loss: Option<f64>,
        /// Means of the objective's other figures.
        #[serde(flatten)]
        measures: Measures,
    },
    /// Training goes on with other parameters, by the user's leave.
    Change {
        /// Name of the stage.
        stage: String,
        /// Optimiser steps so far, over all epochs.
        step: u64,
        /// The parameters.
        changes: Vec<Change>,
    },
    /// The evaluated encoder was measured; the line of the epoch follows.
    Health {
        /// Name of the stage.
        stage: String,
        /// Epochs done; 0 before the first.
        epoch: usize,
        /// Optimiser steps so far, over all epochs.
        step: u64,
        /// Images that were measured.
        images: usize,
        /// Width of their features.
        width: usize,
        /// Why the encoder is taken for collapsed; none where it is not.
        collapse: Option<String>,
        /// The figures by name; those that are no number are null.
        #[serde(flatten)]
        measures: Measures,
    },
    /// An epoch is done.
    Epoch {
        /// Name of the stage.
        stage: String,
        /// Epoch, from 1.
        epoch: usize,
        /// Optimiser steps so far, over all epochs.
        step: u64,
        /// Learning rate.
        lr: f64,
        /// Mean loss of the epoch.
        loss: Option<f64>,
        /// Unreadable images that were replaced in this epoch: name and reason, sorted.
        replaced: Vec<(String, String)>,
        /// Means of the objective's other figures.
        #[serde(flatten)]
        measures: Measures,
    },
    /// Classifiers begin to learn.
    Classifiers {
        /// Name of the stage.
        stage: String,
        /// Images that they learn from.
        samples: usize,
        /// Images that they are tested on.
        tested: usize,
        /// Number of classes.
        classes: usize,
        /// Epochs to train.
        epochs: usize,
        /// Steps in an epoch.
        steps_per_epoch: usize,
        /// What the classifiers are called in the lines of epochs, such as `lr 30`.
        labels: Vec<String>,
    },
    /// Classifiers have learnt for an epoch and were tested.
    Probe {
        /// Name of the stage.
        stage: String,
        /// Epoch, from 1.
        epoch: usize,
        /// Steps so far, over all epochs.
        step: u64,
        /// Factor on all learning rates in the last step.
        factor: f64,
        /// Unreadable images that were replaced in this epoch: name and reason, sorted.
        replaced: Vec<(String, String)>,
        /// Figures of each classifier, such as `acc1 lr 30`; accuracies in percent.
        #[serde(flatten)]
        measures: Measures,
    },
}

impl Entry {
    /// The figure called `name` in the line, such as `loss`, whatever part of the line it stands in.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let line = serde_json::to_value(self).expect("log lines are plain data");
        let line = line.as_object()?;
        let parts = line.values().filter_map(|value| value.as_object());
        let mut all = std::iter::once(line).chain(parts);
        all.find_map(|part| part.get(name)?.as_f64())
    }
}

/// A line of `timings.jsonl`: how fast an epoch was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Name of the stage.
    pub stage: String,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Length of the epoch in seconds, without its checkpoint.
    pub seconds: f64,
    /// Images trained on per second (each gives several views).
    pub images_per_second: f64,
    /// Share of the time in which training waited for images, from 0 to 1.
    pub waiting: f64,
    /// Time to write the checkpoint in seconds.
    pub checkpoint_seconds: f64,
    /// Time to measure the encoder's health in seconds, which is not part of the epoch's length.
    #[serde(default)]
    pub health_seconds: f64,
}

/// A file of JSON lines that is being written.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    events: Option<Events>,
}

/// What a line says about its place; every kind of line has these fields or lacks the epoch.
#[derive(Deserialize)]
struct Place {
    stage: String,
    epoch: Option<usize>,
    step: Option<u64>,
}

/// The state of a stage that its log is cut back to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whole epochs done; decides over lines that have no step.
    pub epochs: usize,
    /// Steps done, over all epochs; 0 for the very start.
    pub steps: u64,
    /// The step of the last line up to there; 0 where there is none yet.
    pub line: u64,
}

impl Log {
    /// Opens the file at `path` for appending, making it where there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|error| disk("write", path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            events: None,
        })
    }

    /// Shows every line appended from now on in `events` too.
    pub fn follow(&mut self, events: &Events) {
        self.events = Some(events.clone());
    }

    /// Appends a line; it is whole or, after a kill, cut short and dropped by [`rewind`].
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn append(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_string(line).expect("log lines are plain data");
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(|error| disk("write", &self.path, &error))?;
        match &self.events {
            Some(events) => {
                let line = serde_json::to_value(line).expect("log lines are plain data");
                events.append(&line)
            }
            None => Ok(()),
        }
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn sync(&mut self) -> Result<(), Failure> {
        self.file
            .sync_data()
            .map_err(|error| disk("write", &self.path, &error))
    }
}

/// Cuts the file at `path` back to the state `reach` of `stage`.
///
/// Lines of other stages that stand before are kept. Returns whether the last line that belongs to that state was
/// found, which for a start is always so.
///
/// # Errors
/// The file cannot be read or cut.
pub fn rewind(path: &Path, stage: &str, reach: Reach) -> Result<bool, Failure> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(reach.line == 0),
        text => text.map_err(|error| disk("read", path, &error))?,
    };
    let (mut kept, mut found) = (0, reach.line == 0);
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let Ok(place) = serde_json::from_slice::<Place>(line) else {
            break;
        };
        if !line.ends_with(b"\n") {
            break;
        }
        if place.stage == stage {
            let beyond = match (place.step, place.epoch) {
                (Some(step), _) => step > reach.steps,
                (None, Some(epoch)) => epoch > reach.epochs,
                (None, None) => false,
            };
            if reach.steps == 0 || beyond {
                break;
            }
            found |= place.step == Some(reach.line);
        }
        kept += line.len();
    }
    if kept < text.len() {
        let file = OpenOptions::new().write(true).open(path);
        file.and_then(|file| {
            file.set_len(kept as u64)?;
            file.sync_data()
        })
        .map_err(|error| disk("write", path, &error))?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::read;

    fn epoch(stage: &str, epoch: usize) -> Entry {
        Entry::Epoch {
            stage: stage.to_owned(),
            epoch,
            step: 10 * epoch as u64,
            lr: 0.03,
            loss: Some(4.25),
            replaced: vec![("a.jpg".to_owned(), "damaged".to_owned())],
            measures: Measures::from([("acc1".to_owned(), Some(12.5)), ("acc5".to_owned(), None)]),
        }
    }

    fn step(stage: &str, epoch: usize) -> Entry {
        Entry::Step {
            stage: stage.to_owned(),
            epoch,
            step: 10 * epoch as u64 - 5,
            lr: 0.03,
            loss: None,
            measures: Measures::new(),
        }
    }

    #[test]
    fn a_line_reads_as_it_was_written() {
        let text = serde_json::to_string(&epoch("pretrain", 2)).unwrap();
        assert_eq!(
            text,
            r#"{"event":"epoch","stage":"pretrain","epoch":2,"step":20,"lr":0.03,"loss":4.25,"replaced":[["a.jpg","damaged"]],"acc1":12.5,"acc5":null}"#
        );
        assert_eq!(
            serde_json::from_str::<Entry>(&text).unwrap(),
            epoch("pretrain", 2)
        );
    }

    #[test]
    fn rewinding_cuts_what_a_checkpoint_does_not_cover() {
        let folder = std::env::temp_dir().join(format!("smallfry-log-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("log.jsonl");
        let whole = [
            step("a", 1),
            epoch("a", 1),
            step("b", 1),
            epoch("b", 1),
            step("b", 2),
            epoch("b", 2),
            step("b", 3),
        ];
        let at = |epochs: usize, steps: u64, line: u64| Reach {
            epochs,
            steps,
            line,
        };
        for (stage, reach, found, left) in [
            ("b", at(2, 20, 20), true, 6),
            ("b", at(1, 10, 10), true, 4),
            ("b", at(1, 12, 10), true, 4),
            ("b", at(1, 15, 15), true, 5),
            ("b", at(1, 19, 15), true, 5),
            ("b", at(0, 4, 0), true, 2),
            ("b", at(0, 0, 0), true, 2),
            ("a", at(1, 10, 10), true, 7),
            ("a", at(0, 0, 0), true, 0),
            ("b", at(4, 40, 40), false, 7),
            ("b", at(2, 28, 28), false, 7),
            ("c", at(0, 0, 0), true, 7),
        ] {
            let _ = fs::remove_file(&path);
            let mut log = Log::open(&path).unwrap();
            whole.iter().for_each(|line| log.append(line).unwrap());
            log.file
                .write_all(br#"{"event":"step","stage":"b","ep"#)
                .unwrap();
            assert_eq!(
                rewind(&path, stage, reach).unwrap(),
                found,
                "{stage} {reach:?}"
            );
            assert_eq!(
                read::<Entry>(&path).unwrap(),
                whole[..left],
                "{stage} {reach:?}"
            );
            assert!(!fs::read_to_string(&path).unwrap().ends_with("ep"));
        }
        fs::remove_file(&path).unwrap();
        assert!(!rewind(&path, "a", at(1, 10, 10)).unwrap());
        assert!(rewind(&path, "a", Reach::default()).unwrap());
        let mut timings = Log::open(&path).unwrap();
        let timing = |epoch| serde_json::json!({"stage": "a", "epoch": epoch});
        (1..4).for_each(|epoch| timings.append(&timing(epoch)).unwrap());
        rewind(&path, "a", at(2, 25, 0)).unwrap();
        let left: Vec<serde_json::Value> = read(&path).unwrap();
        assert_eq!(left, [timing(1), timing(2)]);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn figures_are_found_by_name() {
        let entry = epoch("a", 1);
        for (name, value) in [
            ("loss", Some(4.25)),
            ("acc1", Some(12.5)),
            ("acc5", None),
            ("knn", None),
            ("replaced", None),
        ] {
            assert_eq!(entry.figure(name), value, "{name}");
        }
    }
}
