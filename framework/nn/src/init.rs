//! How parameters start.
//!
//! Every tensor has its own stream of random numbers, keyed by the seed and the tensor's name, and every element its
//! own place in the stream. So a tensor's start depends neither on the order of the network's layers nor on which
//! layers it has besides: two networks that share a trunk share its start.

use rayon::prelude::*;

use crate::random::{Key, unit};

/// The distribution a parameter is drawn from when no checkpoint fills it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element is this value.
    Constant(f32),
    /// N(0, σ²).
    Normal(f32),
    /// N(0, 2 / (kernel² · output channels)), not divided by groups.
    FanOut,
    /// U(−1/√fan_in, 1/√fan_in) with the fan-in of the layer's weight, PyTorch's default for layers.
    FanIn {
        /// Product of the weight's sizes but the first.
        fan_in: usize,
    },
}

impl crate::Parameters {
    /// Draws every tensor from its distribution; each has its own stream, derived from `seed` and its name.
    ///
    /// Counters become 0 and gradients are left alone.
    pub fn initialise(&mut self, seed: u64) {
        for i in 0..self.specs().len() {
            let spec = &self.specs()[i];
            let key = Key::of(seed, &spec.name);
            let init = spec.init;
            // Sizes but the second: output channels times the kernel's area.
            let fan_out: usize = spec
                .shape
                .iter()
                .enumerate()
                .filter(|(axis, _)| *axis != 1)
                .map(|(_, size)| size)
                .product();
            let values = self.floats_mut(i);
            match init {
                Init::Constant(value) => values.fill(value),
                Init::Normal(deviation) => normal(key, deviation.into(), values),
                Init::FanOut => normal(key, (2.0 / fan_out as f64).sqrt(), values),
                Init::FanIn { fan_in } => uniform(key, 1.0 / (fan_in as f64).sqrt(), values),
            }
            self.set_counter(i, 0);
        }
    }
}

/// Elements drawn by one task.
const CHUNK: usize = 1 << 14;

fn uniform(key: Key, bound: f64, values: &mut [f32]) {
    each_chunk(values, |i, value| {
        *value = (bound * (2.0 * unit(key.at(i)) - 1.0)) as f32;
    });
}

/// Box and Muller's transform; an even element takes the cosine and its odd neighbour the sine of the same pair.
fn normal(key: Key, deviation: f64, values: &mut [f32]) {
    each_chunk(values, |i, value| {
        let first = i & !1;
        // In (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - unit(key.at(first))).ln()).sqrt();
        let angle = std::f64::consts::TAU * unit(key.at(first + 1));
        let part = if i == first { angle.cos() } else { angle.sin() };
        *value = (deviation * radius * part) as f32;
    });
}

fn each_chunk(values: &mut [f32], draw: impl Fn(u64, &mut f32) + Sync) {
    values
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(chunk, values)| {
            for (i, value) in values.iter_mut().enumerate() {
                draw((chunk * CHUNK + i) as u64, value);
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Parameters,
        network::{Role, Spec},
    };

    fn spec(name: &str, shape: &[usize], init: Init) -> Spec {
        Spec {
            name: name.into(),
            shape: shape.into(),
            role: Role::Weight,
            init,
        }
    }

    fn drawn(specs: Vec<Spec>, seed: u64) -> Parameters {
        let mut parameters = Parameters::new(specs);
        parameters.initialise(seed);
        parameters
    }

    /// Mean, deviation and fourth moment over deviation⁴.
    fn moments(values: &[f32]) -> (f64, f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let moment = |p| {
            values
                .iter()
                .map(|&v| (f64::from(v) - mean).powi(p))
                .sum::<f64>()
                / n
        };
        (mean, moment(2).sqrt(), moment(4) / moment(2).powi(2))
    }

    #[test]
    fn distributions_have_their_moments() {
        let p = drawn(
            vec![
                spec("normal", &[100_000], Init::Normal(0.01)),
                spec("conv", &[64, 32, 7, 7], Init::FanOut),
                spec("linear", &[100, 1000], Init::FanIn { fan_in: 1000 }),
            ],
            3,
        );
        let (mean, deviation, fourth) = moments(p.weight("normal"));
        assert!(mean.abs() < 1e-4 && (deviation - 0.01).abs() < 1e-4 && (fourth - 3.0).abs() < 0.1);
        let (mean, deviation, _) = moments(p.weight("conv"));
        let expected = (2.0f64 / (49.0 * 64.0)).sqrt();
        assert!(mean.abs() < 3e-4 && (deviation / expected - 1.0).abs() < 0.02);
        let (mean, deviation, fourth) = moments(p.weight("linear"));
        let bound = 1.0 / 1000f64.sqrt();
        assert!(mean.abs() < 3e-4 && (deviation * 3f64.sqrt() / bound - 1.0).abs() < 0.02);
        assert!((fourth - 1.8).abs() < 0.05);
        assert!(
            p.weight("linear")
                .iter()
                .all(|v| f64::from(v.abs()) <= bound)
        );
    }

    #[test]
    fn a_tensor_depends_on_seed_and_name_only() {
        let (a, b) = (
            spec("a", &[7], Init::Normal(1.0)),
            spec("b", &[7], Init::Normal(1.0)),
        );
        let both = drawn(vec![a.clone(), b.clone()], 1);
        assert_eq!(both.weight("b"), drawn(vec![b], 1).weight("b"));
        assert_ne!(both.weight("a"), both.weight("b"));
        assert_ne!(both.weight("a"), drawn(vec![a], 2).weight("a"));
    }
}
