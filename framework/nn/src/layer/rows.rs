//! What heads do to rows beside multiplying them: batch norm, division by their length, nothing.
//!
//! Rows are few and short compared with the tensors of a trunk, so nothing here is worth a kernel of its own; the passes
//! of the trunk's batch norm serve rows too.

use super::{
    Layer, Pass, Size,
    batch_norm::BatchNorm,
    copy,
    rowwise::{GradientSums, Moments, activation_gradient, norm_gradient, normalise},
};
use crate::{
    kernel::Level,
    network::{Activation, RowNorm as Description},
    parameter::Parameters,
};

/// A length below which rows are divided by it instead of their own, as in PyTorch's `normalize`.
const LEAST: f32 = 1e-12;

/// The size of a row of `channels` numbers.
fn row(channels: usize) -> Size {
    Size {
        height: 1,
        width: 1,
        channels,
    }
}

/// A planned batch norm of rows.
#[derive(Clone, Debug)]
pub struct RowNorm {
    level: Level,
    norm: BatchNorm,
    activation: Activation,
    moments: Moments,
    sums: GradientSums,
}

impl RowNorm {
    /// Plans `description` for rows of `channels` numbers.
    pub fn new(description: &Description, channels: usize, parameters: &Parameters) -> Self {
        Self {
            level: Level::current(),
            norm: BatchNorm::new(&description.norm, channels, parameters),
            activation: description.activation,
            moments: Moments::new(channels),
            sums: GradientSums::new(channels),
        }
    }
}

impl Layer for RowNorm {
    fn output(&self) -> Size {
        row(self.norm.channels())
    }

    fn saved(&self) -> usize {
        0
    }

    fn scratch(&self) -> usize {
        0
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        if pass.mode.takes_batch() {
            self.moments.clear();
            self.moments.add(self.level, x);
            self.norm.take_batch(&self.moments, pass.parameters);
        } else {
            self.norm.take_running(pass.parameters);
        }
        let affine = self.norm.affine();
        normalise(self.level, Some(x), affine, None, self.activation, y);
    }

    fn backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: &[f32],
        _: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        self.sums.clear();
        activation_gradient(
            self.level,
            x,
            self.norm.affine(),
            None,
            self.activation,
            self.norm.standard(),
            dy,
            &mut self.sums,
        );
        self.norm.gradient(&self.sums, pass.parameters);
        if let Some(dx) = dx {
            let coefficients = self.norm.coefficients();
            norm_gradient(self.level, coefficients, x, dy, dx);
        }
    }
}

/// Division of every row by its Euclidean length.
#[derive(Clone, Copy, Debug)]
pub struct UnitLength {
    channels: usize,
}

impl UnitLength {
    /// Plans the division of rows of `channels` numbers.
    pub fn new(channels: usize) -> Self {
        Self { channels }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
    products.sum()
}

impl Layer for UnitLength {
    fn output(&self) -> Size {
        row(self.channels)
    }

    fn saved(&self) -> usize {
        0
    }

    fn scratch(&self) -> usize {
        0
    }

    fn forward(&mut self, _: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let rows = x.chunks(self.channels).zip(y.chunks_mut(self.channels));
        for (x, y) in rows {
            let length = (dot(x, x).sqrt() as f32).max(LEAST);
            for (y, x) in y.iter_mut().zip(x) {
                *y = x / length;
            }
        }
    }

    fn backward(
        &mut self,
        _: &mut Pass<'_>,
        x: &[f32],
        y: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        let Some(dx) = dx else { return };
        let n = self.channels;
        let rows = x.chunks(n).zip(y.chunks(n)).zip(dy.chunks(n));
        for (((x, y), dy), dx) in rows.zip(dx.chunks_mut(n)) {
            let length = dot(x, x).sqrt() as f32;
            // Along the row itself nothing changes, unless it is so short that it was divided by a constant.
            let (length, along) = if length > LEAST {
                (length, dot(y, dy) as f32)
            } else {
                (LEAST, 0.0)
            };
            for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                *dx = (dy - along * y) / length;
            }
        }
    }
}

/// Rows that go through unchanged.
#[derive(Clone, Copy, Debug)]
pub struct Unchanged {
    channels: usize,
}

impl Unchanged {
    /// Plans for rows of `channels` numbers.
    pub fn new(channels: usize) -> Self {
        Self { channels }
    }
}

impl Layer for Unchanged {
    fn output(&self) -> Size {
        row(self.channels)
    }

    fn saved(&self) -> usize {
        0
    }

    fn scratch(&self) -> usize {
        0
    }

    fn forward(&mut self, _: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        copy(x, y);
    }

    fn backward(
        &mut self,
        _: &mut Pass<'_>,
        _: &[f32],
        _: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        if let Some(dx) = dx {
            copy(dy, dx);
        }
    }
}
