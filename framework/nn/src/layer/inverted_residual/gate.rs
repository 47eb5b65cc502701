//! Squeeze-excite on the channel means of a batch.
//!
//! Matrices are kept with the batch as the fast direction, `[channels, batch]`: then every product of both passes takes
//! the weights as they lie in the state dict, and nothing is transposed but a few thousand means.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    kernel::{
        Level,
        activation::{scalar, scalar_slope},
    },
    layer::place::{product, product_tn},
    network::{Activation, Gate as Function, SqueezeExcite},
    parameter::Parameters,
};

/// Channels that a task takes: neighbours in the rows of an image.
const CHANNELS: usize = 64;
/// Images that a task takes.
const IMAGES: usize = 8;

/// The two fully connected layers of a block's gate.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    channels: usize,
    padded: usize,
    width: usize,
    batch: usize,
    activation: Activation,
    function: Function,
    /// The gate multiplies the activation after the depthwise norm (its input otherwise).
    pub after: bool,
    reduce: [Range<usize>; 2],
    expand: [Range<usize>; 2],
    /// `[channels, batch]`: means of the channels, and the input of the gate function.
    means: Vec<f32>,
    inputs: Vec<f32>,
    /// `[width, batch]`: the inner layer before and after its activation.
    inner: Vec<f32>,
    activated: Vec<f32>,
    /// `[batch, padded]`: the factors.
    pub factors: Vec<f32>,
    /// Backward's memory, in the layouts of the above.
    inputs_gradient: Vec<f32>,
    inner_gradient: Vec<f32>,
    transposed: [Vec<f32>; 4],
}

impl Gate {
    pub fn new(
        description: &SqueezeExcite,
        channels: usize,
        batch: usize,
        parameters: &Parameters,
    ) -> Self {
        let place = |prefix: &str| {
            ["weight", "bias"].map(|last| parameters.weight_place(&format!("{prefix}.{last}")))
        };
        let (width, padded) = (description.width, channels.next_multiple_of(16));
        let outer = || vec![0.0; channels * batch];
        let inner = || vec![0.0; width * batch];
        Self {
            channels,
            padded,
            width,
            batch,
            activation: description.activation,
            function: description.gate,
            after: description.after_activation,
            reduce: place(&description.reduce),
            expand: place(&description.expand),
            means: outer(),
            inputs: outer(),
            inner: inner(),
            activated: inner(),
            factors: vec![0.0; batch * padded],
            inputs_gradient: outer(),
            inner_gradient: inner(),
            transposed: [outer(), inner(), outer(), inner()],
        }
    }

    /// Computes the factors from the means that `mean(image, channel)` gives.
    pub fn forward(
        &mut self,
        level: Level,
        parameters: &Parameters,
        mean: impl Fn(usize, usize) -> f32 + Sync,
    ) {
        let (n, w, b) = (self.channels, self.width, self.batch);
        let values = parameters.values();
        self.means
            .par_chunks_mut(CHANNELS * b)
            .enumerate()
            .for_each(|(task, means)| {
                for image in 0..b {
                    for (c, row) in means.chunks_exact_mut(b).enumerate() {
                        row[image] = mean(image, task * CHANNELS + c);
                    }
                }
            });
        let [weight, bias] = self.reduce.clone().map(|place| &values[place]);
        product(level, [w, n, b], weight, &self.means, &mut self.inner);
        for (i, bias) in bias.iter().enumerate() {
            for e in i * b..(i + 1) * b {
                self.inner[e] += bias;
                self.activated[e] = scalar(self.activation, self.inner[e]);
            }
        }
        let [weight, bias] = self.expand.clone().map(|place| &values[place]);
        product(level, [n, w, b], weight, &self.activated, &mut self.inputs);
        for (row, bias) in self.inputs.chunks_exact_mut(b).zip(bias) {
            row.iter_mut().for_each(|z| *z += bias);
        }
        let (inputs, function) = (&self.inputs, self.function);
        self.factors
            .par_chunks_mut(self.padded)
            .with_min_len(IMAGES)
            .enumerate()
            .for_each(|(image, factors)| {
                for (factor, row) in factors.iter_mut().zip(inputs.chunks_exact(b)) {
                    let z = row[image];
                    *factor = match function {
                        Function::HardSigmoid => (z / 6.0 + 0.5).clamp(0.0, 1.0),
                        Function::Sigmoid => 1.0 / (1.0 + (-z).exp()),
                    };
                }
            });
    }

