//! Training: epochs of loss, gradient and step, with a checkpoint after each.
//!
//! The trainer knows objectives, not methods: what the encoders are, what is trained and what the loss is are the
//! learner's. Everything that decides a number comes from the plan and the position (seed, epoch, step), so a run that
//! goes on from a checkpoint takes the very steps that an undisturbed run takes.

pub mod batches;
mod epochs;
mod machine;
mod meter;
pub mod preview;
pub mod state;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use smallfry_data::Dataset;

use crate::{
    checkpoint::{self, Checkpoint, Store},
    failure::Failure,
    log::{self, Entry, Log},
    objective::{Learner, Setup},
    plan::Pretrain,
    run::{
        fingerprint, folder::RunFolder, interrupt::Interrupt, progress::Display,
        results::StageOutcome,
    },
};

use batches::Batches;
use machine::Machine;
use state::Descents;

/// Where a stage works.
pub struct Workplace<'a> {
    /// The run folder.
    pub folder: &'a RunFolder,
    /// Where progress is shown.
    pub display: &'a mut Display,
    /// Whether the user wants to stop.
    pub interrupt: &'a Interrupt,
    /// Whether an earlier run is gone on with.
    pub resume: bool,
}

/// A training stage whose parts have been checked against each other.
pub struct Training<'a> {
    /// The stage.
    pub stage: &'a Pretrain,
    /// What its objective knows of the run.
    pub setup: Setup,
    /// Everything that training depends on, as text.
    pub config: String,
}

