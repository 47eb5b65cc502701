//! The state before a step, kept so that a step without a number leaves nothing behind.
//!
//! Weights of trained encoders move in the optimiser's step, which such a step never takes. What does move before it is
//! little: running statistics, the weights of a momentum encoder, the rows of a queue that a batch overwrites. Only
//! these are copied, before every step.

use smallfry_nn::Parameters;

use crate::objective::{Buffer, Learner};

/// What the losses of a step may change, as it was before them.
#[derive(Default)]
pub(super) struct Before {
    encoders: Vec<Shadow>,
    /// None where the learner remembers them itself.
    buffers: Option<Vec<Buffer>>,
}

/// An encoder as it was.
#[derive(Default)]
struct Shadow {
    /// Version of the parameters that this is a copy of; none before the first copy.
    version: Option<u64>,
    /// Empty for a trained encoder, whose values stay.
    values: Vec<f32>,
    statistics: Vec<f32>,
    counters: Vec<u64>,
}

impl Shadow {
    /// Copies what may change. Parameters that nobody touched since, such as a teacher's, are not copied again.
    fn note(&mut self, parameters: &Parameters, trained: bool) {
        if self.version == Some(parameters.version()) {
            return;
        }
        self.version = Some(parameters.version());
        if !trained {
            copy(&mut self.values, parameters.values());
        }
        copy(&mut self.statistics, parameters.statistics());
        copy(&mut self.counters, parameters.counters());
    }

    fn put_back(&mut self, parameters: &mut Parameters) {
        if self.version == Some(parameters.version()) {
            return;
        }
        if !self.values.is_empty() {
            parameters.values_mut().copy_from_slice(&self.values);
        }
        parameters
            .statistics_mut()
            .copy_from_slice(&self.statistics);
        parameters.counters_mut().copy_from_slice(&self.counters);
        self.version = Some(parameters.version());
    }
}

impl Before {
    /// Remembers the state of `learner`; called before the first loss of a step.
    pub(super) fn note(&mut self, learner: &mut dyn Learner) {
        self.buffers = match learner.mark() {
            true => None,
            false => Some(learner.buffers()),
        };
        let trained = learner.trained();
        let encoders = learner.encoders();
        self.encoders.resize_with(encoders.len(), Shadow::default);
        for (shadow, (name, encoder)) in self.encoders.iter_mut().zip(encoders) {
            shadow.note(&encoder.parameters(), trained.contains(&name));
        }
    }

    /// Puts `learner` back into the state last noted.
    pub(super) fn put_back(&mut self, learner: &mut dyn Learner) {
        learner.undo();
        for buffer in self.buffers.take().unwrap_or_default() {
            let restored = learner.restore(buffer);
            restored.expect("a learner takes its own buffers back");
        }
        for (shadow, (_, encoder)) in self.encoders.iter_mut().zip(learner.encoders()) {
            shadow.put_back(&mut encoder.parameters());
        }
    }
}

fn copy<T: Copy>(target: &mut Vec<T>, source: &[T]) {
    target.clear();
    target.extend_from_slice(source);
}
