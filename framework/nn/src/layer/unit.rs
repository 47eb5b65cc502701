//! A convolution with its batch norm: the part that both [`ConvNorm`](super::conv_norm) and
//! [`Residual`](super::residual) layers are made of.
//!
//! Of a unit only the raw output of the convolution is ever kept; normalised and activated values are worked out again
//! where they are needed.

use super::{
    Size,
    batch_norm::BatchNorm,
    convolution::{Convolution, Folded, Prepared, Sum},
    each_slice, pieces,
    place::Place,
    rowwise::{Addend, GradientSums, Moments, activation_gradient, normalise},
    slices,
};
use crate::{
    executor::Mode,
    kernel::{
        Level,
        dense::{Operand, add_and_activate},
    },
    network::{Activation, ConvNorm},
    parameter::Parameters,
};

/// A convolution and its batch norm, planned for one batch shape.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    level: Level,
    batch: usize,
    /// The convolution.
    pub convolution: Convolution,
    /// The batch norm behind it.
    pub norm: BatchNorm,
    moments: Vec<Moments>,
    sums: Vec<GradientSums>,
    /// The folded weights of inference.
    folded: Prepared,
}

impl Unit {
    /// The unit that `description` describes.
    pub fn new(
        description: &ConvNorm,
        batch: usize,
        input: Size,
        output: Size,
        parameters: &Parameters,
    ) -> Self {
        let channels = output.channels;
        let count = slices(batch).len();
        Self {
            level: Level::current(),
            batch,
            convolution: Convolution::new(
                &description.convolution,
                batch,
                input,
                output,
                parameters,
            ),
            norm: BatchNorm::new(&description.norm, channels, parameters),
            moments: vec![Moments::new(channels); count],
            sums: vec![GradientSums::new(channels); count],
            folded: Prepared::default(),
        }
    }

    fn size(&self) -> usize {
        self.convolution.output().len()
    }

    /// Convolves `x` to `raw` and takes the statistics that `mode` normalises with.
    pub fn raw(
        &mut self,
        parameters: &mut Parameters,
        mode: Mode,
        x: Operand<'_>,
        raw: &mut [f32],
        scratch: &mut [f32],
    ) {
        self.moments.iter_mut().for_each(Moments::clear);
        let level = self.level;
        self.convolution.forward(
            parameters,
            x,
            raw,
            scratch,
            &mut self.moments,
            |moments, _, rows| moments.add(level, rows),
        );
        let (first, rest) = self.moments.split_first_mut().expect("there is a slice");
        rest.iter().for_each(|other| first.merge(other));
        if mode.takes_batch() {
            self.norm.take_batch(first, parameters);
        } else {
            self.norm.take_running(parameters);
        }
    }

    /// Convolves `x` to `y` with the running statistics folded in; with an addend y = activation(… + addend).
    pub fn infer(
        &mut self,
        parameters: &Parameters,
        x: &[f32],
        addend: Option<&[f32]>,
        activation: Activation,
        y: &mut [f32],
        scratch: &mut [f32],
    ) {
        self.norm.take_running(parameters);
        let (affine, level) = (self.norm.affine(), self.level);
        let folded = Folded {
            scale: affine.scale,
            shift: affine.shift,
            activation: if addend.is_some() {
                Activation::Identity
            } else {
                activation
            },
        };
        self.convolution.infer(
            parameters,
            x,
            y,
            folded,
            &mut self.folded,
            scratch,
            |first, y| {
                if let Some(addend) = addend {
                    add_and_activate(level, &addend[first..][..y.len()], activation, y);
                }
            },
        );
    }

    /// activation(norm(raw)), to be worked out where it is read.
    pub fn activated<'a>(&'a self, raw: &'a [f32], activation: Activation) -> Operand<'a> {
        let affine = self.norm.affine();
        Operand::Activated {
            raw,
            scale: affine.scale,
            shift: affine.shift,
            activation,
        }
    }

