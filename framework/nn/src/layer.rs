//! What the executor asks of a planned block.
//!
//! A layer is planned for one batch shape and keeps no memory of its own: what it must remember from forward to backward
//! lies in `saved`, what it needs only during a pass in `scratch`, both slices of the executor's arena. Tensors between
//! layers are `[batch, height, width, channels]`.
//!
//! Results must not depend on the number of threads: work is cut into the fixed slices of [`slices`], each slice has
//! its own partial sums, and partial sums are added in slice order.

use std::ops::Range;

use crate::{executor::Mode, parameter::Parameters};

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
    /// Number of elements of one image.
    pub fn len(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether there are no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// What a layer works with during a pass.
pub struct Pass<'a> {
    /// Weights, gradients, running statistics.
    pub parameters: &'a mut Parameters,
    /// The layer's memory from forward to backward, [`Layer::saved`] floats; empty unless the mode is `Train`.
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

    /// Floats that it keeps from forward to backward in `Train` mode.
    fn saved(&self) -> usize;

    /// Floats that it needs during a pass of any mode.
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

/// The fixed cut of a batch: at most eight contiguous slices, whatever the number of threads.
pub fn slices(batch: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let count = batch.min(8);
    (0..count).map(move |i| batch * i / count..batch * (i + 1) / count)
}
