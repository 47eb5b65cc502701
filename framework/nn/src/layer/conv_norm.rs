//! Convolution, batch norm, activation.
//!
//! Training keeps the raw output of the convolution; the input is kept by the executor, the rest is worked out again.

use super::{Layer, Pass, Purpose, Size, convolution::Sum, unit::Unit};
use crate::{
    executor::Mode,
    kernel::dense::Operand,
    network::{Activation, ConvNorm as Description},
    parameter::Parameters,
};

/// A planned convolution with batch norm and activation.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    unit: Unit,
    activation: Activation,
    purpose: Purpose,
}

impl ConvNorm {
    /// Plans `description` for `batch` images of size `input`, giving size `output`.
    pub fn new(
        description: &Description,
        batch: usize,
        input: Size,
        output: Size,
        purpose: Purpose,
        parameters: &Parameters,
    ) -> Self {
        Self {
            unit: Unit::new(description, batch, input, output, parameters),
            activation: description.activation,
            purpose,
        }
    }
}

impl Layer for ConvNorm {
    fn output(&self) -> Size {
        self.unit.convolution.output()
    }

    fn saved(&self) -> usize {
        self.unit.convolution.output_len()
    }

    fn scratch(&self) -> usize {
        let forward = self.unit.convolution.forward_scratch();
        match self.purpose {
            Purpose::Train => forward.max(self.unit.convolution.backward_scratch()),
            Purpose::Forward => forward,
        }
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let (parameters, scratch) = (&mut *pass.parameters, &mut *pass.scratch);
        match pass.mode {
            Mode::Train { .. } => {
                let raw = &mut pass.saved[..y.len()];
                self.unit.raw(parameters, Operand::Plain(x), raw, scratch);
                self.unit.apply(Some(raw), None, self.activation, y);
            }
            Mode::Momentum { .. } => {
                self.unit.raw(parameters, Operand::Plain(x), y, scratch);
                self.unit.apply(None, None, self.activation, y);
            }
            Mode::Infer => {
                self.unit
                    .infer(parameters, x, None, self.activation, y, scratch);
            }
        }
    }

    fn backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: &[f32],
        _: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        let (parameters, scratch) = (&mut *pass.parameters, &mut *pass.scratch);
        let raw = &pass.saved[..dy.len()];
        let unit = &mut self.unit;
        unit.norm_gradient(parameters, raw, None, self.activation, dy);
        let dy = unit.lazy_gradient(raw, dy);
        unit.convolution
            .weight_gradient(parameters, Operand::Plain(x), dy, scratch);
        if let Some(dx) = dx {
            unit.input_gradient(parameters, dy, dx, Sum::Set, scratch);
        }
    }
}
