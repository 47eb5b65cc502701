//! What training goes on from: the newest whole checkpoint of the same training, and a log that is cut back to it.
//!
//! Whether a checkpoint is of the same training is a matter of text: it holds the fingerprint that it was trained by. A
//! user may allow parameters to differ; from then on it counts as one of the changed training.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{Training, state::Within};
use crate::{
    change::{self, Change, Changed},
    checkpoint::{self, Checkpoint, Mark, Store},
    failure::{Cause, Failure, disk},
    fingerprint, lines,
    log::{Entry, Log, Reach},
    workplace::Workplace,
};

/// A state that training can go on from.
pub struct Earlier {
    /// How far it is.
    pub mark: Mark,
    /// Where it lies.
    pub path: PathBuf,
    /// The state.
    pub checkpoint: Checkpoint,
    /// What its epoch adds up to so far; none at an epoch's end.
    pub within: Option<Within>,
    /// Parameters that differ from those it was trained with.
    pub changes: Vec<Change>,
    /// Later states that cannot be read, the latest first: how far, and why.
    pub damaged: Vec<(Mark, String)>,
}

impl Training<'_> {
    /// The newest whole checkpoint of the stage in `store`, if there is one; checked to be of this very training, but
    /// for parameters that `allowed` names.
    ///
    /// # Errors
    /// It is foreign or of a training that was set up otherwise, or there are checkpoints and all are damaged.
    pub fn newest(&self, store: &Store, allowed: &[String]) -> Result<Option<Earlier>, Failure> {
        let mut damaged = Vec::new();
        for mark in store.marks()?.into_iter().rev() {
            let path = store.file(mark);
            // What the system does not let be read is not damaged.
            File::open(&path).map_err(|error| disk("read", &path, &error))?;
            match checkpoint::read(&path) {
                Ok(checkpoint) => {
                    let changes = self.check_origin(&checkpoint, mark, &path, allowed)?;
                    return Ok(Some(Earlier {
                        mark,
                        within: Within::of(&checkpoint, &path.display().to_string())?,
                        path,
                        checkpoint,
                        changes,
                        damaged,
                    }));
                }
                Err(failure) if failure.cause == Cause::Mistake => {
                    damaged.push((mark, failure.message));
                }
                Err(failure) => return Err(failure),
            }
        }
        match damaged.into_iter().next() {
            None => Ok(None),
            Some((_, reason)) => Err(Failure::mistake(format!(
                "{reason}; stage `{}` has no other checkpoint to go on from",
                self.stage.name
            ))
            .help("put a copy of the file back, or start again with --overwrite")),
        }
    }

    fn check_origin(
        &self,
        checkpoint: &Checkpoint,
        mark: Mark,
        path: &Path,
        allowed: &[String],
    ) -> Result<Vec<Change>, Failure> {
        let text = |key: &str| checkpoint.metadata.get(key).map_or("", String::as_str);
        let number = |key: &str| checkpoint.number(key).unwrap_or(0) as usize;
        if text("format") != checkpoint::FORMAT
            || text("stage") != self.stage.name
            || (number("epoch"), number("batch")) != (mark.epoch, mark.batch)
        {
            return Err(Failure::mistake(format!(
                "{} is not the checkpoint of stage `{}` after {mark}",
                path.display(),
                self.stage.name
            ))
            .help("remove that file, or start again with --overwrite"));
        }
        let changes = change::changes(&self.stage.name, text("config"), &self.config);
        let epoch = mark.epoch + usize::from(mark.batch > 0);
        change::permit(&self.stage.name, &changes, allowed, epoch).map_err(|mut failure| {
            failure.message = format!(
                "stage `{}` is set up otherwise than when {} was written:\n{}\n{}",
                self.stage.name,
                path.display(),
                fingerprint::difference(text("config"), &self.config),
                failure.message
            );
            failure
        })?;
        Ok(changes)
    }

    /// What `earlier` was trained with otherwise; none where nothing differs.
    pub fn changed(&self, earlier: &Earlier) -> Option<Changed> {
        (!earlier.changes.is_empty()).then(|| Changed {
            stage: self.stage.name.clone(),
            step: self.steps_at(earlier.mark),
            changes: earlier.changes.clone(),
        })
    }

    /// Makes a state that was trained with other parameters one of this training, and tells so in the log: another
    /// resumption finds nothing to allow.
    pub(super) fn adopt(
        &self,
        earlier: &mut Earlier,
        workplace: &mut Workplace,
    ) -> Result<(), Failure> {
        let Some(Changed {
            stage,
            step,
            changes,
        }) = self.changed(earlier)
        else {
            return Ok(());
        };
        for change in &changes {
            workplace.note(format!("{change}, from step {step} on"));
        }
        let entry = Entry::Change {
            stage,
            step,
            changes,
        };
        let path = workplace.folder.path("log.jsonl");
        // A kill between the line and the state leaves the line.
        if lines::read::<Entry>(&path)?.last() != Some(&entry) {
            let mut log = Log::open(&path)?;
            log.append(&entry)?;
            log.sync()?;
        }
        let metadata = &mut earlier.checkpoint.metadata;
        metadata.insert("config".to_owned(), self.config.clone());
        metadata.insert("config_hash".to_owned(), fingerprint::hash(&self.config));
        checkpoint::write(&earlier.checkpoint, &earlier.path)
    }

    /// Cuts logs back to what the state at `mark` covers.
    pub(super) fn rewind(&self, mark: Mark, workplace: &Workplace) -> Result<(), Failure> {
        let lines = self.steps_between_lines() as u64;
        let (before, now) = (self.steps_at(Mark::end(mark.epoch)), self.steps_at(mark));
        let line = before + (now - before) / lines * lines;
        // A training that takes over another's epochs has no line of theirs.
        let first = line == before && now > before && self.initial.is_some();
        let reach = Reach {
            epochs: mark.epoch,
            steps: now,
            line: if first { 0 } else { line },
        };
        let kept = format!("the checkpoint after {mark}");
        workplace.folder.rewind(&self.stage.name, reach, &kept)
    }
}
