//! A transformer's layer, planned: attention and two fully connected layers, each behind a norm and added to its input.
//!
//! The unit of work is one image, from its tokens to the layer's output: what is in between fits into the second-level
//! cache. For backward an image keeps a [record](Record): queries, keys and values, the heads' output, the sum after
//! attention, the hidden numbers before GELU, and figures for each row. Norms, probabilities, GELU's output and dropout
//! masks are worked out again.
//!
//! A layer whose output is the first token ([`Tokens::First`]) has one query for each image, but keys and values of all
//! tokens; everything behind attention then has one row.

use std::ops::Range;

use rayon::prelude::*;

use super::{Layer, Pass, Size, each_slice, pieces, slices};
use crate::{
    kernel::{
        Level, gelu,
        gemm::{Rows, pack_rows, pack_transposed, packed_len},
        layer_norm::{self, Affine, Statistics},
        mask::Mask,
    },
    memory::Memory,
    network::{Tokens, TransformerLayer as Description},
    parameter::Parameters,
    random::Key,
};

mod attention;
mod backward;
mod product;

pub(super) use product::{Matrix, multiply};

/// A planned layer.
#[derive(Clone, Debug)]
pub struct TransformerLayer {
    level: Level,
    batch: usize,
    /// Tokens of an image.
    tokens: usize,
    /// Tokens of an image that leave the layer.
    queries: usize,
    /// Numbers of a token.
    width: usize,
    heads: usize,
    head_width: usize,
    hidden: usize,
    dropout: f32,
    epsilon: [f32; 2],
    /// Where the layer's tensors lie; they follow each other.
    span: Range<usize>,
    places: Places,
}

/// Where the tensors lie within a layer's span.
#[derive(Clone, Debug)]
struct Places {
    norms: [[Range<usize>; 2]; 2],
    /// Queries; keys and values; output; expand; project.
    weights: [Weight; 5],
    /// Output, expand, project.
    biases: [Range<usize>; 3],
}

/// A weight matrix `[output, input]`.
#[derive(Clone, Debug)]
struct Weight {
    place: Range<usize>,
    output: usize,
    input: usize,
    /// Into how many matrices it is cut by columns of the product: forward, and backward. Each head has its own tensors.
    blocks: [usize; 2],
}

impl Weight {
    /// Rows and columns of a block in a direction, and the number of blocks.
    fn shape(&self, direction: Direction) -> [usize; 3] {
        let (rows, columns, blocks) = match direction {
            Direction::Forward => (self.input, self.output, self.blocks[0]),
            Direction::Backward => (self.output, self.input, self.blocks[1]),
        };
        [rows, columns / blocks, blocks]
    }

    /// Floats of the packed blocks in either direction.
    fn len(&self) -> usize {
        let len = |direction| {
            let [k, n, blocks] = self.shape(direction);
            blocks * Memory::pad(packed_len(k, n))
        };
        len(Direction::Forward).max(len(Direction::Backward))
    }

    fn pack(&self, level: Level, values: &[f32], direction: Direction, packed: &mut [f32]) {
        let [k, n, blocks] = self.shape(direction);
        let len = Memory::pad(packed_len(k, n));
        let stride = self.input;
        for (block, packed) in packed.chunks_mut(len).take(blocks).enumerate() {
            match direction {
                Direction::Forward => {
                    let values = &values[block * n * stride..];
                    pack_transposed(level, k, n, values, stride, None, packed);
                }
                Direction::Backward => {
                    pack_rows(level, k, n, &values[block * n..], stride, packed);
                }
            }
        }
    }
}

/// Which product weights are packed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// Rows times the transposed weights.
    Forward,
    /// Gradients times the weights.
    Backward,
}

/// What an image keeps from forward to backward.
struct Record<'a> {
    /// Queries, keys, values: `[3, heads, tokens, head_width]`.
    qkv: &'a mut [f32],
    /// The heads' output, `[queries, inner]`.
    heads: &'a mut [f32],
    /// The sum after attention, `[queries, width]`.
    middle: &'a mut [f32],
    /// The hidden numbers before GELU, `[queries, hidden]`.
    hidden: &'a mut [f32],
    /// The logarithms of the softmax's sums, `[heads, queries]`.
    logarithms: &'a mut [f32],
    /// Figures of the first norm's rows, and of the second's.
    statistics: [&'a mut [Statistics]; 2],
}

/// The next `len` numbers; what follows starts at a cache line.
pub(super) fn take<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (piece, after) = std::mem::take(rest).split_at_mut(Memory::pad(len));
    *rest = after;
    &mut piece[..len]
}

fn pairs(values: &mut [f32]) -> &mut [Statistics] {
    values.as_chunks_mut().0
}