impl Training<'_> {
    /// Steps in an epoch; images that do not fill a batch are left out of it.
    pub fn steps_per_epoch(&self) -> usize {
        self.setup.samples / self.setup.batch
    }

    /// The learner as it starts.
    ///
    /// # Errors
    /// The objective does not fit the run.
    pub fn learner(&self) -> Result<Box<dyn Learner>, Failure> {
        let objective = &self.stage.objective;
        objective
            .start(&self.setup, &*self.stage.backbone.plugin)
            .map_err(|invalid| objective.diagnose(&invalid).into())
    }

    /// The newest checkpoint of the stage in `store`, if there is one; checked to be of this very training.
    ///
    /// # Errors
    /// It is damaged, foreign, or of a training that was set up otherwise.
    pub fn newest(&self, store: &Store) -> Result<Option<(usize, Checkpoint)>, Failure> {
        let Some(epoch) = store.epochs()?.pop() else {
            return Ok(None);
        };
        let path = store.path(epoch);
        let checkpoint = checkpoint::read(&path).map_err(|failure| {
            failure.help("remove that file to go on from the checkpoint before it, or start again with --overwrite")
        })?;
        self.check_origin(&checkpoint, epoch, &path)?;
        Ok(Some((epoch, checkpoint)))
    }

    fn check_origin(
        &self,
        checkpoint: &Checkpoint,
        epoch: usize,
        path: &Path,
    ) -> Result<(), Failure> {
        let text = |key: &str| checkpoint.metadata.get(key).map_or("", String::as_str);
        if text("format") != checkpoint::FORMAT
            || text("stage") != self.stage.name
            || checkpoint.number("epoch") != Some(epoch as u64)
        {
            return Err(Failure::mistake(format!(
                "{} is not the checkpoint of stage `{}` after epoch {epoch}",
                path.display(),
                self.stage.name
            ))
            .help("remove that file, or start again with --overwrite"));
        }
        if text("config") == self.config {
            return Ok(());
        }
        Err(Failure::mistake(format!(
            "stage `{}` is set up otherwise than when {} was written:\n{}",
            self.stage.name,
            path.display(),
            fingerprint::difference(text("config"), &self.config)
        ))
        .help("undo the change to go on, start again with --overwrite, or give the experiment another name"))
    }

    /// Trains, from the newest checkpoint where the workplace says to go on.
    ///
    /// # Errors
    /// The loss is no number, the user stops, or the disk fails; the last checkpoint is kept in each case.
    pub fn run(
        &self,
        data: &Arc<dyn Dataset>,
        workplace: &mut Workplace,
    ) -> Result<StageOutcome, Failure> {
        let store = workplace.folder.checkpoints(&self.stage.name);
        store.prepare()?;
        let earlier = if workplace.resume {
            self.newest(&store)?
        } else {
            None
        };
        let begin = earlier.as_ref().map_or(0, |(epoch, _)| *epoch);
        self.rewind(begin, workplace)?;
        if begin < self.stage.epochs {
            let learner = self.learner()?;
            let descents = self.descents(&*learner);
            let mut machine = Machine { learner, descents };
            let mut log = Log::open(&workplace.folder.path("log.jsonl"))?;
            match earlier {
                Some((epoch, checkpoint)) => {
                    let origin = store.path(epoch).display().to_string();
                    let Machine { learner, descents } = &mut machine;
                    state::restore(&checkpoint, &origin, &mut **learner, descents)?;
                }
                None => {
                    self.hand_over(&mut *machine.learner, workplace.folder)?;
                    log.append(&self.start_line(&*machine.learner))?;
                }
            }
            let batches = Batches::start(self.stage, self.setup.seed, data.clone(), begin)?;
            self.epochs(begin, &mut machine, batches, &store, &mut log, workplace)?;
        }
        store.prune(self.stage.keep)?;
        self.outcome(workplace.folder)
    }

    fn descents(&self, learner: &dyn Learner) -> Descents {
        let trained = learner.trained();
        let encoders = learner.encoders().into_iter();
        encoders
            .filter(|(name, _)| trained.contains(name))
            .map(|(name, encoder)| {
                let descent = self.stage.optimizer.plugin.start(&encoder.parameters());
                (name, descent)
            })
            .collect()
    }

    /// Cuts logs back to what the state after `epochs` epochs covers.
    fn rewind(&self, epochs: usize, workplace: &Workplace) -> Result<(), Failure> {
        let path = workplace.folder.path("log.jsonl");
        if !log::rewind(&path, &self.stage.name, epochs)? {
            return Err(Failure::mistake(format!(
                "{} has no line for epoch {epochs} of stage `{}`, though its checkpoint exists",
                path.display(),
                self.stage.name
            ))
            .help("put the log back, or start again with --overwrite"));
        }
        // Timings are not part of the result; what is missing stays missing.
        log::rewind(
            &workplace.folder.path("timings.jsonl"),
            &self.stage.name,
            epochs,
        )?;
        Ok(())
    }

    fn start_line(&self, learner: &dyn Learner) -> Entry {
        Entry::Start {
            stage: self.stage.name.clone(),
            samples: self.setup.samples,
            epochs: self.stage.epochs,
            steps_per_epoch: self.steps_per_epoch(),
            chance_loss: learner.chance_loss(),
        }
    }

    /// What the stage came to, as the log tells it.
    fn outcome(&self, folder: &RunFolder) -> Result<StageOutcome, Failure> {
        let entries: Vec<Entry> = log::read(&folder.path("log.jsonl"))?;
        let (mut all, mut last) = (BTreeSet::new(), None);
        for entry in entries {
            if let Entry::Epoch {
                stage,
                epoch,
                step,
                loss,
                replaced,
                measures,
                ..
            } = entry
                && stage == self.stage.name
            {
                all.extend(replaced);
                last = Some(StageOutcome::Pretrain {
                    epochs: epoch,
                    steps: step,
                    loss,
                    measures: measures.into_iter().collect(),
                    checkpoint: format!("checkpoints/{stage}/epoch-{epoch:04}.safetensors"),
                    replaced: all.iter().cloned().collect(),
                });
            }
        }
        last.ok_or_else(|| {
            Failure::fault(format!(
                "the log has no epoch of stage `{}`",
                self.stage.name
            ))
        })
    }
}
