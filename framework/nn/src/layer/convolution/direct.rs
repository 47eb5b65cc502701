//! Convolutions of any kernel, stride, padding and number of groups, by products over the segments of padded bands.
//!
//! The input gradient is made of convolutions of stride 1: for stride s, the pixels of the input fall into s² classes by
//! their place relative to the stride, and each class sums over those taps that reach it.
//!
//! Groups of few channels are merged until they fill a vector, with zeros for the weights between them: the products with
//! zeros cost less than vectors that are nearly empty.

use std::ops::Range;

use rayon::prelude::*;

use super::{Folded, PANEL, Prepared, packed_blocks};
use crate::{
    kernel::{
        Level,
        dense::{self, Band, Operand},
        gemm::{pack, packed_len},
    },
    layer::{Size, each_slice, pieces, slices},
    network::{Activation, Convolution as Description},
    parameter::Parameters,
};

mod gradient;
mod weight;

/// Numbers of a band, and of the outputs that are computed from it: both stay in the second-level cache.
const BAND: usize = 64 * 1024;
/// The same where the packed weights are larger than that cache ([`LARGE`] numbers and more): then it matters most that
/// they are read seldom.
const LARGE_BAND: usize = 7 * 32 * 1024;
/// See [`LARGE_BAND`].
const LARGE: usize = 256 * 1024;
/// Channels of a group below which groups are merged.
const VECTOR: usize = 16;
/// Up to this many weights every slice of the batch has a weight gradient of its own; more are cut by outputs only,
/// because eight copies would cost more memory than they gain.
const SMALL: usize = 192 * 1024;
/// Outputs that are brought back to the order of the weights together.
const TURNED: usize = 16;

/// A convolution planned for one batch shape.
#[derive(Clone, Debug)]
pub(super) struct Direct {
    level: Level,
    batch: usize,
    input: Size,
    output: Size,
    kernel: usize,
    stride: usize,
    top: usize,
    left: usize,
    /// Groups after merging.
    groups: usize,
    /// Groups that were merged to one.
    merged: usize,
    weight: Range<usize>,
    rows: [Vec<Class>; 2],
}

/// Input rows or columns at the same place relative to the stride.
#[derive(Clone, Debug)]
struct Class {
    /// The first.
    first: usize,
    /// How many there are.
    count: usize,
    /// Distance from a row of the class to the first output row that it reaches, and the taps that it reaches it and
    /// those after it through.
    reach: isize,
    taps: Vec<usize>,
}

/// One direction of a pass: which outputs a band is made for.
struct Geometry {
    /// Rows and columns of zeros above and left of the image, as the band starts for the first row.
    before: [usize; 2],
    /// Columns of the band.
    columns: usize,
    /// Rows that a band has beside those of its own outputs, times the step.
    more: usize,
    step: usize,
    /// Output rows of a band.
    rows: usize,
}

impl Direct {
    /// The convolution `c` for `batch` images of size `input`, giving size `output`.
    pub fn new(
        level: Level,
        c: &Description,
        batch: usize,
        input: Size,
        output: Size,
        weight: Range<usize>,
    ) -> Self {
        let own = (c.input / c.groups).min(c.output / c.groups);
        let mut merged = 1;
        while own * merged < VECTOR && c.groups.is_multiple_of(2 * merged) {
            merged *= 2;
        }
        Self {
            level,
            batch,
            input,
            output,
            kernel: c.kernel,
            stride: c.stride,
            top: c.padding.top,
            left: c.padding.left,
            groups: c.groups / merged,
            merged,
            weight,
            rows: [
                classes(c.kernel, c.stride, c.padding.top, input.height),
                classes(c.kernel, c.stride, c.padding.left, input.width),
            ],
        }
    }

    /// Input channels of a merged group.
    fn own(&self) -> usize {
        self.input.channels / self.groups
    }

    /// Output channels of a merged group.
    fn outputs(&self) -> usize {
        self.output.channels / self.groups
    }

    fn area(&self) -> usize {
        self.kernel * self.kernel
    }

    fn count(&self) -> usize {
        slices(self.batch).len()
    }

    /// Numbers of a band.
    fn band(&self) -> usize {
        if self.weight.len() * self.merged >= LARGE {
            LARGE_BAND
        } else {
            BAND
        }
    }

    /// Bands of the input.
    fn forward_geometry(&self) -> Geometry {
        let (size, output) = (self.input, self.output);
        let columns = (self.left + size.width).max((output.width - 1) * self.stride + self.kernel);
        let row = columns * size.channels;
        let band = self.band();
        let rows = band.saturating_sub(self.kernel * row) / (self.stride * row);
        let written = 2 * band / (output.width * output.channels);
        Geometry {
            before: [self.top, self.left],
            columns,
            more: self.kernel,
            step: self.stride,
            rows: rows.min(written).clamp(1, output.height),
        }
    }

