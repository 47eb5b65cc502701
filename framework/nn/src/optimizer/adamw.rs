//! Adam with decoupled weight decay (Loshchilov & Hutter 2019).

use std::ops::Range;

use rayon::prelude::*;

use super::{cut, pieces};
use crate::parameter::Parameters;

/// The constants of a step of AdamW, as PyTorch defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub rate: f64,
    /// Shares of the last means of the gradient and of its square that are kept.
    pub betas: (f64, f64),
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Weight decay: w loses rate · decay of itself.
    pub decay: f64,
    /// Steps so far, this one included; the means start as zeros, and are scaled up for that.
    pub steps: u64,
}

impl AdamW {
    /// One step: m ← β₁ m + (1 − β₁) g and s ← β₂ s + (1 − β₂) g², then
    /// w ← (1 − rate · decay) w − rate · m̂ / (√ŝ + ε) with m̂ = m / (1 − β₁ᵗ) and ŝ = s / (1 − β₂ᵗ), for the trained
    /// tensors at `ranges`, which ascend.
    ///
    /// `means` and `squares` are laid out as [`Parameters::values`] and start as zeros.
    ///
    /// # Panics
    /// If these have another length, or a range does not fit.
    pub fn step(
        self,
        parameters: &mut Parameters,
        means: &mut [f32],
        squares: &mut [f32],
        ranges: &[Range<usize>],
    ) {
        let (values, gradients) = parameters.values_and_gradients_mut();
        assert!(
            values.len() == means.len() && values.len() == squares.len(),
            "a mean and a square for each value"
        );
        // Whole numbers of steps beyond 2³¹ have no effect on either power any more.
        let power = |beta: f64| beta.powi(i32::try_from(self.steps).unwrap_or(i32::MAX));
        let (first, second) = self.betas;
        let rule = Rule {
            shrink: (1.0 - self.rate * self.decay) as f32,
            first: first as f32,
            first_rest: (1.0 - first) as f32,
            second: second as f32,
            second_rest: (1.0 - second) as f32,
            rate: (self.rate / (1.0 - power(first))) as f32,
            root: (1.0 / (1.0 - power(second)).sqrt()) as f32,
            epsilon: self.epsilon as f32,
        };
        cut(values, ranges)
            .into_par_iter()
            .zip(pieces(gradients, ranges))
            .zip(cut(means, ranges))
            .zip(cut(squares, ranges))
            .for_each(|(((values, gradients), means), squares)| {
                rule.apply(values, gradients, means, squares);
            });
    }
}

/// What does not change from element to element.
#[derive(Clone, Copy)]
struct Rule {
    shrink: f32,
    first: f32,
    first_rest: f32,
    second: f32,
    second_rest: f32,
    /// The learning rate over the first mean's weight so far.
    rate: f32,
    /// One over the root of the second mean's weight so far.
    root: f32,
    epsilon: f32,
}

impl Rule {
    fn apply(self, values: &mut [f32], gradients: &[f32], means: &mut [f32], squares: &mut [f32]) {
        let elements = values.iter_mut().zip(gradients).zip(means).zip(squares);
        for (((w, &g), m), s) in elements {
            *m = self.first * *m + self.first_rest * g;
            *s = self.second * *s + self.second_rest * g * g;
            *w = self.shrink * *w - self.rate * (*m / (self.root * s.sqrt() + self.epsilon));
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
    fn steps_are_those_of_a_slow_implementation() {
        let mut p = parameters(&[(40_000, Role::Weight), (3, Role::Frozen), (5, Role::Weight)]);
        let length = p.values().len();
        let (mut means, mut squares) = (vec![0.0; length], vec![0.0; length]);
        let mut w: Vec<f64> = p.values().iter().map(|&w| f64::from(w)).collect();
        let (mut m, mut s) = (vec![0.0; length], vec![0.0; length]);
        let (rate, decay, epsilon) = (0.01, 0.1, 1e-8);
        for steps in 1..=6 {
            fill(p.values_and_gradients_mut().1, 0.1 + steps as f64, 0.3);
            for i in (0..40_000).chain(40_003..length) {
                let g = f64::from(p.gradients()[i]);
                m[i] = 0.9 * m[i] + 0.1 * g;
                s[i] = 0.999 * s[i] + 0.001 * g * g;
                let mean = m[i] / (1.0 - 0.9f64.powi(steps));
                let square = s[i] / (1.0 - 0.999f64.powi(steps));
                w[i] -= rate * decay * w[i];
                w[i] -= rate * mean / (square.sqrt() + epsilon);
            }
            let rule = AdamW {
                rate,
                betas: (0.9, 0.999),
                epsilon,
                decay,
                steps: steps as u64,
            };
            let ranges = p.trained_ranges();
            rule.step(&mut p, &mut means, &mut squares, &ranges);
        }
        assert_close(p.values(), &w);
        assert_close(&means, &m);
        assert_close(&squares, &s);
    }

    #[test]
    fn the_first_step_is_the_rate_long_whatever_the_gradient() {
        let mut p = parameters(&[(2, Role::Weight)]);
        p.values_mut().fill(1.0);
        p.values_and_gradients_mut()
            .1
            .copy_from_slice(&[1e-3, -50.0]);
        let rule = AdamW {
            rate: 0.125,
            betas: (0.9, 0.999),
            epsilon: 0.0,
            decay: 0.0,
            steps: 1,
        };
        let ranges = p.trained_ranges();
        rule.step(&mut p, &mut [0.0; 2], &mut [0.0; 2], &ranges);
        assert!((p.values()[0] - 0.875).abs() < 1e-6 && (p.values()[1] - 1.125).abs() < 1e-6);
    }
}
