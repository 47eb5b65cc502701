//! What the executor asks of a planned block.
//!
//! A layer is planned for one batch shape and keeps no tensor of its own, only figures for each channel: what it must
//! remember from forward to backward lies in `saved`, what it needs only during a pass in `scratch`, both slices of the
//! executor's arena. Tensors between layers are `[batch, height, width, channels]`.
//!
//! Results must not depend on the number of threads: work is cut into the fixed slices of [`slices`], each slice has
//! its own partial sums, and partial sums are added in slice order.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    executor::Mode,
    network::{Block, Convolution},
    parameter::Parameters,
};

mod batch_norm;
mod conv_norm;
mod convolution;
mod dropout;
mod inverted_residual;
mod layer_norm;
mod linear;
mod patch_embedding;
mod place;
mod pool;
mod residual;
mod rows;
mod rowwise;
mod running;
mod stem;
mod transformer;
mod unit;

pub use conv_norm::ConvNorm;
pub use inverted_residual::InvertedResidual;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use patch_embedding::PatchEmbedding;
pub use pool::{GlobalAveragePool, MaxPool};
pub use residual::Residual;
pub use rows::{RowNorm, Unchanged, UnitLength};
pub use stem::Stem;
pub use transformer::TransformerLayer;

/// The size of one image between two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Size {
    /// The size after a convolution.
    pub(crate) fn after(self, c: &Convolution) -> Self {
        let side = |n: usize, before, after| (n + before + after - c.kernel) / c.stride + 1;
        Self {
            height: side(self.height, c.padding.top, c.padding.bottom),
            width: side(self.width, c.padding.left, c.padding.right),
            channels: c.output,
        }
    }

    /// Number of elements of one image.
    pub fn len(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether there are no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// What a layer is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Forward in `Train` or `Fixed` mode, and backward.
    Train,
    /// Forward in another mode, which keeps nothing.
    Forward,
}

/// What a layer works with during a pass.
pub struct Pass<'a> {
    /// Weights, gradients, running statistics.
    pub parameters: &'a mut Parameters,
    /// The layer's memory from forward to backward, [`Layer::saved`] floats; empty unless backward may follow.
    pub saved: &'a mut [f32],
    /// Memory of no lasting content, at least [`Layer::scratch`] floats, shared by all layers.
    pub scratch: &'a mut [f32],
    /// What the pass is for; of the forward pass, also in backward.
    pub mode: Mode,
    /// Position of the block in the network: part of the key of its random numbers.
    pub position: usize,
}

/// A block planned for one batch shape.
pub trait Layer: Send {
    /// The size of its output.
    fn output(&self) -> Size;

    /// Floats that it keeps from forward to backward.
    fn saved(&self) -> usize;

    /// Floats that it needs during a pass of its purpose.
    fn scratch(&self) -> usize;

    /// Computes `y` from `x`.
    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]);

    /// Adds parameter gradients, and writes the gradient of `x` to `dx` where wanted; `dy` may be overwritten.
    /// `x` and `y` are the tensors of the forward pass.
    fn backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: &[f32],
        y: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    );
}

/// Plans `block` for `batch` images of size `input`, giving size `output`.
pub fn plan(
    block: &Block,
    batch: usize,
    input: Size,
    output: Size,
    purpose: Purpose,
    parameters: &Parameters,
) -> Box<dyn Layer> {
    match block {
        Block::ConvNorm(conv) if Stem::takes(&conv.convolution) => {
            Box::new(Stem::new(conv, batch, input, output, purpose, parameters))
        }
        Block::ConvNorm(conv) => Box::new(ConvNorm::new(
            conv, batch, input, output, purpose, parameters,
        )),
        Block::InvertedResidual(block) => Box::new(InvertedResidual::new(
            block, batch, input, purpose, parameters,
        )),
        Block::Residual(block) => Box::new(Residual::new(block, batch, input, purpose, parameters)),
        &Block::MaxPool {
            kernel,
            stride,
            padding,
        } => Box::new(MaxPool::new(batch, input, output, kernel, stride, padding)),
        &Block::GlobalAveragePool { dropout } => {
            Box::new(GlobalAveragePool::new(batch, input, dropout))
        }
        Block::Linear(linear) => Box::new(Linear::new(linear, batch, parameters)),
        Block::RowNorm(row) => Box::new(RowNorm::new(row, input.channels, parameters)),
        Block::UnitLength => Box::new(UnitLength::new(input.channels)),
        Block::PatchEmbedding(embedding) => {
            Box::new(PatchEmbedding::new(embedding, batch, parameters))
        }
        Block::TransformerLayer(layer) => {
            Box::new(TransformerLayer::new(layer, batch, input, parameters))
        }
        Block::LayerNorm(norm) => Box::new(LayerNorm::new(norm, batch, input, parameters)),
        Block::Kept(_) => Box::new(Unchanged::new(input.channels)),
    }
}

/// The fixed cut of a batch: at most eight contiguous slices, whatever the number of threads.
pub fn slices(batch: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let count = batch.min(8);
    (0..count).map(move |i| batch * i / count..batch * (i + 1) / count)
}

/// Cuts a tensor of `len` numbers per image at the borders of [`slices`].
pub(crate) fn pieces(
    tensor: &mut [f32],
    len: usize,
    batch: usize,
) -> impl ExactSizeIterator<Item = &mut [f32]> {
    let mut rest = tensor;
    slices(batch).map(move |images| {
        let (piece, after) = std::mem::take(&mut rest).split_at_mut(images.len() * len);
        rest = after;
        piece
    })
}

/// Works on every part, each a task of its own, on all threads.
pub(crate) fn each_slice<T: Send>(parts: impl Iterator<Item = T>, work: impl Fn(T) + Sync + Send) {
    let parts: Vec<T> = parts.collect();
    parts.into_par_iter().with_max_len(1).for_each(work);
}

/// Elements of a piece of a pass over a flat tensor.
const FLAT: usize = 1 << 15;

/// Copies one tensor to another.
pub(crate) fn copy(from: &[f32], to: &mut [f32]) {
    to.par_chunks_mut(FLAT)
        .zip(from.par_chunks(FLAT))
        .for_each(|(to, from)| to.copy_from_slice(from));
}
