//! A convolution with its batch norm: the part that both [`ConvNorm`](super::conv_norm) and
//! [`Residual`](super::residual) layers are made of.
//!
//! Of a unit only the raw output of the convolution is ever kept; normalised and activated values are worked out again
//! where they are needed.

use super::{
    Size,
    batch_norm::BatchNorm,
    convolution::{Convolution, Folded},
    each_slice, pieces,
    rowwise::{
        Addend, GradientSums, Moments, Source, activation_gradient, norm_gradient, normalise,
    },
    slices,
};
use crate::{
    kernel::Level,
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
        }
    }

    fn size(&self) -> usize {
        self.convolution.output().len()
    }

    /// Convolves `x` to `raw` and takes the batch's statistics.
    pub fn raw(
        &mut self,
        parameters: &mut Parameters,
        x: &[f32],
        raw: &mut [f32],
        scratch: &mut [f32],
    ) {
        self.moments.iter_mut().for_each(Moments::clear);
        let level = self.level;
        self.convolution.forward(
            parameters,
            x,
            raw,
            None,
            scratch,
            &mut self.moments,
            |moments, rows| moments.add(level, rows),
        );
        let (first, rest) = self.moments.split_first_mut().expect("there is a slice");
        rest.iter().for_each(|other| first.merge(other));
        self.norm.take_batch(first, parameters);
    }

    /// Convolves `x` to `y` with the running statistics folded in.
    pub fn infer(
        &mut self,
        parameters: &Parameters,
        x: &[f32],
        activation: Activation,
        y: &mut [f32],
        scratch: &mut [f32],
    ) {
        self.norm.take_running(parameters);
        let affine = self.norm.affine();
        let folded = Folded {
            scale: affine.scale,
            shift: affine.shift,
            activation,
        };
        // Inference takes no statistics, so the slices have nothing to report to.
        let mut nothing = [(); 8];
        self.convolution.forward(
            parameters,
            x,
            y,
            Some(folded),
            scratch,
            &mut nothing,
            |(), _| {},
        );
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
    /// batch norm, and gets it ready for [`raw_gradient`](Self::raw_gradient).
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
        let (first, rest) = self.sums.split_first_mut().expect("there is a slice");
        rest.iter().for_each(|other| first.merge(other));
        self.norm.gradient(first, parameters);
    }

    /// The gradient of `raw` from that of the normalised tensor, in place or from one tensor to another.
    pub fn raw_gradient(&self, raw: &[f32], d: Source<'_>) {
        let size = self.size();
        let coefficients = self.norm.coefficients();
        match d {
            Source::InPlace(d) => {
                let parts = pieces(d, size, self.batch).zip(slices(self.batch));
                each_slice(parts, |(d, images)| {
                    let raw = &raw[images.start * size..images.end * size];
                    norm_gradient(self.level, coefficients, raw, Source::InPlace(d));
                });
            }
            Source::To(d, out) => {
                let parts = pieces(out, size, self.batch).zip(slices(self.batch));
                each_slice(parts, |(out, images)| {
                    let place = images.start * size..images.end * size;
                    let (raw, d) = (&raw[place.clone()], &d[place]);
                    norm_gradient(self.level, coefficients, raw, Source::To(d, out));
                });
            }
        }
    }
}
