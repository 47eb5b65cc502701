//! Networks as objectives see them: images in, embeddings out, parameters by name.

use std::sync::{Arc, MutexGuard};

use smallfry_nn::Parameters;

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
}
