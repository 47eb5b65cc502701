//! Fused passes over the parameter arena.
//!
//! A step reads and writes every array once. The arrays are cut into fixed chunks that all threads share; as elements do
//! not depend on each other, the cut does not show in the result.

use std::ops::Range;

use rayon::prelude::*;

use crate::parameter::Parameters;

/// The constants of a step of stochastic gradient descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub rate: f32,
    /// Share of the last velocity that is kept.
    pub momentum: f32,
    /// Weight decay, added to the gradient.
    pub decay: f32,
}

/// Elements of a chunk: three arrays of it fit into the second-level cache.
const CHUNK: usize = 1 << 15;

impl Sgd {
    /// One step: v ← momentum · v + (g + decay · w), then w ← w − rate · v, for the trained tensors at `ranges`
    /// (see [`Parameters::trained_ranges`]).
    ///
    /// `velocity` is laid out as [`Parameters::values`] and starts as zeros, which makes the first velocity
    /// g + decay · w, as in PyTorch.
    ///
    /// # Panics
    /// If `velocity` has another length, or a range does not fit.
    pub fn step(self, parameters: &mut Parameters, velocity: &mut [f32], ranges: &[Range<usize>]) {
        let (values, gradients) = parameters.values_and_gradients_mut();
        assert_eq!(values.len(), velocity.len(), "one velocity for each value");
        for range in ranges {
            let values = values[range.clone()].par_chunks_mut(CHUNK);
            let gradients = gradients[range.clone()].par_chunks(CHUNK);
            let velocity = velocity[range.clone()].par_chunks_mut(CHUNK);
            values
                .zip(gradients)
                .zip(velocity)
                .for_each(|((values, gradients), velocity)| {
                    for ((w, g), v) in values.iter_mut().zip(gradients).zip(velocity) {
                        *v = self.momentum * *v + (g + self.decay * *w);
                        *w -= self.rate * *v;
                    }
                });
        }
    }
}

/// Moves every value of `target` towards that of `source`: t ← momentum · t + (1 − momentum) · s. Statistics and counters
/// stay: a momentum encoder keeps its own.
///
/// # Panics
/// If the two differ in layout.
pub fn average(target: &mut Parameters, source: &Parameters, momentum: f64) {
    assert!(
        target.specs().len() == source.specs().len()
            && target.values().len() == source.values().len(),
        "both are parameters of the same network"
    );
    // The rest is taken in double precision, as in the reference: 1 − 0.999 in single is off by 2 in 100,000.
    let (momentum, rest) = (momentum as f32, (1.0 - momentum) as f32);
    target
        .values_mut()
        .par_chunks_mut(CHUNK)
        .zip(source.values().par_chunks(CHUNK))
        .for_each(|(target, source)| {
            for (t, s) in target.iter_mut().zip(source) {
                *t = momentum * *t + rest * s;
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        init::Init,
        network::{Role, Spec},
    };

    fn parameters(value: f32) -> Parameters {
        let specs = [
            ("a", Role::Weight),
            ("f", Role::Frozen),
            ("b", Role::Weight),
        ];
        let specs = specs.map(|(name, role)| Spec {
            name: name.into(),
            shape: vec![3],
            role,
            init: Init::Constant(value),
        });
        let mut parameters = Parameters::new(specs.into());
        parameters.initialise(0);
        parameters
    }

    #[test]
    fn two_steps_by_hand_and_frozen_tensors_stay() {
        let mut p = parameters(1.0);
        p.values_and_gradients_mut().1.fill(0.5);
        let ranges = p.trained_ranges();
        assert_eq!(ranges, [0..3, 6..9]);
        let mut velocity = vec![0.0; 9];
        let sgd = Sgd {
            rate: 0.1,
            momentum: 0.5,
            decay: 0.25,
        };
        sgd.step(&mut p, &mut velocity, &ranges);
        // v = 0.5 + 0.25, w = 1 − 0.075
        assert_eq!((velocity[0], p.values()[8]), (0.75, 0.925));
        sgd.step(&mut p, &mut velocity, &ranges);
        // v = 0.375 + 0.5 + 0.25 · 0.925, w = 0.925 − 0.1 v
        assert!((velocity[0] - 1.10625).abs() < 1e-6 && (p.values()[0] - 0.814_375).abs() < 1e-6);
        assert_eq!((p.weight("f"), velocity[4]), (&[1.0; 3][..], 0.0));
    }

    #[test]
    fn an_average_moves_values_only() {
        let (mut target, source) = (parameters(1.0), parameters(3.0));
        average(&mut target, &source, 0.75);
        assert_eq!(target.values(), [1.5; 9]);
    }
}
