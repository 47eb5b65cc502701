//! 1×1 convolutions: matrix products of the pixels' rows.
//!
//! Rows of a stored operand are read where they lie, if the stride is 1. Others are worked out or picked for some rows at
//! a time, in a buffer in the second-level cache. The weight gradient of many weights is cut by weights instead of images, because a copy for every
//! slice of the batch would cost more time and memory than the products; with so many channels the tensors are small, and
//! operands are worked out once for all.

use std::ops::Range;

use rayon::prelude::*;

use super::{Folded, PANEL, Prepared, Sum, packed_blocks};
use crate::{
    kernel::{
        Level,
        dense::{Operand, add_and_activate},
        gemm::{Epilogue, Right, gemm, pack_rows, pack_transposed, packed_len},
    },
    layer::{Size, each_slice, pieces, slices},
    network::{Activation, Convolution as Description},
    parameter::Parameters,
};

mod weight;

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
    input: Size,
    output: Size,
    stride: usize,
    /// Pixels of an image of the output.
    pixels: usize,
    inputs: usize,
    outputs: usize,
    /// Channels of the operands: those of a pixel, which may be fewer numbers than a row has.
    channels: [usize; 2],
    weight: Range<usize>,
}

/// An operand as rows that are multiplied.
#[derive(Clone, Copy)]
struct Rows<'a> {
    operand: Operand<'a>,
    /// Numbers of a row.
    len: usize,
    /// Channels of the operand.
    channels: usize,
    /// Of the pixels that are taken.
    stride: usize,
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
        c.kernel == 1 && c.groups == 1 && padding == [0; 4]
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
        Self {
            level,
            batch,
            input,
            output,
            stride: c.stride,
            pixels: output.height * output.width,
            inputs: c.input,
            outputs: c.output,
            channels: [c.input, c.output],
            weight,
        }
    }

    /// Products of whole images of size `input` with a matrix that gives images of size `output`; it has no weights of its
    /// own.
    pub fn of_images(level: Level, batch: usize, input: Size, output: Size) -> Self {
        let whole = |size: Size| Size {
            height: 1,
            width: 1,
            channels: size.len(),
        };
        Self {
            level,
            batch,
            input: whole(input),
            output: whole(output),
            stride: 1,
            pixels: 1,
            inputs: input.len(),
            outputs: output.len(),
            channels: [input.channels, output.channels],
            weight: 0..0,
        }
    }

    fn rows_of_x<'a>(&self, operand: Operand<'a>) -> Rows<'a> {
        Rows {
            operand,
            len: self.inputs,
            channels: self.channels[0],
            stride: self.stride,
        }
    }

    fn rows_of_dy<'a>(&self, operand: Operand<'a>) -> Rows<'a> {
        Rows {
            operand,
            len: self.outputs,
            channels: self.channels[1],
            stride: 1,
        }
    }

    /// Rows that a slice works on at a time.
    fn rows(&self) -> usize {
        let rows = CHUNK / (self.inputs + self.outputs);
        let most = self.batch.div_ceil(self.count()) * self.pixels;
        (rows / 12 * 12)
            .max(FEWEST)
            .min(most)
            .max(self.output.width)
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
        let spread = if self.stride > 1 { c } else { 0 };
        let input = packed_blocks(o, c) + self.count() * self.rows() * (o + spread);
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
        kept: Option<&mut Prepared>,
        scratch: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        let len = self.forward_packed_len();
        let (packed, stale, buffers) = Prepared::room(kept, parameters, len, scratch);
        if stale {
            self.pack_forward(&parameters.values()[self.weight.clone()], folded, packed);
        }
        self.multiply_forward(packed, x, y, folded, buffers, partial, done);
    }

    /// Numbers that the weights take when they are packed for a forward pass.
    pub fn forward_packed_len(&self) -> usize {
        packed_blocks(self.inputs, self.outputs)
    }

    /// Packs `weights`, `[outputs, inputs]`, for a forward pass.
    pub fn pack_forward(&self, weights: &[f32], folded: Option<Folded<'_>>, packed: &mut [f32]) {
        let (k, n, level) = (self.inputs, self.outputs, self.level);
        packed
            .par_chunks_mut(packed_len(k, PANEL))
            .zip((0..n).into_par_iter().step_by(PANEL))
            .for_each(|(packed, column)| {
                let width = PANEL.min(n - column);
                let scale = folded.map(|folded| &folded.scale[column..][..width]);
                pack_transposed(level, k, width, &weights[column * k..], k, scale, packed);
            });
    }

    /// Forward with packed weights.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    pub fn multiply_forward<T: Send>(
        &self,
        packed: &[f32],
        x: Operand<'_>,
        y: &mut [f32],
        folded: Option<Folded<'_>>,
        buffers: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        let finish = Finish {
            start: folded.map(|folded| folded.shift),
            activation: folded.map_or(Activation::Identity, |folded| folded.activation),
            sum: Sum::Set,
        };
        let (x, n) = (self.rows_of_x(x), self.outputs);
        self.multiply(x, n, packed, y, finish, buffers, partial, done);
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
        let weights = &parameters.values()[self.weight.clone()];
        self.multiply_back(weights, dy, dx, sum, scratch, partial, done);
    }

    /// The input gradient by `weights`, `[outputs, inputs]`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    pub fn multiply_back<T: Send>(
        &self,
        weights: &[f32],
        dy: Operand<'_>,
        dx: &mut [f32],
        sum: Sum<'_>,
        scratch: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        let (k, n, level) = (self.outputs, self.inputs, self.level);
        let dy = self.rows_of_dy(dy);
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
        if self.stride > 1 {
            return self.spread(dy, packed, dx, sum, buffers, partial, done);
        }

        self.multiply(dy, n, packed, dx, finish, buffers, partial, done);
    }

    /// y (+)= x · packed, to n channels.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    fn multiply<T: Send>(
        &self,
        x: Rows<'_>,
        n: usize,
        packed: &[f32],
        y: &mut [f32],
        finish: Finish<'_>,
        buffers: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        assert_eq!(y.len(), self.batch * self.pixels * n);
        assert!(finish.start.is_none_or(|start| start.len() >= n));
        let (k, rows) = (x.len, self.rows());
        assert!(packed.len() >= packed_blocks(k, n) && partial.len() >= self.count());
        let parts = pieces(y, self.pixels * n, self.batch)
            .zip(buffers.chunks_mut(rows * k))
            .zip(slices(self.batch))
            .zip(partial);
        each_slice(parts, |(((y, buffer), images), partial)| {
            let first = images.start * self.pixels;
            for (y, first) in y.chunks_mut(rows * n).zip((first..).step_by(rows)) {
                let m = y.len() / n;
                let a = self.rows_of(x, first, m, buffer);
                assert_eq!(a.len(), m * k);
                if let Sum::With(tensor) = finish.sum {
                    y.copy_from_slice(&tensor[first * n..][..m * n]);
                }
                let accumulate = !matches!(finish.sum, Sum::Set);
                let (start, activation) = (finish.start, finish.activation);
                self.product([k, n], a, packed, y, start, accumulate, activation);
                done(partial, first * n, y);
            }
        });
    }

    /// C (+)= A · packed.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a product and its epilogue"
    )]
    fn product(
        &self,
        [k, n]: [usize; 2],
        a: &[f32],
        packed: &[f32],
        c: &mut [f32],
        start: Option<&[f32]>,
        accumulate: bool,
        activation: Activation,
    ) {
        let m = c.len() / n;
        assert!(c.len() == m * n && a.len() == m * k);
        let len = packed_len(k, PANEL);
        for (column, block) in (0..n).step_by(PANEL).zip(packed.chunks(len)) {
            let width = PANEL.min(n - column);
            // The first block comes after the last, for the next rows.
            let next = if column + PANEL < n {
                block.as_ptr().wrapping_add(len)
            } else {
                packed.as_ptr()
            };
            let start = start.map(|start| start[column..][..width].as_ptr());
            let epilogue = Epilogue {
                start: start.unwrap_or(std::ptr::null()),
                accumulate,
                activation,
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
                    Right::Packed(block.as_ptr(), next),
                    c.as_mut_ptr().add(column),
                    n,
                    &epilogue,
                );
            }
        }
    }

    /// The input gradient of a stride above 1: most pixels of the input have none.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    fn spread<T: Send>(
        &self,
        dy: Rows<'_>,
        packed: &[f32],
        dx: &mut [f32],
        sum: Sum<'_>,
        buffers: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        let (k, n, width) = (self.outputs, self.inputs, self.output.width);
        let (len, row) = (self.input.len(), self.input.width * n);
        // Rows of the output that are worked on at a time.
        let count = self.rows() / width;
        let parts = pieces(dx, len, self.batch)
            .zip(buffers.chunks_mut(self.rows() * (k + n)))
            .zip(slices(self.batch))
            .zip(partial);
        each_slice(parts, |(((dx, buffer), images), partial)| {
            let (of_dy, products) = buffer.split_at_mut(self.rows() * k);
            for (dx, image) in dx.chunks_mut(len).zip(images) {
                let bands = dx.chunks_mut(count * self.stride * row);
                for (dx, first) in bands.zip((0..).step_by(count)) {
                    let at = image * len + first * self.stride * row;
                    match sum {
                        Sum::Set => dx.fill(0.0),
                        Sum::Add => {}
                        Sum::With(tensor) => dx.copy_from_slice(&tensor[at..][..dx.len()]),
                    }
                    let m = count.min(self.output.height - first) * width;
                    let a = self.rows_of(dy, image * self.pixels + first * width, m, of_dy);
                    let products = &mut products[..m * n];
                    self.product(
                        [k, n],
                        a,
                        packed,
                        products,
                        None,
                        false,
                        Activation::Identity,
                    );
                    for (i, product) in products.chunks(n).enumerate() {
                        let place = i / width * self.stride * row + i % width * self.stride * n;
                        let dx = &mut dx[place..][..n];
                        add_and_activate(self.level, product, Activation::Identity, dx);
                    }
                    done(partial, at, dx);
                }
            }
        });
    }

    /// Rows `first..first + m`: where they lie, or in the buffer.
    fn rows_of<'a>(
        &self,
        rows: Rows<'a>,
        first: usize,
        m: usize,
        buffer: &'a mut [f32],
    ) -> &'a [f32] {
        let Rows {
            operand,
            len,
            channels,
            stride,
        } = rows;
        if stride == 1 {
            let part = operand.part(first * len, m * len);
            if let Some(values) = part.plain() {
                return values;
            }
            let out = &mut buffer[..m * len];
            part.write(self.level, channels, out);
            return out;
        }
        let out = &mut buffer[..m * len];
        for (out, pixel) in out.chunks_exact_mut(len).zip(first..) {
            let (image, pixel) = (pixel / self.pixels, pixel % self.pixels);
            let (y, x) = (pixel / self.output.width, pixel % self.output.width);
            let place = (image * self.input.height + y * stride) * self.input.width + x * stride;
            let part = operand.part(place * len, len);
            part.write(self.level, channels, out);
        }
        out
    }
}