impl TransformerLayer {
    /// Plans `description` for `batch` images of size `input`.
    pub fn new(
        description: &Description,
        batch: usize,
        input: Size,
        parameters: &Parameters,
    ) -> Self {
        let (attention, hidden) = (&description.attention, &description.hidden);
        let tokens = input.height * input.width;
        let (width, inner) = (description.width(), attention.inner());
        let first = parameters.weight_place(&format!("{}.weight", attention.norm.name));
        let place = |name: &str, last: &str| {
            let place = parameters.weight_place(&format!("{name}.{last}"));
            place.start - first.start..place.end - first.start
        };
        let norm = |name: &str| [place(name, "weight"), place(name, "bias")];
        let qkv = place(&attention.qkv, "weight");
        let keys = qkv.start + inner * width;
        let weight = |place, output, input, blocks| Weight {
            place,
            output,
            input,
            blocks,
        };
        let heads = attention.heads;
        let places = Places {
            norms: [norm(&attention.norm.name), norm(&hidden.norm.name)],
            weights: [
                weight(qkv.start..keys, inner, width, [heads, 1]),
                weight(keys..qkv.end, 2 * inner, width, [2 * heads, 1]),
                weight(place(&attention.output, "weight"), width, inner, [1, heads]),
                weight(place(&hidden.expand, "weight"), hidden.width, width, [1, 1]),
                weight(
                    place(&hidden.project, "weight"),
                    width,
                    hidden.width,
                    [1, 1],
                ),
            ],
            biases: [&attention.output, &hidden.expand, &hidden.project]
                .map(|name| place(name, "bias")),
        };
        Self {
            level: Level::current(),
            batch,
            tokens,
            queries: match description.tokens {
                Tokens::All => tokens,
                Tokens::First => 1,
            },
            width,
            heads,
            head_width: attention.head_width,
            hidden: hidden.width,
            dropout: description.dropout,
            epsilon: [attention.norm.epsilon, hidden.norm.epsilon],
            span: first.start..first.start + places.biases[2].end,
            places,
        }
    }

    fn inner(&self) -> usize {
        self.heads * self.head_width
    }

    /// Distance between rows of scores: whole cache lines.
    fn stride(&self) -> usize {
        self.tokens.next_multiple_of(16)
    }

    /// Lengths of a record's parts.
    fn record_lens(&self) -> [usize; 7] {
        let queries = self.queries;
        [
            self.tokens * 3 * self.inner(),
            queries * self.inner(),
            queries * self.width,
            queries * self.hidden,
            queries * self.heads,
            2 * self.tokens,
            2 * queries,
        ]
    }

    fn record_len(&self) -> usize {
        self.record_lens().into_iter().map(Memory::pad).sum()
    }

    fn record<'a>(&self, mut rest: &'a mut [f32]) -> Record<'a> {
        let parts = self.record_lens().map(|len| take(&mut rest, len));
        let [qkv, heads, middle, hidden, logarithms, first, second] = parts;
        Record {
            qkv,
            heads,
            middle,
            hidden,
            logarithms,
            statistics: [pairs(first), pairs(second)],
        }
    }

    /// Lengths of the packed weights.
    fn packed(&self) -> usize {
        self.places.weights.iter().map(Weight::len).sum()
    }

    /// Packs the weights for a direction, each a task of its own.
    fn pack<'a>(
        &self,
        values: &[f32],
        direction: Direction,
        mut rest: &'a mut [f32],
    ) -> [Matrix<'a>; 5] {
        let level = self.level;
        let mut parts = self.places.weights.each_ref().map(|weight| {
            let packed = take(&mut rest, weight.len());
            (weight, packed)
        });
        parts
            .par_iter_mut()
            .with_max_len(1)
            .for_each(|(weight, packed)| {
                weight.pack(level, &values[weight.place.clone()], direction, packed);
            });
        parts.map(|(weight, packed)| {
            let [k, n, _] = weight.shape(direction);
            Matrix {
                level,
                k,
                n,
                packed,
            }
        })
    }

    /// The masks behind attention, GELU and the second part.
    fn masks(&self, pass: &Pass<'_>) -> [Option<Mask>; 3] {
        let Some(draw) = pass.mode.draw() else {
            return [None; 3];
        };
        let key = Key::of_block(draw, pass.position);
        [0, 1, 2].map(|site| Mask::new(key.at(site), self.dropout))
    }

    fn affine<'a>(&self, norm: usize, values: &'a [f32]) -> Affine<'a> {
        let [weight, bias] = self.places.norms[norm].clone();
        Affine {
            weight: &values[weight],
            bias: &values[bias],
        }
    }

    /// Floats of one slice's buffers in a forward pass: normalised rows, GELU's output, attention's own, a record.
    fn forward_buffers(&self) -> usize {
        Memory::pad(self.tokens * self.width)
            + Memory::pad(self.queries * self.hidden)
            + self.attention_buffers()
            + self.record_len()
    }
}

