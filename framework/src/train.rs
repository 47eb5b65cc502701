//! Training: epochs of loss, gradient and step, with checkpoints at their ends and on the way.
//!
//! The trainer knows objectives, not methods: what the encoders are, what is trained and what the loss is are the
//! learner's. Everything that decides a number comes from the plan and the position (seed, epoch, step), so a run that
//! goes on from a checkpoint takes the very steps that an undisturbed run takes.

mod assist;
pub mod batches;
mod before;
mod capture;
mod earlier;
mod epochs;
pub mod health;
pub mod initial;
mod machine;
pub mod meter;
pub mod preview;
mod record;
pub mod replay;
mod shares;
pub(crate) mod sources;
pub mod state;
pub mod trial;

use std::{collections::BTreeSet, sync::Arc};

use smallfry_data::{Dataset, loader::Cursor};

use crate::{
    checkpoint::Mark,
    distributed::{Communicator, command::Command},
    failure::Failure,
    lines,
    log::Entry,
    objective::{Learner, Moment, Setup},
    plan::Pretrain,
    results::StageOutcome,
    workplace::{Workplace, folder::RunFolder},
};

use batches::Batches;
pub use earlier::Earlier;
use initial::{Start, Taken};
use machine::Machine;
use record::Recorder;

/// A training stage whose parts have been checked against each other.
pub struct Training<'a> {
    /// The stage.
    pub stage: &'a Pretrain,
    /// What its objective knows of the run.
    pub setup: Setup,
    /// Everything that training depends on, as text.
    pub config: String,
    /// What it starts from; random weights where none.
    pub initial: Option<Start>,
    /// The files that its objective needs, until it has them.
    pub files: sources::Files,
    /// Data sets that only its health is measured on.
    pub health: health::Sets,
}

impl Training<'_> {
    /// Steps in an epoch; images that do not fill the batches of a step are left out of it.
    pub fn steps_per_epoch(&self) -> usize {
        self.setup.samples / self.setup.batch / self.stage.step.accumulate
    }

    /// The moment of the first batch of step `step`, which is in epoch `epoch`.
    fn moment(&self, epoch: usize, step: u64) -> Moment {
        Moment {
            seed: self.setup.seed,
            epoch,
            step: step * self.stage.step.accumulate as u64,
        }
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
        let mut earlier = if workplace.resume {
            self.newest(&store, workplace.allow)?
        } else {
            None
        };
        for (mark, reason) in earlier.iter().flat_map(|earlier| &earlier.damaged) {
            let aside = store.put_aside(*mark)?;
            workplace.note(format!(
                "{reason}; it is {} now, and training goes on from the checkpoint before it",
                aside.display()
            ));
        }
        let mut begin = earlier.as_ref().map_or(Mark::default(), |e| e.mark);
        self.rewind(begin, workplace)?;
        if let Some(earlier) = &mut earlier {
            self.adopt(earlier, workplace)?;
        }
        if begin.epoch < self.stage.epochs {
            let mut machine = self.machine(workplace.communicator)?;
            let mut recorder = Recorder::open(self.stage, workplace.folder, &store)?;
            let within = match &mut earlier {
                Some(earlier) => {
                    let origin = earlier.path.display().to_string();
                    let Machine {
                        learner, descents, ..
                    } = &mut machine;
                    state::restore(&earlier.checkpoint, &origin, &mut **learner, descents)?;
                    earlier.within.take()
                }
                None => {
                    self.hand_over(&mut *machine.learner, workplace.folder)?;
                    let taken = self.take_initial(&mut machine, workplace)?;
                    begin = Mark::end(taken.epochs);
                    recorder.line(&self.start_line(&*machine.learner, taken.facts))?;
                    None
                }
            };
            drop(earlier);
            self.release();
            let cursor = Cursor {
                epoch: begin.epoch as u64,
                batch: begin.batch,
            };
            let part = assist::part(&**workplace.communicator);
            let batches = Batches::start(self.stage, self.setup.seed, data.clone(), cursor, part)?;
            workplace.engage();
            let Machine {
                learner, descents, ..
            } = &mut machine;
            state::share(&mut **learner, descents, &**workplace.communicator)?;
            let tally = within.map_or_else(Default::default, |within| within.tally);
            self.epochs(
                begin,
                tally,
                &mut machine,
                batches,
                &mut recorder,
                workplace,
            )?;
            Command::Done.give(&**workplace.communicator);
        }
        capture::forget(&self.stage.name, workplace.folder)?;
        store.prune(&self.stage.keep, self.best(workplace.folder)?)?;
        self.outcome(workplace.folder)
    }

    /// The best epoch so far, where the stage keeps it.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn best(&self, folder: &RunFolder) -> Result<Option<usize>, Failure> {
        match &self.stage.keep.best {
            Some(best) => record::best_epoch(best, &self.stage.name, folder),
            None => Ok(None),
        }
    }

    /// Lets go of the files that it starts from.
    pub(crate) fn release(&self) {
        let initial = self.initial.iter().flat_map(|start| &start.file);
        for file in initial.chain(self.files.values()) {
            file.release();
        }
    }

    /// The learner as it starts, with its optimisers.
    fn machine(&self, communicator: &Arc<dyn Communicator>) -> Result<Machine, Failure> {
        let learner = self.learner()?;
        // `preflight` made sure that the optimiser fits what is trained.
        let descents = state::descents(&*learner, &*self.stage.optimizer.plugin);
        let communicator = Arc::clone(communicator);
        Ok(Machine::new(
            learner,
            descents,
            self.stage.step,
            communicator,
        ))
    }

    /// Puts what the stage starts from into `machine`; tells the user what was taken.
    fn take_initial(
        &self,
        machine: &mut Machine,
        workplace: &mut Workplace,
    ) -> Result<Taken, Failure> {
        let Some(start) = &self.initial else {
            return Ok(Taken::default());
        };
        let (checkpoint, origin) = start.load(workplace.folder)?;
        let Machine {
            learner, descents, ..
        } = machine;
        let taken = initial::apply(
            start.initial.extent,
            &checkpoint,
            &origin,
            &self.stage.backbone.tensors(),
            &mut **learner,
            descents,
        )?;
        taken.check(self.stage.epochs)?;
        workplace.note(format!(
            "stage `{}` starts from {}",
            self.stage.name,
            taken.facts.join("\n  ")
        ));
        Ok(taken)
    }

    fn start_line(&self, learner: &dyn Learner, initial: Vec<String>) -> Entry {
        Entry::Start {
            stage: self.stage.name.clone(),
            samples: self.setup.samples,
            epochs: self.stage.epochs,
            steps_per_epoch: self.steps_per_epoch(),
            chance_loss: learner.chance_loss(),
            initial,
        }
    }

    /// What the stage came to, as the log tells it.
    fn outcome(&self, folder: &RunFolder) -> Result<StageOutcome, Failure> {
        let entries: Vec<Entry> = lines::read(&folder.path("log.jsonl"))?;
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
