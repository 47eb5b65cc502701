//! The health of a training: figures of the evaluated encoder that need no labels, between epochs.
//!
//! A loss that falls does not say that features are good for anything: they may all come to lie on one point, along one
//! line, or be no numbers any more. The same images, drawn by the seed, are measured each time, in two views that are the
//! same each time, by the embeddings that the encoder gives in inference. Measuring changes nothing of the training: a
//! run with health and one without have the same checkpoints. Which epochs are measured follows from sizes, never from a
//! clock, so the log's bytes are the plan's.

mod calendar;
mod labelled;
mod sample;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use smallfry_data::Dataset;

use super::{Training, record::Recorder};
use crate::{
    collapse::Evidence,
    failure::Failure,
    lines,
    log::{Entry, Measures},
    measure::{UnitRows, alignment, deviation, effective_rank, instance_accuracy, uniformity},
    objective::Learner,
    plan::{Health, Reaction},
    report,
    results::finite,
    workplace::Workplace,
};

use calendar::Calendar;
pub use sample::Subset;

/// What may help an encoder that has collapsed.
const HELP: &str = "lower the learning rate, strengthen the augmentations, or look at temperature and momentum; \
    `health: Health(on_collapse: Warn)` goes on all the same, with --resume";

/// Data sets of a stage's health that are not those of its training, opened.
#[derive(Clone, Default)]
pub struct Sets {
    /// Images to measure on.
    pub held_out: Option<Arc<dyn Dataset>>,
    /// Labelled images to learn from and to judge on.
    pub labelled: Option<(Arc<dyn Dataset>, Arc<dyn Dataset>)>,
}

/// Measures a training.
pub(super) struct Monitor<'a> {
    training: &'a Training<'a>,
    health: &'a Health,
    calendar: Calendar,
    sample: Arc<dyn Dataset>,
    labelled: Option<(Arc<dyn Dataset>, Arc<dyn Dataset>)>,
    seconds: f64,
    warned: bool,
    /// Whether features lay apart in an earlier measurement; none before the log was asked.
    apart: Option<bool>,
}

impl<'a> Monitor<'a> {
    /// The monitor of a training on `data`; none where its stage asks for none.
    pub fn new(training: &'a Training<'a>, data: &Arc<dyn Dataset>) -> Option<Self> {
        let health = training.stage.health.as_ref()?;
        let (sets, setup) = (&training.health, &training.setup);
        let source = sets.held_out.as_ref().unwrap_or(data);
        let sample = sample::draw(source, health.images, setup.seed);
        let labelled = health.labelled.as_ref().map(|_| match &sets.labelled {
            Some(given) => given.clone(),
            None => sample::split(data, health.images, setup.seed),
        });
        let judged = labelled.as_ref();
        let looked_at = sample.len() + judged.map_or(0, |(train, test)| train.len() + test.len());
        Some(Self {
            training,
            health,
            calendar: Calendar::of(health, setup, looked_at),
            sample,
            labelled,
            seconds: 0.0,
            warned: false,
            apart: None,
        })
    }

    /// The time that measuring has taken since this was last asked, in seconds.
    pub fn take_seconds(&mut self) -> f64 {
        std::mem::take(&mut self.seconds)
    }

