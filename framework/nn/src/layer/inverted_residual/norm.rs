//! The channel statistics of one batch norm of a block.
//!
//! Arrays are padded with zeros to a multiple of 16 channels, as the kernels want them. Sums are taken and turned into
//! coefficients in double precision.

use std::ops::Range;

use crate::{layer::running::Running, network::Norm as Description, parameter::Parameters};

/// A batch norm: where its parameters are, its statistics, and what follows from them.
#[derive(Clone, Debug)]
pub(in crate::layer) struct Norm {
    channels: usize,
    epsilon: f64,
    weight: Range<usize>,
    bias: Range<usize>,
    running: Running,
    /// Pixels that the statistics were taken over; infinite for running ones, which none of the batch's changes.
    count: f64,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// γ and β.
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    /// xhat = inverse · x + negative.
    pub inverse: Vec<f32>,
    pub negative: Vec<f32>,
    /// The normalised tensor is scale · x + shift.
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

impl Norm {
    pub fn new(description: &Description, channels: usize, parameters: &Parameters) -> Self {
        let name = |last| format!("{}.{last}", description.name);
        let zeros = || vec![0.0; channels.next_multiple_of(16)];
        Self {
            channels,
            epsilon: description.epsilon.into(),
            weight: parameters.weight_place(&name("weight")),
            bias: parameters.weight_place(&name("bias")),
            running: Running::new(description, parameters),
            count: 1.0,
            mean: vec![0.0; channels],
            deviation: vec![1.0; channels],
            gamma: zeros(),
            beta: zeros(),
            inverse: zeros(),
            negative: zeros(),
            scale: zeros(),
            shift: zeros(),
        }
    }

    /// Takes mean and biased variance of a batch of `count` pixels per channel, and moves the running ones.
    pub fn take_batch(
        &mut self,
        count: f64,
        moments: impl Fn(usize) -> (f64, f64),
        parameters: &mut Parameters,
    ) {
        self.count = count;
        // The running variance is the unbiased one.
        let unbiased = count / (count - 1.0).max(1.0);
        for c in 0..self.channels {
            let (mean, variance) = moments(c);
            self.set(c, mean, variance, parameters);
            self.running
                .follow(c, mean, variance * unbiased, parameters);
        }
        self.running.count(parameters);
    }

    /// [`take_batch`](Self::take_batch) of per-channel sums and sums of squares.
    pub fn take_sums<'a>(
        &mut self,
        count: f64,
        sums: impl Iterator<Item = &'a [Vec<f64>; 2]> + Clone,
        parameters: &mut Parameters,
    ) {
        let total = |i: usize, c: usize| sums.clone().map(|s| s[i][c]).sum::<f64>();
        let moments = |c| {
            let mean = total(0, c) / count;
            (mean, (total(1, c) / count - mean * mean).max(0.0))
        };
        self.take_batch(count, moments, parameters);
    }

    /// Takes the running statistics.
    pub fn take_running(&mut self, parameters: &Parameters) {
        self.count = f64::INFINITY;
        for c in 0..self.channels {
            let (mean, variance) = self.running.channel(c, parameters);
            self.set(c, mean, variance, parameters);
        }
    }

    fn set(&mut self, c: usize, mean: f64, variance: f64, parameters: &Parameters) {
        let inverse = 1.0 / (variance + self.epsilon).sqrt();
        let gamma = f64::from(parameters.values()[self.weight.start + c]);
        let beta = f64::from(parameters.values()[self.bias.start + c]);
        (self.mean[c], self.deviation[c]) = (mean, inverse);
        (self.gamma[c], self.beta[c]) = (gamma as f32, beta as f32);
        self.inverse[c] = inverse as f32;
        self.negative[c] = (-mean * inverse) as f32;
        self.scale[c] = (gamma * inverse) as f32;
        self.shift[c] = (beta - gamma * mean * inverse) as f32;
    }

    /// Whether the statistics are a batch's own, and so a part of what gradients go through.
    pub fn follows_batch(&self) -> bool {
        self.count.is_finite()
    }

    /// The mean of channel `c`.
    pub fn mean(&self, c: usize) -> f64 {
        self.mean[c]
    }

    /// 1 / deviation of channel `c`.
    pub fn inverse(&self, c: usize) -> f64 {
        self.deviation[c]
    }

    /// Adds the gradients of γ and β of channel `c`, Σ dz·xhat and Σ dz, and returns p, q, r: the gradient of the raw
    /// tensor is p·dz + q·x + r.
    pub fn gradient(
        &self,
        c: usize,
        plain: f64,
        normalised: f64,
        parameters: &mut Parameters,
    ) -> [f64; 3] {
        let (_, gradients) = parameters.values_and_gradients_mut();
        gradients[self.weight.start + c] += normalised as f32;
        gradients[self.bias.start + c] += plain as f32;
        // γ/σ (dz − Σdz/M − xhat Σ(dz·xhat)/M) with xhat = (x − mean)/σ.
        let factor = f64::from(self.gamma[c]) * self.deviation[c];
        let slope = factor * normalised / self.count * self.deviation[c];
        [
            factor,
            -slope,
            slope * self.mean[c] - factor * plain / self.count,
        ]
    }
}
