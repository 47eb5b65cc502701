//! Convolution, batch norm, activation.
//!
//! Training keeps the raw output of the convolution; the input is kept by the executor, the rest is worked out again. On
//! images the raw output is computed again too: with three channels it takes little time and is the largest tensor of a
//! residual network.

use super::{Layer, Pass, Purpose, Size, convolution::Sum, unit::Unit};
use crate::{
    executor::Mode,
    kernel::dense::Operand,
    network::{Activation, ConvNorm as Description},
    parameter::Parameters,
};

/// Channels of an image, with an opacity at most.
const IMAGE: usize = 4;

/// A planned convolution with batch norm and activation.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    unit: Unit,
    activation: Activation,
    /// The raw output is not kept, but computed again in backward.
    again: bool,
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
            again: input.channels <= IMAGE,
            purpose,
        }
    }
}

impl Layer for ConvNorm {
    fn output(&self) -> Size {
        self.unit.convolution.output()
    }

    fn saved(&self) -> usize {
        if self.again {
            0
        } else {
            self.unit.convolution.output_len()
        }
    }

    fn scratch(&self) -> usize {
        let forward = self.unit.convolution.forward_scratch();
        let again = if self.again {
            self.unit.convolution.output_len()
        } else {
            0
        };
        match self.purpose {
            Purpose::Train => again + forward.max(self.unit.convolution.backward_scratch()),
            Purpose::Forward => forward,
        }
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let (parameters, scratch) = (&mut *pass.parameters, &mut *pass.scratch);
        let (mode, input) = (pass.mode, Operand::Plain(x));
        if mode == Mode::Infer {
            self.unit
                .infer(parameters, x, None, self.activation, y, scratch);
        } else if mode.keeps() && !self.again {
            let raw = &mut pass.saved[..y.len()];
            self.unit.raw(parameters, mode, input, raw, scratch);
            self.unit.apply(Some(raw), None, self.activation, y);
        } else {
            self.unit.raw(parameters, mode, input, y, scratch);
            self.unit.apply(None, None, self.activation, y);
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
        let unit = &mut self.unit;
        let again = if self.again { dy.len() } else { 0 };
        let (again, scratch) = scratch.split_at_mut(again);
        let raw = if self.again {
            let x = Operand::Plain(x);
            unit.norm_gradient_again(parameters, x, again, None, self.activation, dy, scratch);
            again
        } else {
            let raw = &pass.saved[..dy.len()];
            unit.norm_gradient(parameters, raw, None, self.activation, dy);
            raw
        };
        let dy = unit.lazy_gradient(raw, dy);
        unit.convolution
            .weight_gradient(parameters, Operand::Plain(x), dy, scratch);
        if let Some(dx) = dx {
            unit.input_gradient(parameters, dy, dx, Sum::Set, scratch);
        }
    }
}
