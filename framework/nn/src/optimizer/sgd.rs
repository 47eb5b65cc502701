//! Stochastic gradient descent with momentum.

use std::ops::Range;

use rayon::prelude::*;

use super::{cut, pieces};
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
    /// Whether the gradient is looked at where the velocity leads (Nesterov), in PyTorch's form.
    pub nesterov: bool,
}

impl Sgd {
    /// One step: v ← momentum · v + (g + decay · w), then w ← w − rate · v, for the trained tensors at `ranges`, which
    /// ascend (see [`Parameters::trained_ranges`]). With `nesterov`, w ← w − rate · (g + decay · w + momentum · v).
    ///
    /// `velocity` is laid out as [`Parameters::values`] and starts as zeros, which makes the first velocity
    /// g + decay · w, as in PyTorch.
    ///
    /// # Panics
    /// If `velocity` has another length, or a range does not fit.
    pub fn step(self, parameters: &mut Parameters, velocity: &mut [f32], ranges: &[Range<usize>]) {
        let (values, gradients) = parameters.values_and_gradients_mut();
        assert_eq!(values.len(), velocity.len(), "one velocity for each value");
        cut(values, ranges)
            .into_par_iter()
            .zip(pieces(gradients, ranges))
            .zip(cut(velocity, ranges))
            .for_each(|((values, gradients), velocity)| match self.nesterov {
                false => self.heavy(values, gradients, velocity),
                true => self.ahead(values, gradients, velocity),
            });
    }

    fn heavy(self, values: &mut [f32], gradients: &[f32], velocity: &mut [f32]) {
        for ((w, g), v) in values.iter_mut().zip(gradients).zip(velocity) {
            *v = self.momentum * *v + (g + self.decay * *w);
            *w -= self.rate * *v;
        }
    }

    fn ahead(self, values: &mut [f32], gradients: &[f32], velocity: &mut [f32]) {
        for ((w, g), v) in values.iter_mut().zip(gradients).zip(velocity) {
            let slope = g + self.decay * *w;
            *v = self.momentum * *v + slope;
            *w -= self.rate * (slope + self.momentum * *v);
        }
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
    fn two_steps_by_hand_and_frozen_tensors_stay() {
        let roles = [(3, Role::Weight), (3, Role::Frozen), (3, Role::Weight)];
        let mut p = parameters(&roles);
        p.values_mut().fill(1.0);
        p.values_and_gradients_mut().1.fill(0.5);
        let ranges = p.trained_ranges();
        assert_eq!(ranges, [0..3, 6..9]);
        let mut velocity = vec![0.0; 9];
        let sgd = Sgd {
            rate: 0.1,
            momentum: 0.5,
            decay: 0.25,
            nesterov: false,
        };
        sgd.step(&mut p, &mut velocity, &ranges);
        // v = 0.5 + 0.25, w = 1 − 0.075
        assert_eq!((velocity[0], p.values()[8]), (0.75, 0.925));
        sgd.step(&mut p, &mut velocity, &ranges);
        // v = 0.375 + 0.5 + 0.25 · 0.925, w = 0.925 − 0.1 v
        assert!((velocity[0] - 1.10625).abs() < 1e-6 && (p.values()[0] - 0.814_375).abs() < 1e-6);
        assert_eq!((p.weight("tensor1"), velocity[4]), (&[1.0; 3][..], 0.0));
    }

    #[test]
    fn nesterov_is_that_of_a_slow_implementation() {
        let mut p = parameters(&[(40_000, Role::Weight)]);
        let sgd = Sgd {
            rate: 0.1,
            momentum: 0.9,
            decay: 0.01,
            nesterov: true,
        };
        let mut velocity = vec![0.0; 40_000];
        let mut w: Vec<f64> = p.values().iter().map(|&w| f64::from(w)).collect();
        let mut v = vec![0.0; w.len()];
        for step in 0..5 {
            fill(p.values_and_gradients_mut().1, 0.1 + f64::from(step), 0.3);
            for ((w, v), g) in w.iter_mut().zip(&mut v).zip(p.gradients()) {
                let slope = f64::from(*g) + 0.01 * *w;
                *v = 0.9 * *v + slope;
                *w -= 0.1 * (slope + 0.9 * *v);
            }
            let ranges = p.trained_ranges();
            sgd.step(&mut p, &mut velocity, &ranges);
        }
        assert_close(p.values(), &w);
        assert_close(&velocity, &v);
    }
}
