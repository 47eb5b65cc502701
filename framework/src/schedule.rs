//! Schedules: how the learning rate changes over a run.

use crate::registry::kind;

/// A course of the learning rate.
pub trait Schedule: Send + Sync {
    /// The factor on the optimiser's rate in epoch `epoch` (from 0) of `epochs`.
    fn factor(&self, epoch: usize, epochs: usize) -> f64;
}

kind!(Schedule, "schedule");
