//! One step of training: losses, gradients and the optimisers' steps, in the reference's order.
//!
//! A step takes one batch, or several whose mean loss it brings down. It is whole or nothing: where a loss or a gradient
//! is no number, the state is put back to what it was before the step, so that it can be looked at and repeated.
//!
//! Several processes take the same step, each on its part of every batch: they add their gradients up, in the order in which
//! one process goes backward through the parts, and so stay equal to the bit.

use std::sync::Arc;

use dfdx::tensor_ops::Backward;
use smallfry_nn::optimizer::{gradient_squares, scale_gradients};

use super::{batches::ViewBatch, before::Before, shares, state::Descents};
use crate::{
    checkpoint,
    distributed::{
        Communicator,
        collective::{Sum, gather_texts},
    },
    failure::Failure,
    objective::{BufferValues, Learner, Moment},
    plan::StepRule,
    tensor,
};

/// Figures of a step by name.
pub(super) type Figures = Vec<(&'static str, f64)>;

/// The name of the norm of the gradient among a step's figures.
pub(super) const GRADIENT_NORM: &str = "grad_norm";

/// An objective in training, with the optimisers of its encoders.
pub(super) struct Machine {
    /// The method.
    pub learner: Box<dyn Learner>,
    /// The optimisers of its trained encoders.
    pub descents: Descents,
    rule: StepRule,
    before: Before,
    communicator: Arc<dyn Communicator>,
    sum: Sum,
    /// The last batch, until the next one is wanted.
    spent: Option<ViewBatch>,
}

/// Gives the batches of a step by their place in it, from 0, and takes the batch before back, if there was one.
pub(super) type Source<'a> = dyn FnMut(usize, Option<ViewBatch>) -> Result<ViewBatch, Failure> + 'a;

/// What a step came to.
pub(super) struct Stepped {
    /// The mean loss.
    pub loss: f64,
    /// The means of the other figures.
    pub figures: Figures,
    /// Names and reasons of images that other processes replaced.
    pub replaced: Vec<(String, String)>,
}

/// Why there is no step.
pub(super) enum Stopped {
    /// There is no batch.
    Failure(Failure),
    /// A figure is no number; the state is that before the step.
    NotFinite(NotFinite),
}

/// A figure that is no number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NotFinite {
    /// Which one.
    pub figure: Figure,
    /// Its value.
    pub value: f64,
    /// The batch at fault, by its place in the step.
    pub part: usize,
    /// The views of that batch.
    pub batch: ViewBatch,
}

/// A figure that must be a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// The loss of a batch.
    Loss,
    /// The norm of the gradient of a step so far.
    GradientNorm,
}

impl Figure {
    /// Its name in messages and files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::GradientNorm => "gradient norm",
        }
    }
}

impl Machine {
    /// A learner with its optimisers, ready for the first step, in one of the processes of `communicator`.
    pub(super) fn new(
        mut learner: Box<dyn Learner>,
        descents: Descents,
        rule: StepRule,
        communicator: Arc<dyn Communicator>,
    ) -> Self {
        if communicator.size() > 1 {
            learner.join(Arc::clone(&communicator));
        }
        Self {
            learner,
            descents,
            rule,
            before: Before::default(),
            communicator,
            sum: Sum::default(),
            spent: None,
        }
    }

    /// One step of every trained encoder on the batches that `source` gives. `moment` is that of the first batch.
    ///
    /// # Errors
    /// There is no batch, or a figure is no number.
    pub(super) fn step(
        &mut self,
        source: &mut Source<'_>,
        moment: Moment,
        rate: f64,
    ) -> Result<Stepped, Stopped> {
        self.before.note(&mut *self.learner);
        self.clear_gradients();
        let (mut loss, mut figures, mut replaced) = (0.0, Figures::new(), Vec::new());
        for part in 0..self.rule.accumulate {
            let batch = source(part, self.spent.take());
            let batch = self.agree(batch)?;
            let (value, measures) = self.descend(&batch, moment, part);
            let mut norm = self.gradient_norm();
            let communicator = &*self.communicator;
            let whole = shares::whole(communicator, &batch, value, measures, norm.is_finite());
            let value = f64::from(whole.loss);
            loss += value;
            merge(&mut figures, whole.measures);
            replaced.extend(whole.replaced);
            if communicator.size() > 1 && (!whole.finite || part + 1 == self.rule.accumulate) {
                self.add_gradients_up();
                norm = self.gradient_norm();
            }
            if !value.is_finite() {
                norm = f64::NAN;
            }
            let (figure, value) = match value.is_finite() {
                true => (Figure::GradientNorm, norm),
                false => (Figure::Loss, value),
            };
            if !norm.is_finite() {
                self.before.put_back(&mut *self.learner);
                return Err(Stopped::NotFinite(NotFinite {
                    figure,
                    value,
                    part,
                    batch,
                }));
            }
            self.spent = Some(batch);
            if part + 1 == self.rule.accumulate {
                self.clip(norm);
                figures.push((GRADIENT_NORM, norm));
            }
        }
        self.advance(rate);
        let parts = self.rule.accumulate as f64;
        for (name, value) in &mut figures {
            if *name != GRADIENT_NORM {
                *value /= parts;
            }
        }
        Ok(Stepped {
            loss: loss / parts,
            figures,
            replaced,
        })
    }

