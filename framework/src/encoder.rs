//! Networks as objectives see them: images in, embeddings out, parameters by name.

use std::sync::{Arc, MutexGuard};

use smallfry_nn::{Parameters, network::Spec};

use crate::tensor::{Features, Plain, Traced};

/// A batch of normalised views in host memory, `[batch, height, width, 3]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageBatch {
    /// Number of images.
    pub batch: usize,
    /// Rows of each.
    pub height: usize,
    /// Columns of each.
    pub width: usize,
    /// Row-major values, channels fastest.
    pub values: Vec<f32>,
}

impl ImageBatch {
    /// The images of some rows, in their order.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn pick(&self, rows: &[usize]) -> Self {
        let size = self.height * self.width * 3;
        let mut values = Vec::with_capacity(rows.len() * size);
        for &row in rows {
            values.extend_from_slice(&self.values[row * size..(row + 1) * size]);
        }
        Self {
            batch: rows.len(),
            values,
            ..*self
        }
    }
}

/// A backbone with a head on it.
pub trait Encoder {
    /// Width of the embeddings.
    fn width(&self) -> usize;

    /// Embeddings `[batch, width]` on a tape: batch statistics, running statistics updated, dropout drawn from `draw`.
    /// Backward adds to the gradients of [`parameters`](Self::parameters).
    fn train(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Traced<Features>;

    /// Embeddings as in training, but nothing is recorded: the pass of a momentum encoder.
    fn momentum(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Plain<Features>;

    /// Embeddings with running statistics and no randomness.
    fn embed(&self, images: &Arc<ImageBatch>) -> Plain<Features>;

    /// Weights, gradients and statistics under their reference names; not to be held across a pass.
    fn parameters(&self) -> MutexGuard<'_, Parameters>;

    /// The entries of [`parameters`](Self::parameters), for whoever wants no content: that of a large network takes time
    /// to draw and memory to hold, and may be replaced at once.
    fn specs(&self) -> Vec<Spec> {
        self.parameters().specs().to_vec()
    }

    /// The encoder as a function of its images, for objectives that change those, as an attack on views does. None where
    /// it gives no gradient of images.
    fn of_images(&mut self) -> Option<&mut dyn OfImages> {
        None
    }
}

/// An encoder as a function of its images.
pub trait OfImages {
    /// Embeddings `[batch, width]`, and what turns their gradient into that of the images. Neither pass leaves a trace in
    /// the gradients of parameters; with [`Normalised::AsInTraining`] running statistics move.
    fn trace(
        &mut self,
        images: &Arc<ImageBatch>,
        normalised: Normalised,
    ) -> (Plain<Features>, Pullback);
}

/// From the gradient of embeddings, `[batch, width]` row-major, to that of the images, in the order of
/// [`ImageBatch::values`].
pub type Pullback = Box<dyn FnOnce(&[f32]) -> Vec<f32>>;

/// What a pass normalises with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalised {
    /// Running statistics, which stay as they are, and no randomness: an image's embedding is its own.
    AsInInference,
    /// Batch statistics, through which images act on each other's embeddings, and dropout.
    AsInTraining {
        /// Key of the pass's random numbers.
        draw: u64,
    },
}
