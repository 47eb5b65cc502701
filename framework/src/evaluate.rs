//! Evaluation: features of labelled images, extracted once, and every metric on them.
//!
//! Features come from the backbone alone: the head that training put on it is left off, as in the reference. Images
//! are resized and cropped as the backbone says, never augmented, and an unreadable one is left out and reported.

pub mod features;

use std::{path::Path, sync::Arc};

use smallfry_data::Dataset;
use smallfry_nn::Parameters;

use crate::{
    Encoder,
    backbone::{Head, Preprocessing},
    checkpoint::{self, Checkpoint},
    failure::Failure,
    metric::{Evaluation, FeatureSet},
    plan::{Evaluate, Subject},
    run::results::{ScoreRecord, SetRecord, StageOutcome},
    train::Workplace,
};

use features::{Extracted, Images};

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
        checkpoint: Checkpoint,
    },
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

/// Reads the weights in the file at `path` and makes sure that they are those of the subject's backbone.
///
/// # Errors
/// The file is missing, damaged, foreign or of another network.
pub fn preflight(subject: &Subject, path: &Path) -> Result<Given, Failure> {
    let (origin, checkpoint) = (path.display().to_string(), checkpoint::read(path)?);
    // The tensors alone: the encoder itself is made when its turn comes.
    let mut parameters = Parameters::new(subject.backbone.tensors());
    let wanted = subject.encoder.as_deref();
    checkpoint::take_backbone(&checkpoint, &origin, wanted, &mut parameters)?;
    Ok(Given::State { origin, checkpoint })
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
    let own = stage.subject.backbone.plugin.preprocessing();
    let size = stage.size.unwrap_or(own.size);
    // The backbone's share of the image is kept where only the size is given.
    let share = || (size * own.resize + own.size / 2) / own.size;
    Preprocessing {
        size,
        resize: stage.resize.unwrap_or_else(share),
        ..own
    }
}

/// Extracts features and computes every metric.
///
/// # Errors
/// The weights do not fit, a set has no readable image, a metric refuses the features, or the user stops.
pub fn evaluate(
    stage: &Evaluate,
    seed: u64,
    given: &Given,
    sets: &Sets,
    workplace: &mut Workplace,
) -> Result<StageOutcome, Failure> {
    let (mut encoder, weights) = encoder(&stage.subject, given)?;
    let total = sets.train.as_ref().map_or(0, |set| set.len()) + sets.test.len();
    workplace.display.stage(&stage.name, total as u64, 0);
    let images = Images {
        preprocessing: preprocessing(stage),
        batch: stage.batch,
    };
    let mut done = 0;
    let mut extract = |set: &Arc<dyn Dataset>| {
        let extracted = images.extract(set, &mut *encoder, workplace, &mut done)?;
        if extracted.rows() == 0 {
            return Err(Failure::mistake(format!(
                "stage `{}`: none of the {} images can be read",
                stage.name,
                set.len()
            )));
        }
        Ok(extracted)
    };
    let train = sets.train.as_ref().map(&mut extract).transpose()?;
    let test = extract(&sets.test)?;
    let evaluation = Evaluation {
        train: train.as_ref().map(|set| set as &dyn FeatureSet),
        test: &test,
        views: &[],
        classes: sets.test.classes(),
        seed,
    };
    let mut scores = Vec::new();
    for metric in &stage.metrics {
        let name = &metric.line;
        let computed = metric.plugin.evaluate(&evaluation).map_err(|reason| {
            Failure::mistake(format!("stage `{}`, metric {name}: {reason}", stage.name))
        })?;
        scores.extend(
            computed
                .into_iter()
                .map(|score| ScoreRecord::new(name, score)),
        );
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
        test: record(&stage.test.line(), &test),
        scores,
    })
}
