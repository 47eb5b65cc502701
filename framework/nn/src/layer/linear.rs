//! A fully connected layer on rows.
//!
//! A batch has few rows and the weights are many, so it is the batch that is packed and turned, never the weights:
//! forward computes the transpose of the output, weights times the packed input.

use std::ops::Range;

use rayon::prelude::*;

use super::{Layer, Pass, Size, dropout::dropout_of};
use crate::{
    kernel::{
        Level,
        activation::{scalar, scalar_slope},
        gemm::{Epilogue, Right, gemm, pack_rows, pack_transposed, packed_len},
    },
    network::{Activation, Linear as Description},
    parameter::Parameters,
};

/// Outputs, or inputs, that are worked out together.
const BLOCK: usize = 64;
/// Outputs that the input's gradient sums up in one sweep: so many rows of weights share the second-level cache.
const DEPTH: usize = 128;
/// Distance that is added to copied rows. Widths are often powers of two, and rows a power of two apart would push each
/// other out of the first-level cache.
const GAP: usize = 16;
/// Rows that are turned from columns together: a cache line of them.
const LINE: usize = 16;
/// Groups of blocks that work at the same time, each with a buffer of its own.
const GROUPS: usize = 8;

/// A planned fully connected layer.
#[derive(Clone, Debug)]
pub struct Linear {
    level: Level,
    batch: usize,
    input: usize,
    output: usize,
    weight: Range<usize>,
    bias: Option<Range<usize>>,
    activation: Activation,
    dropout: f32,
}

impl Linear {
    /// Plans `description` for `batch` rows.
    pub fn new(description: &Description, batch: usize, parameters: &Parameters) -> Self {
        let place = |last| parameters.weight_place(&format!("{}.{last}", description.name));
        Self {
            level: Level::current(),
            batch,
            input: description.input,
            output: description.output,
            weight: place("weight"),
            bias: description.bias.then(|| place("bias")),
            activation: description.activation,
            dropout: description.dropout,
        }
    }
}

impl Layer for Linear {
    fn output(&self) -> Size {
        Size {
            height: 1,
            width: 1,
            channels: self.output,
        }
    }

    fn saved(&self) -> usize {
        // What the activation was applied to; without one, nothing is needed.
        match self.activation {
            Activation::Identity => 0,
            _ => self.batch * self.output,
        }
    }

    fn scratch(&self) -> usize {
        let (m, k, n) = (self.batch, self.input, self.output);
        let forward = packed_len(k, m) + n * m + GROUPS * BLOCK * (k + GAP);
        let turned = n * (m + GAP) + packed_len(m, k);
        let blocked = n.div_ceil(DEPTH) * m * (DEPTH + GAP) + m * k;
        forward.max(turned).max(blocked)
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let (m, n) = (self.batch, self.output);
        let values = pass.parameters.values();
        let turned = self.product(&values[self.weight.clone()], x, pass.scratch);
        let bias = self.bias.clone().map(|place| &values[place]);
        let activation = self.activation;
        let finish = |y: &mut [f32], first: usize| {
            let rows = y.len() / n;
            for o in 0..n {
                let bias = bias.map_or(0.0, |bias| bias[o]);
                for (row, value) in turned[o * m + first..][..rows].iter().enumerate() {
                    y[row * n + o] = value + bias;
                }
            }
        };
        let keeps = activation != Activation::Identity && pass.mode.keeps();
        if keeps {
            let saved = &mut pass.saved[..m * n];
            saved
                .par_chunks_mut(LINE * n)
                .zip(y.par_chunks_mut(LINE * n))
                .enumerate()
                .for_each(|(chunk, (saved, y))| {
                    finish(saved, chunk * LINE);
                    for (y, z) in y.iter_mut().zip(&*saved) {
                        *y = scalar(activation, *z);
                    }
                });
        } else {
            y.par_chunks_mut(LINE * n)
                .enumerate()
                .for_each(|(chunk, y)| {
                    finish(y, chunk * LINE);
                    if activation != Activation::Identity {
                        for y in y.iter_mut() {
                            *y = scalar(activation, *y);
                        }
                    }
                });
        }
        dropout_of(self.dropout, pass, y);
    }

    fn backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: &[f32],
        _: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        let (m, n) = (self.batch, self.output);
        dropout_of(self.dropout, pass, dy);
        if self.activation != Activation::Identity {
            dy.par_chunks_mut(n)
                .zip(pass.saved[..m * n].par_chunks(n))
                .for_each(|(dy, saved)| {
                    for (d, &z) in dy.iter_mut().zip(saved) {
                        *d *= scalar_slope(self.activation, z);
                    }
                });
        }
        let (values, gradients) = pass.parameters.values_and_gradients_mut();
        if let Some(bias) = self.bias.clone() {
            let gradient = &mut gradients[bias];
            for row in dy.chunks(n) {
                for (gradient, d) in gradient.iter_mut().zip(row) {
                    *gradient += d;
                }
            }
        }
        self.weight_gradient(&mut gradients[self.weight.clone()], x, dy, pass.scratch);
        if let Some(dx) = dx {
            self.input_gradient(&values[self.weight.clone()], dy, dx, pass.scratch);
        }
    }
}

