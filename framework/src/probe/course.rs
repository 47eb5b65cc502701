//! The loop of training classifiers: epochs of steps, a test after each, and what is written on the way.
//!
//! As in training, a state on disk promises that the log holds every line up to it, and the best are written before the
//! state that they belong to. A run that was killed repeats what came after its last state and writes the same bytes.

use std::time::Instant;

use smallfry_data::loader::Cursor;

use super::{
    classifiers::{Classifiers, Moment, Tensors},
    clock::Clock,
    figures::Figures,
    state::{Fortune, Shelf, Standing},
};
use crate::{
    checkpoint::Mark,
    events::Events,
    failure::{Cause, Failure},
    log::{Entry, Log, Measures, Reach, Timing},
    plan::{FeatureSource, Probe, ProbeMode},
    report,
    results::probe::{Label, Names},
    schedule::Progress,
    workplace::{Workplace, progress},
};

/// A stage on its way.
pub struct Course<'a> {
    /// The stage.
    pub stage: &'a Probe,
    /// Its classifiers.
    pub labels: Vec<Label>,
    /// Where its state lies.
    pub shelf: Shelf<'a>,
    /// Number of classes.
    pub classes: usize,
}

/// What a stage that is at work carries along.
struct Work {
    standing: Standing,
    /// The best of each classifier; none before the first test.
    kept: Vec<Tensors>,
    /// Whether the best on disk are older.
    better: bool,
    log: Log,
    timings: Log,
    saved: Instant,
}

