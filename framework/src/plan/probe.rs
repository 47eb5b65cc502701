//! The plan of a stage that trains classifiers on features.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Images, Subject};
use crate::{Augmentation, Schedule, checkpoint::cadence::Save, registry::Built, source::Site};

/// Classifiers on the features of an encoder.
pub struct Probe {
    /// Name of the stage, unique in the file.
    pub name: String,
    /// What is judged.
    pub subject: Subject,
    /// The labelled images that the classifiers learn from.
    pub train: Images,
    /// The labelled images that they are tested on.
    pub test: Images,
    /// What is trained.
    pub mode: ProbeMode,
    /// What a classifier sees of a feature.
    pub normalize: Normalize,
    /// A classifier for each, above 0.
    pub learning_rates: Vec<f64>,
    /// Share of the last velocity that is kept, from 0 to below 1.
    pub momentum: f64,
    /// Weight decay, at least 0.
    pub weight_decay: f64,
    /// The course of the learning rates.
    pub schedule: Built<dyn Schedule>,
    /// The augmentations of training images, in order of application; none where they are treated as the test images.
    pub view: Vec<Built<dyn Augmentation>>,
    /// Side of the square input of test images in pixels; the backbone's own where none.
    pub size: Option<usize>,
    /// Length of the shorter side before the centre crop; the backbone's own share where none.
    pub resize: Option<usize>,
    /// Whether that resize is bicubic; as the backbone wants it where none.
    pub bicubic: Option<bool>,
    /// Independent starts of every classifier.
    pub seeds: Seeds,
    /// Images in a batch; the last of an epoch is as large as is left.
    pub batch: usize,
    /// Passes over the training images.
    pub epochs: usize,
    /// When the state is saved within an epoch, beside its end.
    pub save: Save,
    /// Where the stage stands in its file.
    pub site: Site,
}

/// What a stage of classifiers trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeMode {
    /// Classifiers alone; the backbone is frozen and in evaluation mode.
    Linear(FeatureSource),
    /// The whole network.
    Finetune(TrainMode),
}

/// Where the features of training images come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "features")]
pub enum FeatureSource {
    /// From images augmented anew in each epoch, as in the reference.
    #[default]
    Fresh,
    /// From the images as test images are treated, once.
    Centre,
    /// From so many augmented passes, which epochs take in turn.
    Passes(usize),
}

/// Which statistics batch norms take while the whole network is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrainMode {
    /// Those of the batch in the first epoch and running ones, without dropout, from then on: `main_transfer.py` does not
    /// go back to training after its first validation.
    #[default]
    Reference,
    /// Those of the batch, with dropout, in every epoch.
    Proper,
}

/// What a classifier sees of a feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalize {
    /// The feature itself (linear evaluation).
    #[default]
    No,
    /// The feature divided by its length (transfer).
    Yes,
    /// One classifier for each of the two.
    Both,
}

impl Normalize {
    /// For each kind of classifier, whether features are divided by their length.
    pub fn kinds(self) -> &'static [bool] {
        match self {
            Self::No => &[false],
            Self::Yes => &[true],
            Self::Both => &[false, true],
        }
    }
}

/// As it stands in an experiment file.
impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "false",
            Self::Yes => "true",
            Self::Both => "Both",
        })
    }
}

/// Independent starts of every classifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seeds {
    /// So many, from the experiment's seed on.
    Repeats(usize),
    /// These.
    Given(Vec<u64>),
}

impl Seeds {
    /// The seeds, where the experiment's is `seed`.
    pub fn of(&self, seed: u64) -> Vec<u64> {
        match self {
            Self::Repeats(repeats) => (0..*repeats as u64).map(|i| seed.wrapping_add(i)).collect(),
            Self::Given(seeds) => seeds.clone(),
        }
    }
}