    /// Adds the weights' gradients, given those of the factors, and writes those of the means to `means`
    /// `[batch, padded]`.
    pub fn backward(
        &mut self,
        level: Level,
        parameters: &mut Parameters,
        gradient: impl Fn(usize, usize) -> f32 + Sync,
        means: &mut [f32],
    ) {
        let (n, w, b) = (self.channels, self.width, self.batch);
        let (values, gradients) = parameters.values_and_gradients_mut();
        let (padded, function) = (self.padded, self.function);
        let (inputs, factors) = (&self.inputs, &self.factors);
        gradients[self.expand[1].clone()]
            .par_chunks_mut(CHANNELS)
            .zip(self.inputs_gradient.par_chunks_mut(CHANNELS * b))
            .enumerate()
            .for_each(|(task, (bias, rows))| {
                let first = task * CHANNELS;
                for image in 0..b {
                    for (c, row) in rows.chunks_exact_mut(b).enumerate() {
                        let z = inputs[(first + c) * b + image];
                        let slope = match function {
                            Function::HardSigmoid if z > -3.0 && z < 3.0 => 1.0 / 6.0,
                            Function::HardSigmoid => 0.0,
                            Function::Sigmoid => {
                                let y = factors[image * padded + first + c];
                                y * (1.0 - y)
                            }
                        };
                        row[image] = slope * gradient(image, first + c);
                    }
                }
                for (bias, row) in bias.iter_mut().zip(rows.chunks_exact(b)) {
                    *bias += row.iter().fold(0.0, |sum, d| sum + d);
                }
            });
        let [d_inputs, activated, means_t, d_inner] = &mut self.transposed;
        transpose(&self.inputs_gradient, b, d_inputs, n);
        transpose(&self.activated, b, activated, w);
        let weight = &mut gradients[self.expand[0].clone()];
        product_tn(level, [b, n, w], d_inputs, activated, weight);

        self.inner_gradient.fill(0.0);
        let weight = &values[self.expand[0].clone()];
        let (inputs, inner) = (&self.inputs_gradient, &mut self.inner_gradient);
        product_tn(level, [n, w, b], weight, inputs, inner);
        for i in 0..w {
            let mut sum = 0.0;
            for e in i * b..(i + 1) * b {
                self.inner_gradient[e] *= scalar_slope(self.activation, self.inner[e]);
                sum += self.inner_gradient[e];
            }
            gradients[self.reduce[1].start + i] += sum;
        }
        transpose(&self.inner_gradient, b, d_inner, w);
        transpose(&self.means, b, means_t, n);
        let weight = &mut gradients[self.reduce[0].clone()];
        product_tn(level, [b, w, n], d_inner, means_t, weight);

        // The gradient of the means takes the place of that of the gate's inputs, which is not needed any more.
        let d_means = &mut self.inputs_gradient;
        d_means.fill(0.0);
        let weight = &values[self.reduce[0].clone()];
        product_tn(level, [w, n, b], weight, &self.inner_gradient, d_means);
        transpose(d_means, b, means, padded);
    }
}

/// The columns of `from`, whose rows have `columns` numbers, to rows of `to` that are `stride` apart.
fn transpose(from: &[f32], columns: usize, to: &mut [f32], stride: usize) {
    to.par_chunks_mut(stride)
        .with_min_len(IMAGES)
        .enumerate()
        .for_each(|(c, to)| {
            for (to, row) in to.iter_mut().zip(from.chunks_exact(columns)) {
                *to = row[c];
            }
        });
}
