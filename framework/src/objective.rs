//! Objectives: what training brings down.

use std::sync::Arc;

use crate::{
    advice::Advice,
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

    /// What its user should know of a run that [`check`](Self::check) passes, such as a queue that holds keys of the
    /// images at hand; `check` shows it.
    fn advise(&self, _: &Setup) -> Vec<Advice> {
        Vec::new()
    }

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
    ///
    /// It may change running statistics, encoders that are not trained, and buffers; the values of trained encoders
    /// change in the optimiser's step and [`after_step`](Self::after_step) only. Where batches are accumulated, a step
    /// has several losses before it.
    fn loss(&mut self, views: &[Arc<ImageBatch>], moment: Moment) -> Outcome;

    /// Called after the optimiser's step.
    fn after_step(&mut self) {}

    /// Remembers its buffers as they are, for [`undo`](Self::undo); called before the first loss of each step. False
    /// where it does not, whereupon the trainer keeps a copy of all [`buffers`](Self::buffers), which takes time where
    /// they are large.
    fn mark(&mut self) -> bool {
        false
    }

    /// Puts its buffers back as they were at the last [`mark`](Self::mark), and forgets every loss since: a step that
    /// gave no number has then changed nothing. Encoders are the trainer's to put back.
    fn undo(&mut self) {}

    /// All encoders under the names that prefix their parameters in a checkpoint, such as `encoder_q`. Their order is
    /// that of the reference's state dict.
    fn encoders(&self) -> Vec<(&'static str, &dyn Encoder)>;

    /// The names of the encoders that the optimiser trains.
    fn trained(&self) -> &'static [&'static str];

    /// The encoders that are moving averages of others: the name of each, and of the encoder it follows. A training
    /// that starts from given weights makes them equal.
    fn followers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

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
    /// Batches before this one, over all epochs: the optimiser's steps, unless it takes several batches to a step.
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
