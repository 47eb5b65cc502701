//! The entry of a vision transformer, planned: patches to tokens, the class token, positions, dropout.
//!
//! A row of a patch is a run of numbers in the image, so patches are copied run by run and multiplied as rows. The gradient
//! of the class token is that of the first position, as both are only added.

use std::ops::Range;

use super::{
    Layer, Pass, Size, each_slice, pieces, slices,
    transformer::{Matrix, multiply, take},
};
use crate::{
    kernel::{
        Level,
        gemm::{Rows, multiply_transposed, pack_rows, pack_transposed, packed_len},
        layer_norm::{add_columns, add_dropped},
        mask::Mask,
    },
    memory::Memory,
    network::PatchEmbedding as Description,
    parameter::Parameters,
    random::Key,
};

/// A planned embedding.
#[derive(Clone, Debug)]
pub struct PatchEmbedding {
    level: Level,
    batch: usize,
    /// Side of an image, and of a patch, in pixels.
    image: usize,
    patch: usize,
    /// Tokens of an image, and numbers of a token.
    tokens: usize,
    width: usize,
    /// Numbers of a patch.
    depth: usize,
    dropout: f32,
    frozen: bool,
    weight: Range<usize>,
    bias: Range<usize>,
    positions: Range<usize>,
    class_token: Range<usize>,
}

impl PatchEmbedding {
    /// Plans `description` for `batch` images.
    pub fn new(description: &Description, batch: usize, parameters: &Parameters) -> Self {
        let place = |last| parameters.weight_place(&format!("{}.{last}", description.projection));
        Self {
            level: Level::current(),
            batch,
            image: description.image,
            patch: description.patch,
            tokens: description.tokens(),
            width: description.width,
            depth: description.depth(),
            dropout: description.dropout,
            frozen: description.frozen,
            weight: place("weight"),
            bias: place("bias"),
            positions: parameters.weight_place(&description.positions),
            class_token: parameters.weight_place(&description.class_token),
        }
    }

    fn mask(&self, pass: &Pass<'_>) -> Option<Mask> {
        let key = Key::of_block(pass.mode.draw()?, pass.position);
        Mask::new(key.at(0), self.dropout)
    }

    /// Where every row of every patch starts in the image, in the order in which they are read.
    fn runs(&self) -> impl Iterator<Item = usize> {
        let (side, patch, image) = (self.image / self.patch, self.patch, self.image);
        (0..side * side).flat_map(move |at| {
            let (row, column) = (at / side * patch, at % side * patch);
            (row..row + patch).map(move |row| 3 * (row * image + column))
        })
    }

    fn packed(&self) -> usize {
        let (k, n) = (self.depth, self.width);
        Memory::pad(packed_len(k, n).max(packed_len(n, k)))
    }

    /// Lengths of a slice's buffers: patches, tokens, and gradients of positions, weight and bias.
    fn lens(&self) -> [usize; 5] {
        let positions = self.tokens * self.width;
        [
            (self.tokens - 1) * self.depth,
            positions,
            positions,
            self.weight.len(),
            self.width,
        ]
    }

    fn slice(&self) -> usize {
        self.lens().into_iter().map(Memory::pad).sum()
    }
}

impl Layer for PatchEmbedding {
    fn output(&self) -> Size {
        Size {
            height: 1,
            width: self.tokens,
            channels: self.width,
        }
    }

    fn saved(&self) -> usize {
        0
    }

