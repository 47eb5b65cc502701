//! Evaluation: features of labelled images, extracted once, and every metric on them.
//!
//! Features come from the backbone alone: the head that training put on it is left off, as in the reference. Images
//! are resized and cropped as the backbone says, never augmented, and an unreadable one is left out and reported.

pub(crate) mod cache;
pub mod crew;
pub mod extracted;
pub mod features;
mod original;
pub(crate) mod pass;
#[cfg(test)]
pub(crate) mod unread;

use std::sync::{Arc, Mutex, PoisonError};

use smallfry_data::Dataset;

use crate::{
    Encoder, Metric,
    backbone::{Head, Preprocessing},
    checkpoint::{self, Checkpoint, Weights, held::Held},
    failure::Failure,
    metric::{Evaluation, FeatureSet, Judged, Score, Watch, Watcher},
    plan::{Evaluate, Subject},
    results::{ScoreRecord, SetRecord, StageOutcome},
    workplace::{Workplace, interrupt::Interrupt, progress::Display},
};

use extracted::Extracted;
use pass::Pass;

/// Weights that an evaluation judges.
#[derive(Clone, Debug)]
pub enum Given {
    /// The backbone's own initialisation from this seed.
    Seed(u64),
    /// Tensors in memory, such as those a training stage starts from.
    State {
        /// What to call them.
        origin: String,
        /// The tensors.
        checkpoint: Arc<Checkpoint>,
    },
}

/// Where the weights of an evaluation come from.
#[derive(Debug)]
pub enum Source {
    /// The backbone's own initialisation from this seed.
    Seed(u64),
    /// A file.
    File(Held),
    /// What the training stage of this index starts from.
    Start(usize),
    /// The last checkpoint of the training stage of this index.
    End(usize),
}

/// Images that a stage reads, opened, and a text that identifies them by what they are and by what they hold.
#[derive(Clone)]
pub struct Known {
    /// The images.
    pub data: Arc<dyn Dataset>,
    /// The text.
    pub identity: String,
}

/// The data of an evaluation, opened.
#[derive(Clone)]
pub struct Sets {
    /// What metrics may learn from.
    pub train: Option<Arc<dyn Dataset>>,
    /// What is judged.
    pub test: Arc<dyn Dataset>,
}

/// The backbone of `subject` without head, filled with `given`; tells also where its weights came from.
///
/// # Errors
/// The weights are not those of the backbone; every difference is named.
pub fn encoder(subject: &Subject, given: &Given) -> Result<(Box<dyn Encoder>, String), Failure> {
    let backbone = &subject.backbone.plugin;
    match given {
        Given::Seed(seed) => {
            let encoder = backbone.encoder(&Head::default(), *seed);
            Ok((encoder, format!("untrained, seed {seed}")))
        }
        Given::State { origin, checkpoint } => {
            let encoder = backbone.encoder(&Head::default(), 0);
            let wanted = subject.encoder.as_deref();
            let mut parameters = encoder.parameters();
            let loaded = checkpoint::take_backbone(checkpoint, origin, wanted, &mut parameters)?;
            drop(parameters);
            let text = format!("{origin}: {}", loaded.summary());
            Ok((encoder, text))
        }
    }
}

/// Makes sure that the sizes of `stage` make sense.
///
/// # Errors
/// Names the one that does not.
pub fn check_sizes(stage: &Evaluate) -> Result<(), Failure> {
    let Preprocessing { size, resize, .. } = preprocessing(stage);
    let (field, wrong) = if size == 0 {
        ("size", "`size` must be above 0".to_owned())
    } else if stage.batch == 0 {
        ("batch", "`batch` must be above 0".to_owned())
    } else if resize < size {
        let wrong = format!(
            "`resize` ({resize}) must be at least `size` ({size}), which is cropped from it"
        );
        ("resize", wrong)
    } else {
        return Ok(());
    };
    Err(stage.site.error(field, wrong).into())
}

/// How the images of `stage` are made into the network's input.
pub fn preprocessing(stage: &Evaluate) -> Preprocessing {
    stage.subject.preprocessing(stage.size, stage.resize)
}

