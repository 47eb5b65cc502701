//! Objectives: what training brings down.

use std::sync::Arc;

use crate::{
    advice::Advice,
    backbone::Backbone,
    checkpoint::{Checkpoint, Weights},
    distributed::Communicator,
    encoder::{Encoder, ImageBatch},
    failure::Failure,
    registry::{Built, Invalid, kind},
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

    /// Whether `processes` processes can train it together, each on an equal part of every batch; called before any long
    /// work where there are several. A learner that does not [`join`](Learner::join) them keeps state of its own part only,
    /// so an objective that says nothing is refused.
    ///
    /// # Errors
    /// Says why not.
    fn check_processes(&self, _: usize) -> Result<(), Invalid> {
        Err(Invalid::whole("cannot be trained by several processes").help("start one"))
    }

    /// What its user should know of a run that [`check`](Self::check) passes, such as a queue that holds keys of the
    /// images at hand; `check` shows it.
    fn advise(&self, _: &Setup, _: &dyn Backbone) -> Vec<Advice> {
        Vec::new()
    }

    /// Whether the views fit it, given the side of each in pixels; called before any long work.
    ///
    /// # Errors
    /// Says what views it takes.
    fn check_views(&self, _: &[usize]) -> Result<(), Invalid> {
        Ok(())
    }

    /// The backbone of its encoder named `encoder`, where that is not the stage's, as a teacher's is not.
    fn backbone_of(&self, _: &str) -> Option<Arc<Built<dyn Backbone>>> {
        None
    }

    /// Weights from elsewhere that it needs, such as a teacher's. The run finds them and hands them over by
    /// [`Learner::receive`] before the first step; what they hold is part of what identifies the run.
    fn sources(&self) -> Vec<Source> {
        Vec::new()
    }

    /// Whether `checkpoint`, which messages call `origin`, is what `source` needs, and what would be taken from it, in
    /// a line; called before any long work.
    ///
    /// # Errors
    /// Names the parameter at fault, and every tensor that is missing.
    fn check_source(&self, _: &Source, _: &Checkpoint, _: &str) -> Result<String, Invalid> {
        Ok(String::new())
    }

    /// Builds encoders and buffers.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    fn start(&self, setup: &Setup, backbone: &dyn Backbone) -> Result<Box<dyn Learner>, Invalid>;
}

kind!(Objective, "objective");

/// Weights from elsewhere that an objective needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The parameter of the objective that names them.
    pub parameter: &'static str,
    /// Where they lie.
    pub weights: Weights,
}

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

    /// Tells it, before anything else, that it is one of several processes. [`loss`](Self::loss) is then given this process's
    /// part of every batch, the first process's rows first, and gives its share of loss and measures: those of all
    /// processes add up to the means over the batch. The trainer adds gradients up. What it keeps of a batch, such as keys
    /// in a queue, must be that of all.
    fn join(&mut self, _: Arc<dyn Communicator>) {}

    /// Takes over the weights of a source, named by its parameter, before the first step; a run that goes on from a
    /// checkpoint finds them there.
    ///
    /// # Errors
    /// They are not what it needs.
    fn receive(&mut self, _: &str, _: &Checkpoint, _: &str) -> Result<(), Failure> {
        Ok(())
    }

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

    /// Batches whose keys its queue holds: how old the oldest key is that images are compared with. None where there is
    /// no queue.
    fn queue_batches(&self) -> Option<usize> {
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
    /// Mean loss over the batch; this process's share of it where there are several.
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
