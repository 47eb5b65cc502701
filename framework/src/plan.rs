//! What an experiment file comes to: stages with every plugin built and every default filled in.
//!
//! Made by `experiment` from a file, used by `run` and what it calls; the border between the text and the work. Each kind of
//! stage past training and evaluation has its own file.

mod health;
mod map;
mod mistake;
mod probe;
mod views;

use std::{path::PathBuf, sync::Arc};

use crate::{
    Augmentation, Backbone, DataSet, JointAugmentation, Metric, Objective, Optimizer, Schedule,
    backbone::Preprocessing,
    checkpoint::{
        Weights,
        cadence::{Keep, Save},
    },
    objective::Setup,
    registry::{Built, Used},
    source::{Site, Source},
};

pub use health::{Health, Labelled, Reaction};
pub use map::{Map, Zoom};
pub(crate) use mistake::{Mistake, uncropped};
pub use probe::{FeatureSource, Normalize, Probe, ProbeMode, Seeds, TrainMode};
pub use views::Views;

/// A whole experiment file.
pub struct Plan {
    /// Name of the experiment; its run folder is called so.
    pub name: String,
    /// Where run folders are made; relative to the current folder, as it belongs to the run and not to the experiment.
    pub output: PathBuf,
    /// The one seed that every random stream derives from.
    pub seed: u64,
    /// What to do, in order.
    pub stages: Vec<Stage>,
    /// The plugins in use, with their crates, by kind and name.
    pub plugins: Vec<Used>,
    /// The file with every default filled in; running it gives the same run.
    pub resolved: String,
    /// What of `resolved` decides the numbers: no name of the experiment, no folder. Equal essences are equal runs.
    pub essence: String,
    /// The text that this plan comes from.
    pub source: Arc<Source>,
}

/// One part of an experiment.
#[expect(
    clippy::large_enum_variant,
    reason = "an experiment has a handful of stages"
)]
pub enum Stage {
    /// Training without labels.
    Pretrain(Pretrain),
    /// Metrics on the features of an encoder.
    Evaluate(Evaluate),
    /// A set of images and their views, written once.
    Views(Views),
    /// Classifiers on the features of an encoder.
    Probe(Probe),
    /// A map of features in the plane.
    Map(Map),
}

impl Stage {
    /// Its name, unique in the file.
    pub fn name(&self) -> &str {
        match self {
            Self::Pretrain(stage) => &stage.name,
            Self::Evaluate(stage) => &stage.name,
            Self::Views(stage) => &stage.name,
            Self::Probe(stage) => &stage.name,
            Self::Map(stage) => &stage.name,
        }
    }

    /// The training, where it is one.
    pub fn training(&self) -> Option<&Pretrain> {
        match self {
            Self::Pretrain(stage) => Some(stage),
            _ => None,
        }
    }
}

/// Training without labels.
pub struct Pretrain {
    /// Name of the stage, unique in the file; other stages refer to it.
    pub name: String,
    /// The images.
    pub data: Built<dyn DataSet>,
    /// The network.
    pub backbone: Built<dyn Backbone>,
    /// The method.
    pub objective: Built<dyn Objective>,
    /// What all views of an image get together, before each gets its own.
    pub joint: Option<Built<dyn JointAugmentation>>,
    /// The augmentations of each view, in order of application; as many lists as the objective has views.
    pub views: Vec<Vec<Built<dyn Augmentation>>>,
    /// The rule of descent.
    pub optimizer: Built<dyn Optimizer>,
    /// The course of the learning rate.
    pub schedule: Built<dyn Schedule>,
    /// What a step of the optimiser is made of.
    pub step: StepRule,
    /// What training starts from; random weights where none.
    pub initial: Option<Initial>,
    /// Passes over the data.
    pub epochs: usize,
    /// Images in a batch; the last, smaller batch of an epoch is dropped.
    pub batch: usize,
    /// When the state is saved within an epoch, beside its end.
    pub save: Save,
    /// Which of the checkpoints at the ends of epochs stay.
    pub keep: Keep,
    /// What is measured of the evaluated encoder between epochs; nothing where none.
    pub health: Option<Health>,
    /// Where the stage stands in its file.
    pub site: Site,
}

