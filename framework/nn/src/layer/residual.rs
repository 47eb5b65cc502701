//! ResNet's block: units in a row, a shortcut around them, an addition and an activation.
//!
//! Training keeps the raw outputs of all convolutions and nothing else. The activated tensors between them are worked out
//! where the next convolution reads them, and so are the gradients of the raw outputs in backward.
//!
//! A bottleneck does not even keep the raw output of its last convolution, a 1×1 one: it is as large as the block's
//! output and would be nearly half of all that is kept, but takes a seventh of the block's multiplications to compute again.

use super::{Layer, Pass, Purpose, Size, convolution::Sum, rowwise::Addend, unit::Unit};
use crate::{
    executor::Mode,
    kernel::dense::Operand,
    network::{Activation, Residual as Description},
    parameter::Parameters,
};

/// A planned residual block.
#[derive(Clone, Debug)]
pub struct Residual {
    path: Vec<Unit>,
    /// Activations between the units; that behind the addition last.
    activations: Vec<Activation>,
    downsample: Option<Unit>,
    /// The raw output of the last convolution is not kept, but computed again in backward.
    again: bool,
    purpose: Purpose,
}

impl Residual {
    /// Plans `description` for `batch` images of size `input`.
    pub fn new(
        description: &Description,
        batch: usize,
        input: Size,
        purpose: Purpose,
        parameters: &Parameters,
    ) -> Self {
        let mut size = input;
        let mut path = Vec::with_capacity(description.path.len());
        for conv in &description.path {
            let output = size.after(&conv.convolution);
            path.push(Unit::new(conv, batch, size, output, parameters));
            size = output;
        }
        let mut activations: Vec<_> = description
            .path
            .iter()
            .map(|conv| conv.activation)
            .collect();
        *activations.last_mut().expect("a path has units") = description.activation;
        let downsample = description.downsample.as_ref();
        let downsample = downsample.map(|conv| {
            let output = input.after(&conv.convolution);
            Unit::new(conv, batch, input, output, parameters)
        });
        let again = description.path.len() > 1
            && description.path.last().is_some_and(|conv| {
                let c = &conv.convolution;
                c.kernel == 1 && c.groups == 1 && 2 * c.input <= c.output
            });
        Self {
            path,
            activations,
            downsample,
            again,
            purpose,
        }
    }

    fn units(&self) -> impl Iterator<Item = &Unit> {
        self.path.iter().chain(&self.downsample)
    }

    /// Numbers of the largest tensor between the path's units.
    fn between(&self) -> usize {
        let inner = &self.path[..self.path.len() - 1];
        inner
            .iter()
            .map(|unit| unit.convolution.output_len())
            .max()
            .unwrap_or(0)
    }

    /// Numbers of the two buffers that tensors between the units alternate between.
    fn buffers(&self) -> [usize; 2] {
        match self.path.len() {
            1 => [0, 0],
            2 => [self.between(), 0],
            _ => [self.between(); 2],
        }
    }

    /// Numbers of the raw output that is computed again.
    fn raw_again(&self) -> usize {
        let last = &self.path[self.path.len() - 1].convolution;
        if self.again { last.output_len() } else { 0 }
    }
}

impl Layer for Residual {
    fn output(&self) -> Size {
        self.path[self.path.len() - 1].convolution.output()
    }

    fn saved(&self) -> usize {
        let all: usize = self.units().map(|unit| unit.convolution.output_len()).sum();
        all - self.raw_again()
    }

    fn scratch(&self) -> usize {
        let forward = self
            .units()
            .map(|unit| unit.convolution.forward_scratch())
            .max();
        let backward = self
            .units()
            .map(|unit| unit.convolution.backward_scratch())
            .max();
        let (forward, backward) = (forward.unwrap_or(0), backward.unwrap_or(0));
        let [a, b] = self.buffers();
        match self.purpose {
            Purpose::Train => forward.max(backward) + a + b + self.raw_again(),
            Purpose::Forward => {
                let shortcut = match &self.downsample {
                    Some(unit) => unit.convolution.output_len(),
                    None => 0,
                };
                forward + a + b + shortcut
            }
        }
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        if pass.mode.keeps() {
            self.train(pass, x, y);
        } else {
            self.forget(pass, x, y);
        }
    }

