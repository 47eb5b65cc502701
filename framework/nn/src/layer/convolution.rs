//! Dense convolutions of any kernel, stride, padding and number of groups, by matrix products on gathered rows.

use std::ops::Range;

use rayon::prelude::*;

use super::{Size, each_slice, gather::Gather, pieces, slices};
use crate::{
    kernel::{
        Level,
        gemm::{Epilogue, Right, gemm, gemm_tn, pack, packed_len},
    },
    network::{Activation, Convolution as Description},
    parameter::Parameters,
};

/// Numbers of gathered rows that a slice works on at a time: they stay in the second-level cache.
const BAND: usize = 64 * 1024;
/// Output channels that are packed and multiplied together.
const PANEL: usize = 64;
/// Columns of the weight gradient that are worked out together.
const STRIP: usize = 128;
/// Up to this many weights every slice of the batch has a weight gradient of its own; larger ones are cut by columns
/// only, because eight copies would cost more memory than the parallel work is worth.
const SMALL: usize = 64 * 1024;

/// A convolution planned for one batch shape.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    level: Level,
    batch: usize,
    input: Size,
    output: Size,
    kernel: usize,
    groups: usize,
    weight: Range<usize>,
    /// Rows of the input for every group.
    forward: Vec<Gather>,
    /// For every class of input pixels and every group.
    backward: Vec<Class>,
}

/// Input pixels at the same place relative to the stride.
#[derive(Clone, Debug)]
struct Class {
    /// First row and column.
    first: (usize, usize),
    /// Number of rows and columns.
    size: (usize, usize),
    /// Distance between rows and columns.
    stride: usize,
    /// Taps of the kernel that reach it.
    taps: Vec<usize>,
    /// Rows of the output's gradient for every group.
    gathers: Vec<Gather>,
}

/// What happens to the products of a forward pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folded<'a> {
    /// Factor of every output channel.
    pub scale: &'a [f32],
    /// Start value of every output channel.
    pub shift: &'a [f32],
    /// Applied at the end.
    pub activation: Activation,
}

impl Convolution {
    /// The convolution that `c` describes, for `batch` images of size `input`, giving size `output`.
    pub fn new(
        c: &Description,
        batch: usize,
        input: Size,
        output: Size,
        parameters: &Parameters,
    ) -> Self {
        let (kernel, stride, groups) = (c.kernel, c.stride, c.groups);
        let (top, left) = (c.padding.top as isize, c.padding.left as isize);
        let taps: Vec<(isize, isize)> = (0..kernel * kernel)
            .map(|t| ((t / kernel) as isize - top, (t % kernel) as isize - left))
            .collect();
        let (own, outputs) = (c.input / groups, c.output / groups);
        let forward = (0..groups)
            .map(|group| Gather {
                source: input,
                first_channel: group * own,
                channels: own,
                width: output.width,
                step: stride,
                taps: taps.clone(),
            })
            .collect();
        let classes = (0..stride * stride).map(|class| (class / stride, class % stride));
        let backward = classes
            .filter(|&(y, x)| y < input.height && x < input.width)
            .map(|first| {
                // Tap (r, q) reaches input row i from output row (i − r) / stride where that is whole.
                let reach = |first: usize, tap: isize| {
                    let distance = first as isize - tap;
                    (distance.rem_euclid(stride as isize) == 0)
                        .then(|| distance.div_euclid(stride as isize))
                };
                let reaching: Vec<(usize, (isize, isize))> = taps
                    .iter()
                    .enumerate()
                    .filter_map(|(t, tap)| {
                        Some((t, (reach(first.0, tap.0)?, reach(first.1, tap.1)?)))
                    })
                    .collect();
                let size = (
                    (input.height - first.0).div_ceil(stride),
                    (input.width - first.1).div_ceil(stride),
                );
                let gathers = (0..groups).map(|group| Gather {
                    source: output,
                    first_channel: group * outputs,
                    channels: outputs,
                    width: size.1,
                    step: 1,
                    taps: reaching.iter().map(|(_, offset)| *offset).collect(),
                });
                Class {
                    first,
                    size,
                    stride,
                    taps: reaching.iter().map(|(t, _)| *t).collect(),
                    gathers: gathers.collect(),
                }
            })
            .collect();
        Self {
            level: Level::current(),
            batch,
            input,
            output,
            kernel,
            groups,
            weight: parameters.weight_place(&format!("{}.weight", c.name)),
            forward,
            backward,
        }
    }