impl Linear {
    /// Weights times the transpose of `x`: the output `[output, batch]` without bias, in a part of `scratch`.
    fn product<'a>(&self, weights: &[f32], x: &[f32], scratch: &'a mut [f32]) -> &'a [f32] {
        let (m, k, n) = (self.batch, self.input, self.output);
        let (packed, scratch) = scratch.split_at_mut(packed_len(k, m));
        pack_transposed(self.level, k, m, x, k, None, packed);
        let packed = &*packed;
        let (turned, buffers) = scratch.split_at_mut(n * m);
        let stride = k + GAP;
        let rows = n.div_ceil(GROUPS).next_multiple_of(BLOCK);
        turned
            .par_chunks_mut(rows * m)
            .zip(weights.par_chunks(rows * k))
            .zip(buffers.par_chunks_mut(BLOCK * stride))
            .for_each(|((turned, weights), buffer)| {
                for (turned, weights) in turned.chunks_mut(BLOCK * m).zip(weights.chunks(BLOCK * k))
                {
                    for (copy, row) in buffer.chunks_mut(stride).zip(weights.chunks(k)) {
                        copy[..k].copy_from_slice(row);
                    }
                    // SAFETY: the buffer holds a row of k weights for every row of m results, and the packed
                    // columns are m of k numbers.
                    unsafe {
                        gemm(
                            self.level,
                            turned.len() / m,
                            k,
                            m,
                            buffer.as_ptr(),
                            stride,
                            Right::Packed(packed.as_ptr(), std::ptr::null()),
                            turned.as_mut_ptr(),
                            m,
                            &Epilogue::SET,
                        );
                    }
                }
            });
        turned
    }

    /// gradient += dyᵀ · x.
    fn weight_gradient(&self, gradient: &mut [f32], x: &[f32], dy: &[f32], scratch: &mut [f32]) {
        let (m, k, n) = (self.batch, self.input, self.output);
        let stride = m + GAP;
        let (turned, packed) = scratch.split_at_mut(n * stride);
        for (row, dy) in dy.chunks(n).enumerate() {
            for (turned, d) in turned.chunks_mut(stride).zip(dy) {
                turned[row] = *d;
            }
        }
        pack_rows(self.level, m, k, x, k, packed);
        let (turned, packed) = (&*turned, &*packed);
        gradient
            .par_chunks_mut(BLOCK * k)
            .enumerate()
            .for_each(|(block, gradient)| {
                // SAFETY: the block's rows of m gradients, m packed rows of k inputs, the block's rows of k sums.
                unsafe {
                    gemm(
                        self.level,
                        gradient.len() / k,
                        m,
                        k,
                        turned[block * BLOCK * stride..].as_ptr(),
                        stride,
                        Right::Packed(packed.as_ptr(), std::ptr::null()),
                        gradient.as_mut_ptr(),
                        k,
                        &Epilogue::ADD,
                    );
                }
            });
    }

    /// dx = dy · weights.
    fn input_gradient(&self, weights: &[f32], dy: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
        let (m, k, n) = (self.batch, self.input, self.output);
        let stride = DEPTH + GAP;
        let (blocked, columns) = scratch.split_at_mut(n.div_ceil(DEPTH) * m * stride);
        // dy by blocks of outputs: `[block, batch, outputs]`.
        blocked
            .par_chunks_mut(m * stride)
            .enumerate()
            .for_each(|(block, blocked)| {
                let outputs = block * DEPTH..n.min((block + 1) * DEPTH);
                for (copy, row) in blocked.chunks_mut(stride).zip(dy.chunks(n)) {
                    copy[..outputs.len()].copy_from_slice(&row[outputs.clone()]);
                }
            });
        let blocked = &*blocked;
        // Every task works out some columns of dx, in a part of scratch of its own.
        let columns = &mut columns[..m * k];
        columns
            .par_chunks_mut(BLOCK * m)
            .enumerate()
            .for_each(|(task, columns)| {
                let width = columns.len() / m;
                for (block, dy) in blocked.chunks(m * stride).enumerate() {
                    let first = block * DEPTH;
                    let epilogue = Epilogue {
                        accumulate: block > 0,
                        ..Epilogue::SET
                    };
                    // SAFETY: m rows of the block's gradients, the block's rows of weights of which `width` columns
                    // from the task's first on are read, and m rows of that width.
                    unsafe {
                        gemm(
                            self.level,
                            m,
                            DEPTH.min(n - first),
                            width,
                            dy.as_ptr(),
                            stride,
                            Right::Rows(weights[first * k + task * BLOCK..].as_ptr(), k),
                            columns.as_mut_ptr(),
                            width,
                            &epilogue,
                        );
                    }
                }
            });
        let columns = &*columns;
        dx.par_chunks_mut(k).enumerate().for_each(|(row, dx)| {
            for (dx, columns) in dx.chunks_mut(BLOCK).zip(columns.chunks(BLOCK * m)) {
                let width = dx.len();
                dx.copy_from_slice(&columns[row * width..][..width]);
            }
        });
    }
}