    fn scratch(&self) -> usize {
        self.packed() + slices(self.batch).len() * self.slice()
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let mask = self.mask(pass);
        let values = pass.parameters.values();
        let (packed, buffers) = pass.scratch.split_at_mut(self.packed());
        let (level, k, n) = (self.level, self.depth, self.width);
        pack_transposed(level, k, n, &values[self.weight.clone()], k, None, packed);
        let matrix = Matrix {
            level,
            k,
            n,
            packed,
        };
        let (from, to) = (3 * self.image * self.image, self.tokens * n);
        let (positions, class_token) = (&values[self.positions.clone()], self.class_token.clone());
        let (class_token, bias) = (&values[class_token], &values[self.bias.clone()]);
        let run = 3 * self.patch;
        let parts = pieces(y, to, self.batch)
            .zip(buffers.chunks_mut(self.slice()))
            .zip(slices(self.batch));
        each_slice(parts, |((y, mut rest), images)| {
            let patches = take(&mut rest, (self.tokens - 1) * k);
            let tokens = take(&mut rest, to);
            for (y, image) in y.chunks_mut(to).zip(images) {
                let x = &x[image * from..][..from];
                for (patch, at) in patches.chunks_mut(run).zip(self.runs()) {
                    patch.copy_from_slice(&x[at..][..run]);
                }
                tokens.copy_from_slice(positions);
                let (first, others) = tokens.split_at_mut(n);
                for (value, class) in first.iter_mut().zip(class_token) {
                    *value += class;
                }
                let rows = Rows::dense(patches, k);
                multiply(self.tokens - 1, rows, &matrix, others, n, Some(bias), true);
                let mask = mask.map(|mask| (mask, (image * self.tokens) as u64));
                add_dropped(level, n, None, tokens, y, mask);
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
        let mask = self.mask(pass);
        let (values, gradients) = pass.parameters.values_and_gradients_mut();
        let (packed, buffers) = pass.scratch.split_at_mut(self.packed());
        let (level, k, n) = (self.level, self.width, self.depth);
        pack_rows(level, k, n, &values[self.weight.clone()], n, packed);
        let matrix = Matrix {
            level,
            k,
            n,
            packed,
        };
        let (from, to) = (3 * self.image * self.image, self.tokens * k);
        let run = 3 * self.patch;
        let mut nowhere = [];
        let (dx, wanted) = match dx {
            Some(dx) => (dx, from),
            None => (&mut nowhere[..], 0),
        };
        let slice = self.slice();
        let parts = pieces(dx, wanted, self.batch)
            .zip(buffers.chunks_mut(slice))
            .zip(slices(self.batch));
        let (dy, layer) = (&*dy, &*self);
        each_slice(parts, |((dx, mut rest), images)| {
            let [patches, tokens, dpositions, dweight, dbias] =
                layer.lens().map(|len| take(&mut rest, len));
            dpositions.fill(0.0);
            dweight.fill(0.0);
            let mut dx = dx.chunks_mut(wanted.max(1));
            for image in images {
                let mask = mask.map(|mask| (mask, (image * layer.tokens) as u64));
                add_dropped(level, k, None, &dy[image * to..][..to], tokens, mask);
                for (sum, d) in dpositions.iter_mut().zip(&*tokens) {
                    *sum += d;
                }
                let rows = Rows::dense(&tokens[k..], k);
                if !layer.frozen {
                    let x = &x[image * from..][..from];
                    for (patch, at) in patches.chunks_mut(run).zip(layer.runs()) {
                        patch.copy_from_slice(&x[at..][..run]);
                    }
                    let patches = Rows::dense(patches, n);
                    multiply_transposed(level, layer.tokens - 1, k, n, rows, patches, dweight, n);
                }
                if let Some(dx) = dx.next() {
                    multiply(layer.tokens - 1, rows, &matrix, patches, n, None, false);
                    for (patch, at) in patches.chunks(run).zip(layer.runs()) {
                        dx[at..][..run].copy_from_slice(patch);
                    }
                }
            }
            dbias.fill(0.0);
            add_columns(level, &dpositions[k..], dbias);
        });
        for own in buffers.chunks_mut(slice).take(slices(self.batch).len()) {
            let mut rest = own;
            let [_, _, dpositions, dweight, dbias] = self.lens().map(|len| take(&mut rest, len));
            add(&mut gradients[self.positions.clone()], dpositions);
            add(&mut gradients[self.class_token.clone()], &dpositions[..k]);
            if !self.frozen {
                add(&mut gradients[self.weight.clone()], dweight);
                add(&mut gradients[self.bias.clone()], dbias);
            }
        }
    }
}

fn add(sums: &mut [f32], values: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}
