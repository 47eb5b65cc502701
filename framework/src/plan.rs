//! What an experiment file comes to: stages with every plugin built and every default filled in.
//!
//! Made by `experiment` from a file, used by `train` and `evaluate`; the border between the text and the work.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Augmentation, Backbone, DataSet, Metric, Objective, Optimizer, Schedule,
    registry::Built,
    source::{Site, Source},
};

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
    /// The file with every default filled in; running it gives the same run.
    pub resolved: String,
    /// What of `resolved` decides the numbers: no name of the experiment, no folder. Equal essences are equal runs.
    pub essence: String,
    /// The text that this plan comes from.
    pub source: Arc<Source>,
}

/// One part of an experiment.
pub enum Stage {
    /// Training without labels.
    Pretrain(Pretrain),
    /// Metrics on the features of an encoder.
    Evaluate(Evaluate),
}

impl Stage {
    /// Its name, unique in the file.
    pub fn name(&self) -> &str {
        match self {
            Self::Pretrain(stage) => &stage.name,
            Self::Evaluate(stage) => &stage.name,
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
    /// The augmentations of each view, in order of application; as many lists as the objective has views.
    pub views: Vec<Vec<Built<dyn Augmentation>>>,
    /// The rule of descent.
    pub optimizer: Built<dyn Optimizer>,
    /// The course of the learning rate.
    pub schedule: Built<dyn Schedule>,
    /// Passes over the data.
    pub epochs: usize,
    /// Images in a batch; the last, smaller batch of an epoch is dropped.
    pub batch: usize,
    /// Checkpoints that are kept, newest first; none keeps all.
    pub keep: Option<usize>,
    /// Where the stage stands in its file.
    pub site: Site,
}

/// Metrics on the features of an encoder.
pub struct Evaluate {
    /// Name of the stage, unique in the file.
    pub name: String,
    /// The network, where `weights` does not bring it along.
    pub backbone: Built<dyn Backbone>,
    /// The weights to judge.
    pub weights: Weights,
    /// The encoder to judge where the weights are of several, such as `teacher`; the one that their method evaluates
    /// where none.
    pub encoder: Option<String>,
    /// The labelled images that metrics may learn from.
    pub train: Option<Built<dyn DataSet>>,
    /// The labelled images to judge on.
    pub test: Built<dyn DataSet>,
    /// Side of the square input in pixels; the backbone's own where none.
    pub size: Option<usize>,
    /// Length of the shorter side before the centre crop; the backbone's own share where none.
    pub resize: Option<usize>,
    /// Images in a batch.
    pub batch: usize,
    /// What to compute.
    pub metrics: Vec<Built<dyn Metric>>,
    /// Where the stage stands in its file.
    pub site: Site,
}

/// Where weights come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "weights")]
pub enum Weights {
    /// The initialisation that a training stage of this file starts from.
    Untrained,
    /// The last checkpoint of a training stage of this file.
    Stage(String),
    /// A checkpoint file.
    File(PathBuf),
}
