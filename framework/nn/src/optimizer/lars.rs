//! Layer-wise adaptive rate scaling (You et al. 2017), for large batches.

use std::ops::Range;

use rayon::prelude::*;

use super::{CHUNK, cut, pieces, squares};
use crate::parameter::Parameters;

/// The constants of a step of LARS, in the form that self-supervised methods use: the trust ratio scales what enters
/// the velocity, not the velocity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lars {
    /// Learning rate.
    pub rate: f32,
    /// Share of the last velocity that is kept.
    pub momentum: f32,
    /// Weight decay, added to the gradient.
    pub decay: f32,
    /// How long an update is, as a share of its tensor's length, at a learning rate of 1.
    pub trust: f32,
}

impl Lars {
    /// One step: u = g + decay · w, v ← momentum · v + q u, then w ← w − rate · v, with q = trust · ‖w‖ / ‖u‖ for each
    /// tensor (1 where either is 0). `tensors` are the places of the tensors and ascend.
    ///
    /// `velocity` is laid out as [`Parameters::values`] and starts as zeros.
    ///
    /// # Panics
    /// If `velocity` has another length, or a range does not fit.
    pub fn step(self, parameters: &mut Parameters, velocity: &mut [f32], tensors: &[Range<usize>]) {
        let (values, gradients) = parameters.values_and_gradients_mut();
        assert_eq!(values.len(), velocity.len(), "one velocity for each value");
        let gradients = pieces(gradients, tensors);
        let lengths: Vec<(f64, f64)> = pieces(values, tensors)
            .into_par_iter()
            .zip(&gradients)
            .map(|(values, gradients)| self.lengths(values, gradients))
            .collect();
        let mut lengths = lengths.into_iter();
        let ratios = tensors.iter().flat_map(|range| {
            let chunks = range.len().div_ceil(CHUNK);
            let sums = lengths.by_ref().take(chunks);
            let (w, u) = sums.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
            let ratio = match w > 0.0 && u > 0.0 {
                true => (f64::from(self.trust) * w.sqrt() / u.sqrt()) as f32,
                false => 1.0,
            };
            std::iter::repeat_n(ratio, chunks)
        });
        let ratios: Vec<f32> = ratios.collect();
        cut(values, tensors)
            .into_par_iter()
            .zip(gradients)
            .zip(cut(velocity, tensors))
            .zip(ratios)
            .for_each(|(((values, gradients), velocity), ratio)| {
                for ((w, g), v) in values.iter_mut().zip(gradients).zip(velocity) {
                    *v = self.momentum * *v + ratio * (g + self.decay * *w);
                    *w -= self.rate * *v;
                }
            });
    }

    /// The sums of squares of w and of g + decay · w.
    fn lengths(self, values: &[f32], gradients: &[f32]) -> (f64, f64) {
        // In blocks that stay in the first-level cache.
        const BLOCK: usize = 512;
        let mut updates = [0.0; BLOCK];
        let mut sum = 0.0;
        for (values, gradients) in values.chunks(BLOCK).zip(gradients.chunks(BLOCK)) {
            let updates = &mut updates[..values.len()];
            for ((u, w), g) in updates.iter_mut().zip(values).zip(gradients) {
                *u = g + self.decay * w;
            }
            sum += squares(updates);
        }
        (squares(values), sum)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{assert_close, fill, parameters},
        *,
    };
    use crate::network::Role;

    #[test]
    fn steps_are_those_of_a_slow_implementation() {
        let mut p = parameters(&[
            (70_000, Role::Weight),
            (3, Role::Frozen),
            (700, Role::Weight),
        ]);
        let tensors = [0..70_000, 70_003..70_703];
        let mut velocity = vec![0.0; p.values().len()];
        let mut w: Vec<f64> = p.values().iter().map(|&w| f64::from(w)).collect();
        let mut v = vec![0.0; w.len()];
        let lars = Lars {
            rate: 0.5,
            momentum: 0.9,
            decay: 0.01,
            trust: 0.125,
        };
        for step in 0..5 {
            fill(p.values_and_gradients_mut().1, 0.1 + f64::from(step), 0.3);
            for tensor in &tensors {
                let range = tensor.clone();
                let updates: Vec<f64> = range
                    .map(|i| f64::from(p.gradients()[i]) + 0.01 * w[i])
                    .collect();
                let length = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
                let ratio = 0.125 * length(&w[tensor.clone()]) / length(&updates);
                for (i, update) in tensor.clone().zip(updates) {
                    v[i] = 0.9 * v[i] + ratio * update;
                    w[i] -= 0.5 * v[i];
                }
            }
            lars.step(&mut p, &mut velocity, &tensors);
        }
        assert_close(p.values(), &w);
        assert_close(&velocity, &v);
    }

    #[test]
    fn a_tensor_of_zeros_takes_the_plain_step() {
        let mut p = parameters(&[(4, Role::Weight), (4, Role::Weight)]);
        p.values_mut().fill(0.0);
        let (_, gradients) = p.values_and_gradients_mut();
        gradients.copy_from_slice(&[1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let lars = Lars {
            rate: 0.5,
            momentum: 0.9,
            decay: 0.5,
            trust: 0.001,
        };
        lars.step(&mut p, &mut [0.0; 8], &[0..4, 4..8]);
        assert_eq!(p.values(), [-0.5, -0.5, -0.5, -0.5, 0.0, 0.0, 0.0, 0.0]);
    }
}
