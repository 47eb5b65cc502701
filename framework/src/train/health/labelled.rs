//! Figures by labels between epochs: the metrics of an evaluation on the features of the backbone.

use std::sync::Arc;

use smallfry_data::Dataset;

use super::Training;
use crate::{
    Encoder, Head, augmentation,
    backbone::Preprocessing,
    checkpoint,
    evaluate::features::Images,
    failure::Failure,
    log::Measures,
    metric::{Evaluation, FeatureSet},
    objective::Learner,
    plan::Labelled,
    results::finite,
    tensor::{self, Features, Plain},
    train::state,
};

/// Images in a batch.
const BATCH: usize = 64;

/// The scores of every metric by name, on the backbone of the evaluated encoder without its head.
///
/// Images are resized and cropped as an evaluation does it, at the size of the first view.
///
/// # Errors
/// No image can be read, or a metric refuses the features.
pub(super) fn scores(
    training: &Training,
    learner: &dyn Learner,
    wanted: &Labelled,
    (train, test): &(Arc<dyn Dataset>, Arc<dyn Dataset>),
) -> Result<Measures, Failure> {
    let backbone = &training.stage.backbone.plugin;
    let encoder = backbone.encoder(&Head::default(), 0);
    let now = state::start(learner);
    checkpoint::take_backbone(&now, "the training", None, &mut encoder.parameters())?;
    let own = backbone.preprocessing();
    let joint = training.stage.joint.as_ref().map(|joint| &*joint.plugin);
    let size = augmentation::side(joint, &training.stage.views[0]).unwrap_or(own.size);
    let images = Images {
        preprocessing: Preprocessing {
            size,
            resize: (size * own.resize + own.size / 2) / own.size,
            ..own
        },
        batch: BATCH,
    };
    let train = Rows::of(&images, &**train, &*encoder);
    let judged = Rows::of(&images, &**test, &*encoder);
    let evaluation = Evaluation {
        train: Some(&train),
        classes: test.classes(),
        seed: training.setup.seed,
        ..Evaluation::of(&judged)
    };
    let refused = |metric: &str, reason: String| {
        let stage = &training.stage.name;
        Failure::mistake(format!(
            "health of stage `{stage}`, metric {metric}: {reason}"
        ))
    };
    if train.rows() == 0 || judged.rows() == 0 {
        return Err(refused("of any kind", "no image can be read".to_owned()));
    }
    let mut measures = Measures::new();
    for metric in &wanted.metrics {
        let scores = metric.plugin.evaluate(&evaluation);
        for score in scores.map_err(|reason| refused(&metric.line, reason))? {
            measures.insert(score.name, finite(score.value));
        }
    }
    Ok(measures)
}

/// Features in memory.
struct Rows {
    width: usize,
    values: Vec<f32>,
    labels: Option<Vec<u32>>,
}

impl Rows {
    /// The features of the readable images of `set`.
    fn of(images: &Images, set: &dyn Dataset, encoder: &dyn Encoder) -> Self {
        let mut rows = Self {
            width: encoder.width(),
            values: Vec::new(),
            labels: None,
        };
        let mut labels = Vec::new();
        for first in (0..set.len()).step_by(images.batch) {
            let samples = first..set.len().min(first + images.batch);
            let (batch, more) = images.load(set, samples, &mut Vec::new());
            if batch.batch > 0 {
                let features = encoder.embed(&Arc::new(batch));
                rows.values.extend_from_slice(&tensor::values(&features));
                labels.extend(more);
            }
        }
        rows.labels = labels.into_iter().collect();
        rows
    }
}

impl FeatureSet for Rows {
    fn rows(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    fn width(&self) -> usize {
        self.width
    }

    fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    fn read(&self, rows: std::ops::Range<usize>) -> Plain<Features> {
        let values = &self.values[rows.start * self.width..rows.end * self.width];
        tensor::import(values.to_vec(), (rows.len(), self.width))
    }
}
