//! Objectives: what training brings down.

use std::sync::Arc;

use crate::{
    backbone::Backbone,
    encoder::{Encoder, ImageBatch},
    registry::{Invalid, kind},
    tensor::Traced,
};

/// A method of learning without labels, as an experiment file describes it.
pub trait Objective: Send + Sync {
    /// How many views of each image it takes.
    fn views(&self) -> usize {
        2
    }

    /// Whether it fits the run; called before any long work.
    ///
    /// # Errors
    /// Names the parameter at fault, such as a queue that is no multiple of the batch.
    fn check(&self, setup: &Setup) -> Result<(), Invalid>;

    /// Builds encoders and buffers.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    fn start(&self, setup: &Setup, backbone: &dyn Backbone) -> Result<Box<dyn Learner>, Invalid>;
}

kind!(Objective, "objective");

/// What an objective must know of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Seed of its weights and buffers.
    pub seed: u64,
    /// Images in a batch.
    pub batch: usize,
    /// Images in the data set.
    pub samples: usize,
    /// Epochs of the run.
    pub epochs: usize,
}

/// An objective in training: it owns its encoders and buffers.
pub trait Learner {
    /// The loss of a batch, on a tape; `views[v]` holds view `v` of every image.
    fn loss(&mut self, views: &[Arc<ImageBatch>], moment: Moment) -> Outcome;

    /// Called after the optimiser's step.
    fn after_step(&mut self) {}

    /// All encoders under the names that prefix their parameters in a checkpoint, such as `encoder_q`. Their order is
    /// that of the reference's state dict.
    fn encoders(&self) -> Vec<(&'static str, &dyn Encoder)>;

    /// The names of the encoders that the optimiser trains.
    fn trained(&self) -> &'static [&'static str];

    /// The name of the encoder that is worth evaluating.
    fn evaluated(&self) -> &'static str;

    /// The loss of encoders that tell nothing apart, such as ln(1 + K) against a queue of K: where learning starts
    /// from, drawn as a line in reports. None where there is no such number.
    fn chance_loss(&self) -> Option<f64> {
        None
    }

    /// State beside the encoders, such as a queue, to save.
    fn buffers(&self) -> Vec<Buffer>;

    /// Puts a saved buffer back.
    ///
    /// # Errors
    /// Says how the buffer differs from what the objective needs.
    fn restore(&mut self, buffer: Buffer) -> Result<(), String>;
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: usize,
    /// Optimiser steps before this one, over all epochs.
    pub step: u64,
}

/// The loss of a batch and what else is worth logging about it.
pub struct Outcome {
    /// Mean loss over the batch.
    pub loss: Traced<()>,
    /// Further figures, such as `("acc1", 12.5)` in percent.
    pub measures: Vec<(&'static str, f64)>,
}

/// Named state of a learner.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Name in the checkpoint, such as `queue`.
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Contents.
    pub values: BufferValues,
}

/// The contents of a buffer.
#[derive(Clone, Debug, PartialEq)]
pub enum BufferValues {
    /// Row-major numbers.
    Float(Vec<f32>),
    /// Integers.
    Integer(Vec<i64>),
}
