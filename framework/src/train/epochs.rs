//! The loop of training: steps within epochs, and what is written after each.

use super::{
    Training, Workplace,
    batches::Batches,
    machine::Machine,
    meter::{Clock, Meter},
    state::{self, Position},
};
use crate::{
    checkpoint::Store,
    failure::Failure,
    log::{Entry, Log, Timing},
    objective::Moment,
    report,
    run::progress::Standing,
};

/// Lines of `log.jsonl` in an epoch, beside the one at its end.
const LINES_PER_EPOCH: usize = 20;

impl Training<'_> {
    /// Trains from epoch `begin` on to the end.
    ///
    /// # Errors
    /// The loss is no number, the user stops, or the disk fails.
    pub(super) fn epochs(
        &self,
        begin: usize,
        machine: &mut Machine,
        mut batches: Batches,
        store: &Store,
        log: &mut Log,
        workplace: &mut Workplace,
    ) -> Result<(), Failure> {
        let steps = self.steps_per_epoch() as u64;
        let mut timings = Log::open(&workplace.folder.path("timings.jsonl"))?;
        workplace.display.stage(
            &self.stage.name,
            steps * self.stage.epochs as u64,
            steps * begin as u64,
        );
        for epoch in begin..self.stage.epochs {
            let mut clock = Clock::start();
            let entry = self.epoch(epoch, machine, &mut batches, &mut clock, log, workplace)?;
            let mut timing = Timing {
                stage: self.stage.name.clone(),
                epoch: epoch + 1,
                seconds: clock.seconds(),
                images_per_second: clock.images_per_second(),
                waiting: clock.waiting_share(),
                checkpoint_seconds: 0.0,
            };
            // The log first: a checkpoint promises that the log holds its epoch.
            log.append(&entry)?;
            log.sync()?;
            let writing = Clock::start();
            let position = Position {
                stage: self.stage.name.clone(),
                epoch: epoch + 1,
                step: steps * (epoch as u64 + 1),
                seed: self.setup.seed,
                config: self.config.clone(),
            };
            let checkpoint = state::capture(&*machine.learner, &machine.descents, &position);
            store.save(&checkpoint, epoch + 1, self.stage.keep)?;
            timing.checkpoint_seconds = writing.seconds();
            timings.append(&timing)?;
            report::write(workplace.folder.root())?;
            if workplace.interrupt.requested() && epoch + 1 < self.stage.epochs {
                return Err(self.stopped(epoch + 1, 0));
            }
        }
        workplace.display.finish();
        Ok(())
    }

    fn epoch(
        &self,
        epoch: usize,
        machine: &mut Machine,
        batches: &mut Batches,
        clock: &mut Clock,
        log: &mut Log,
        workplace: &Workplace,
    ) -> Result<Entry, Failure> {
        let steps = self.steps_per_epoch();
        let rate = self.stage.optimizer.plugin.rate()
            * self.stage.schedule.plugin.factor(epoch, self.stage.epochs);
        let (mut whole, mut recent) = (Meter::default(), Meter::default());
        let mut replaced = Vec::new();
        let mut standing = Standing {
            epoch: epoch + 1,
            epochs: self.stage.epochs,
            lr: rate,
            ..Standing::default()
        };
        for index in 0..steps {
            let batch = clock.waiting(|| batches.next()).ok_or_else(|| {
                Failure::fault(format!(
                    "the loader ended epoch {} after {index} of {steps} batches",
                    epoch + 1
                ))
            })??;
            let moment = Moment {
                seed: self.setup.seed,
                epoch,
                step: (epoch * steps + index) as u64,
            };
            let (loss, measures) = machine
                .step(&batch, moment, rate)
                .map_err(|reason| self.diverged(&reason, epoch, index))?;
            replaced.extend(batch.replaced);
            whole.add(loss, &measures);
            recent.add(loss, &measures);
            clock.images(self.setup.batch);
            standing.step = moment.step + 1;
            if (index + 1) % steps.div_ceil(LINES_PER_EPOCH) == 0 && index + 1 < steps {
                log.append(&Entry::Step {
                    stage: self.stage.name.clone(),
                    epoch: epoch + 1,
                    step: standing.step,
                    lr: rate,
                    loss: recent.loss(),
                    measures: recent.measures(),
                })?;
                recent = Meter::default();
            }
            (standing.loss, standing.measures) = (whole.loss(), whole.measures());
            standing.images_per_second = clock.images_per_second();
            standing.waiting = clock.waiting_share();
            workplace.display.step(&standing);
            if workplace.interrupt.requested() && index + 1 < steps {
                return Err(self.stopped(epoch, index + 1));
            }
        }
        workplace.display.epoch(&standing);
        // An image may be drawn for several batches of other epochs, but once an epoch; order of threads must not show.
        replaced.sort();
        replaced.dedup();
        Ok(Entry::Epoch {
            stage: self.stage.name.clone(),
            epoch: epoch + 1,
            step: standing.step,
            lr: rate,
            loss: whole.loss(),
            replaced,
            measures: whole.measures(),
        })
    }

    fn diverged(&self, reason: &str, epoch: usize, index: usize) -> Failure {
        let kept = match epoch {
            0 => "no epoch was finished".to_owned(),
            _ => format!("the state after epoch {epoch} is kept"),
        };
        Failure::fault(format!(
            "stage `{}` stopped in step {} of epoch {}: {reason}; {kept}",
            self.stage.name,
            index + 1,
            epoch + 1
        ))
        .help("lower the learning rate, or raise the objective's temperature")
    }

    fn stopped(&self, epoch: usize, index: usize) -> Failure {
        let begin = match epoch {
            0 => "the beginning".to_owned(),
            _ => format!("the end of epoch {epoch}"),
        };
        Failure::interrupt(format!(
            "stopped in stage `{}`, epoch {} after {index} of {} steps",
            self.stage.name,
            epoch + 1,
            self.steps_per_epoch()
        ))
        .help(format!(
            "the same command with --resume goes on from {begin}"
        ))
    }
}
