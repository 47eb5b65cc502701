//! What a training stage leaves on disk as it goes: lines of its logs, and checkpoints.
//!
//! The order matters. A checkpoint promises that the log holds every line up to it, so lines are durable before it is;
//! and nothing older goes before it is durable itself. Whatever fails says what remains.

use std::time::Instant;

use crate::{
    checkpoint::{
        Checkpoint, Mark, Store,
        cadence::{Best, Keep, Save},
    },
    events::Events,
    failure::Failure,
    lines,
    log::{Entry, Log, Timing},
    plan::Pretrain,
    workplace::folder::RunFolder,
};

/// The files of a stage that is being trained.
pub(super) struct Recorder<'a> {
    stage: &'a str,
    save: &'a Save,
    keep: &'a Keep,
    folder: &'a RunFolder,
    store: &'a Store,
    log: Log,
    timings: Log,
    lead: Option<Lead<'a>>,
    saved: Instant,
}

/// The best epoch of a stage so far, by the lines of its log.
struct Lead<'a> {
    best: &'a Best,
    stage: &'a str,
    /// It, with its figure.
    epoch: Option<(usize, f64)>,
}

impl<'a> Lead<'a> {
    /// That of all lines in the log of `folder`.
    fn of(best: &'a Best, stage: &'a str, folder: &RunFolder) -> Result<Self, Failure> {
        let mut lead = Self {
            best,
            stage,
            epoch: None,
        };
        let entries: Vec<Entry> = lines::read(&folder.path("log.jsonl"))?;
        entries.iter().for_each(|entry| lead.see(entry));
        Ok(lead)
    }

    /// Takes a further line into account.
    fn see(&mut self, entry: &Entry) {
        let (Entry::Epoch { stage, epoch, .. }
        | Entry::Health {
            stage,
            epoch: epoch @ 1..,
            ..
        }) = entry
        else {
            return;
        };
        if stage != self.stage {
            return;
        }
        let figure = entry.figure(self.best.figure());
        let candidate = figure.map(|figure| (*epoch, figure));
        if let Some(candidate) = candidate
            && self
                .epoch
                .is_none_or(|leading| self.best.prefers(candidate, leading))
        {
            self.epoch = Some(candidate);
        }
    }
}

impl<'a> Recorder<'a> {
    /// Opens the logs, cut back already, and makes the event files follow them.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn open(
        stage: &'a Pretrain,
        folder: &'a RunFolder,
        store: &'a Store,
    ) -> Result<Self, Failure> {
        let mut log = Log::open(&folder.path("log.jsonl"))?;
        let mut timings = Log::open(&folder.path("timings.jsonl"))?;
        let events = Events::open(folder.root(), &stage.name)?;
        log.follow(&events);
        timings.follow(&events);
        let best = stage.keep.best.as_ref();
        let lead = best.map(|best| Lead::of(best, &stage.name, folder));
        Ok(Self {
            stage: &stage.name,
            save: &stage.save,
            keep: &stage.keep,
            folder,
            store,
            log,
            timings,
            lead: lead.transpose()?,
            saved: Instant::now(),
        })
    }

    /// Appends a line to `log.jsonl`.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn line(&mut self, entry: &Entry) -> Result<(), Failure> {
        let appended = self.log.append(entry);
        appended.map_err(|failure| self.remaining(failure))?;
        if let Some(lead) = &mut self.lead {
            lead.see(entry);
        }
        Ok(())
    }

    /// Whether the state is to be saved after step `step` though the epoch goes on.
    pub fn due(&self, step: u64) -> bool {
        self.save.due(step, self.saved)
    }

    /// Saves a state; `log.jsonl` has its lines.
    ///
    /// # Errors
    /// The disk is full or broken, or the folder is no longer this run's; older checkpoints are untouched.
    pub fn save(&mut self, checkpoint: &Checkpoint, mark: Mark) -> Result<(), Failure> {
        let saved = self
            .folder
            .check_owned()
            .and_then(|()| self.log.sync())
            .and_then(|()| self.store.save(checkpoint, mark, self.keep, self.best()));
        self.saved = Instant::now();
        saved.map_err(|failure| self.remaining(failure))
    }

    /// Appends a line to `timings.jsonl`.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn timing(&mut self, timing: &Timing) -> Result<(), Failure> {
        let appended = self.timings.append(timing);
        appended.map_err(|failure| self.remaining(failure))
    }

    /// What to tell the user if the best epoch is to be kept but no line of the log has the figure that decides.
    pub fn missing_figure(&self) -> Option<String> {
        let lead = self.lead.as_ref().filter(|lead| lead.epoch.is_none())?;
        Some(format!(
            "log.jsonl has no figure `{}` of stage `{}`, so no best epoch is kept",
            lead.best.figure(),
            self.stage
        ))
    }

    fn best(&self) -> Option<usize> {
        let (epoch, _) = self.lead.as_ref()?.epoch?;
        Some(epoch)
    }

    /// A failure of the disk, with what is left to go on from.
    pub fn remaining(&self, mut failure: Failure) -> Failure {
        let remains = match self.store.marks() {
            Ok(marks) => marks.last().map_or(
                format!(
                    "there is no checkpoint in {}",
                    self.store.folder().display()
                ),
                |&mark| {
                    format!(
                        "the state after {mark} is kept in {}",
                        self.store.file(mark).display()
                    )
                },
            ),
            Err(_) => format!("{} cannot be read", self.store.folder().display()),
        };
        failure.message = format!("{}; {remains}", failure.message);
        failure
    }
}

/// The best epoch of stage `stage` so far, by the lines of the log.
///
/// # Errors
/// The log cannot be read.
pub(super) fn best_epoch(
    best: &Best,
    stage: &str,
    folder: &RunFolder,
) -> Result<Option<usize>, Failure> {
    let lead = Lead::of(best, stage, folder)?;
    Ok(lead.epoch.map(|(epoch, _)| epoch))
}
