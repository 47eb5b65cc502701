//! Forward and input gradient: gathered rows times packed weights.

use std::ops::Range;

use rayon::prelude::*;

use super::{Class, Gathered, PANEL, band, band_rows, packed_blocks};
use crate::{
    kernel::{
        dense::Operand,
        gemm::{Epilogue, Right, gemm, pack, packed_len},
    },
    layer::{convolution::Folded, each_slice, gather::Gather, pieces, slices},
    network::Activation,
    parameter::Parameters,
};

impl Gathered {
    /// Forward, as [`Convolution::forward`](super::super::Convolution::forward).
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
        let x = x.plain().expect("operands are stored for this method");
        let weights = &parameters.values()[self.weight.clone()];
        let (k, outputs, area, own) = (
            self.area() * self.own(),
            self.outputs(),
            self.area(),
            self.own(),
        );
        let block = packed_blocks(k, outputs);
        let (packed, buffers) = scratch.split_at_mut(self.groups * block);
        for (group, packed) in packed.chunks_mut(block).enumerate() {
            self.pack(k, outputs, packed, |i, j| {
                let o = group * outputs + j;
                let (tap, channel) = (i / own, i % own);
                let weight = weights[(o * own + channel) * area + tap];
                folded.map_or(weight, |folded| folded.scale[o] * weight)
            });
        }
        let (packed, size) = (&*packed, self.output.len());
        let parts = pieces(y, size, self.batch)
            .zip(buffers.chunks_mut(band(k)))
            .zip(slices(self.batch))
            .zip(partial);
        each_slice(parts, |(((y, buffer), images), partial)| {
            for (y, image) in y.chunks_mut(size).zip(images) {
                let x = &x[image * self.input.len()..][..self.input.len()];
                let pixels = self.output.height * self.output.width;
                let depth = self.output.channels;
                let rows = band_rows(k, pixels);
                for (y, first) in y.chunks_mut(rows * depth).zip((0..).step_by(rows)) {
                    let pixels = first..first + y.len() / depth;
                    for (group, gather) in self.forward.iter().enumerate() {
                        let start = folded.map(|folded| &folded.shift[group * outputs..]);
                        let activation = folded.map_or(Activation::Identity, |f| f.activation);
                        self.multiply(
                            gather,
                            x,
                            pixels.clone(),
                            &packed[group * block..],
                            outputs,
                            Target {
                                values: &mut y[group * outputs..],
                                stride: depth,
                            },
                            start,
                            activation,
                            false,
                            buffer,
                        );
                    }
                    done(partial, image * size + first * depth, y);
                }
            }
        });
    }

    /// The input gradient, as [`Convolution::input_gradient`](super::super::Convolution::input_gradient).
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    pub fn input_gradient<T: Send>(
        &self,
        parameters: &Parameters,
        dy: Operand<'_>,
        dx: &mut [f32],
        accumulate: bool,
        scratch: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        let dy = dy.plain().expect("operands are stored for this method");
        let weights = &parameters.values()[self.weight.clone()];
        let (own, outputs, area) = (self.own(), self.outputs(), self.area());
        let (packed, buffers) = scratch.split_at_mut(self.gradient_packed());
        let mut rest = packed;
        let mut classes = Vec::with_capacity(self.backward.len());
        for class in &self.backward {
            let k = class.taps.len() * outputs;
            let block = packed_blocks(k, own);
            let (packed, after) = rest.split_at_mut(self.groups * block);
            rest = after;
            for (group, packed) in packed.chunks_mut(block.max(1)).enumerate() {
                self.pack(k, own, packed, |i, channel| {
                    let (tap, o) = (class.taps[i / outputs], group * outputs + i % outputs);
                    weights[(o * own + channel) * area + tap]
                });
            }
            classes.push((class, block, &*packed));
        }
        let size = self.input.len();
        let parts = pieces(dx, size, self.batch)
            .zip(buffers.chunks_mut(self.gradient_band()))
            .zip(slices(self.batch))
            .zip(partial);
        each_slice(parts, |(((dx, buffer), images), partial)| {
            for (dx, image) in dx.chunks_mut(size).zip(images) {
                let dy = &dy[image * self.output.len()..][..self.output.len()];
                for &(class, block, packed) in &classes {
                    for (group, gather) in class.gathers.iter().enumerate() {
                        let packed = &packed[group * block..];
                        self.class_gradient(
                            class, gather, group, dy, dx, packed, accumulate, buffer,
                        );
                    }
                }
                done(partial, image * size, dx);
            }
        });
    }

    /// One class and group of one image.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of one product and their places"
    )]
    fn class_gradient(
        &self,
        class: &Class,
        gather: &Gather,
        group: usize,
        dy: &[f32],
        dx: &mut [f32],
        packed: &[f32],
        accumulate: bool,
        buffer: &mut [f32],
    ) {
        let (own, depth) = (self.own(), self.input.channels);
        let row_len = self.input.width * depth;
        let (rows, columns) = class.size;
        let start = class.first.1 * depth + group * own;
        if class.taps.is_empty() {
            if !accumulate {
                for row in 0..rows {
                    let row = &mut dx[(class.first.0 + row * class.stride) * row_len..][..row_len];
                    for pixel in row[start..].chunks_mut(class.stride * depth) {
                        pixel[..own].fill(0.0);
                    }
                }
            }
            return;
        }
        // With stride 1 the class is the whole image and its rows follow each other without gaps.
        let line = if class.stride == 1 {
            rows * columns
        } else {
            columns
        };
        let step = band_rows(gather.len(), line);
        for line_start in (0..rows * columns).step_by(line) {
            for first in (0..line).step_by(step) {
                let pixels = line_start + first..line_start + (first + step).min(line);
                let row = class.first.0 + line_start / columns * class.stride;
                let at = row * row_len + first * class.stride * depth;
                let target = Target {
                    values: &mut dx[at + start..],
                    stride: class.stride * depth,
                };
                self.multiply(
                    gather,
                    dy,
                    pixels,
                    packed,
                    own,
                    target,
                    None,
                    Activation::Identity,
                    accumulate,
                    buffer,
                );
            }
        }
    }

    /// Rows of `gather` times a packed matrix.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of one product and its epilogue"
    )]
    fn multiply(
        &self,
        gather: &Gather,
        source: &[f32],
        pixels: Range<usize>,
        packed: &[f32],
        n: usize,
        target: Target<'_>,
        start: Option<&[f32]>,
        activation: Activation,
        accumulate: bool,
        buffer: &mut [f32],
    ) {
        let (m, k) = (pixels.len(), gather.len());
        let rows: &[f32] = if gather.is_identity() {
            &source[pixels.start * k..pixels.end * k]
        } else {
            gather.fill(source, pixels, 0..k, buffer);
            &buffer[..m * k]
        };
        assert!(target.values.len() >= (m - 1) * target.stride + n);
        assert!(packed.len() >= packed_blocks(k, n));
        for (column, packed) in (0..n)
            .step_by(PANEL)
            .zip(packed.chunks(packed_len(k, PANEL)))
        {
            let width = PANEL.min(n - column);
            let epilogue = Epilogue {
                start: start.map_or(std::ptr::null(), |start| start[column..][..width].as_ptr()),
                accumulate,
                activation,
                ..Epilogue::SET
            };
            // SAFETY: `rows` holds m rows of k numbers, the target m rows of n numbers at its stride, the packed
            // blocks were made for k and n, and the start values reach to n.
            unsafe {
                gemm(
                    self.level,
                    m,
                    k,
                    width,
                    rows.as_ptr(),
                    k,
                    Right::Packed(packed.as_ptr()),
                    target.values.as_mut_ptr().add(column),
                    target.stride,
                    &epilogue,
                );
            }
        }
    }

    /// Packs the matrix `[k, n]` in blocks of [`PANEL`] columns.
    fn pack(&self, k: usize, n: usize, out: &mut [f32], f: impl Fn(usize, usize) -> f32 + Sync) {
        if k == 0 {
            return;
        }
        out.par_chunks_mut(packed_len(k, PANEL))
            .zip((0..n).into_par_iter().step_by(PANEL))
            .for_each(|(out, column)| {
                let width = PANEL.min(n - column);
                pack(self.level, k, width, out, |i, j| f(i, column + j));
            });
    }
}

/// Rows of a tensor to write to, with their distance.
struct Target<'a> {
    values: &'a mut [f32],
    stride: usize,
}
