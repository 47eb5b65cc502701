//! 1×1 convolutions of stride 1: matrix products of the pixels' rows.
//!
//! Rows of a stored operand are read where they lie. Others are worked out for some rows at a time, in a buffer in the
//! second-level cache. The weight gradient of many weights is cut by weights instead of images, because a copy for every
//! slice of the batch would cost more time and memory than the products; with so many channels the tensors are small, and
//! operands are worked out once for all.

use std::ops::Range;

use rayon::prelude::*;

use super::{Folded, PANEL, Sum, packed_blocks};
use crate::{
    kernel::{
        Level,
        dense::Operand,
        gemm::{Epilogue, Right, gemm, gemm_tn, pack_rows, pack_transposed, packed_len},
    },
    layer::{Size, each_slice, inverted_residual::place::Place, pieces, slices},
    network::{Activation, Convolution as Description},
    parameter::Parameters,
};

/// Numbers of input and output that a slice works on at a time.
const CHUNK: usize = 128 * 1024;
/// Fewest rows for which a product reads all weights.
const FEWEST: usize = 168;
/// Up to this many weights every slice of the batch has a weight gradient of its own.
const SMALL: usize = 300 * 1024;
/// Outputs and inputs of a task of the weight gradient of many weights.
const BLOCK: [usize; 2] = [128, 512];

/// A convolution planned for one batch shape.
#[derive(Clone, Debug)]
pub(super) struct Pointwise {
    level: Level,
    batch: usize,
    /// Pixels of an image.
    pixels: usize,
    inputs: usize,
    outputs: usize,
    weight: Range<usize>,
}

/// What becomes of the products of a direction.
struct Finish<'a> {
    start: Option<&'a [f32]>,
    activation: Activation,
    sum: Sum<'a>,
}

impl Pointwise {
    /// Whether `c` is a convolution that this method computes.
    pub fn takes(c: &Description) -> bool {
        let padding = [
            c.padding.top,
            c.padding.left,
            c.padding.bottom,
            c.padding.right,
        ];
        c.kernel == 1 && c.stride == 1 && c.groups == 1 && padding == [0; 4]
    }

    /// The convolution `c` for `batch` images of size `input`.
    pub fn new(
        level: Level,
        c: &Description,
        batch: usize,
        input: Size,
        weight: Range<usize>,
    ) -> Self {
        Self {
            level,
            batch,
            pixels: input.height * input.width,
            inputs: c.input,
            outputs: c.output,
            weight,
        }
    }

    /// Rows that a slice works on at a time.
    fn rows(&self) -> usize {
        let rows = CHUNK / (self.inputs + self.outputs);
        let most = self.batch.div_ceil(self.count()) * self.pixels;
        (rows / 12 * 12).max(FEWEST).min(most)
    }

    fn count(&self) -> usize {
        slices(self.batch).len()
    }

    fn shared(&self) -> bool {
        self.inputs * self.outputs > SMALL
    }

    /// Floats of scratch for a forward pass.
    pub fn forward_scratch(&self) -> usize {
        packed_blocks(self.inputs, self.outputs) + self.count() * self.rows() * self.inputs
    }

    /// Floats of scratch for a backward pass.
    pub fn backward_scratch(&self) -> usize {
        let (c, o) = (self.inputs, self.outputs);
        let input = packed_blocks(o, c) + self.count() * self.rows() * o;
        let weight = if self.shared() {
            self.batch * self.pixels * (c + o)
        } else {
            self.count() * (c * o + self.rows() * (c + o))
        };
        input.max(weight)
    }

    /// Forward, as [`Convolution::forward`](super::Convolution::forward).
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    pub fn forward<T: Send>(
        &self,
        parameters: &Parameters,
        x: Operand<'_>,
        y: &mut [f32],
        folded: Option<Folded<'_>>,
        scratch: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        let (k, n, level) = (self.inputs, self.outputs, self.level);
        let weights = &parameters.values()[self.weight.clone()];
        let (packed, buffers) = scratch.split_at_mut(packed_blocks(k, n));
        packed
            .par_chunks_mut(packed_len(k, PANEL))
            .zip((0..n).into_par_iter().step_by(PANEL))
            .for_each(|(packed, column)| {
                let width = PANEL.min(n - column);
                let scale = folded.map(|folded| &folded.scale[column..][..width]);
                pack_transposed(level, k, width, &weights[column * k..], k, scale, packed);
            });
        let finish = Finish {
            start: folded.map(|folded| folded.shift),
            activation: folded.map_or(Activation::Identity, |folded| folded.activation),
            sum: Sum::Set,
        };
        self.multiply([k, n], x, packed, y, finish, buffers, partial, done);
    }

