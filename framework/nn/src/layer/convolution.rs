//! Dense convolutions of any kernel, stride, padding and number of groups, by matrix products on gathered rows.

use std::ops::Range;

use super::{Size, gather::Gather, slices};
use crate::{
    kernel::{Level, gemm::packed_len},
    network::{Activation, Convolution as Description},
    parameter::Parameters,
};

mod product;
mod weight;

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
}

/// Numbers that the matrix `[k, n]` takes when packed in blocks.
fn packed_blocks(k: usize, n: usize) -> usize {
    n / PANEL * packed_len(k, PANEL)
        + if !n.is_multiple_of(PANEL) {
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
