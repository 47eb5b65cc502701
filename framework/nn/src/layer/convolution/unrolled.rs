//! Convolutions on maps of a few pixels: one matrix product an image.
//!
//! Where the kernel is larger than the map, most of its taps meet nothing but padding, and at a map of one pixel all but
//! one of them do. The convolution is then written out as the matrix from all numbers of an image of the input to all of
//! the output, `[pixels * outputs, pixels * inputs]`, each tap at every pair of pixels that it joins. That matrix is a 1×1
//! convolution of images of one pixel, and [`Pointwise`] multiplies by it.

use std::{borrow::Cow, ops::Range};

use rayon::prelude::*;

use super::{Folded, Prepared, Sum, pointwise::Pointwise};
use crate::{
    kernel::{Level, dense::Operand},
    layer::Size,
    network::Convolution as Description,
    parameter::Parameters,
};

/// A convolution planned for one batch shape.
#[derive(Clone, Debug)]
pub(super) struct Unrolled {
    product: Pointwise,
    inputs: usize,
    outputs: usize,
    /// Taps of a filter.
    taps: usize,
    weight: Range<usize>,
    /// The tap that joins a pixel of the output with one of the input, `[output pixels][input pixels]`.
    joins: Vec<Vec<Option<usize>>>,
}

impl Unrolled {
    /// Whether `c` is a convolution that this method computes, and `input` so small that half of its taps meet padding.
    pub fn takes(c: &Description, input: Size) -> bool {
        c.groups == 1 && 2 * input.height * input.width <= c.kernel * c.kernel
    }

    /// The convolution `c` for `batch` images of size `input`, giving size `output`.
    pub fn new(
        level: Level,
        c: &Description,
        batch: usize,
        input: Size,
        output: Size,
        weight: Range<usize>,
    ) -> Self {
        let pixels = |size: Size| {
            let rows = 0..size.height;
            rows.flat_map(move |y| (0..size.width).map(move |x| (y, x)))
        };
        let tap = |from: usize, to: usize, before: usize| {
            let tap = (from + before).checked_sub(to * c.stride);
            tap.filter(|&tap| tap < c.kernel)
        };
        let joins = pixels(output).map(|(y, x)| {
            let from = pixels(input);
            from.map(|(i, j)| {
                let row = tap(i, y, c.padding.top)?;
                Some(row * c.kernel + tap(j, x, c.padding.left)?)
            })
            .collect()
        });
        Self {
            product: Pointwise::of_images(level, batch, input, output),
            inputs: c.input,
            outputs: c.output,
            taps: c.kernel * c.kernel,
            weight,
            joins: joins.collect(),
        }
    }

    /// Numbers of the matrix.
    fn len(&self) -> usize {
        let [from, to] = [
            self.inputs * self.joins[0].len(),
            self.outputs * self.joins.len(),
        ];
        from * to
    }

    /// Floats of scratch for a forward pass.
    pub fn forward_scratch(&self) -> usize {
        self.len() + self.product.forward_scratch()
    }

    /// Floats of scratch for a backward pass.
    pub fn backward_scratch(&self) -> usize {
        self.len() + self.product.backward_scratch()
    }

    /// Writes the matrix of the filters.
    fn unroll(&self, parameters: &Parameters, matrix: &mut [f32]) {
        let weights = &parameters.values()[self.weight.clone()];
        let row = self.inputs * self.joins[0].len();
        matrix.par_chunks_mut(row).enumerate().for_each(|(i, row)| {
            let (to, output) = (i / self.outputs, i % self.outputs);
            let filter = &weights[output * self.inputs * self.taps..][..self.inputs * self.taps];
            for (row, tap) in row.chunks_exact_mut(self.inputs).zip(&self.joins[to]) {
                let Some(tap) = *tap else {
                    row.fill(0.0);
                    continue;
                };
                for (value, filter) in row.iter_mut().zip(filter.chunks_exact(self.taps)) {
                    *value = filter[tap];
                }
            }
        });
    }

    /// Adds the numbers of the matrix to those of the filters that they were written from.
    fn roll(&self, matrix: &[f32], gradient: &mut [f32]) {
        let row = self.inputs * self.joins[0].len();
        let filters = gradient.par_chunks_mut(self.inputs * self.taps);
        filters.enumerate().for_each(|(output, filter)| {
            for (to, joins) in self.joins.iter().enumerate() {
                let row = &matrix[(to * self.outputs + output) * row..][..row];
                for (row, tap) in row.chunks_exact(self.inputs).zip(joins) {
                    let Some(tap) = *tap else { continue };
                    for (value, filter) in row.iter().zip(filter.chunks_exact_mut(self.taps)) {
                        filter[tap] += value;
                    }
                }
            }
        });
    }

    /// A number a channel as a number a channel of every pixel of the output.
    fn everywhere<'a>(&self, channels: &'a [f32]) -> Cow<'a, [f32]> {
        match self.joins.len() {
            1 => Cow::Borrowed(channels),
            pixels => Cow::Owned(channels[..self.outputs].repeat(pixels)),
        }
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
        kept: Option<&mut Prepared>,
        scratch: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        let constants = folded.map(|folded| {
            let [scale, shift] = [folded.scale, folded.shift].map(|c| self.everywhere(c));
            (scale, shift, folded.activation)
        });
        let folded = constants.as_ref().map(|(scale, shift, activation)| Folded {
            scale,
            shift,
            activation: *activation,
        });
        let (matrix, scratch) = scratch.split_at_mut(self.len());
        let len = self.product.forward_packed_len();
        let (packed, stale, scratch) = Prepared::room(kept, parameters, len, scratch);
        if stale {
            self.unroll(parameters, matrix);
            self.product.pack_forward(matrix, folded, packed);
        }
        self.product
            .multiply_forward(packed, x, y, folded, scratch, partial, done);
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
        let (matrix, scratch) = scratch.split_at_mut(self.len());
        self.unroll(parameters, matrix);
        self.product
            .multiply_back(matrix, dy, dx, sum, scratch, partial, done);
    }

    /// Adds the gradient of the weights.
    pub fn weight_gradient(
        &self,
        parameters: &mut Parameters,
        x: Operand<'_>,
        dy: Operand<'_>,
        scratch: &mut [f32],
    ) {
        let (matrix, scratch) = scratch.split_at_mut(self.len());
        matrix.fill(0.0);
        self.product.add_products(matrix, x, dy, scratch);
        let (_, gradients) = parameters.values_and_gradients_mut();
        self.roll(matrix, &mut gradients[self.weight.clone()]);
    }
}
