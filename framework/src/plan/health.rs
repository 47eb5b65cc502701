//! How the health of a training is watched, and in which epochs.

use serde::{Deserialize, Serialize};

use crate::{DataSet, Metric, registry::Built};

/// Images that are measured, unless the file says otherwise.
const IMAGES: usize = 512;

/// Epochs before features are taken for collapsed, unless the file says otherwise.
const PATIENCE: usize = 5;

/// What is measured of the evaluated encoder while it trains.
pub struct Health {
    /// Epochs from one measurement to the next; none for as many as keep measuring cheap.
    pub every: Option<usize>,
    /// Images that are measured, drawn by the seed; all where there are fewer.
    pub images: usize,
    /// Where those images come from; the training's own where none.
    pub held_out: Option<Built<dyn DataSet>>,
    /// What is measured by labels.
    pub labelled: Option<Labelled>,
    /// What happens when features have collapsed.
    pub on_collapse: Reaction,
    /// Epochs before features are taken for collapsed.
    pub patience: usize,
}

/// What is measured by labels between epochs.
pub struct Labelled {
    /// Images to learn from, and images to judge on; parts of the training's own images where none.
    pub sets: Option<(Built<dyn DataSet>, Built<dyn DataSet>)>,
    /// What is computed of the features of the backbone, as an evaluation would.
    pub metrics: Vec<Built<dyn Metric>>,
}

/// What happens when features have collapsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "on_collapse")]
pub enum Reaction {
    /// The run stops with the reason, before it saves the collapsed state.
    #[default]
    Stop,
    /// The log, the report and the terminal say so, and training goes on.
    Warn,
}

impl Reaction {
    /// The word in an experiment file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "Stop",
            Self::Warn => "Warn",
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            every: None,
            images: IMAGES,
            held_out: None,
            labelled: None,
            on_collapse: Reaction::default(),
            patience: PATIENCE,
        }
    }
}