    fn backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: &[f32],
        _: &[f32],
        dy: &mut [f32],
        mut dx: Option<&mut [f32]>,
    ) {
        let parameters = &mut *pass.parameters;
        let lengths: Vec<usize> = self
            .path
            .iter()
            .map(|u| u.convolution.output_len())
            .collect();
        let last = self.path.len() - 1;
        let (again, scratch) = pass.scratch.split_at_mut(self.raw_again());
        let mut rest = &*pass.saved;
        let mut raws = Vec::with_capacity(lengths.len());
        for &len in &lengths[..last + usize::from(!self.again)] {
            let (raw, after) = rest.split_at(len);
            raws.push(raw);
            rest = after;
        }
        let addend = Addend {
            values: if self.downsample.is_some() {
                &rest[..dy.len()]
            } else {
                x
            },
            affine: self.downsample.as_ref().map(|unit| unit.norm.affine()),
        };
        // Through the activation behind the addition: now dy is the gradient of both sides of it.
        if self.again {
            let (lower, upper) = self.path.split_at_mut(last);
            let below = &lower[last - 1];
            let input = below.activated(raws[last - 1], self.activations[last - 1]);
            let activation = self.activations[last];
            upper[0].norm_gradient_again(
                parameters,
                input,
                again,
                Some(addend),
                activation,
                dy,
                scratch,
            );
            raws.push(again);
        } else {
            let activation = self.activations[last];
            self.path[last].norm_gradient(parameters, raws[last], Some(addend), activation, dy);
        }
        if let Some(unit) = &mut self.downsample {
            let raw = &rest[..dy.len()];
            unit.norm_gradient(parameters, raw, None, Activation::Identity, dy);
            let d = unit.lazy_gradient(raw, dy);
            let x = Operand::Plain(x);
            unit.convolution.weight_gradient(parameters, x, d, scratch);
            if let Some(dx) = dx.as_deref_mut() {
                unit.input_gradient(parameters, d, dx, Sum::Set, scratch);
            }
        }

        let [a, b] = self.buffers();
        let (mut below, scratch) = scratch.split_at_mut(a);
        let (mut above, scratch) = scratch.split_at_mut(b);
        // Down the path; the gradient of unit i's normalised output lies in dy for the last unit, in `above` for others.
        for i in (0..=last).rev() {
            let (lower, upper) = self.path.split_at_mut(i);
            let unit = &upper[0];
            let d = if i == last {
                &*dy
            } else {
                &above[..lengths[i]]
            };
            let d = unit.lazy_gradient(raws[i], d);
            let Some(unit_below) = lower.last_mut() else {
                unit.convolution
                    .weight_gradient(parameters, Operand::Plain(x), d, scratch);
                if let Some(dx) = dx.as_deref_mut() {
                    let sum = match self.downsample {
                        Some(_) => Sum::Add,
                        None => Sum::With(dy),
                    };
                    unit.input_gradient(parameters, d, dx, sum, scratch);
                }
                break;
            };
            let (raw, activation) = (raws[i - 1], self.activations[i - 1]);
            let input = unit_below.activated(raw, activation);
            unit.convolution
                .weight_gradient(parameters, input, d, scratch);
            let below_now = &mut below[..lengths[i - 1]];
            unit.gradient_below(
                parameters, d, unit_below, raw, activation, below_now, scratch,
            );
            std::mem::swap(&mut above, &mut below);
        }
    }
}

impl Residual {
    fn train(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let mode = pass.mode;
        let parameters = &mut *pass.parameters;
        let scratch = &mut *pass.scratch;
        let last = self.path.len() - 1;
        let mut rest = &mut *pass.saved;
        let mut raw: &[f32] = &[];
        for i in 0..=last {
            let (lower, upper) = self.path.split_at_mut(i);
            let unit = &mut upper[0];
            let input = match lower.last() {
                None => Operand::Plain(x),
                Some(below) => below.activated(raw, self.activations[i - 1]),
            };
            if i == last && self.again {
                unit.raw(parameters, mode, input, y, scratch);
            } else {
                let (own, after) = rest.split_at_mut(unit.convolution.output_len());
                rest = after;
                unit.raw(parameters, mode, input, own, scratch);
                raw = own;
            }
        }
        let addend = match &mut self.downsample {
            Some(unit) => {
                let shortcut = &mut rest[..y.len()];
                unit.raw(parameters, mode, Operand::Plain(x), shortcut, scratch);
                Addend {
                    values: shortcut,
                    affine: Some(unit.norm.affine()),
                }
            }
            None => Addend {
                values: x,
                affine: None,
            },
        };
        let raw = (!self.again).then_some(raw);
        self.path[last].apply(raw, Some(addend), self.activations[last], y);
    }

    /// Forward without keeping anything: tensors alternate between two buffers.
    fn forget(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let parameters = &mut *pass.parameters;
        let mode = pass.mode;
        let infer = mode == Mode::Infer;
        let [a, b] = self.buffers();
        let (mut output, scratch) = pass.scratch.split_at_mut(a);
        let (mut input, scratch) = scratch.split_at_mut(b);
        let last = self.path.len() - 1;
        let shortcut = if self.downsample.is_some() {
            y.len()
        } else {
            0
        };
        let (shortcut, scratch) = scratch.split_at_mut(shortcut);
        let mut addend = Addend {
            values: x,
            affine: None,
        };
        if let Some(unit) = &mut self.downsample {
            if infer {
                unit.infer(parameters, x, None, Activation::Identity, shortcut, scratch);
            } else {
                unit.raw(parameters, mode, Operand::Plain(x), shortcut, scratch);
                addend.affine = Some(unit.norm.affine());
            }
            addend.values = shortcut;
        }
        for i in 0..=last {
            let (lower, upper) = self.path.split_at_mut(i);
            let unit = &mut upper[0];
            let len = unit.convolution.output_len();
            let target = if i == last {
                &mut *y
            } else {
                &mut output[..len]
            };
            let activation = self.activations[i];
            if infer {
                let source = match lower.last() {
                    None => x,
                    Some(below) => &input[..below.convolution.output_len()],
                };
                let addend = (i == last).then_some(addend.values);
                unit.infer(parameters, source, addend, activation, target, scratch);
            } else {
                let source = match lower.last() {
                    None => Operand::Plain(x),
                    Some(below) => {
                        let input = &input[..below.convolution.output_len()];
                        below.activated(input, self.activations[i - 1])
                    }
                };
                unit.raw(parameters, mode, source, target, scratch);
            }
            std::mem::swap(&mut input, &mut output);
        }
        if !infer {
            self.path[last].apply(None, Some(addend), self.activations[last], y);
        }
    }
}
