//! The state of a stage of classifiers on disk: `last.safetensors` to go on from, and the best of each classifier.
//!
//! `last.safetensors` holds every classifier with its velocity, under `heads.0.`, `heads.1.` and so on in the order of the
//! log. The best of each, by its accuracy on the test images, lie in `best.safetensors` with the backbone beside them under
//! plain names, so that the file of a single classifier is a state dict as other programs know it. Networks that
//! learn as a whole have a file each, `best-1.safetensors` and so on, where there are several.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    classifiers::{Classifiers, Tensors},
    figures::Figures,
};
use crate::{
    checkpoint::{self, Checkpoint, FORMAT, Mark},
    failure::{Failure, disk},
    fingerprint,
    results::probe::Label,
};

/// How a classifier fares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fortune {
    /// Learning rate.
    pub rate: f64,
    /// Whether it sees features divided by their length.
    pub unit_length: bool,
    /// Seed.
    pub seed: u64,
    /// The epoch, from 1, in which its loss was no number; none where all were.
    pub diverged: Option<usize>,
    /// The epoch, from 1, after which it had most test images right, the first of such; 0 before the first.
    pub best_epoch: usize,
    /// Test images that it had right then.
    pub best: u64,
    /// Test images in all.
    pub tested: u64,
}

impl Fortune {
    /// That of a classifier that has not begun.
    pub fn new(label: &Label) -> Self {
        Self {
            rate: label.rate,
            unit_length: label.unit_length,
            seed: label.seed,
            diverged: None,
            best_epoch: 0,
            best: 0,
            tested: 0,
        }
    }

    /// The accuracy of the best epoch in percent, 0 before the first.
    pub fn accuracy(&self) -> f64 {
        100.0 * self.best as f64 / self.tested.max(1) as f64
    }
}

/// What an epoch adds up to on its way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Figures of each classifier; empty before the first step.
    pub figures: Vec<Figures>,
    /// Images that others stand in for: name and reason.
    pub replaced: Vec<(String, String)>,
}

/// Where a stage stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Epochs and batches done.
    pub mark: Mark,
    /// Steps done, over all epochs.
    pub step: u64,
    /// What the epoch adds up to so far.
    pub tally: Tally,
    /// How each classifier fares.
    pub fortunes: Vec<Fortune>,
}

/// Where a stage keeps its files.
pub struct Shelf<'a> {
    /// The stage.
    pub stage: &'a str,
    /// Everything that its result depends on, as text.
    pub config: &'a str,
    /// `checkpoints/<stage>` of the run folder.
    pub folder: PathBuf,
}

/// The prefix of the tensors of classifier `i`.
fn prefix(i: usize) -> String {
    format!("heads.{i}.")
}

/// The prefix of the velocities of classifier `i`.
fn velocity_prefix(i: usize) -> String {
    format!("optimizer.momentum_buffer.heads.{i}.")
}

