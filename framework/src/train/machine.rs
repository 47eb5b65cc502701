//! One step of training: losses, gradients and the optimisers' steps, in the reference's order.
//!
//! A step takes one batch, or several whose mean loss it brings down. It is whole or nothing: where a loss or a gradient
//! is no number, the state is put back to what it was before the step, so that it can be looked at and repeated.

use dfdx::tensor_ops::Backward;
use smallfry_nn::optimizer::{gradient_squares, scale_gradients};

use super::{batches::ViewBatch, before::Before, state::Descents};
use crate::{
    failure::Failure,
    objective::{Learner, Moment},
    plan::StepRule,
    tensor,
};

/// Figures of a step by name.
type Figures = Vec<(&'static str, f64)>;

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
    /// The last batch, until the next one is wanted.
    spent: Option<ViewBatch>,
}

/// Gives the batches of a step by their place in it, from 0, and takes the batch before back, if there was one.
pub(super) type Source<'a> = dyn FnMut(usize, Option<ViewBatch>) -> Result<ViewBatch, Failure> + 'a;

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
    /// A learner with its optimisers, ready for the first step.
    pub(super) fn new(learner: Box<dyn Learner>, descents: Descents, rule: StepRule) -> Self {
        Self {
            learner,
            descents,
            rule,
            before: Before::default(),
            spent: None,
        }
    }

    /// One step of every trained encoder on the batches that `source` gives; the mean loss and the means of the other
    /// figures. `moment` is that of the first batch.
    ///
    /// # Errors
    /// There is no batch, or a figure is no number.
    pub(super) fn step(
        &mut self,
        source: &mut Source<'_>,
        moment: Moment,
        rate: f64,
    ) -> Result<(f64, Figures), Stopped> {
        self.before.note(&mut *self.learner);
        self.clear_gradients();
        let (mut loss, mut figures) = (0.0, Figures::new());
        for part in 0..self.rule.accumulate {
            let batch = source(part, self.spent.take()).map_err(Stopped::Failure)?;
            let (value, mut measures) = self.descend(&batch, moment, part);
            measures.extend_from_slice(&batch.measures);
            loss += value;
            merge(&mut figures, measures);
            let norm = match value.is_finite() {
                true => self.gradient_norm(),
                false => f64::NAN,
            };
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
        Ok((loss / parts, figures))
    }

    /// Adds the gradient of a batch's share of the step; its loss and other figures.
    pub(super) fn descend(
        &mut self,
        batch: &ViewBatch,
        moment: Moment,
        part: usize,
    ) -> (f64, Figures) {
        let moment = Moment {
            step: moment.step + part as u64,
            ..moment
        };
        let outcome = self.learner.loss(&batch.views, moment);
        let loss = f64::from(tensor::scalar(&outcome.loss));
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

    /// The norm of the gradient over all trained encoders.
    fn gradient_norm(&self) -> f64 {
        let trained = self.learner.encoders().into_iter();
        let trained = trained.filter(|(name, _)| self.trains(name));
        let squares = trained.map(|(_, encoder)| gradient_squares(&encoder.parameters()));
        squares.sum::<f64>().sqrt()
    }

    /// A hash of the gradients of all trained encoders.
    pub(super) fn gradient_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (name, encoder) in self.learner.encoders() {
            if self.trains(name) {
                for gradient in encoder.parameters().gradients() {
                    hasher.update(&gradient.to_le_bytes());
                }
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

/// Adds the figures of a batch to the sums of its step.
fn merge(sums: &mut Figures, measures: Figures) {
    for (name, value) in measures {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => sums.push((name, value)),
        }
    }
}
