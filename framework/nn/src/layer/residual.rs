//! ResNet's block: units in a row, a shortcut around them, an addition and an activation.
//!
//! Training keeps the raw outputs of all convolutions. The activated tensors between them are worked out again in
//! backward, one at a time, in scratch memory.

use super::{
    Layer, Pass, Purpose, Size,
    rowwise::{Addend, Source},
    unit::Unit,
};
use crate::{
    executor::Mode,
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
        Self {
            path,
            activations,
            downsample,
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

    fn output_len(&self) -> usize {
        self.path[self.path.len() - 1].convolution.output_len()
    }
}

impl Layer for Residual {
    fn output(&self) -> Size {
        self.path[self.path.len() - 1].convolution.output()
    }

    fn saved(&self) -> usize {
        self.units().map(|unit| unit.convolution.output_len()).sum()
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
        let shortcut = if self.downsample.is_some() {
            self.output_len()
        } else {
            0
        };
        match self.purpose {
            // Backward holds one activated tensor and the gradients of two, or that of the shortcut.
            Purpose::Train => forward.max(backward) + (3 * self.between()).max(shortcut),
            Purpose::Forward => forward + 2 * self.between() + shortcut,
        }
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        match pass.mode {
            Mode::Train { .. } => self.train(pass, x, y),
            Mode::Momentum { .. } | Mode::Infer => self.forget(pass, x, y),
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
        let mut rest = &*pass.saved;
        let mut raws = Vec::with_capacity(lengths.len());
        for len in &lengths {
            let (raw, after) = rest.split_at(*len);
            raws.push(raw);
            rest = after;
        }
        let last = self.path.len() - 1;
        let addend = Addend {
            values: if self.downsample.is_some() {
                &rest[..dy.len()]
            } else {
                x
            },
            affine: self.downsample.as_ref().map(|unit| unit.norm.affine()),
        };
        // Through the activation behind the addition: now dy is the gradient of both sides of it.
        self.path[last].norm_gradient(
            parameters,
            raws[last],
            Some(addend),
            self.activations[last],
            dy,
        );
        match &mut self.downsample {
            Some(unit) => {
                let raw = &rest[..dy.len()];
                unit.norm_gradient(parameters, raw, None, Activation::Identity, dy);
                let (d, scratch) = pass.scratch.split_at_mut(dy.len());
                unit.raw_gradient(raw, Source::To(dy, d));
                unit.convolution.weight_gradient(parameters, x, d, scratch);
                if let Some(dx) = dx.as_deref_mut() {
                    unit.convolution
                        .input_gradient(parameters, d, dx, false, scratch);
                }
            }
            None => {
                if let Some(dx) = dx.as_deref_mut() {
                    super::copy(dy, dx);
                }
            }
        }
        self.path[last].raw_gradient(raws[last], Source::InPlace(dy));

        let between = self.between();
        let (active, scratch) = pass.scratch.split_at_mut(between);
        let (mut above, scratch) = scratch.split_at_mut(between);
        let (mut below, scratch) = scratch.split_at_mut(between);
        // Down the path; the gradient of unit i's raw output lies in dy for the last unit, in `above` for others.
        for i in (0..=last).rev() {
            let d = if i == last {
                &*dy
            } else {
                &above[..lengths[i]]
            };
            if i == 0 {
                let unit = &self.path[0].convolution;
                unit.weight_gradient(parameters, x, d, scratch);
                if let Some(dx) = dx.as_deref_mut() {
                    unit.input_gradient(parameters, d, dx, true, scratch);
                }
                break;
            }
            let (activation, len) = (self.activations[i - 1], lengths[i - 1]);
            let (active, below_now) = (&mut active[..len], &mut below[..len]);
            self.path[i - 1].apply(Some(raws[i - 1]), None, activation, active);
            let unit = &self.path[i].convolution;
            unit.weight_gradient(parameters, active, d, scratch);
            unit.input_gradient(parameters, d, below_now, false, scratch);
            let unit = &mut self.path[i - 1];
            unit.norm_gradient(parameters, raws[i - 1], None, activation, below_now);
            unit.raw_gradient(raws[i - 1], Source::InPlace(below_now));
            std::mem::swap(&mut above, &mut below);
        }
    }
}

impl Residual {
    fn train(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let parameters = &mut *pass.parameters;
        let (active, scratch) = pass.scratch.split_at_mut(self.between());
        let last = self.path.len() - 1;
        let mut rest = &mut *pass.saved;
        let mut raw: &[f32] = &[];
        for i in 0..=last {
            let (own, after) = rest.split_at_mut(self.path[i].convolution.output_len());
            rest = after;
            let input = if i == 0 { x } else { &active[..raw.len()] };
            self.path[i].raw(parameters, input, own, scratch);
            raw = own;
            if i < last {
                let active = &mut active[..raw.len()];
                self.path[i].apply(Some(raw), None, self.activations[i], active);
            }
        }
        let addend = match &mut self.downsample {
            Some(unit) => {
                let shortcut = &mut rest[..y.len()];
                unit.raw(parameters, x, shortcut, scratch);
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
        self.path[last].apply(Some(raw), Some(addend), self.activations[last], y);
    }

    /// Forward without keeping anything: tensors alternate between two buffers.
    fn forget(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        let parameters = &mut *pass.parameters;
        let infer = pass.mode == Mode::Infer;
        let between = self.between();
        let (mut input, scratch) = pass.scratch.split_at_mut(between);
        let (mut output, scratch) = scratch.split_at_mut(between);
        let shortcut_len = if self.downsample.is_some() {
            y.len()
        } else {
            0
        };
        let (shortcut, scratch) = scratch.split_at_mut(shortcut_len);
        let last = self.path.len() - 1;
        for i in 0..=last {
            let len = self.path[i].convolution.output_len();
            let source = if i == 0 {
                x
            } else {
                &input[..self.path[i - 1].convolution.output_len()]
            };
            let target = if i == last {
                &mut *y
            } else {
                &mut output[..len]
            };
            let unit = &mut self.path[i];
            // The activation of the last unit waits for the addition.
            let activation = if i == last {
                Activation::Identity
            } else {
                self.activations[i]
            };
            if infer {
                unit.infer(parameters, source, activation, target, scratch);
            } else {
                unit.raw(parameters, source, target, scratch);
                if i < last {
                    unit.apply(None, None, activation, target);
                }
            }
            std::mem::swap(&mut input, &mut output);
        }
        let addend = match &mut self.downsample {
            Some(unit) if infer => {
                unit.infer(parameters, x, Activation::Identity, shortcut, scratch);
                Addend {
                    values: shortcut,
                    affine: None,
                }
            }
            Some(unit) => {
                unit.raw(parameters, x, shortcut, scratch);
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
        if infer {
            super::add_and_activate(addend.values, self.activations[last], y);
        } else {
            self.path[last].apply(None, Some(addend), self.activations[last], y);
        }
    }
}