    /// The gradient of `raw` from that of the normalised tensor, to be worked out where it is read.
    pub fn lazy_gradient<'a>(&'a self, raw: &'a [f32], d: &'a [f32]) -> Operand<'a> {
        Operand::Gradient {
            d,
            raw,
            coefficients: self.norm.coefficients(),
        }
    }

    /// Writes the gradient of the input, which is activation(norm(raw)) of the unit `below`, to `d`, and takes it through
    /// that unit's activation as [`norm_gradient`](Self::norm_gradient) does.
    #[expect(clippy::too_many_arguments, reason = "the operands of two units")]
    pub fn gradient_below(
        &self,
        parameters: &mut Parameters,
        dy: Operand<'_>,
        below: &mut Self,
        raw: &[f32],
        activation: Activation,
        d: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (level, norm) = (below.level, &below.norm);
        below.sums.iter_mut().for_each(GradientSums::clear);
        self.convolution.input_gradient(
            parameters,
            dy,
            d,
            Sum::Set,
            scratch,
            &mut below.sums,
            |sums, first, d| {
                let raw = &raw[first..][..d.len()];
                let (affine, standard) = (norm.affine(), norm.standard());
                activation_gradient(level, raw, affine, None, activation, standard, d, sums);
            },
        );
        below.take_sums(parameters);
    }

    /// Writes the gradient of the input to `dx`, added to `sum`.
    pub fn input_gradient(
        &self,
        parameters: &Parameters,
        dy: Operand<'_>,
        dx: &mut [f32],
        sum: Sum<'_>,
        scratch: &mut [f32],
    ) {
        let mut nothing = [(); 8];
        self.convolution.input_gradient(
            parameters,
            dy,
            dx,
            sum,
            scratch,
            &mut nothing,
            |(), _, _| {},
        );
    }

    fn take_sums(&mut self, parameters: &mut Parameters) {
        let (first, rest) = self.sums.split_first_mut().expect("there is a slice");
        rest.iter().for_each(|other| first.merge(other));
        self.norm.gradient(first, parameters);
    }

    /// y = activation(norm(raw) + addend); without `raw`, y is changed in place.
    pub fn apply(
        &self,
        raw: Option<&[f32]>,
        addend: Option<Addend<'_>>,
        activation: Activation,
        y: &mut [f32],
    ) {
        let size = self.size();
        let parts = pieces(y, size, self.batch).zip(slices(self.batch));
        each_slice(parts, |(y, images)| {
            let place = images.start * size..images.end * size;
            let raw = raw.map(|raw| &raw[place.clone()]);
            let addend = addend.map(|addend| Addend {
                values: &addend.values[place.clone()],
                ..addend
            });
            normalise(self.level, raw, self.norm.affine(), addend, activation, y);
        });
    }

    /// Turns the gradient `d` of activation(norm(raw) + addend) into that of the sum inside, adds the gradients of the
    /// batch norm, and gets it ready for [`lazy_gradient`](Self::lazy_gradient).
    pub fn norm_gradient(
        &mut self,
        parameters: &mut Parameters,
        raw: &[f32],
        addend: Option<Addend<'_>>,
        activation: Activation,
        d: &mut [f32],
    ) {
        let (size, level, norm) = (self.size(), self.level, &self.norm);
        let parts = pieces(d, size, self.batch)
            .zip(slices(self.batch))
            .zip(&mut self.sums);
        each_slice(parts, |((d, images), sums)| {
            sums.clear();
            let place = images.start * size..images.end * size;
            let addend = addend.map(|addend| Addend {
                values: &addend.values[place.clone()],
                ..addend
            });
            activation_gradient(
                level,
                &raw[place],
                norm.affine(),
                addend,
                activation,
                norm.standard(),
                d,
                sums,
            );
        });
        self.take_sums(parameters);
    }

    /// As [`norm_gradient`](Self::norm_gradient) for a raw output that was not kept: convolves `input` to `raw` again, and
    /// takes the gradient through the activation while its rows are in the cache.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of two passes in one"
    )]
    pub fn norm_gradient_again(
        &mut self,
        parameters: &mut Parameters,
        input: Operand<'_>,
        raw: &mut [f32],
        addend: Option<Addend<'_>>,
        activation: Activation,
        d: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert_eq!(raw.len(), d.len());
        let (level, norm, d) = (self.level, &self.norm, Place::new(d));
        self.sums.iter_mut().for_each(GradientSums::clear);
        self.convolution.forward(
            parameters,
            input,
            raw,
            scratch,
            &mut self.sums,
            |sums, first, raw| {
                // SAFETY: the pieces of the raw output that are reported do not overlap, nor do these.
                let d = unsafe { d.slice(first, raw.len()) };
                let addend = addend.map(|addend| Addend {
                    values: &addend.values[first..][..raw.len()],
                    ..addend
                });
                let (affine, standard) = (norm.affine(), norm.standard());
                activation_gradient(level, raw, affine, addend, activation, standard, d, sums);
            },
        );
        self.take_sums(parameters);
    }
}