impl Shelf<'_> {
    /// Makes the folder and removes what a killed run left half-written there.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn prepare(&self) -> Result<(), Failure> {
        fs::create_dir_all(&self.folder).map_err(|error| disk("make", &self.folder, &error))?;
        checkpoint::remove_partial(&self.folder)
    }

    /// The file that a stage goes on from.
    pub fn last(&self) -> PathBuf {
        self.folder.join("last.safetensors")
    }

    /// The files of the best, for `count` classifiers that have a backbone each or `shared` one.
    pub fn best(&self, count: usize, shared: bool) -> Vec<PathBuf> {
        match count {
            0 | 1 => vec![self.folder.join("best.safetensors")],
            _ if shared => vec![self.folder.join("best.safetensors")],
            _ => (1..=count)
                .map(|i| self.folder.join(format!("best-{i}.safetensors")))
                .collect(),
        }
    }

    fn metadata(&self, standing: &Standing) -> BTreeMap<String, String> {
        let json = |text: serde_json::Result<String>| text.expect("plain data");
        [
            ("format", FORMAT.to_owned()),
            ("stage", self.stage.to_owned()),
            ("epoch", standing.mark.epoch.to_string()),
            ("step", standing.step.to_string()),
            ("config", self.config.to_owned()),
            ("config_hash", fingerprint::hash(self.config)),
            (
                "classifiers",
                json(serde_json::to_string(&standing.fortunes)),
            ),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// Writes the state at `standing`; the best are on disk by now.
    ///
    /// # Errors
    /// The disk is full or broken; the older state is untouched.
    pub fn save(&self, classifiers: &dyn Classifiers, standing: &Standing) -> Result<(), Failure> {
        let mut metadata = self.metadata(standing);
        if standing.mark.batch > 0 {
            let tally = serde_json::to_string(&standing.tally).expect("a tally is plain data");
            metadata.insert("batch".to_owned(), standing.mark.batch.to_string());
            metadata.insert("tally".to_owned(), tally);
        }
        let mut tensors = Tensors::new();
        for i in 0..standing.fortunes.len() {
            tensors.extend(prefixed(&prefix(i), classifiers.own(i)));
            tensors.extend(prefixed(&velocity_prefix(i), classifiers.velocity(i)));
        }
        checkpoint::write(&Checkpoint { metadata, tensors }, &self.last())
    }

    /// Writes the best of every classifier, `kept`, with the backbone `shared` that they have in common.
    ///
    /// # Errors
    /// The disk is full or broken; the older files are untouched.
    pub fn save_best(
        &self,
        kept: &[Tensors],
        shared: &Tensors,
        standing: &Standing,
    ) -> Result<(), Failure> {
        let paths = self.best(kept.len(), !shared.is_empty());
        for (i, path) in paths.iter().enumerate() {
            let mut tensors = shared.clone();
            match (kept, paths.len()) {
                ([one], _) => tensors.extend(one.clone()),
                (_, 1) => {
                    for (i, own) in kept.iter().enumerate() {
                        tensors.extend(prefixed(&prefix(i), own.clone()));
                    }
                }
                _ => tensors.extend(kept[i].clone()),
            }
            let mut standing = standing.clone();
            if paths.len() == kept.len() {
                standing.fortunes = vec![standing.fortunes[i].clone()];
            }
            let mut metadata = self.metadata(&standing);
            // What is best need not be of the last epoch.
            metadata.remove("step");
            if let [fortune] = standing.fortunes.as_slice() {
                metadata.insert("epoch".to_owned(), fortune.best_epoch.to_string());
            }
            checkpoint::write(&Checkpoint { metadata, tensors }, path)?;
        }
        Ok(())
    }

    /// The state to go on from, if there is one: puts it into `classifiers`, and the best into `kept`.
    ///
    /// # Errors
    /// It is damaged, foreign, or of a stage that was set up otherwise.
    pub fn restore(
        &self,
        classifiers: &mut dyn Classifiers,
        kept: &mut Vec<Tensors>,
        labels: &[Label],
    ) -> Result<Option<Standing>, Failure> {
        let path = self.last();
        if !path.exists() {
            return Ok(None);
        }
        let last = self.read(&path)?;
        let wrong = |reason: String| {
            Failure::mistake(format!("{}: {reason}", path.display()))
                .help("put a copy of the file back, or start again with --overwrite")
        };
        let standing = standing(&last, labels).map_err(wrong)?;
        for (i, fortune) in standing.fortunes.iter().enumerate() {
            let (own, velocity) = (
                stripped(&prefix(i), &last.tensors),
                stripped(&velocity_prefix(i), &last.tensors),
            );
            let failed = fortune.diverged.is_some();
            let restored = classifiers.restore(i, &own, &velocity, failed);
            restored.map_err(wrong)?;
        }
        let shared = classifiers.shared();
        let paths = self.best(labels.len(), !shared.is_empty());
        let mut found = Vec::new();
        for path in &paths {
            // Before the end of the first epoch there is no best.
            if standing.mark.epoch > 0 || path.exists() {
                found.push(self.read(path)?.tensors);
            }
        }
        if found.is_empty() {
            return Ok(Some(standing));
        }
        *kept = match (found.as_slice(), labels.len()) {
            ([all], 1) => vec![own_of(all, &shared)],
            ([all], count) => (0..count).map(|i| stripped(&prefix(i), all)).collect(),
            (files, _) => files.to_vec(),
        };
        Ok(Some(standing))
    }

    /// Reads a file of this very stage.
    fn read(&self, path: &Path) -> Result<Checkpoint, Failure> {
        let checkpoint = checkpoint::read(path).map_err(|failure| {
            failure.help("put a copy of the file back, or start again with --overwrite")
        })?;
        let text = |key: &str| checkpoint.metadata.get(key).map_or("", String::as_str);
        if text("format") != FORMAT || text("stage") != self.stage {
            return Err(Failure::mistake(format!(
                "{} is not of stage `{}`",
                path.display(),
                self.stage
            ))
            .help("remove that file, or start again with --overwrite"));
        }
        if text("config") != self.config {
            return Err(Failure::mistake(format!(
                "stage `{}` is set up otherwise than when {} was written:\n{}",
                self.stage,
                path.display(),
                fingerprint::difference(text("config"), self.config)
            ))
            .help("set it up as it was, or start again with --overwrite"));
        }
        Ok(checkpoint)
    }
}

/// Where the stage stood, by the metadata of its last state.
fn standing(last: &Checkpoint, labels: &[Label]) -> Result<Standing, String> {
    let number = |key: &str| {
        last.number(key)
            .ok_or_else(|| format!("does not say its {key}"))
    };
    let fortunes = last.metadata.get("classifiers");
    let fortunes = fortunes.and_then(|text| serde_json::from_str::<Vec<Fortune>>(text).ok());
    let fortunes = fortunes
        .filter(|fortunes| fortunes.len() == labels.len())
        .ok_or("does not tell how its classifiers fare")?;
    let (batch, tally) = match last.metadata.get("batch") {
        None => (0, Tally::default()),
        Some(batch) => {
            let tally = last.metadata.get("tally");
            let tally = tally.and_then(|text| serde_json::from_str::<Tally>(text).ok());
            let tally = tally.filter(|tally| tally.figures.len() == labels.len());
            match (batch.parse(), tally) {
                (Ok(batch), Some(tally)) => (batch, tally),
                _ => return Err("does not say how far its epoch is".to_owned()),
            }
        }
    };
    Ok(Standing {
        mark: Mark {
            epoch: number("epoch")? as usize,
            batch,
        },
        step: number("step")?,
        tally,
        fortunes,
    })
}

fn prefixed<'a>(
    prefix: &'a str,
    tensors: Tensors,
) -> impl Iterator<Item = (String, checkpoint::Tensor)> + 'a {
    tensors
        .into_iter()
        .map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
}

fn stripped(prefix: &str, tensors: &Tensors) -> Tensors {
    let own = tensors.iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix(prefix)?;
        Some((name.to_owned(), tensor.clone()))
    });
    own.collect()
}

/// What of `all` is not shared.
fn own_of(all: &Tensors, shared: &Tensors) -> Tensors {
    let own = all.iter().filter(|(name, _)| !shared.contains_key(*name));
    own.map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect()
}
