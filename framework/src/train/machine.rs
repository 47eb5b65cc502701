//! One step of training: loss, gradient and the optimisers' steps, in the reference's order.

use dfdx::tensor_ops::Backward;

use super::{batches::ViewBatch, state::Descents};
use crate::{
    objective::{Learner, Moment},
    tensor,
};

/// Figures of a step by name.
type Figures = Vec<(&'static str, f64)>;

/// An objective in training, with the optimisers of its encoders.
pub(super) struct Machine {
    /// The method.
    pub learner: Box<dyn Learner>,
    /// The optimisers of its trained encoders.
    pub descents: Descents,
}

impl Machine {
    /// One step of every trained encoder; the loss and the other figures of the batch, or why there is no step.
    pub(super) fn step(
        &mut self,
        batch: &ViewBatch,
        moment: Moment,
        rate: f64,
    ) -> Result<(f64, Figures), String> {
        for (name, encoder) in self.learner.encoders() {
            if self.descents.iter().any(|(trained, _)| *trained == name) {
                encoder.parameters().clear_gradients();
            }
        }
        let outcome = self.learner.loss(&batch.views, moment);
        let loss = f64::from(tensor::scalar(&outcome.loss));
        if !loss.is_finite() {
            return Err(format!("the loss is {loss} at learning rate {rate}"));
        }
        drop(outcome.loss.backward());
        for (name, encoder) in self.learner.encoders() {
            for (_, descent) in self
                .descents
                .iter_mut()
                .filter(|(trained, _)| *trained == name)
            {
                descent.step(&mut encoder.parameters(), rate);
            }
        }
        self.learner.after_step();
        Ok((loss, outcome.measures))
    }
}