    /// The size of its output.
    pub fn output(&self) -> Size {
        self.output
    }

    /// Numbers of its output for the whole batch.
    pub fn output_len(&self) -> usize {
        self.batch * self.output.len()
    }

    fn own(&self) -> usize {
        self.input.channels / self.groups
    }

    fn outputs(&self) -> usize {
        self.output.channels / self.groups
    }

    fn area(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Floats of scratch for a forward pass.
    pub fn forward_scratch(&self) -> usize {
        let k = self.area() * self.own();
        let packed = self.groups * packed_blocks(k, self.outputs());
        packed + self.count() * band(k)
    }

    /// Floats of scratch for a backward pass.
    pub fn backward_scratch(&self) -> usize {
        let k = self.area() * self.outputs();
        let input = self.groups * packed_blocks(k, self.own()) + self.count() * band(k);
        let weights = self.output.channels * self.area() * self.own();
        let strips = (self.area() * self.own()).div_ceil(STRIP);
        let copies = self.weight_slices().len();
        let weight = copies * (weights + self.groups * strips * BAND);
        input.max(weight)
    }

    fn count(&self) -> usize {
        slices(self.batch).len()
    }

    /// y = x ∗ w, times a scale, plus a shift, and activated, where `folded` says so. `done` is told of every piece of
    /// rows as soon as it is complete, with the number of its slice.
    pub fn forward<T: Send>(
        &self,
        parameters: &Parameters,
        x: &[f32],
        y: &mut [f32],
        folded: Option<Folded<'_>>,
        scratch: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, &[f32]) + Sync,
    ) {
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
                    done(partial, y);
                }
            }
        });
    }

    /// The gradient of the input: dx = (or +=) dy ∗ flipped weights.
    pub fn input_gradient(
        &self,
        parameters: &Parameters,
        dy: &[f32],
        dx: &mut [f32],
        accumulate: bool,
        scratch: &mut [f32],
    ) {
        let weights = &parameters.values()[self.weight.clone()];
        let (own, outputs, area) = (self.own(), self.outputs(), self.area());
        for class in &self.backward {
            let k = class.taps.len() * outputs;
            let block = packed_blocks(k, own);
            let (packed, buffers) = scratch.split_at_mut(self.groups * block);
            for (group, packed) in packed.chunks_mut(block.max(1)).enumerate() {
                self.pack(k, own, packed, |i, channel| {
                    let (tap, o) = (class.taps[i / outputs], group * outputs + i % outputs);
                    weights[(o * own + channel) * area + tap]
                });
            }
            let (packed, size) = (&*packed, self.input.len());
            let parts = pieces(dx, size, self.batch)
                .zip(buffers.chunks_mut(band(k)))
                .zip(slices(self.batch));
            each_slice(parts, |((dx, buffer), images)| {
                for (dx, image) in dx.chunks_mut(size).zip(images) {
                    let dy = &dy[image * self.output.len()..][..self.output.len()];
                    for (group, gather) in class.gathers.iter().enumerate() {
                        let packed = &packed[group * block..];
                        self.class_gradient(
                            class, gather, group, dy, dx, packed, accumulate, buffer,
                        );
                    }
                }
            });
        }
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

    fn weight_slices(&self) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
        let weights = self.output.channels * self.area() * self.own();
        let count = if weights <= SMALL {
            slices(self.batch).len()
        } else {
            1
        };
        let batch = self.batch;
        (0..count).map(move |i| batch * i / count..batch * (i + 1) / count)
    }

    /// Adds the gradient of the weights.
    pub fn weight_gradient(
        &self,
        parameters: &mut Parameters,
        x: &[f32],
        dy: &[f32],
        scratch: &mut [f32],
    ) {
        let (own, outputs, area) = (self.own(), self.outputs(), self.area());
        let k = area * own;
        let copies = self.weight_slices().len();
        let (sums, buffers) = scratch.split_at_mut(copies * self.groups * outputs * k);
        // A task is a strip of columns of one group from one slice of the batch; its sums are `[outputs, width]`.
        let mut tasks = Vec::with_capacity(copies * self.groups * k.div_ceil(STRIP));
        let (mut sums_left, mut buffers_left) = (&mut *sums, buffers);
        for images in self.weight_slices() {
            for group in 0..self.groups {
                for column in (0..k).step_by(STRIP) {
                    let columns = column..(column + STRIP).min(k);
                    let (sum, rest) = sums_left.split_at_mut(outputs * columns.len());
                    sums_left = rest;
                    let (buffer, rest) = buffers_left.split_at_mut(BAND);
                    buffers_left = rest;
                    tasks.push((images.clone(), group, columns, sum, buffer));
                }
            }
        }
        each_slice(
            tasks.into_iter(),
            |(images, group, columns, sum, buffer)| {
                sum.fill(0.0);
                self.strip_gradient(x, dy, images, group, columns, sum, buffer);
            },
        );
        let (_, gradients) = parameters.values_and_gradients_mut();
        let gradient = &mut gradients[self.weight.clone()];
        let sums = &*sums;
        gradient
            .par_chunks_mut(k)
            .enumerate()
            .for_each(|(o, gradient)| {
                let (group, o) = (o / outputs, o % outputs);
                for copy in 0..copies {
                    let sums = &sums[(copy * self.groups + group) * outputs * k..][..outputs * k];
                    for column in (0..k).step_by(STRIP) {
                        let width = STRIP.min(k - column);
                        let row = &sums[outputs * column + o * width..][..width];
                        for (i, value) in (column..).zip(row) {
                            gradient[i % own * area + i / own] += value;
                        }
                    }
                }
            });
    }

    /// sum += dyᵀ · rows, for one group and some columns of the rows.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of one product and their places"
    )]
    fn strip_gradient(
        &self,
        x: &[f32],
        dy: &[f32],
        images: Range<usize>,
        group: usize,
        columns: Range<usize>,
        sum: &mut [f32],
        buffer: &mut [f32],
    ) {
        let gather = &self.forward[group];
        let (pixels, depth) = (self.output.height * self.output.width, self.output.channels);
        let (outputs, width) = (self.outputs(), columns.len());
        let most = (BAND / width).min(pixels);
        let mut add = |rows: &[f32], stride: usize, dy: &[f32], m: usize| {
            assert!(rows.len() >= (m - 1) * stride + width);
            assert!(dy.len() >= (m - 1) * depth + outputs && sum.len() >= outputs * width);
            // SAFETY: just checked: m rows of each operand, and the sums of all their pairs of columns.
            unsafe {
                gemm_tn(
                    self.level,
                    m,
                    outputs,
                    width,
                    dy.as_ptr(),
                    depth,
                    rows.as_ptr(),
                    stride,
                    sum.as_mut_ptr(),
                    width,
                );
            }
        };
        if gather.is_identity() {
            let rows = &x[images.start * self.input.len() + columns.start..];
            let dy = &dy[images.start * self.output.len() + group * outputs..];
            add(rows, gather.len(), dy, images.len() * pixels);
            return;
        }
        for image in images {
            let x = &x[image * self.input.len()..][..self.input.len()];
            let dy = &dy[image * self.output.len()..][..self.output.len()];
            for first in (0..pixels).step_by(most) {
                let last = (first + most).min(pixels);
                gather.fill(x, first..last, columns.clone(), buffer);
                let dy = &dy[first * depth + group * outputs..];
                add(buffer, width, dy, last - first);
            }
        }
    }
}

/// Rows of a tensor to write to, with their distance.
struct Target<'a> {
    values: &'a mut [f32],
    stride: usize,
}

/// Numbers that the matrix `[k, n]` takes when packed in blocks.
fn packed_blocks(k: usize, n: usize) -> usize {
    n / PANEL * packed_len(k, PANEL)
        + if n % PANEL > 0 {
            packed_len(k, PANEL)
        } else {
            0
        }
}

/// Rows of `k` numbers that a band of an image of `pixels` pixels has.
fn band_rows(k: usize, pixels: usize) -> usize {
    (BAND / k.max(1)).clamp(1, pixels)
}

/// Numbers of a band of rows of `k`.
fn band(k: usize) -> usize {
    BAND.max(k)
}
