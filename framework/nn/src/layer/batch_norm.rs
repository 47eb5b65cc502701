//! Batch normalisation over the rows of a tensor.
//!
//! The normalised tensor is never a step of its own: a layer gets scale and shift from here and applies them where it
//! reads or writes the raw tensor anyway. Training normalises with the biased variance and keeps the unbiased one in
//! the running statistics, as PyTorch does.

use std::ops::Range;

use super::{
    rowwise::{Affine, GradientSums, Moments},
    running::Running,
};
use crate::{network::Norm, parameter::Parameters};

/// A batch norm of a planned layer.
#[derive(Clone, Debug)]
pub(crate) struct BatchNorm {
    epsilon: f64,
    weight: Range<usize>,
    bias: Range<usize>,
    running: Running,
    /// 1 / deviation, and −mean / deviation.
    standard: [Vec<f32>; 2],
    scale: Vec<f32>,
    shift: Vec<f32>,
    coefficients: [Vec<f32>; 3],
    count: f64,
}

impl BatchNorm {
    /// The batch norm that `norm` describes, on `channels` channels.
    pub fn new(norm: &Norm, channels: usize, parameters: &Parameters) -> Self {
        let name = |last| format!("{}.{last}", norm.name);
        let zeros = || vec![0.0; channels];
        Self {
            epsilon: norm.epsilon.into(),
            weight: parameters.weight_place(&name("weight")),
            bias: parameters.weight_place(&name("bias")),
            running: Running::new(norm, parameters),
            standard: [zeros(), zeros()],
            scale: zeros(),
            shift: zeros(),
            coefficients: [zeros(), zeros(), zeros()],
            count: 0.0,
        }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.scale.len()
    }

    /// Takes the batch's own statistics, and moves the running ones towards them.
    pub fn take_batch(&mut self, moments: &Moments, parameters: &mut Parameters) {
        let count = moments.count();
        self.count = count;
        let unbiased = (count - 1.0).max(1.0);
        for c in 0..self.channels() {
            let (mean, squares) = (moments.mean()[c], moments.squares()[c]);
            self.set(c, mean, squares / count, parameters);
            self.running.follow(c, mean, squares / unbiased, parameters);
        }
        self.running.count(parameters);
    }

    /// Takes the running statistics.
    pub fn take_running(&mut self, parameters: &Parameters) {
        // No image changes them: what the gradient owes to statistics is an infinite number's part of it.
        self.count = f64::INFINITY;
        for c in 0..self.channels() {
            let (mean, variance) = self.running.channel(c, parameters);
            self.set(c, mean, variance, parameters);
        }
    }

    fn set(&mut self, c: usize, mean: f64, variance: f64, parameters: &Parameters) {
        let inverse = 1.0 / (variance + self.epsilon).sqrt();
        let weight = f64::from(parameters.values()[self.weight.start + c]);
        let bias = f64::from(parameters.values()[self.bias.start + c]);
        self.standard[0][c] = inverse as f32;
        self.standard[1][c] = (-mean * inverse) as f32;
        self.scale[c] = (weight * inverse) as f32;
        self.shift[c] = (bias - weight * mean * inverse) as f32;
    }

    /// The map from the raw tensor to the normalised one.
    pub fn affine(&self) -> Affine<'_> {
        Affine {
            scale: &self.scale,
            shift: &self.shift,
        }
    }

    /// The map from the raw tensor to mean 0 and deviation 1.
    pub fn standard(&self) -> Affine<'_> {
        Affine {
            scale: &self.standard[0],
            shift: &self.standard[1],
        }
    }

    /// Adds the gradients of weight and bias, and works out the gradient of the raw tensor.
    pub fn gradient(&mut self, sums: &GradientSums, parameters: &mut Parameters) {
        let (values, gradients) = parameters.values_and_gradients_mut();
        for c in 0..self.channels() {
            let (plain, normalised) = (sums.plain[c], sums.normalised[c]);
            gradients[self.weight.start + c] += normalised as f32;
            gradients[self.bias.start + c] += plain as f32;
            // d = w/σ (dz − Σdz/M − x̂ Σ(dz x̂)/M) with x̂ = x/σ − mean/σ.
            let factor = f64::from(values[self.weight.start + c]) * f64::from(self.standard[0][c]);
            let slope = -factor * normalised / self.count;
            self.coefficients[0][c] = factor as f32;
            self.coefficients[1][c] = (slope * f64::from(self.standard[0][c])) as f32;
            self.coefficients[2][c] =
                (slope * f64::from(self.standard[1][c]) - factor * plain / self.count) as f32;
        }
    }

    /// The gradient of the raw tensor x is the first · dz + the second · x + the third.
    pub fn coefficients(&self) -> [&[f32]; 3] {
        let [a, b, c] = &self.coefficients;
        [a, b, c]
    }
}