    /// Measures the encoder after `epoch` epochs, where that is due, and tells the log and the user. `whole` is the line
    /// of the last of them, which comes after.
    ///
    /// # Errors
    /// The encoder has collapsed and the run is to stop then; the log and the report say it too. No image of the sample
    /// can be read, a metric refuses the features, or the disk fails.
    pub fn watch(
        &mut self,
        epoch: usize,
        whole: Option<&Entry>,
        learner: &dyn Learner,
        recorder: &mut Recorder,
        workplace: &mut Workplace,
    ) -> Result<(), Failure> {
        if !self.calendar.due(epoch) {
            return Ok(());
        }
        let begin = Instant::now();
        let stage = &self.training.stage.name;
        let apart = match self.apart {
            Some(apart) => apart,
            // A run that is gone on with knows what it was before the stop.
            None => lines::read::<Entry>(&workplace.folder.path("log.jsonl"))?
                .iter()
                .any(|entry| {
                    let own = matches!(entry, Entry::Health { stage: of, .. } if of == stage);
                    own && Evidence::of(entry).apart()
                }),
        };
        let entry = self.measure(learner, epoch, whole, apart)?;
        self.apart = Some(apart || Evidence::of(&entry).apart());
        self.seconds += begin.elapsed().as_secs_f64();
        recorder.line(&entry)?;
        let Entry::Health {
            width, collapse, ..
        } = &entry
        else {
            return Ok(());
        };
        if let (Some(rank), Some(told)) = (
            entry.figure("effective_rank"),
            entry.figure("instance_accuracy"),
        ) {
            workplace.display.note(&format!(
                "{stage}  health: effective rank {rank:.1} of {width}, {told:.1} % told apart"
            ));
        }
        let Some(reason) = collapse else {
            return Ok(());
        };
        match self.health.on_collapse {
            Reaction::Warn if self.warned => {}
            Reaction::Warn => {
                self.warned = true;
                workplace.note(format!("stage `{stage}` after epoch {epoch}: {reason}"));
            }
            Reaction::Stop => {
                // The line that is due after this one, as nothing else will write it.
                whole.map(|whole| recorder.line(whole)).transpose()?;
                report::write(workplace.folder.root())?;
                let failure = Failure::fault(format!(
                    "stage `{stage}` stopped after epoch {epoch}: {reason}"
                ));
                return Err(recorder.remaining(failure).help(HELP));
            }
        }
        Ok(())
    }

    /// The line of the log on the encoder after `epoch` epochs, of which the last is logged as `whole`; `apart` where its
    /// features lay apart before.
    fn measure(
        &self,
        learner: &dyn Learner,
        epoch: usize,
        whole: Option<&Entry>,
        apart: bool,
    ) -> Result<Entry, Failure> {
        let step = (epoch * self.training.steps_per_epoch()) as u64;
        let seen = sample::embed(self.training, learner, &self.sample)?;
        let images = seen.names.len();
        let mut evidence = Evidence {
            step,
            images,
            width: seen.width,
            chance_loss: learner.chance_loss(),
            loss: whole.and_then(|entry| entry.figure("loss")),
            acc1: whole.and_then(|entry| entry.figure("acc1")),
            ..Evidence::default()
        };
        let unit = |view: &[f32]| UnitRows::new(view, seen.width);
        let mut figures = BTreeMap::new();
        match unit(&seen.first).and_then(|first| Ok((first, unit(&seen.second)?))) {
            Ok((first, second)) => {
                let rank = effective_rank(first.values(), seen.width);
                let spread = deviation(&first);
                (evidence.effective_rank, evidence.deviation) = (finite(rank), finite(spread));
                figures.extend([
                    ("alignment", alignment(&first, &second)),
                    ("uniformity", uniformity(&first)),
                    ("effective_rank", rank),
                    ("deviation", spread),
                    (
                        "instance_accuracy",
                        instance_accuracy(&first, &second, &[1])[0],
                    ),
                ]);
            }
            Err(broken) => {
                let name = seen.names.get(broken.row).map_or("", String::as_str);
                evidence.not_finite = Some(format!(
                    "the features of {} of {images} images are not finite, `{name}` among them",
                    broken.rows
                ));
            }
        }
        if let Some(batches) = learner.queue_batches() {
            let accumulate = self.training.stage.step.accumulate as f64;
            figures.insert("queue_age", (batches as f64 / accumulate).min(step as f64));
        }
        let mut measures: Measures = figures
            .into_iter()
            .map(|(name, value)| (name.to_owned(), finite(value)))
            .collect();
        if let (Some(sets), Some(wanted)) = (&self.labelled, &self.health.labelled)
            && evidence.not_finite.is_none()
        {
            measures.extend(labelled::scores(self.training, learner, wanted, sets)?);
        }
        let patience = epoch >= self.health.patience.max(1);
        Ok(Entry::Health {
            stage: self.training.stage.name.clone(),
            epoch,
            step,
            images,
            width: evidence.width,
            collapse: evidence.collapse(patience, apart),
            measures,
        })
    }
}
