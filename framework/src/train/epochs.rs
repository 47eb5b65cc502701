//! The loop of training: steps within epochs, and what is written on the way.

use std::time::Instant;

use super::{
    Training, assist,
    batches::{Batches, ViewBatch},
    capture::Place,
    health::Monitor,
    machine::{Machine, Stopped},
    meter::{Clock, Meter, Tally},
    record::Recorder,
    state::{self, Position, Within},
};
use crate::{
    checkpoint::{Checkpoint, Mark},
    distributed::command::Command,
    failure::Failure,
    log::{Entry, Timing},
    report,
    schedule::Progress,
    workplace::{Workplace, progress::Standing},
};

/// Lines of `log.jsonl` in an epoch, beside the one at its end.
const LINES_PER_EPOCH: usize = 20;

impl Training<'_> {
    /// Trains from `begin`, whose epoch has come to `tally`, to the end.
    ///
    /// # Errors
    /// The loss is no number, the user stops, or the disk fails.
    pub(super) fn epochs(
        &self,
        begin: Mark,
        mut tally: Tally,
        machine: &mut Machine,
        mut batches: Batches,
        recorder: &mut Recorder,
        workplace: &mut Workplace,
    ) -> Result<(), Failure> {
        let steps = self.steps_per_epoch() as u64;
        workplace.display.stage(
            &self.stage.name,
            steps * self.stage.epochs as u64,
            self.steps_at(begin),
        );
        workplace.display.chance(machine.learner.chance_loss());
        let mut monitor = Monitor::new(self, batches.data());
        if begin == Mark::default()
            && let Some(monitor) = &mut monitor
        {
            monitor.watch(0, None, &*machine.learner, recorder, workplace)?;
        }
        let mut first = begin.batch;
        for epoch in begin.epoch..self.stage.epochs {
            let mut clock = Clock::start();
            let at = Mark {
                epoch,
                batch: std::mem::take(&mut first),
            };
            let tally = std::mem::take(&mut tally);
            let entry = self.epoch(
                at,
                tally,
                machine,
                &mut batches,
                &mut clock,
                recorder,
                workplace,
            )?;
            let mut timing = Timing {
                stage: self.stage.name.clone(),
                epoch: epoch + 1,
                seconds: clock.seconds(),
                images_per_second: clock.images_per_second(),
                waiting: clock.waiting_share(),
                checkpoint_seconds: 0.0,
                health_seconds: 0.0,
            };
            if let Some(monitor) = &mut monitor {
                let whole = Some(&entry);
                monitor.watch(epoch + 1, whole, &*machine.learner, recorder, workplace)?;
                timing.health_seconds = monitor.take_seconds();
            }
            Command::Compare.give(&**workplace.communicator);
            assist::compare(machine, &**workplace.communicator)?;
            // The log first: a checkpoint promises that the log holds its epoch.
            recorder.line(&entry)?;
            let writing = Instant::now();
            let end = Mark::end(epoch + 1);
            recorder.save(&self.capture(machine, end, None), end)?;
            timing.checkpoint_seconds = writing.elapsed().as_secs_f64();
            recorder.timing(&timing)?;
            (workplace.folder.check_owned())
                .and_then(|()| report::write(workplace.folder.root()))
                .map_err(|failure| recorder.remaining(failure))?;
            if epoch == begin.epoch
                && let Some(note) = recorder.missing_figure()
            {
                workplace.note(note);
            }
            if workplace.interrupt.requested() && epoch + 1 < self.stage.epochs {
                return Err(self.stopped(end));
            }
        }
        workplace.display.finish();
        Ok(())
    }

    /// Trains the rest of an epoch, from `begin` on.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a part of the run of its own"
    )]
    fn epoch(
        &self,
        begin: Mark,
        mut tally: Tally,
        machine: &mut Machine,
        batches: &mut Batches,
        clock: &mut Clock,
        recorder: &mut Recorder,
        workplace: &Workplace,
    ) -> Result<Entry, Failure> {
        let (epoch, steps) = (begin.epoch, self.steps_per_epoch());
        let mut standing = Standing {
            epoch: epoch + 1,
            epochs: self.stage.epochs,
            lr: self.rate(epoch, steps - 1),
            ..Standing::default()
        };
        let accumulate = self.stage.step.accumulate;
        for index in begin.batch / accumulate..steps {
            let rate = self.rate(epoch, index);
            standing.lr = rate;
            let place = Place {
                epoch,
                step: (epoch * steps + index) as u64,
                rate,
            };
            let mut source = |_, spent: Option<ViewBatch>| {
                if let Some(spent) = spent {
                    batches.recycle(spent);
                }
                let batch = clock.waiting(|| batches.next()).ok_or_else(|| {
                    Failure::fault(format!(
                        "the loader ended epoch {} after {index} of {steps} steps",
                        epoch + 1
                    ))
                })?;
                let mut batch = batch?;
                tally.replaced.append(&mut batch.replaced);
                clock.images(self.setup.batch);
                Ok(batch)
            };
            let moment = self.moment(epoch, place.step);
            let step = Command::Step {
                epoch: epoch as u64,
                index: index as u64,
            };
            step.give(&**workplace.communicator);
            let stepped =
                machine
                    .step(&mut source, moment, rate)
                    .map_err(|stopped| match stopped {
                        Stopped::Failure(failure) => failure,
                        Stopped::NotFinite(fault) => {
                            self.diverged(machine, fault, place, batches, workplace.folder)
                        }
                    })?;
            tally.whole.add(stepped.loss, &stepped.figures);
            tally.recent.add(stepped.loss, &stepped.figures);
            tally.replaced.extend(stepped.replaced);
            standing.step = place.step + 1;
            let at = Mark {
                epoch,
                batch: (index + 1) * accumulate,
            };
            let last = index + 1 == steps;
            if (index + 1) % self.steps_between_lines() == 0 && !last {
                recorder.line(&Entry::Step {
                    stage: self.stage.name.clone(),
                    epoch: epoch + 1,
                    step: standing.step,
                    lr: rate,
                    loss: tally.recent.loss(),
                    measures: tally.recent.measures(),
                })?;
                tally.recent = Meter::default();
            }
            (standing.loss, standing.measures) = (tally.whole.loss(), tally.whole.measures());
            standing.images_per_second = clock.images_per_second();
            standing.waiting = clock.waiting_share();
            workplace.display.step(&standing);
            let stop = workplace.interrupt.requested();
            if !last && (stop || recorder.due(standing.step)) {
                recorder.save(&self.capture(machine, at, Some(&tally)), at)?;
            }
            if !last && stop {
                return Err(self.stopped(at));
            }
        }
        workplace.display.epoch(&standing);
        // An image may be drawn for several batches of other epochs, but once an epoch; order of threads must not show.
        tally.replaced.sort();
        tally.replaced.dedup();
        Ok(Entry::Epoch {
            stage: self.stage.name.clone(),
            epoch: epoch + 1,
            step: ((epoch + 1) * steps) as u64,
            lr: standing.lr,
            loss: tally.whole.loss(),
            replaced: tally.replaced,
            measures: tally.whole.measures(),
        })
    }

    /// The learning rate of step `step` of an epoch.
    pub(super) fn rate(&self, epoch: usize, step: usize) -> f64 {
        let progress = Progress {
            epoch,
            epochs: self.stage.epochs,
            step,
            steps: self.steps_per_epoch(),
        };
        let factor = self.stage.schedule.plugin.factor_at(progress);
        self.stage.optimizer.plugin.rate() * factor
    }

    /// Steps from one line of the log to the next within an epoch.
    pub(super) fn steps_between_lines(&self) -> usize {
        self.steps_per_epoch().div_ceil(LINES_PER_EPOCH).max(1)
    }

    /// Steps that are done at `mark`, over all epochs.
    pub(super) fn steps_at(&self, mark: Mark) -> u64 {
        (mark.epoch * self.steps_per_epoch() + mark.batch / self.stage.step.accumulate) as u64
    }

    /// The state at `mark`, within whose epoch there is a tally.
    fn capture(&self, machine: &Machine, mark: Mark, tally: Option<&Tally>) -> Checkpoint {
        let position = Position {
            stage: self.stage.name.clone(),
            epoch: mark.epoch,
            within: tally.map(|tally| Within {
                batch: mark.batch,
                tally: tally.clone(),
            }),
            step: self.steps_at(mark),
            seed: self.setup.seed,
            config: self.config.clone(),
        };
        state::capture(&*machine.learner, &machine.descents, &position)
    }

    fn stopped(&self, mark: Mark) -> Failure {
        let place = match mark.batch {
            0 => format!("after epoch {} of {}", mark.epoch, self.stage.epochs),
            batch => format!(
                "in epoch {} after {} of {} steps",
                mark.epoch + 1,
                batch / self.stage.step.accumulate,
                self.steps_per_epoch()
            ),
        };
        Failure::interrupt(format!(
            "stopped in stage `{}`, {place}; the state is saved",
            self.stage.name
        ))
        .help("the same command with --resume goes on from there")
    }
}