/// Extracts features and computes every metric.
///
/// # Errors
/// The weights do not fit, a set has no readable image, or the user stops. That a metric refuses the features stands in
/// the outcome: the others are computed all the same.
pub fn evaluate(
    stage: &Evaluate,
    seed: u64,
    given: &Given,
    sets: &Sets,
    workplace: &mut Workplace,
) -> Result<StageOutcome, Failure> {
    let (encoder, weights) = encoder(&stage.subject, given)?;
    let views = views(stage, &*sets.test);
    let total = sets.train.as_ref().map_or(0, |set| set.len()) + views * sets.test.len();
    workplace.display.stage(&stage.name, total as u64, 0);
    let images = features::Images {
        preprocessing: preprocessing(stage),
        batch: stage.batch,
    };
    let (name, subject) = (&stage.name, &stage.subject);
    let mut pass = Pass::new(name, subject, images, stage.cache, encoder, workplace);
    let train = match &sets.train {
        Some(set) => pass.features(set, set.len(), 1, workplace)?.pop(),
        None => None,
    };
    let judged = pass.features(&sets.test, sets.test.len(), views, workplace)?;
    let (test, further) = judged.split_first().expect("a set has at least one view");
    let further: Vec<_> = further.iter().map(|set| set as &dyn FeatureSet).collect();
    let data = stage.test.line();
    let evaluation = Evaluation {
        train: train.as_ref().map(|set| set as &dyn FeatureSet),
        test,
        views: &further,
        classes: sets.test.classes(),
        seed,
        data: &data,
        watch: Watch::default(),
    };
    let checkpoint = origin(&stage.subject);
    let judged_by = Judged {
        checkpoint: &checkpoint,
        data: &data,
    };
    let (mut scores, mut refused, mut printed) = (Vec::new(), Vec::new(), Vec::new());
    for metric in &stage.metrics {
        let name = &metric.line;
        match watched(&**metric, name, &evaluation, workplace) {
            Ok(computed) => {
                printed.extend(metric.original(&computed, &judged_by));
                let records = computed.into_iter();
                scores.extend(records.map(|score| ScoreRecord::new(name, score)));
            }
            Err(_) if workplace.interrupt.requested() => return Err(features::stopped()),
            Err(reason) => {
                let text = format!("stage `{}`, metric {name}: {reason}", stage.name);
                workplace.display.note(&text);
                refused.push((name.clone(), reason));
            }
        }
    }
    workplace.display.finish();
    let record = |data: &str, set: &Extracted| SetRecord {
        data: data.to_owned(),
        samples: set.rows(),
        left_out: set.left_out().to_vec(),
    };
    Ok(StageOutcome::Evaluate {
        backbone: stage.subject.backbone.line.clone(),
        weights,
        train: match (&stage.train, &train) {
            (Some(plan), Some(set)) => Some(record(&plan.line(), set)),
            _ => None,
        },
        test: record(&data, test),
        scores,
        refused,
        original: original::lines(&printed, &judged_by),
    })
}

/// Where the weights of `subject` came from, in a word.
fn origin(subject: &Subject) -> String {
    match &subject.weights {
        Weights::Untrained => "untrained".to_owned(),
        Weights::Stage(name) => name.clone(),
        Weights::File(path) => path.display().to_string(),
    }
}

/// Files of an image of `test` whose features are wanted.
fn views(stage: &Evaluate, test: &dyn Dataset) -> usize {
    let needs = stage.metrics.iter().map(|m| m.needs().most_views);
    needs.max().unwrap_or(1).clamp(1, test.views())
}

/// What the metrics of `stage` need and its sets lack: the field at fault, and why. Sets that could not be opened are none.
pub fn lacking(
    stage: &Evaluate,
    train: Option<&dyn Dataset>,
    test: Option<&dyn Dataset>,
) -> Vec<(&'static str, String)> {
    let mut lacking = Vec::new();
    for metric in &stage.metrics {
        let (needs, name) = (metric.needs(), &metric.line);
        if needs.train && stage.train.is_none() {
            let text =
                format!("{name} needs images to learn from or compare with; name them by `train`");
            lacking.push(("metrics", text));
        }
        let labelled = [("train", train), ("test", test)];
        for (field, set) in labelled {
            let looked_at = field == "test" || needs.train;
            if needs.classes && looked_at && set.is_some_and(|set| set.classes().is_empty()) {
                let text = format!(
                    "{name} needs classes, and this set has none; name a labelled one, such as a folder of a folder per class"
                );
                lacking.push((field, text));
            }
        }
        if let Some(set) = test
            && set.views() < needs.views
        {
            let text = format!(
                "{name} compares {} views of each image, and this set holds {}; name one that a stage `Views` wrote",
                needs.views,
                set.views()
            );
            lacking.push(("test", text));
        }
    }
    lacking
}

/// Shows the user where a metric stands.
struct Onlooker<'a> {
    name: &'a str,
    display: Mutex<&'a mut Display>,
    interrupt: &'a Interrupt,
}

impl Watcher for Onlooker<'_> {
    fn show(&self, share: f64) {
        let display = self.display.lock().unwrap_or_else(PoisonError::into_inner);
        display.metric(self.name, share);
    }

    fn stop(&self) -> bool {
        self.interrupt.requested()
    }
}

/// The scores of `metric`, while the display shows how far it is.
fn watched(
    metric: &dyn Metric,
    name: &str,
    evaluation: &Evaluation<'_>,
    workplace: &mut Workplace,
) -> Result<Vec<Score>, String> {
    let onlooker = Onlooker {
        name,
        display: Mutex::new(&mut *workplace.display),
        interrupt: workplace.interrupt,
    };
    onlooker.show(0.0);
    metric.evaluate(&Evaluation {
        watch: Watch::by(&onlooker),
        ..*evaluation
    })
}