/// What all images of a pass share.
struct Shared<'a> {
    values: &'a [f32],
    matrices: [Matrix<'a>; 5],
    masks: [Option<Mask>; 3],
}

impl Layer for TransformerLayer {
    fn output(&self) -> Size {
        Size {
            height: 1,
            width: self.queries,
            channels: self.width,
        }
    }

    fn saved(&self) -> usize {
        self.batch * self.record_len()
    }

    fn scratch(&self) -> usize {
        let slice = self.forward_buffers().max(self.backward_buffers());
        self.packed() + slices(self.batch).len() * slice
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let masks = self.masks(pass);
        let values = &pass.parameters.values()[self.span.clone()];
        let (packed, buffers) = pass.scratch.split_at_mut(self.packed());
        let shared = Shared {
            values,
            matrices: self.pack(values, Direction::Forward, packed),
            masks,
        };
        let keeps = pass.mode.keeps();
        let (from, to) = (self.tokens * self.width, self.queries * self.width);
        let kept = if keeps { self.record_len() } else { 0 };
        let parts = pieces(y, to, self.batch)
            .zip(pieces(pass.saved, kept, self.batch))
            .zip(buffers.chunks_mut(self.forward_buffers()))
            .zip(slices(self.batch));
        let layer = &*self;
        each_slice(parts, |(((y, saved), buffers), images)| {
            let mut rest = buffers;
            let normal = take(&mut rest, from);
            let activated = take(&mut rest, layer.queries * layer.hidden);
            let own = take(&mut rest, layer.attention_buffers());
            let mut saved = saved.chunks_mut(kept.max(1));
            for (y, image) in y.chunks_mut(to).zip(images) {
                let record = saved.next().unwrap_or(&mut *rest);
                let x = &x[image * from..][..from];
                let record = layer.record(record);
                layer.forward_image(&shared, image, x, record, normal, activated, own, y);
            }
        });
    }

    fn backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: &[f32],
        _: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        self.backward_pass(pass, x, dy, dx);
    }
}

impl TransformerLayer {
    #[expect(
        clippy::too_many_arguments,
        reason = "one image's tensors and the slice's buffers"
    )]
    fn forward_image(
        &self,
        shared: &Shared<'_>,
        image: usize,
        x: &[f32],
        record: Record<'_>,
        normal: &mut [f32],
        activated: &mut [f32],
        own: &mut [f32],
        y: &mut [f32],
    ) {
        let (level, width, inner) = (self.level, self.width, self.inner());
        let (tokens, queries) = (self.tokens, self.queries);
        let [query, keys, output, expand, project] = &shared.matrices;
        let bias = |i: usize| Some(&shared.values[self.places.biases[i].clone()]);
        let mask = |site: usize| shared.masks[site].map(|mask| (mask, (image * queries) as u64));
        let [first, second] = record.statistics;

        layer_norm::normalise(
            level,
            self.affine(0, shared.values),
            self.epsilon[0],
            x,
            normal,
            first,
        );
        let rows = Rows::dense(normal, width);
        let parts = record.qkv.chunks_mut(tokens * self.head_width);
        for (i, part) in parts.enumerate() {
            let (count, matrix) = match i.checked_sub(self.heads) {
                None => (queries, query.block(i)),
                Some(i) => (tokens, keys.block(i)),
            };
            multiply(count, rows, &matrix, part, self.head_width, None, false);
        }
        self.attend(record.qkv, record.heads, record.logarithms, own);

        // From here on rows are those of the queries; `normal` serves as the buffer of every product.
        let normal = &mut normal[..queries * width];
        let rows = Rows::dense(record.heads, inner);
        multiply(queries, rows, output, normal, width, bias(0), false);
        let residual = Some(&x[..queries * width]);
        layer_norm::add_dropped(level, width, residual, normal, record.middle, mask(0));
        layer_norm::normalise(
            level,
            self.affine(1, shared.values),
            self.epsilon[1],
            record.middle,
            normal,
            second,
        );
        let (rows, hidden) = (Rows::dense(normal, width), self.hidden);
        multiply(queries, rows, expand, record.hidden, hidden, bias(1), false);
        gelu::forward(level, hidden, record.hidden, activated, mask(1));
        let rows = Rows::dense(activated, hidden);
        multiply(queries, rows, project, normal, width, bias(2), false);
        layer_norm::add_dropped(level, width, Some(record.middle), normal, y, mask(2));
    }
}
