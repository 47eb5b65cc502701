//! Schedules: how the learning rate changes over a run.

use serde::{Deserialize, Serialize};

use crate::registry::kind;

/// A course of the learning rate.
pub trait Schedule: Send + Sync {
    /// The factor on the optimiser's rate in epoch `epoch` (from 0) of `epochs`.
    fn factor(&self, epoch: usize, epochs: usize) -> f64;

    /// The factor at a step; that of its epoch, unless the schedule changes the rate from step to step.
    fn factor_at(&self, progress: Progress) -> f64 {
        self.factor(progress.epoch, progress.epochs)
    }
}

kind!(Schedule, "schedule");

/// How far a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Epochs of the training.
    pub epochs: usize,
    /// Steps of the epoch before this one.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
}

impl Progress {
    /// Epochs done, as far as a schedule that changes per `per` counts them: parts of epochs for steps.
    pub fn done(self, per: Per) -> f64 {
        match per {
            Per::Epoch => self.epoch as f64,
            Per::Step => self.epoch as f64 + self.step as f64 / self.steps.max(1) as f64,
        }
    }
}

/// How often a schedule changes the rate; a parameter of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Per {
    /// Once an epoch, as the reference does.
    #[default]
    Epoch,
    /// Every step.
    Step,
}