    /// Bands of the output's gradient: a row of a band is for a row of every class.
    fn gradient_geometry(&self) -> Geometry {
        let reach = |classes: &[Class]| {
            let reaching = classes.iter().filter(|class| !class.taps.is_empty());
            let least = reaching.clone().map(|class| class.reach).min();
            let most = reaching.map(|class| class.reach + class.taps.len() as isize - 1);
            let (least, most) = (least.unwrap_or(0).min(0), most.max().unwrap_or(0).max(0));
            (least.unsigned_abs(), most.unsigned_abs())
        };
        let (above, below) = reach(&self.rows[0]);
        let (left, right) = reach(&self.rows[1]);
        let (rows, width) = (self.rows[0][0].count, self.rows[1][0].count);
        let columns = (left + self.output.width).max(left + width + right);
        let row = columns * self.output.channels;
        let band = self.band();
        let most = band.saturating_sub((above + below + 1) * row) / row;
        let written = 2 * band / (self.stride * self.input.width * self.input.channels);
        Geometry {
            before: [above, left],
            columns,
            more: above + below + 1,
            step: 1,
            rows: most.min(written).clamp(1, rows),
        }
    }

    fn forward_block(&self) -> usize {
        packed_blocks(self.area() * self.own(), self.outputs())
    }

    fn gradient_block(&self, [y, x]: [&Class; 2]) -> usize {
        packed_blocks(y.taps.len() * x.taps.len() * self.outputs(), self.own())
    }

    /// Every pair of a class of rows and one of columns.
    fn pairs(&self) -> impl Iterator<Item = [&Class; 2]> {
        let [rows, columns] = &self.rows;
        rows.iter()
            .flat_map(move |y| columns.iter().map(move |x| [y, x]))
    }

    /// Floats of scratch for a forward pass.
    pub fn forward_scratch(&self) -> usize {
        let band = self.forward_geometry().len(self.input.channels);
        self.groups * self.forward_block() + self.count() * band
    }

    /// Floats of scratch for a backward pass.
    pub fn backward_scratch(&self) -> usize {
        let packed: usize = self.pairs().map(|pair| self.gradient_block(pair)).sum();
        let band = self.gradient_geometry().len(self.output.channels);
        let input = self.groups * packed + self.count() * band;
        let (tasks, copies) = self.weight_tasks();
        let weight = copies * self.weight.len() * self.merged + tasks * self.weight_buffers();
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
        let weights = &parameters.values()[self.weight.clone()];
        let (own, outputs) = (self.own(), self.outputs());
        let (k, block) = (self.area() * own, self.forward_block());
        let len = self.groups * block;
        let (packed, stale, buffers) = Prepared::room(kept, parameters, len, scratch);
        if stale {
            let places: Vec<[usize; 2]> = (0..k).map(|i| [i / own, i % own]).collect();
            self.pack(k, outputs, packed, |group, i, o| {
                let [tap, channel] = places[i];
                let weight = self.weight_of(weights, group, o, channel, tap);
                folded.map_or(weight, |folded| folded.scale[group * outputs + o] * weight)
            });
        }
        let packed = &*packed;
        let geometry = self.forward_geometry();
        let band = geometry.len(self.input.channels);
        let (size, len) = (self.output, self.output.len());
        let row = size.width * size.channels;
        let parts = pieces(y, len, self.batch)
            .zip(buffers.chunks_mut(band))
            .zip(slices(self.batch))
            .zip(partial);
        each_slice(parts, |(((y, buffer), images), partial)| {
            for (y, image) in y.chunks_mut(len).zip(images) {
                let bands = y.chunks_mut(geometry.rows * row);
                for (y, first) in bands.zip((0..).step_by(geometry.rows)) {
                    let count = y.len() / row;
                    geometry.fill(self.level, self.input, x, image, first, count, buffer);
                    for group in 0..self.groups {
                        let segments = self.segments(group);
                        let length = k / segments.len();
                        let pitch = geometry.columns * self.input.channels;
                        for (column, packed) in
                            blocks(&packed[group * block..][..block], k, outputs)
                        {
                            let width = PANEL.min(outputs - column);
                            let first = group * outputs + column;
                            let start =
                                folded.map(|folded| folded.shift[first..][..width].as_ptr());
                            for (r, y) in y.chunks_mut(row).enumerate() {
                                let work = dense::Direct {
                                    m: size.width,
                                    n: width,
                                    segments: &segments,
                                    length,
                                    a: buffer[r * self.stride * pitch..].as_ptr(),
                                    lda: self.stride * self.input.channels,
                                    b: packed.as_ptr(),
                                    c: y[first..].as_mut_ptr(),
                                    ldc: size.channels,
                                    start: start.unwrap_or(std::ptr::null()),
                                    addend: std::ptr::null(),
                                    activation: folded
                                        .map_or(Activation::Identity, |folded| folded.activation),
                                };
                                // SAFETY: the band was filled for the taps of these rows, the panels were packed for
                                // these columns, and y has a whole row of pixels.
                                unsafe { work.run(self.level) };
                            }
                        }
                    }
                    done(partial, image * len + first * row, y);
                }
            }
        });
    }

