//! 3×3 convolutions of stride 1 and padding 1 by Winograd's transforms.
//!
//! Work is counted in *units*, rows of tiles of one image. With few channels every slice of the batch goes through its
//! units in chunks whose transformed tensors stay in the second-level cache. With many channels the transformed filters
//! are far larger than that cache, and what counts is how often they are read: then a chunk spans many images, and all
//! threads work on its three phases (inputs to points, products, points to outputs) one after the other.
//!
//! Cuts depend on shapes only, so results do not depend on the number of threads.

use std::ops::Range;

use super::{Folded, PANEL, Prepared, Sum};
use crate::{
    kernel::{
        Level,
        dense::{Band, Operand},
        gemm::packed_len,
        winograd::{FilterSource, Gradient, GradientTiles, Input, InputTiles, POINTS, TILE},
    },
    layer::{Size, place::Place},
    network::{Activation, Convolution as Description},
    parameter::Parameters,
};

mod product;
mod weight;

/// Fewest tiles of a batch for which transforming the filters pays.
const FEWEST: usize = 16;
/// Numbers of transformed tensors that a slice works on at a time.
const CHUNK: usize = 192 * 1024;
/// Numbers of transformed filters from which all threads work on one chunk.
const LARGE: usize = 1 << 20;
/// Numbers of transformed tensors that all threads work on at a time.
const SHARED: usize = 5 << 20;
/// Most parts of a phase that run side by side.
const PARTS: usize = 8;
/// Numbers between the matrices of neighbouring points. Without them the matrices would often be a power of two apart,
/// and the 36 places that a transform writes to would compete for the same few lines of the caches.
const GAP: usize = 80;
/// Outputs of a task of the weight gradient's products.
const ROWS: usize = 128;

/// A convolution planned for one batch shape.
#[derive(Clone, Debug)]
pub(super) struct Winograd {
    level: Level,
    batch: usize,
    height: usize,
    width: usize,
    inputs: usize,
    outputs: usize,
    /// Rows and columns of tiles of an image.
    tiles: (usize, usize),
    weight: Range<usize>,
}

/// How one direction is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// All threads work on one chunk.
    shared: bool,
    /// Units of a chunk.
    units: usize,
}

/// Successive units of one image.
#[derive(Clone, Copy, Debug)]
struct Run {
    image: usize,
    /// First row of tiles, and number of rows.
    first: usize,
    rows: usize,
    /// Tiles of the chunk before it.
    before: usize,
}

/// What becomes of the products of a direction.
struct Finish<'a> {
    start: Option<&'a [f32]>,
    activation: Activation,
    sum: Sum<'a>,
}

