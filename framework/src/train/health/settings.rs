//! How the health of a training is watched, and in which epochs.

use serde::{Deserialize, Serialize};

use crate::{DataSet, Metric, objective::Setup, registry::Built};

/// Images that are measured, unless the file says otherwise.
const IMAGES: usize = 512;

/// Epochs before features are taken for collapsed, unless the file says otherwise.
const PATIENCE: usize = 5;

/// Share of the images that training looks at which measuring may look at in all, where the file leaves the epochs open.
/// An image costs a measurement less than training, which goes backward too: time grows by less than this.
const SHARE: f64 = 0.02;

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

impl Health {
    /// The epochs of a run in which `looked_at` images are measured each time.
    pub(super) fn calendar(&self, setup: &Setup, looked_at: usize) -> Calendar {
        let thinned = || {
            let seen = (setup.samples * setup.epochs) as f64;
            let count = (SHARE * seen / looked_at.max(1) as f64) as usize;
            // The start is one of them.
            (count >= 2).then(|| setup.epochs.div_ceil(count - 1))
        };
        Calendar {
            every: self.every.or_else(thinned),
            last: setup.epochs,
        }
    }
}

/// The epochs in which an encoder is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    /// Multiples of this, 0 among them; the last epoch alone where none.
    every: Option<usize>,
    last: usize,
}

impl Calendar {
    /// Whether the encoder is measured after `epoch` epochs.
    pub fn due(&self, epoch: usize) -> bool {
        epoch == self.last || self.every.is_some_and(|every| epoch.is_multiple_of(every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_follow_from_sizes() {
        let due = |every, samples, epochs, looked_at| {
            let health = Health {
                every,
                ..Health::default()
            };
            let setup = Setup {
                seed: 0,
                batch: 8,
                samples,
                epochs,
            };
            let calendar = health.calendar(&setup, looked_at);
            let due = (0..=epochs).filter(|&epoch| calendar.due(epoch));
            due.collect::<Vec<_>>()
        };
        assert_eq!(due(Some(2), 10, 5, 10), [0, 2, 4, 5]);
        assert_eq!(due(None, 1_281_167, 3, 512), [0, 1, 2, 3]);
        // 2 % of 250 images in 100 epochs are 500, two measurements of 250.
        assert_eq!(due(None, 250, 100, 250), [0, 100]);
        assert_eq!(due(None, 250, 99, 250), [99]);
        assert_eq!(
            due(None, 250, 400, 250),
            [0, 58, 116, 174, 232, 290, 348, 400]
        );
        for (samples, epochs, looked_at) in [(60, 7, 60), (5000, 10, 512), (50_000, 200, 3000)] {
            let times = due(None, samples, epochs, looked_at).len();
            let allowed = (SHARE * (samples * epochs) as f64 / looked_at as f64).max(1.0);
            assert!(times as f64 <= allowed, "{times} {allowed}");
        }
    }
}
