//! A layer norm of its own: the one that stands behind the last layer of a transformer, on few rows.

use std::ops::Range;

use super::{Layer, Pass, Size};
use crate::{
    kernel::{
        Level,
        layer_norm::{Affine, Gradients, gradient, normalise},
    },
    network::LayerNorm as Description,
    parameter::Parameters,
};

/// A planned norm of rows.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    level: Level,
    size: Size,
    rows: usize,
    epsilon: f32,
    weight: Range<usize>,
    bias: Range<usize>,
    /// Mean and inverse deviation of every row.
    statistics: Vec<[f32; 2]>,
}

impl LayerNorm {
    /// Plans `description` for `batch` tensors of size `input`.
    pub fn new(
        description: &Description,
        batch: usize,
        input: Size,
        parameters: &Parameters,
    ) -> Self {
        let place = |last| parameters.weight_place(&format!("{}.{last}", description.name));
        let rows = batch * input.height * input.width;
        Self {
            level: Level::current(),
            size: input,
            rows,
            epsilon: description.epsilon,
            weight: place("weight"),
            bias: place("bias"),
            statistics: vec![[0.0; 2]; rows],
        }
    }
}

impl Layer for LayerNorm {
    fn output(&self) -> Size {
        self.size
    }

    fn saved(&self) -> usize {
        0
    }

    fn scratch(&self) -> usize {
        self.rows * self.size.channels
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let values = pass.parameters.values();
        let affine = Affine {
            weight: &values[self.weight.clone()],
            bias: &values[self.bias.clone()],
        };
        normalise(self.level, affine, self.epsilon, x, y, &mut self.statistics);
    }

    fn backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: &[f32],
        _: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        let (values, gradients) = pass.parameters.values_and_gradients_mut();
        // The bias lies right behind the weight.
        let both = &mut gradients[self.weight.start..self.bias.end];
        let (dweight, dbias) = both.split_at_mut(self.weight.len());
        let dx = match dx {
            Some(dx) => dx,
            None => &mut pass.scratch[..x.len()],
        };
        let gradients = Gradients { dx, dweight, dbias };
        let weight = &values[self.weight.clone()];
        gradient(self.level, weight, x, &self.statistics, dy, &[], gradients);
    }
}