    /// Tasks of the weight gradient, and copies of its sums.
    fn weight_tasks(&self) -> (usize, usize) {
        if self.weight.len() * self.merged <= SMALL {
            (self.count(), self.count())
        } else {
            (self.groups * self.outputs().div_ceil(PANEL), 1)
        }
    }

    /// Numbers of the bands of input and gradient of a task.
    fn weight_buffers(&self) -> usize {
        let geometry = self.forward_geometry();
        geometry.len(self.input.channels) + geometry.rows * self.output.width * self.output.channels
    }

    /// Where the segments of a group start in a band of the input.
    fn segments(&self, group: usize) -> Vec<usize> {
        let depth = self.input.channels;
        let pitch = self.forward_geometry().columns * depth;
        let rows = 0..self.kernel;
        if self.groups == 1 {
            return rows.map(|row| row * pitch).collect();
        }
        let taps = rows.flat_map(|row| (0..self.kernel).map(move |column| (row, column)));
        taps.map(|(row, column)| row * pitch + column * depth + group * self.own())
            .collect()
    }

    /// The weight between an output and an input of a merged group; zero where they belong to different groups.
    #[inline]
    fn weight_of(
        &self,
        weights: &[f32],
        group: usize,
        output: usize,
        channel: usize,
        tap: usize,
    ) -> f32 {
        let (own, outputs) = (self.own() / self.merged, self.outputs() / self.merged);
        let channel = if self.merged == 1 {
            channel
        } else if channel / own == output / outputs {
            channel % own
        } else {
            return 0.0;
        };
        weights[((group * self.outputs() + output) * own + channel) * self.area() + tap]
    }

    /// Packs the matrices `[k, n]` of all groups in blocks of [`PANEL`] columns.
    fn pack(
        &self,
        k: usize,
        n: usize,
        out: &mut [f32],
        f: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) {
        if k == 0 {
            return;
        }
        let panels = n.div_ceil(PANEL);
        let out = out.par_chunks_mut(packed_len(k, PANEL)).enumerate();
        out.for_each(|(i, out)| {
            let (group, column) = (i / panels, i % panels * PANEL);
            let width = PANEL.min(n - column);
            pack(self.level, k, width, out, |i, j| f(group, i, column + j));
        });
    }
}

/// The blocks of a packed matrix `[k, n]`: first column, and numbers.
fn blocks(packed: &[f32], k: usize, n: usize) -> impl Iterator<Item = (usize, &[f32])> {
    let len = packed_len(k, PANEL);
    let columns = (0..n).step_by(PANEL);
    columns.map(move |column| (column, &packed[column / PANEL * len..][..len]))
}

/// The classes of a side of `size` rows.
fn classes(kernel: usize, stride: usize, padding: usize, size: usize) -> Vec<Class> {
    let classes = (0..stride.min(size)).map(|first| {
        // Tap t reaches input row i from output row (i + padding − t) / stride where that is whole.
        let mut taps: Vec<usize> = (0..kernel)
            .filter(|t| (first + padding + kernel * stride - t).is_multiple_of(stride))
            .collect();
        taps.reverse();
        let reach = taps.first().map_or(0, |&t| {
            ((first + padding) as isize - t as isize).div_euclid(stride as isize)
        });
        Class {
            first,
            count: (size - first).div_ceil(stride),
            reach,
            taps,
        }
    });
    classes.collect()
}

impl Geometry {
    /// Rows of a band for `count` rows of outputs.
    fn band_rows(&self, count: usize) -> usize {
        (count - 1) * self.step + self.more
    }

    /// Numbers of a band of `channels` channels.
    fn len(&self, channels: usize) -> usize {
        self.band_rows(self.rows) * self.columns * channels
    }

    /// Fills the band for `count` rows of outputs from `first` on.
    #[expect(
        clippy::too_many_arguments,
        reason = "an image, a band of it, and its place"
    )]
    fn fill(
        &self,
        level: Level,
        size: Size,
        operand: Operand<'_>,
        image: usize,
        first: usize,
        count: usize,
        out: &mut [f32],
    ) {
        let band = Band {
            operand: operand.part(image * size.len(), size.len()),
            height: size.height,
            width: size.width,
            channels: size.channels,
            first: (first * self.step) as isize - self.before[0] as isize,
            rows: self.band_rows(count),
            left: self.before[1],
            columns: self.columns,
        };
        band.fill(level, out);
    }
}