    /// This process's part of a batch, once all processes have theirs.
    fn agree(&self, batch: Result<ViewBatch, Failure>) -> Result<ViewBatch, Stopped> {
        if self.communicator.size() == 1 {
            return batch.map_err(Stopped::Failure);
        }
        let reason = batch
            .as_ref()
            .err()
            .map_or(String::new(), Failure::to_string);
        let reasons = gather_texts(&*self.communicator, &reason);
        let failed = reasons.iter().position(|reason| !reason.is_empty());
        match (batch, failed) {
            (Ok(batch), None) => Ok(batch),
            (Err(failure), _) => Err(Stopped::Failure(failure)),
            (Ok(_), Some(rank)) => Err(Stopped::Failure(Failure::fault(format!(
                "process {rank} of {}: {}",
                reasons.len(),
                reasons[rank]
            )))),
        }
    }

    /// Adds the gradient of a batch's share of the step; its loss and other figures, or this process's shares of them.
    pub(super) fn descend(
        &mut self,
        batch: &ViewBatch,
        moment: Moment,
        part: usize,
    ) -> (f32, Figures) {
        let moment = Moment {
            step: moment.step + part as u64,
            ..moment
        };
        let outcome = self.learner.loss(&batch.views, moment);
        let loss = tensor::scalar(&outcome.loss);
        // A single batch's loss is left as it is, to the bit.
        let share = match self.rule.accumulate {
            1 => outcome.loss,
            parts => outcome.loss / parts as f32,
        };
        drop(share.backward());
        (loss, outcome.measures)
    }

    /// Puts the gradients of all trained encoders to zero.
    pub(super) fn clear_gradients(&self) {
        for (name, encoder) in self.learner.encoders() {
            if self.trains(name) {
                encoder.parameters().clear_gradients();
            }
        }
    }

    /// Makes the gradients of all trained encoders the sums over the processes.
    fn add_gradients_up(&mut self) {
        let mut sum = std::mem::take(&mut self.sum);
        for (name, encoder) in self.learner.encoders() {
            if self.trains(name) {
                let mut parameters = encoder.parameters();
                let (_, gradients) = parameters.values_and_gradients_mut();
                sum.over(&*self.communicator, gradients);
            }
        }
        self.sum = sum;
    }

    /// The norm of the gradient over all trained encoders.
    fn gradient_norm(&self) -> f64 {
        let trained = self.learner.encoders().into_iter();
        let trained = trained.filter(|(name, _)| self.trains(name));
        let squares = trained.map(|(_, encoder)| gradient_squares(&encoder.parameters()));
        squares.sum::<f64>().sqrt()
    }

    /// A hash of the weights that processes must agree on, and of what the learner keeps beside them.
    pub(super) fn state_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (_, encoder) in self.learner.encoders() {
            feed(&mut hasher, encoder.parameters().values(), f32::to_le_bytes);
        }
        for buffer in self.learner.buffers() {
            match buffer.values {
                BufferValues::Float(values) => feed(&mut hasher, &values, f32::to_le_bytes),
                BufferValues::Integer(values) => feed(&mut hasher, &values, i64::to_le_bytes),
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// A hash of the gradients of all trained encoders.
    pub(super) fn gradient_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (name, encoder) in self.learner.encoders() {
            if self.trains(name) {
                feed(
                    &mut hasher,
                    encoder.parameters().gradients(),
                    f32::to_le_bytes,
                );
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Whether the optimisers train the encoder of that name.
    pub(super) fn trains(&self, name: &str) -> bool {
        self.descents.iter().any(|(trained, _)| *trained == name)
    }

    /// Shortens a gradient of length `norm` to the length allowed.
    fn clip(&self, norm: f64) {
        let Some(limit) = self.rule.clip else {
            return;
        };
        // As in PyTorch, which adds a millionth against division by zero.
        let factor = limit / (norm + 1e-6);
        if factor < 1.0 {
            for (name, encoder) in self.learner.encoders() {
                if self.trains(name) {
                    scale_gradients(&mut encoder.parameters(), factor as f32);
                }
            }
        }
    }

    /// The optimisers' step along the gradients.
    fn advance(&mut self, rate: f64) {
        for (name, encoder) in self.learner.encoders() {
            let descents = self.descents.iter_mut();
            for (_, descent) in descents.filter(|(trained, _)| *trained == name) {
                descent.step(&mut encoder.parameters(), rate);
            }
        }
        self.learner.after_step();
    }
}

/// Hashes `values` as checkpoints hold them.
fn feed<T: Copy, const N: usize>(
    hasher: &mut blake3::Hasher,
    values: &[T],
    bytes: fn(T) -> [u8; N],
) {
    checkpoint::copy(values, bytes, hasher).expect("a hasher takes anything");
}

/// Adds the figures of a batch to the sums of its step.
fn merge(sums: &mut Figures, measures: Figures) {
    for (name, value) in measures {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => sums.push((name, value)),
        }
    }
}