    /// The input gradient, as [`Convolution::input_gradient`](super::Convolution::input_gradient).
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    pub fn input_gradient<T: Send>(
        &self,
        parameters: &Parameters,
        dy: Operand<'_>,
        dx: &mut [f32],
        sum: Sum<'_>,
        scratch: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        let (k, n, level) = (self.outputs, self.inputs, self.level);
        let weights = &parameters.values()[self.weight.clone()];
        let (packed, buffers) = scratch.split_at_mut(packed_blocks(k, n));
        packed
            .par_chunks_mut(packed_len(k, PANEL))
            .zip((0..n).into_par_iter().step_by(PANEL))
            .for_each(|(packed, column)| {
                let width = PANEL.min(n - column);
                pack_rows(level, k, width, &weights[column..], n, packed);
            });
        let finish = Finish {
            start: None,
            activation: Activation::Identity,
            sum,
        };
        self.multiply([k, n], dy, packed, dx, finish, buffers, partial, done);
    }

    /// y (+)= x · packed, from k to n channels.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    fn multiply<T: Send>(
        &self,
        [k, n]: [usize; 2],
        x: Operand<'_>,
        packed: &[f32],
        y: &mut [f32],
        finish: Finish<'_>,
        buffers: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        let pixels = self.batch * self.pixels;
        assert!(x.len() == pixels * k && y.len() == pixels * n);
        assert!(finish.start.is_none_or(|start| start.len() >= n));
        assert!(packed.len() >= packed_blocks(k, n) && partial.len() >= self.count());
        let rows = self.rows();
        let parts = pieces(y, self.pixels * n, self.batch)
            .zip(buffers.chunks_mut(rows * k))
            .zip(slices(self.batch))
            .zip(partial);
        each_slice(parts, |(((y, buffer), images), partial)| {
            let first = images.start * self.pixels;
            for (y, first) in y.chunks_mut(rows * n).zip((first..).step_by(rows)) {
                let m = y.len() / n;
                let a = worked_out(self.level, x.part(first * k, m * k), k, buffer);
                assert_eq!(a.len(), m * k);
                if let Sum::With(tensor) = finish.sum {
                    y.copy_from_slice(&tensor[first * n..][..m * n]);
                }
                for (column, packed) in (0..n)
                    .step_by(PANEL)
                    .zip(packed.chunks(packed_len(k, PANEL)))
                {
                    let width = PANEL.min(n - column);
                    let start = finish.start.map(|start| start[column..][..width].as_ptr());
                    let epilogue = Epilogue {
                        start: start.unwrap_or(std::ptr::null()),
                        accumulate: !matches!(finish.sum, Sum::Set),
                        activation: finish.activation,
                        ..Epilogue::SET
                    };
                    // SAFETY: m rows of both tensors; the packed block was made for k and these columns.
                    unsafe {
                        gemm(
                            self.level,
                            m,
                            k,
                            width,
                            a.as_ptr(),
                            k,
                            Right::Packed(packed.as_ptr()),
                            y.as_mut_ptr().add(column),
                            n,
                            &epilogue,
                        );
                    }
                }
                done(partial, first * n, y);
            }
        });
    }

    /// Adds the gradient of the weights.
    pub fn weight_gradient(
        &self,
        parameters: &mut Parameters,
        x: Operand<'_>,
        dy: Operand<'_>,
        scratch: &mut [f32],
    ) {
        let (c, o) = (self.inputs, self.outputs);
        let pixels = self.batch * self.pixels;
        assert!(x.len() == pixels * c && dy.len() == pixels * o);
        let (_, gradients) = parameters.values_and_gradients_mut();
        let gradient = &mut gradients[self.weight.clone()];
        assert_eq!(gradient.len(), c * o);
        if self.shared() {
            self.blocks(x, dy, gradient, scratch);
        } else {
            self.copies(x, dy, gradient, scratch);
        }
    }

    /// The gradient of many weights: a block of weights is a task.
    fn blocks(&self, x: Operand<'_>, dy: Operand<'_>, gradient: &mut [f32], scratch: &mut [f32]) {
        let (c, o) = (self.inputs, self.outputs);
        let m = self.batch * self.pixels;
        let (of_x, of_dy) = scratch.split_at_mut(m * c);
        let x = self.all(x, c, of_x);
        let dy = self.all(dy, o, of_dy);
        let columns = c.div_ceil(BLOCK[1]);
        let out = Place::new(gradient);
        let tasks = (0..o.div_ceil(BLOCK[0]) * columns).into_par_iter();
        tasks.with_max_len(1).for_each(|task| {
            let (row, column) = (task / columns * BLOCK[0], task % columns * BLOCK[1]);
            let (rows, width) = (BLOCK[0].min(o - row), BLOCK[1].min(c - column));
            // SAFETY: m rows of c and of o numbers; the block of the gradient is this task's own.
            unsafe {
                gemm_tn(
                    self.level,
                    m,
                    rows,
                    width,
                    dy.as_ptr().add(row),
                    o,
                    x.as_ptr().add(column),
                    c,
                    out.at(row * c + column),
                    c,
                );
            }
        });
    }

    /// A whole operand.
    fn all<'a>(&self, operand: Operand<'a>, channels: usize, out: &'a mut [f32]) -> &'a [f32] {
        if let Some(values) = operand.plain() {
            return values;
        }
        let len = self.pixels * channels;
        let out = &mut out[..self.batch * len];
        let parts = pieces(out, len, self.batch).zip(slices(self.batch));
        each_slice(parts, |(out, images)| {
            let part = operand.part(images.start * len, images.len() * len);
            part.write(self.level, channels, out);
        });
        out
    }

    /// The gradient of few weights: every slice of the batch has a copy.
    fn copies(&self, x: Operand<'_>, dy: Operand<'_>, gradient: &mut [f32], scratch: &mut [f32]) {
        let (c, o, rows) = (self.inputs, self.outputs, self.rows());
        let (sums, buffers) = scratch.split_at_mut(self.count() * c * o);
        let parts = sums
            .chunks_mut(c * o)
            .zip(buffers.chunks_mut(rows * (c + o)))
            .zip(slices(self.batch));
        each_slice(parts, |((sums, buffer), images)| {
            sums.fill(0.0);
            let (of_x, of_dy) = buffer.split_at_mut(rows * c);
            let end = images.end * self.pixels;
            for first in (images.start * self.pixels..end).step_by(rows) {
                let m = rows.min(end - first);
                let x = worked_out(self.level, x.part(first * c, m * c), c, of_x);
                let dy = worked_out(self.level, dy.part(first * o, m * o), o, of_dy);
                assert!(x.len() == m * c && dy.len() == m * o);
                // SAFETY: m rows of both, and a sum for every pair of their columns.
                unsafe {
                    gemm_tn(
                        self.level,
                        m,
                        o,
                        c,
                        dy.as_ptr(),
                        o,
                        x.as_ptr(),
                        c,
                        sums.as_mut_ptr(),
                        c,
                    );
                }
            }
        });
        let sums = &*sums;
        let piece = (1 << 12).min(c * o);
        gradient
            .par_chunks_mut(piece)
            .enumerate()
            .for_each(|(i, gradient)| {
                for copy in sums.chunks(c * o) {
                    let copy = &copy[i * piece..][..gradient.len()];
                    for (gradient, value) in gradient.iter_mut().zip(copy) {
                        *gradient += value;
                    }
                }
            });
    }
}

/// The numbers of an operand of rows of `channels` numbers: where they lie, or in the buffer.
fn worked_out<'a>(
    level: Level,
    operand: Operand<'a>,
    channels: usize,
    buffer: &'a mut [f32],
) -> &'a [f32] {
    match operand.plain() {
        Some(values) => values,
        None => {
            let out = &mut buffer[..operand.len()];
            operand.write(level, channels, out);
            out
        }
    }
}
