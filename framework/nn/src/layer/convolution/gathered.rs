//! Convolutions of any kernel, stride, padding and number of groups, by matrix products on gathered rows.

use std::ops::Range;

use super::{PANEL, packed_blocks};
use crate::{
    kernel::Level,
    layer::{Size, gather::Gather, slices},
    network::Convolution as Description,
};

mod product;
mod weight;

/// Numbers of gathered rows that a slice works on at a time: they stay in the second-level cache.
const BAND: usize = 64 * 1024;
/// Columns of the weight gradient that are worked out together.
const STRIP: usize = 128;
/// Up to this many weights every slice of the batch has a weight gradient of its own; larger ones are cut by columns
/// only, because eight copies would cost more memory than the parallel work is worth.
const SMALL: usize = 64 * 1024;

/// A convolution planned for one batch shape.
#[derive(Clone, Debug)]
pub(super) struct Gathered {
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

impl Gathered {
    /// The convolution that `c` describes, for `batch` images of size `input`, giving size `output`.
    pub fn new(
        level: Level,
        c: &Description,
        batch: usize,
        input: Size,
        output: Size,
        weight: Range<usize>,
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
            level,
            batch,
            input,
            output,
            kernel,
            groups,
            weight,
            forward,
            backward,
        }
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
        let input = self.gradient_packed() + self.count() * self.gradient_band();
        let weights = self.output.channels * self.area() * self.own();
        let strips = (self.area() * self.own()).div_ceil(STRIP);
        let copies = self.weight_slices().len();
        let weight = copies * (weights + self.groups * strips * BAND);
        input.max(weight)
    }

    /// Numbers of the packed weights of all classes.
    fn gradient_packed(&self) -> usize {
        let classes = self.backward.iter().map(|class| class.taps.len());
        let blocks = classes.map(|taps| packed_blocks(taps * self.outputs(), self.own()));
        self.groups * blocks.sum::<usize>()
    }

    /// Numbers of gathered rows of a class.
    fn gradient_band(&self) -> usize {
        band(self.area() * self.outputs())
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

/// Rows of `k` numbers that a band of an image of `pixels` pixels has.
fn band_rows(k: usize, pixels: usize) -> usize {
    (BAND / k.max(1)).clamp(1, pixels)
}

/// Numbers of a band of rows of `k`.
fn band(k: usize) -> usize {
    BAND.max(k)
}