impl Course<'_> {
    /// Trains `classifiers` to the end, from the last state where the workplace says to go on; tells how each fared.
    ///
    /// # Errors
    /// Every classifier diverged, the user stops, or the disk fails; the last state is kept in each case.
    pub fn run(
        &self,
        classifiers: &mut dyn Classifiers,
        workplace: &mut Workplace,
    ) -> Result<Vec<Fortune>, Failure> {
        self.shelf.prepare()?;
        let mut kept = Vec::new();
        let earlier = match workplace.resume {
            true => self.shelf.restore(classifiers, &mut kept, &self.labels)?,
            false => None,
        };
        let fresh = earlier.is_none();
        let standing = earlier.unwrap_or_else(|| Standing {
            mark: Mark::default(),
            step: 0,
            tally: Default::default(),
            fortunes: self.labels.iter().map(Fortune::new).collect(),
        });
        let steps = classifiers.samples().div_ceil(self.stage.batch);
        self.rewind(&standing, steps, workplace)?;
        let mut log = Log::open(&workplace.folder.path("log.jsonl"))?;
        let mut timings = Log::open(&workplace.folder.path("timings.jsonl"))?;
        let events = Events::open(workplace.folder.root(), &self.stage.name)?;
        log.follow(&events);
        timings.follow(&events);
        if fresh {
            log.append(&self.start_line(classifiers, steps))?;
        }
        let mut work = Work {
            standing,
            kept,
            better: false,
            log,
            timings,
            saved: Instant::now(),
        };
        if work.standing.mark.epoch == self.stage.epochs {
            return Ok(work.standing.fortunes);
        }
        classifiers.begin(Cursor {
            epoch: work.standing.mark.epoch as u64,
            batch: work.standing.mark.batch,
        })?;
        let total = (steps * self.stage.epochs) as u64;
        workplace
            .display
            .stage(&self.stage.name, total, work.standing.step);
        workplace.display.chance(Some((self.classes as f64).ln()));
        for epoch in work.standing.mark.epoch..self.stage.epochs {
            let mut clock = Clock::default();
            self.steps(epoch, steps, classifiers, &mut work, &mut clock, workplace)?;
            self.finish(epoch, steps, classifiers, &mut work, &clock, workplace)?;
            if workplace.interrupt.requested() && epoch + 1 < self.stage.epochs {
                return Err(self.stopped(&work.standing, steps));
            }
        }
        workplace.display.finish();
        Ok(work.standing.fortunes)
    }

    /// The steps of an epoch that are left.
    fn steps(
        &self,
        epoch: usize,
        steps: usize,
        classifiers: &mut dyn Classifiers,
        work: &mut Work,
        clock: &mut Clock,
        workplace: &mut Workplace,
    ) -> Result<(), Failure> {
        for index in work.standing.mark.batch..steps {
            let moment = Moment {
                epoch,
                index,
                step: work.standing.step,
                factor: self.factor(epoch, index, steps),
            };
            let begin = Instant::now();
            let step = classifiers.step(moment)?;
            clock.add(begin.elapsed(), step.waited, step.images);
            let standing = &mut work.standing;
            standing.step += 1;
            standing.mark = Mark {
                epoch,
                batch: index + 1,
            };
            let tally = &mut standing.tally;
            tally.figures.resize(self.labels.len(), Figures::default());
            for (sum, figures) in tally.figures.iter_mut().zip(&step.figures) {
                sum.add(figures);
            }
            tally.replaced.extend(step.replaced);
            self.notice_divergence(epoch, classifiers, standing, workplace)?;
            workplace
                .display
                .step(&self.shown(&work.standing, &[], moment.factor, clock));
            let last = index + 1 == steps;
            let stop = workplace.interrupt.requested();
            if !last && (stop || self.stage.save.due(work.standing.step, work.saved)) {
                self.save(classifiers, work, workplace)?;
            }
            if !last && stop {
                return Err(self.stopped(&work.standing, steps));
            }
        }
        Ok(())
    }

    /// Tells the user of classifiers whose loss has become no number.
    fn notice_divergence(
        &self,
        epoch: usize,
        classifiers: &dyn Classifiers,
        standing: &mut Standing,
        workplace: &mut Workplace,
    ) -> Result<(), Failure> {
        let names = Names::of(&self.labels);
        for (i, fortune) in standing.fortunes.iter_mut().enumerate() {
            if fortune.diverged.is_none() && classifiers.failed(i) {
                fortune.diverged = Some(epoch + 1);
                let (stage, name) = (&self.stage.name, names.label(i));
                workplace.note(format!(
                    "stage `{stage}`: the classifier of {name} diverged in epoch {}; the others go on",
                    epoch + 1
                ));
            }
        }
        match standing.fortunes.iter().all(|f| f.diverged.is_some()) {
            true => Err(Failure::fault(format!(
                "stage `{}`: every classifier diverged",
                self.stage.name
            ))
            .help("give lower `learning_rates`, or `normalize: true` for features of any size")),
            false => Ok(()),
        }
    }

    /// Tests, logs and saves at the end of an epoch.
    fn finish(
        &self,
        epoch: usize,
        steps: usize,
        classifiers: &mut dyn Classifiers,
        work: &mut Work,
        clock: &Clock,
        workplace: &mut Workplace,
    ) -> Result<(), Failure> {
        let tested = match classifiers.judge(workplace) {
            Err(failure) if failure.cause == Cause::Interrupt => {
                self.save(classifiers, work, workplace)?;
                return Err(failure);
            }
            tested => tested?,
        };
        classifiers.check_frozen()?;
        let standing = &mut work.standing;
        work.kept.resize_with(self.labels.len(), Tensors::new);
        for (i, (fortune, figures)) in standing.fortunes.iter_mut().zip(&tested).enumerate() {
            let better = fortune.best_epoch == 0 || figures.first > fortune.best;
            if better && fortune.diverged.is_none() || work.kept[i].is_empty() {
                (fortune.best_epoch, fortune.best) = (epoch + 1, figures.first);
                fortune.tested = figures.samples;
                work.kept[i] = classifiers.own(i);
                work.better = true;
            }
        }
        let factor = self.factor(epoch, steps - 1, steps);
        let shown = self.shown(standing, &tested, factor, clock);
        workplace.display.epoch(&shown);
        let mut tally = std::mem::take(&mut standing.tally);
        tally.replaced.sort();
        tally.replaced.dedup();
        standing.mark = Mark::end(epoch + 1);
        work.log.append(&Entry::Probe {
            stage: self.stage.name.clone(),
            epoch: epoch + 1,
            step: standing.step,
            factor,
            replaced: tally.replaced,
            measures: self.measures(&tally.figures, &tested),
        })?;
        let mut timing = Timing {
            stage: self.stage.name.clone(),
            epoch: epoch + 1,
            seconds: clock.time.as_secs_f64(),
            images_per_second: clock.images_per_second(),
            waiting: clock.waiting(),
            checkpoint_seconds: 0.0,
            health_seconds: 0.0,
        };
        let end = epoch + 1 == self.stage.epochs;
        let due = self.stage.save.due(standing.step, work.saved);
        if end || due || self.is_long() || workplace.interrupt.requested() {
            let writing = Instant::now();
            self.save(classifiers, work, workplace)?;
            timing.checkpoint_seconds = writing.elapsed().as_secs_f64();
            work.timings.append(&timing)?;
            report::write(workplace.folder.root())?;
        } else {
            work.timings.append(&timing)?;
        }
        Ok(())
    }

    /// Whether an epoch takes so long that its end is saved whatever the time; those on kept features take moments.
    fn is_long(&self) -> bool {
        !matches!(
            self.stage.mode,
            ProbeMode::Linear(FeatureSource::Centre | FeatureSource::Passes(_))
        )
    }

    fn save(
        &self,
        classifiers: &dyn Classifiers,
        work: &mut Work,
        workplace: &Workplace,
    ) -> Result<(), Failure> {
        workplace.folder.check_owned()?;
        work.log.sync()?;
        if work.better {
            let shared = classifiers.shared();
            self.shelf.save_best(&work.kept, &shared, &work.standing)?;
            work.better = false;
        }
        self.shelf.save(classifiers, &work.standing)?;
        work.saved = Instant::now();
        Ok(())
    }

    fn factor(&self, epoch: usize, step: usize, steps: usize) -> f64 {
        self.stage.schedule.factor_at(Progress {
            epoch,
            epochs: self.stage.epochs,
            step,
            steps,
        })
    }

    fn start_line(&self, classifiers: &dyn Classifiers, steps: usize) -> Entry {
        let [train, test] = classifiers.records();
        let names = Names::of(&self.labels);
        Entry::Classifiers {
            stage: self.stage.name.clone(),
            samples: train.samples,
            tested: test.samples,
            classes: self.classes,
            epochs: self.stage.epochs,
            steps_per_epoch: steps,
            labels: (0..self.labels.len()).map(|i| names.label(i)).collect(),
        }
    }

    /// Every figure of every classifier.
    fn measures(&self, learnt: &[Figures], tested: &[Figures]) -> Measures {
        let names = Names::of(&self.labels);
        let mut measures = Measures::new();
        for (i, (learnt, tested)) in learnt.iter().zip(tested).enumerate() {
            for (name, value) in [
                ("loss", learnt.mean_loss()),
                ("train_acc1", learnt.top1()),
                ("test_loss", tested.mean_loss()),
                ("acc1", tested.top1()),
                ("acc5", tested.top5()),
            ] {
                measures.insert(names.measure(name, i), value);
            }
        }
        measures
    }

    /// What progress shows: the classifier that has most test images right, or learns best where none is tested yet.
    fn shown(
        &self,
        standing: &Standing,
        tested: &[Figures],
        factor: f64,
        clock: &Clock,
    ) -> progress::Standing {
        let learnt = &standing.tally.figures;
        let figures = if tested.is_empty() { learnt } else { tested };
        let best = (0..figures.len()).rev().max_by_key(|&i| figures[i].first);
        let best = best.unwrap_or(0);
        let mut measures = Measures::new();
        if let Some(tested) = tested.get(best) {
            measures.insert("acc1".to_owned(), tested.top1());
            measures.insert("acc5".to_owned(), tested.top5());
        }
        progress::Standing {
            epoch: standing.mark.epoch + 1,
            epochs: self.stage.epochs,
            step: standing.step,
            lr: self.labels[best].rate * factor,
            loss: learnt.get(best).and_then(Figures::mean_loss),
            measures,
            images_per_second: clock.images_per_second(),
            waiting: clock.waiting(),
        }
    }

    /// Cuts logs back to what `standing` covers.
    fn rewind(
        &self,
        standing: &Standing,
        steps: usize,
        workplace: &Workplace,
    ) -> Result<(), Failure> {
        let reach = Reach {
            epochs: standing.mark.epoch,
            steps: standing.step,
            line: (standing.mark.epoch * steps) as u64,
        };
        workplace
            .folder
            .rewind(&self.stage.name, reach, "its state")
    }

    fn stopped(&self, standing: &Standing, steps: usize) -> Failure {
        let Mark { epoch, batch } = standing.mark;
        let place = match batch {
            0 => format!("after epoch {epoch} of {}", self.stage.epochs),
            _ => format!("in epoch {} after {batch} of {steps} steps", epoch + 1),
        };
        Failure::interrupt(format!(
            "stopped in stage `{}`, {place}; the state is saved",
            self.stage.name
        ))
        .help("the same command with --resume goes on from there")
    }
}