impl Pretrain {
    /// What its objective knows of a run of seed `seed` on `samples` images.
    pub fn setup(&self, seed: u64, samples: usize) -> Setup {
        Setup {
            seed,
            batch: self.batch,
            samples,
            epochs: self.epochs,
        }
    }
}

/// What a training starts from, where not from random weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initial {
    /// How much of it is taken over.
    pub extent: Extent,
    /// Where it lies.
    pub origin: Origin,
}

/// How much of an earlier training a training takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The backbone; head, queue and optimiser start anew, at epoch 0.
    Backbone,
    /// All that fits, as the reference's `--resume` with `--restart` takes it: backbone, tensors of the head, queue and
    /// pointer; the optimiser starts anew, at epoch 0.
    Restart,
    /// The whole state, optimiser and epoch too, as the reference's `--resume` takes it.
    Resume,
}

/// Where an earlier training lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The last checkpoint of a training stage of this file.
    Stage(String),
    /// A checkpoint file.
    File(PathBuf),
}

/// What a step of the optimiser is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRule {
    /// Batches whose mean gradient is followed, at least 1.
    pub accumulate: usize,
    /// The length that a gradient, over all trained encoders, is shortened to where it is longer; above 0.
    pub clip: Option<f64>,
}

impl Default for StepRule {
    /// One batch, its gradient as it is.
    fn default() -> Self {
        Self {
            accumulate: 1,
            clip: None,
        }
    }
}

/// Metrics on the features of an encoder.
pub struct Evaluate {
    /// Name of the stage, unique in the file.
    pub name: String,
    /// What is judged.
    pub subject: Subject,
    /// The labelled images that metrics may learn from.
    pub train: Option<Images>,
    /// The labelled images to judge on, with their views where they have some.
    pub test: Images,
    /// Side of the square input in pixels; the backbone's own where none.
    pub size: Option<usize>,
    /// Length of the shorter side before the centre crop; the backbone's own share where none.
    pub resize: Option<usize>,
    /// Images in a batch.
    pub batch: usize,
    /// Whether features are kept on disk for the next time.
    pub cache: bool,
    /// What to compute.
    pub metrics: Vec<Built<dyn Metric>>,
    /// Where the stage stands in its file.
    pub site: Site,
}

/// A network whose features are judged.
pub struct Subject {
    /// The network, where `weights` does not bring it along.
    pub backbone: Built<dyn Backbone>,
    /// The weights to judge.
    pub weights: Weights,
    /// The encoder to judge where the weights are of several, such as `teacher`; the one that their method evaluates
    /// where none.
    pub encoder: Option<String>,
    /// Where the stage that judges stands in its file.
    pub site: Site,
}

impl Subject {
    /// How images become the network's input: squares of `size` pixels from a shorter side of `resize`, the backbone's own
    /// where none.
    pub fn preprocessing(&self, size: Option<usize>, resize: Option<usize>) -> Preprocessing {
        let own = self.backbone.plugin.preprocessing();
        let size = size.unwrap_or(own.size);
        // The backbone's share of the image is kept where only the size is given.
        let share = || (size * own.resize + own.size / 2) / own.size;
        Preprocessing {
            size,
            resize: resize.unwrap_or_else(share),
            ..own
        }
    }
}

/// Images that a stage reads.
pub enum Images {
    /// A data set.
    Set(Built<dyn DataSet>),
    /// What the stage of views of this name, earlier in the file, writes.
    Stage(String),
}

impl Images {
    /// The text that stands for them in `resolved.ron`; equal texts are equal images.
    pub fn resolved(&self) -> String {
        match self {
            Self::Set(set) => set.resolved.clone(),
            Self::Stage(name) => Self::of_stage(name),
        }
    }

    /// The text on one line.
    pub fn line(&self) -> String {
        match self {
            Self::Set(set) => set.line.clone(),
            Self::Stage(name) => Self::of_stage(name),
        }
    }

    /// The text for what the stage `name` writes.
    pub(crate) fn of_stage(name: &str) -> String {
        format!("Stage({})", crate::source::quoted(name))
    }
}
