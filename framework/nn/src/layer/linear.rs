//! A fully connected layer on rows.
//!
//! A batch has few rows and the weights are many, so weights are read where they lie: forward computes the transpose of
//! the output, weights times the packed input, because packing the weights would cost more than the product.

use std::ops::Range;

use rayon::prelude::*;

use super::{Layer, Pass, Size, dropout::dropout_of};
use crate::{
    executor::Mode,
    kernel::{
        Level,
        activation::{scalar, scalar_slope},
        gemm::{Epilogue, Right, gemm, gemm_tn, pack_transposed, packed_len},
    },
    network::{Activation, Linear as Description},
    parameter::Parameters,
};

/// Outputs, or inputs, that one task works out.
const BLOCK: usize = 64;

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
        packed_len(self.input, self.batch) + self.output * self.batch
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let (m, k, n) = (self.batch, self.input, self.output);
        let values = pass.parameters.values();
        let weights = &values[self.weight.clone()];
        let (packed, turned) = pass.scratch.split_at_mut(packed_len(k, m));
        pack_transposed(self.level, k, m, x, k, None, packed);
        let packed = &*packed;
        let turned = &mut turned[..n * m];
        turned
            .par_chunks_mut(BLOCK * m)
            .enumerate()
            .for_each(|(block, turned)| {
                let rows = turned.len() / m;
                let weights = &weights[block * BLOCK * k..][..rows * k];
                // SAFETY: `rows` rows of k weights, m packed columns of k numbers, and as many rows of m results.
                unsafe {
                    gemm(
                        self.level,
                        rows,
                        k,
                        m,
                        weights.as_ptr(),
                        k,
                        Right::Packed(packed.as_ptr()),
                        turned.as_mut_ptr(),
                        m,
                        &Epilogue::SET,
                    );
                }
            });
        let turned = &*turned;
        let bias = self.bias.clone().map(|place| &values[place]);
        for (row, y) in y.chunks_mut(n).enumerate() {
            for (o, y) in y.iter_mut().enumerate() {
                *y = turned[o * m + row] + bias.map_or(0.0, |bias| bias[o]);
            }
        }
        if self.activation != Activation::Identity {
            if matches!(pass.mode, Mode::Train { .. }) {
                pass.saved[..m * n].copy_from_slice(y);
            }
            for y in y.iter_mut() {
                *y = scalar(self.activation, *y);
            }
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
        let (m, k, n) = (self.batch, self.input, self.output);
        dropout_of(self.dropout, pass, dy);
        if self.activation != Activation::Identity {
            for (d, &z) in dy.iter_mut().zip(&pass.saved[..m * n]) {
                *d *= scalar_slope(self.activation, z);
            }
        }
        let dy = &*dy;
        let (values, gradients) = pass.parameters.values_and_gradients_mut();
        if let Some(bias) = self.bias.clone() {
            for (o, gradient) in gradients[bias].iter_mut().enumerate() {
                *gradient += dy.iter().skip(o).step_by(n).sum::<f32>();
            }
        }
        let gradient = &mut gradients[self.weight.clone()];
        gradient
            .par_chunks_mut(BLOCK * k)
            .enumerate()
            .for_each(|(block, gradient)| {
                // SAFETY: m rows of dy from the block's first output on, m rows of k inputs, and the block's rows of k sums.
                unsafe {
                    gemm_tn(
                        self.level,
                        m,
                        gradient.len() / k,
                        k,
                        dy[block * BLOCK..].as_ptr(),
                        n,
                        x.as_ptr(),
                        k,
                        gradient.as_mut_ptr(),
                        k,
                    );
                }
            });
        let Some(dx) = dx else { return };
        let weights = &values[self.weight.clone()];
        // Every task works out some columns of dx and writes them to a part of scratch of its own.
        let columns = &mut pass.scratch[..m * k];
        columns
            .par_chunks_mut(BLOCK * m)
            .enumerate()
            .for_each(|(block, columns)| {
                let first = block * BLOCK;
                let width = columns.len() / m;
                // SAFETY: m rows of n gradients, n rows of weights of which `width` columns from `first` on are read, and
                // m rows of that width.
                unsafe {
                    gemm(
                        self.level,
                        m,
                        n,
                        width,
                        dy.as_ptr(),
                        n,
                        Right::Rows(weights[first..].as_ptr(), k),
                        columns.as_mut_ptr(),
                        width,
                        &Epilogue::SET,
                    );
                }
            });
        for (block, columns) in columns.chunks(BLOCK * m).enumerate() {
            let width = columns.len() / m;
            for (dx, row) in dx.chunks_mut(k).zip(columns.chunks(width)) {
                dx[block * BLOCK..][..width].copy_from_slice(row);
            }
        }
    }
}