impl Winograd {
    /// Whether `c` is a convolution that this method computes, and large enough to gain.
    pub fn takes(c: &Description, batch: usize, input: Size) -> bool {
        let tiles = batch * input.height.div_ceil(TILE) * input.width.div_ceil(TILE);
        let padding = [
            c.padding.top,
            c.padding.left,
            c.padding.bottom,
            c.padding.right,
        ];
        c.kernel == 3
            && c.stride == 1
            && c.groups == 1
            && padding == [1; 4]
            && c.input >= 16
            && c.output >= 16
            && tiles >= FEWEST
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
            height: input.height,
            width: input.width,
            inputs: c.input,
            outputs: c.output,
            tiles: (input.height.div_ceil(TILE), input.width.div_ceil(TILE)),
            weight,
        }
    }

    fn units(&self) -> usize {
        self.batch * self.tiles.0
    }

    /// The cut for products of that many multiply-adds a tile and point, whose transformed tensors have `width`
    /// channels together.
    fn cut(&self, products: usize, width: usize, fewest: usize) -> Cut {
        let of_slice = self.batch.div_ceil(PARTS) * self.tiles.0;
        let numbers = POINTS * width;
        let shared = POINTS * products > LARGE;
        let (tiles, most) = if shared {
            ((SHARED / numbers).max(PANEL * 2), self.units())
        } else {
            // Many tiles read the filters less often, few stay in the cache.
            let balanced = products / width / 2;
            ((CHUNK / numbers).max(fewest).max(balanced), of_slice)
        };
        Cut {
            shared,
            units: (tiles / self.tiles.1).clamp(1, most.max(1)),
        }
    }

    fn chunk_tiles(&self, cut: Cut) -> usize {
        cut.units * self.tiles.1
    }

    /// Chunks that are worked on at the same time.
    fn lanes(&self, cut: Cut) -> usize {
        if cut.shared { 1 } else { self.parts() }
    }

    fn parts(&self) -> usize {
        self.batch.min(PARTS)
    }

    /// Columns of a band.
    fn columns(&self) -> usize {
        self.tiles.1 * TILE + 2
    }

    /// Numbers of the largest band of `channels` channels.
    fn band(&self, cut: Cut, channels: usize) -> usize {
        (cut.units.min(self.tiles.0) * TILE + 2) * self.columns() * channels
    }

    fn direction_scratch(&self, k: usize, n: usize) -> usize {
        let cut = self.cut(k * n, k + n, 28);
        let tiles = self.chunk_tiles(cut);
        let points = POINTS * (plane(tiles * k) + plane(tiles * n));
        self.filter_len([k, n]) + self.lanes(cut) * points + self.parts() * self.band(cut, k)
    }

    /// Numbers of the transformed filters from k to n channels.
    fn filter_len(&self, [k, n]: [usize; 2]) -> usize {
        n.div_ceil(PANEL) * POINTS * plane(packed_len(k, PANEL))
    }

    /// Floats of scratch for a forward pass.
    pub fn forward_scratch(&self) -> usize {
        self.direction_scratch(self.inputs, self.outputs)
    }

    /// Floats of scratch for a backward pass.
    pub fn backward_scratch(&self) -> usize {
        let (c, o) = (self.inputs, self.outputs);
        let cut = self.weight_cut();
        let tiles = self.chunk_tiles(cut);
        let planes = plane(c * o) + plane(tiles * c) + plane(tiles * o);
        let weight = self.lanes(cut) * POINTS * planes + self.parts() * self.band(cut, c.max(o));
        weight.max(self.direction_scratch(o, c))
    }

    fn weight_cut(&self) -> Cut {
        self.cut(self.inputs * self.outputs, self.inputs + self.outputs, 56)
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
        let source = FilterSource {
            weights: &parameters.values()[self.weight.clone()],
            row: 9,
            column: 9 * self.inputs,
            flip: false,
            scale: folded.map(|folded| folded.scale),
        };
        let finish = Finish {
            start: folded.map(|folded| folded.shift),
            activation: folded.map_or(Activation::Identity, |folded| folded.activation),
            sum: Sum::Set,
        };
        let sizes = [self.inputs, self.outputs];
        let len = self.filter_len(sizes);
        let (packed, stale, scratch) = Prepared::room(kept, parameters, len, scratch);
        let filters = stale.then_some(source);
        self.convolve(sizes, filters, packed, x, y, finish, scratch, partial, done);
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
        let source = FilterSource {
            weights: &parameters.values()[self.weight.clone()],
            row: 9 * self.inputs,
            column: 9,
            flip: true,
            scale: None,
        };
        let finish = Finish {
            start: None,
            activation: Activation::Identity,
            sum,
        };
        let sizes = [self.outputs, self.inputs];
        let (packed, scratch) = scratch.split_at_mut(self.filter_len(sizes));
        let filters = Some(source);
        self.convolve(
            sizes, filters, packed, dy, dx, finish, scratch, partial, done,
        );
    }

    /// Writes the points of a run's inputs, of k channels, to the buffer of a chunk.
    fn inputs(
        &self,
        run: Run,
        x: Operand<'_>,
        k: usize,
        plane: usize,
        band: &mut [f32],
        to: Place,
    ) {
        let size = self.height * self.width * k;
        let source = Band {
            operand: x.part(run.image * size, size),
            height: self.height,
            width: self.width,
            channels: k,
            first: (run.first * TILE) as isize - 1,
            rows: run.rows * TILE + 2,
            left: 1,
            columns: self.columns(),
        };
        source.fill(self.level, band);
        let kernel = InputTiles {
            line: Input,
            band: band.as_ptr(),
            pitch: self.columns() * k,
            channels: k,
            tiles: (run.rows, self.tiles.1),
            out: to.at(run.before * k),
            plane,
        };
        // SAFETY: the band was just filled for these tiles; the buffer has room for all tiles of the chunk.
        unsafe { self.level.run(kernel) }
    }

    /// Writes the points of a run's gradients of outputs to the buffer of a chunk.
    fn gradients(&self, run: Run, dy: Operand<'_>, plane: usize, band: &mut [f32], to: Place) {
        let o = self.outputs;
        let size = self.height * self.width * o;
        let columns = self.tiles.1 * TILE;
        let source = Band {
            operand: dy.part(run.image * size, size),
            height: self.height,
            width: self.width,
            channels: o,
            first: (run.first * TILE) as isize,
            rows: run.rows * TILE,
            left: 0,
            columns,
        };
        source.fill(self.level, band);
        let kernel = GradientTiles {
            line: Gradient,
            band: band.as_ptr(),
            pitch: columns * o,
            channels: o,
            tiles: (run.rows, self.tiles.1),
            out: to.at(run.before * o),
            plane,
        };
        // SAFETY: as for the inputs.
        unsafe { self.level.run(kernel) }
    }

    /// The runs of some units of a chunk that starts at unit `before`.
    fn runs(&self, units: Range<usize>, before: usize) -> impl Iterator<Item = Run> {
        let (rows, columns) = self.tiles;
        let mut unit = units.start;
        std::iter::from_fn(move || {
            if unit >= units.end {
                return None;
            }
            let first = unit % rows;
            let run = Run {
                image: unit / rows,
                first,
                rows: (rows - first).min(units.end - unit),
                before: (unit - before) * columns,
            };
            unit += run.rows;
            Some(run)
        })
    }

    /// The numbers of a run's pixels in a tensor of n channels: the first, and how many.
    fn pixels(&self, run: Run, n: usize) -> (usize, usize) {
        let row = |tile: usize| (tile * TILE).min(self.height);
        let (first, last) = (row(run.first), row(run.first + run.rows));
        let at = (run.image * self.height + first) * self.width * n;
        (at, (last - first) * self.width * n)
    }
}

/// Cuts a range into at most `count` parts.
fn parts(range: Range<usize>, count: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let count = count.min(range.len());
    let (start, len) = (range.start, range.len());
    (0..count).map(move |i| start + len * i / count..start + len * (i + 1) / count)
}

/// The distance between the matrices of neighbouring points, of `len` numbers.
fn plane(len: usize) -> usize {
    len.next_multiple_of(16) + GAP
}
