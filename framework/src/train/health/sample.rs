//! The images that are measured, and their embeddings.

use std::sync::Arc;

use smallfry_data::{
    Dataset, Image, LoadError,
    loader::{Cursor, Loader, Order, Part, Settings, Transform},
    normalize::Normalization,
    random::Random,
};

use super::Training;
use crate::{
    augmentation::Views, encoder::ImageBatch, failure::Failure, objective::Learner, tensor,
};

/// Sets the draws of the sample and its views apart from those of training.
const SAMPLE: u64 = 0x4845_414C_5448;

/// Sets the draws of labelled images apart from those of the sample.
const LABELLED: u64 = SAMPLE + 1;

/// Images in a batch at most: inference is no faster with more.
const BATCH: usize = 64;

/// Some samples of a data set, as one of their own.
pub struct Subset {
    data: Arc<dyn Dataset>,
    samples: Vec<usize>,
}

impl Subset {
    /// The `samples` of `data`, in their order.
    pub fn new(data: Arc<dyn Dataset>, samples: Vec<usize>) -> Self {
        Self { data, samples }
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn classes(&self) -> &[String] {
        self.data.classes()
    }

    fn label(&self, sample: usize) -> Option<u32> {
        self.data.label(self.samples[sample])
    }

    fn name(&self, sample: usize) -> String {
        self.data.name(self.samples[sample])
    }

    fn load(&self, sample: usize) -> Result<Image, LoadError> {
        self.data.load(self.samples[sample])
    }
}

/// `count` samples of `data`, drawn by the seed; all where there are fewer.
pub(super) fn draw(data: &Arc<dyn Dataset>, count: usize, seed: u64) -> Arc<dyn Dataset> {
    part(data, &drawn(data, count, &[seed, SAMPLE]))
}

/// Three times `count` samples of `data` to learn from and `count` others to judge on, drawn by the seed; fewer in the
/// same proportion where there are not enough.
pub(super) fn split(
    data: &Arc<dyn Dataset>,
    count: usize,
    seed: u64,
) -> (Arc<dyn Dataset>, Arc<dyn Dataset>) {
    let all = drawn(data, 4 * count, &[seed, LABELLED]);
    let (test, train) = all.split_at(all.len() / 4);
    (part(data, train), part(data, test))
}

fn drawn(data: &Arc<dyn Dataset>, count: usize, key: &[u64]) -> Vec<u32> {
    let mut order = Random::new(key).permutation(data.len());
    order.truncate(count);
    order
}

/// The set's own order, which spares a disk from jumping.
fn part(data: &Arc<dyn Dataset>, samples: &[u32]) -> Arc<dyn Dataset> {
    let mut samples: Vec<_> = samples.iter().map(|&sample| sample as usize).collect();
    samples.sort_unstable();
    Arc::new(Subset::new(data.clone(), samples))
}

/// The embeddings of two views of the same images.
pub(super) struct Seen {
    /// Width of an embedding.
    pub width: usize,
    /// Embeddings of the first view, `[images, width]`.
    pub first: Vec<f32>,
    /// Embeddings of the second.
    pub second: Vec<f32>,
    /// Names of the images; unreadable ones are left out.
    pub names: Vec<String>,
}

/// Embeds two views of every readable image of `sample`: always the same ones.
///
/// # Errors
/// No image can be read, or the system refuses threads.
pub(super) fn embed(
    training: &Training,
    learner: &dyn Learner,
    sample: &Arc<dyn Dataset>,
) -> Result<Seen, Failure> {
    let (transform, sides, [a, b]) = views(training)?;
    let settings = Settings {
        batch: training.setup.batch.clamp(1, BATCH),
        part: Part::WHOLE,
        order: Order::Sequential,
        seed: Random::new(&[training.setup.seed, SAMPLE]).bits(),
        start: Cursor::default(),
        end_epoch: 1,
        workers: rayon::current_num_threads(),
        queue: 1,
    };
    let encoders = learner.encoders();
    let evaluated = learner.evaluated();
    let (_, encoder) = encoders
        .iter()
        .find(|(name, _)| *name == evaluated)
        .expect("a learner evaluates one of its encoders");
    let mut seen = Seen {
        width: encoder.width(),
        first: Vec::new(),
        second: Vec::new(),
        names: Vec::new(),
    };
    let fault = |error: smallfry_data::loader::LoaderError| {
        Failure::fault(format!(
            "stage `{}` cannot measure its health: {error}",
            training.stage.name
        ))
    };
    let loader = Loader::start(sample.clone(), transform, settings).map_err(fault)?;
    for batch in loader {
        let mut batch = batch.map_err(fault)?;
        for (place, features) in [(a, &mut seen.first), (b, &mut seen.second)] {
            let images = Arc::new(ImageBatch {
                batch: batch.samples.len(),
                height: sides[place],
                width: sides[place],
                values: std::mem::take(&mut batch.views[place]),
            });
            features.extend_from_slice(&tensor::values(&encoder.embed(&images)));
        }
        let names = batch.samples.iter().map(|&image| sample.name(image));
        seen.names.extend(names);
    }
    Ok(seen)
}

/// What makes the views, the side of each, and which two are compared: the first, and the next of its size, or the first
/// made once more where there is none.
type Pair = (Arc<dyn Transform>, Vec<usize>, [usize; 2]);

fn views(training: &Training) -> Result<Pair, Failure> {
    let stage = training.stage;
    let wanted = stage.backbone.plugin.preprocessing();
    let normalization = Normalization::new(wanted.mean, wanted.deviation);
    let list = |view: &Vec<crate::registry::Built<dyn crate::Augmentation>>| -> Vec<_> {
        view.iter().map(|built| built.plugin.clone()).collect()
    };
    let joint = stage.joint.as_ref().map(|built| built.plugin.clone());
    let side = |view: usize| crate::augmentation::side(joint.as_deref(), &stage.views[view]);
    let second = (1..stage.views.len()).find(|&view| side(view) == side(0));
    let (lists, pair): (Vec<_>, _) = match (&joint, second) {
        // All views are decided together, so all are made.
        (Some(_), Some(second)) => (stage.views.iter().map(list).collect(), [0, second]),
        (_, second) => {
            let second = second.unwrap_or(0);
            (
                vec![list(&stage.views[0]), list(&stage.views[second])],
                [0, 1],
            )
        }
    };
    let fits = |joint: &Arc<dyn crate::JointAugmentation>| {
        joint.views().is_none_or(|count| count == lists.len())
    };
    let joint = joint.filter(fits);
    let views = Views::new(joint, lists, normalization)
        .ok_or_else(|| Failure::mistake("a view has no size"))?;
    let sides = views.sides().to_vec();
    Ok((Arc::new(views), sides, pair))
}
