//! The first layer of a network: 3×3 convolution of a few input channels, batch norm, activation.
//!
//! The general convolution works on padded bands; with three input channels filling them costs more than multiplying.
//! Here a row of outputs is computed straight from three rows of the image, and pixels at the left and right
//! border from a patch with the zeros of the padding. Training keeps the raw output; the images' own gradient, which
//! training never asks for, takes a slower way.

use std::ops::Range;

use rayon::prelude::*;

use super::{Layer, Pass, Purpose, Size, inverted_residual::norm::Norm, place::Place, slices};
use crate::{
    executor::Mode,
    kernel::{
        Level,
        elementwise::{Activate, ActivatedGradient, NormSums},
        gemm::{Epilogue, Right, gemm},
        stem,
    },
    network::{Activation, ConvNorm, Convolution, Padding},
    parameter::Parameters,
};

/// A planned 3×3 convolution of a few input channels with batch norm and activation.
#[derive(Clone, Debug)]
pub struct Stem {
    level: Level,
    purpose: Purpose,
    batch: usize,
    input: Size,
    output: Size,
    stride: usize,
    padding: Padding,
    weight: Range<usize>,
    norm: Norm,
    activation: Activation,
    /// `[9 · input channels, output channels]`, in the order in which the image's numbers lie.
    taps: Vec<f32>,
    parts: Vec<Part>,
}

/// One slice of the batch and its partial sums.
#[derive(Clone, Debug)]
struct Part {
    images: Range<usize>,
    sums: [Vec<f64>; 2],
    image: [Vec<f32>; 2],
    taps: Vec<f32>,
    /// A row of zeros, a patch, a row of gradients, and the gradients of its patches.
    zeros: Vec<f32>,
    patch: Vec<f32>,
    gradient: Vec<f32>,
    patches: Vec<f32>,
}

impl Part {
    fn clear(&mut self) {
        for sums in &mut self.sums {
            sums.fill(0.0);
        }
    }

    fn flush(&mut self) {
        for (sums, image) in self.sums.iter_mut().zip(&mut self.image) {
            for (sum, value) in sums.iter_mut().zip(image.iter_mut()) {
                *sum += f64::from(*value);
                *value = 0.0;
            }
        }
    }
}

impl Stem {
    /// Whether a convolution is one for this layer.
    pub fn takes(c: &Convolution) -> bool {
        c.kernel == 3
            && c.input <= 4
            && c.groups == 1
            && c.output.is_multiple_of(16)
            && c.padding.top.max(c.padding.left) <= 2
    }

    /// Plans `description` for `batch` images of size `input`, giving size `output`.
    ///
    /// # Panics
    /// If the description has a name that `parameters` lack.
    pub fn new(
        description: &ConvNorm,
        batch: usize,
        input: Size,
        output: Size,
        purpose: Purpose,
        parameters: &Parameters,
    ) -> Self {
        let c = &description.convolution;
        let (taps, channels) = (3 * c.input, c.output);
        let train = purpose == Purpose::Train;
        Self {
            level: Level::current(),
            purpose,
            batch,
            input,
            output,
            stride: c.stride,
            padding: c.padding,
            weight: parameters.weight_place(&format!("{}.weight", c.name)),
            norm: Norm::new(&description.norm, channels, parameters),
            activation: description.activation,
            taps: vec![0.0; 3 * taps * channels],
            parts: slices(batch)
                .map(|images| Part {
                    images,
                    sums: [vec![0.0; channels], vec![0.0; channels]],
                    image: [vec![0.0; channels], vec![0.0; channels]],
                    taps: vec![0.0; if train { 3 * taps * channels } else { 0 }],
                    zeros: vec![0.0; input.width * input.channels],
                    patch: vec![0.0; 3 * taps],
                    gradient: vec![0.0; output.width * channels],
                    patches: vec![0.0; output.width * 3 * taps],
                })
                .collect(),
        }
    }

    /// Weights in the order of the image's numbers: element (row, column, channel) of each output channel.
    fn spread_taps(&mut self, parameters: &Parameters) {
        let weight = &parameters.values()[self.weight.clone()];
        let (channels, inputs) = (self.output.channels, self.input.channels);
        for (o, kernel) in weight.chunks_exact(9 * inputs).enumerate() {
            for (i, value) in kernel.iter().enumerate() {
                let (channel, position) = (i / 9, i % 9);
                self.taps[(position * inputs + channel) * channels + o] = *value;
            }
        }
    }

    /// The output columns whose taps all lie within the image.
    fn inner(&self) -> Range<usize> {
        let (s, left) = (self.stride, self.padding.left);
        let first = left.div_ceil(s).min(self.output.width);
        // Columns c with c·s − left + 3 ≤ width.
        let end = match (self.input.width + left).checked_sub(3) {
            Some(last) => (last / s + 1).min(self.output.width),
            None => 0,
        };
        first..end.max(first)
    }

    /// The three input rows of an output row, from their first pixel; zeros beyond the borders.
    fn rows<'a>(&self, image: &'a [f32], row: usize, zeros: &'a [f32]) -> [&'a [f32]; 3] {
        let width = self.input.width * self.input.channels;
        [0, 1, 2].map(
            |t| match (row * self.stride + t).checked_sub(self.padding.top) {
                Some(r) if r < self.input.height => &image[r * width..(r + 1) * width],
                _ => zeros,
            },
        )
    }

    /// Copies the taps of output column `column` with the zeros of the padding.
    fn fill_patch(&self, rows: [&[f32]; 3], column: usize, patch: &mut [f32]) {
        let inputs = self.input.channels;
        for (t, taps) in patch.chunks_exact_mut(inputs).enumerate() {
            match (column * self.stride + t % 3).checked_sub(self.padding.left) {
                Some(c) if c < self.input.width => {
                    taps.copy_from_slice(&rows[t / 3][c * inputs..(c + 1) * inputs]);
                }
                _ => taps.fill(0.0),
            }
        }
    }

    /// Calls `work` with runs of neighbouring pixels of an output row: first column, number, first taps, step.
    fn runs(
        &self,
        rows: [&[f32]; 3],
        patch: &mut [f32],
        mut work: impl FnMut(usize, usize, [*const f32; 3], usize),
    ) {
        let (inner, inputs) = (self.inner(), self.input.channels);
        let border = (0..inner.start).chain(inner.end..self.output.width);
        for column in border {
            self.fill_patch(rows, column, patch);
            let taps = 3 * inputs;
            let p = [0, 1, 2].map(|t| patch[t * taps..].as_ptr());
            work(column, 1, p, 0);
        }
        if !inner.is_empty() {
            let first = (inner.start * self.stride - self.padding.left) * inputs;
            let p = rows.map(|row| row[first..].as_ptr());
            work(inner.start, inner.len(), p, self.stride * inputs);
        }
    }

    /// The raw convolution and its sums; with `finish`, norm and activation of every row.
    fn convolve(&mut self, x: &[f32], to: &mut [f32], finish: bool) {
        let (out, mut parts) = (Place::new(to), std::mem::take(&mut self.parts));
        let stem = &*self;
        let (width, channels) = (stem.output.width, stem.output.channels);
        parts.par_iter_mut().with_max_len(1).for_each(|part| {
            part.clear();
            for i in part.images.clone() {
                let image = &x[i * stem.input.len()..(i + 1) * stem.input.len()];
                for row in 0..stem.output.height {
                    let rows = stem.rows(image, row, &part.zeros);
                    let place = out.from((i * stem.output.height + row) * width * channels);
                    let [sum, squares] = part.image.each_mut().map(|v| v.as_mut_ptr());
                    stem.runs(rows, &mut part.patch, |column, pixels, rows, step| {
                        let forward = stem::Forward {
                            rows,
                            taps: 3 * stem.input.channels,
                            step,
                            pixels,
                            channels,
                            weight: stem.taps.as_ptr(),
                            output: place.at(column * channels),
                            sum,
                            squares,
                        };
                        // SAFETY: the taps of the run lie in the image or the patch, its pixels in the row.
                        unsafe { stem::forward(stem.level, &forward) };
                    });
                    if finish {
                        // SAFETY: the image's own row.
                        unsafe { stem.activate(place.at(0), place.at(0), width) };
                    }
                }
                part.flush();
            }
        });
        self.parts = parts;
    }

    /// to = activation(norm(from)).
    ///
    /// # Safety
    /// Both must have the pixels.
    unsafe fn activate(&self, from: *const f32, to: *mut f32, pixels: usize) {
        let channels = self.output.channels;
        // SAFETY: the caller's promise.
        unsafe {
            self.level.run(Activate {
                rows: pixels,
                channels,
                end: channels,
                from,
                from_row: channels,
                to,
                to_row: channels,
                scale: self.norm.scale.as_ptr(),
                shift: self.norm.shift.as_ptr(),
                gate: std::ptr::null(),
                gate_after: false,
                activation: self.activation,
            });
        }
    }

    /// y = activation(norm(raw)), of the whole batch; `raw` may be y itself.
    fn activate_all(&mut self, raw: Place, y: Place) {
        let mut parts = std::mem::take(&mut self.parts);
        let (stem, len) = (&*self, self.output.len());
        parts.par_iter_mut().with_max_len(1).for_each(|part| {
            for i in part.images.clone() {
                let pixels = len / stem.output.channels;
                // SAFETY: the image's own pixels.
                unsafe { stem.activate(raw.at(i * len), y.at(i * len), pixels) };
            }
        });
        self.parts = parts;
    }

    fn run_forward(
        &mut self,
        parameters: &mut Parameters,
        mode: Mode,
        x: &[f32],
        raw: Option<&mut [f32]>,
        y: &mut [f32],
    ) {
        self.spread_taps(parameters);
        if mode == Mode::Infer {
            self.norm.take_running(parameters);
            return self.convolve(x, y, true);
        }
        let out = Place::new(y);
        let raw = match raw {
            Some(raw) => {
                self.convolve(x, raw, false);
                Place::new(raw)
            }
            None => {
                self.convolve(x, y, false);
                out
            }
        };
        let count = (self.batch * self.output.height * self.output.width) as f64;
        let sums = self.parts.iter().map(|part| &part.sums);
        if mode.takes_batch() {
            self.norm.take_sums(count, sums, parameters);
        } else {
            self.norm.take_running(parameters);
        }
        self.activate_all(raw, out);
    }

    fn run_backward(
        &mut self,
        parameters: &mut Parameters,
        raw: &[f32],
        x: &[f32],
        dy: &[f32],
        dx: Option<&mut [f32]>,
    ) {
        let (channels, len, level) = (self.output.channels, self.output.len(), self.level);
        let (norm, activation) = (&self.norm, self.activation);
        self.parts.par_iter_mut().with_max_len(1).for_each(|part| {
            part.clear();
            for i in part.images.clone() {
                // SAFETY: the image's pixels.
                unsafe {
                    level.run(NormSums {
                        rows: len / channels,
                        channels,
                        end: channels,
                        gradient: dy[i * len..].as_ptr(),
                        raw: raw[i * len..].as_ptr(),
                        inverse: norm.inverse.as_ptr(),
                        negative: norm.negative.as_ptr(),
                        gamma: [norm.gamma.as_ptr(), norm.beta.as_ptr()],
                        activation,
                        factor: 1.0,
                        sum: part.image[0].as_mut_ptr(),
                        product: part.image[1].as_mut_ptr(),
                    });
                }
                part.flush();
            }
        });
        let mut coefficients: [Vec<f32>; 3] = std::array::from_fn(|_| vec![0.0; channels]);
        for c in 0..channels {
            let [plain, product] =
                [0, 1].map(|i| self.parts.iter().map(|part| part.sums[i][c]).sum::<f64>());
            let found = norm.gradient(c, plain, product, parameters);
            for (to, value) in coefficients.iter_mut().zip(found) {
                to[c] = value as f32;
            }
        }
        self.weight_gradient(parameters, raw, x, dy, dx.map(Place::new), &coefficients);
    }

    fn weight_gradient(
        &mut self,
        parameters: &mut Parameters,
        raw: &[f32],
        x: &[f32],
        dy: &[f32],
        dx: Option<Place>,
        coefficients: &[Vec<f32>; 3],
    ) {
        let mut parts = std::mem::take(&mut self.parts);
        let stem = &*self;
        let (width, channels, inputs) =
            (stem.output.width, stem.output.channels, stem.input.channels);
        // What takes a pixel's gradient back to its patch.
        let back: Vec<f32> = (0..channels * 9 * inputs)
            .map(|e| stem.taps[e % (9 * inputs) * channels + e / (9 * inputs)])
            .collect();
        parts.par_iter_mut().with_max_len(1).for_each(|part| {
            part.taps.fill(0.0);
            for i in part.images.clone() {
                let image = &x[i * stem.input.len()..(i + 1) * stem.input.len()];
                if let Some(dx) = dx {
                    // SAFETY: the image's own gradient.
                    unsafe { dx.slice(i * stem.input.len(), stem.input.len()) }.fill(0.0);
                }
                for row in 0..stem.output.height {
                    let start = (i * stem.output.height + row) * width * channels;
                    // SAFETY: a row of the image, and the slice's own row of gradients.
                    unsafe {
                        stem.level.run(ActivatedGradient {
                            rows: width,
                            channels,
                            end: channels,
                            gradient: dy[start..].as_ptr(),
                            raw: raw[start..].as_ptr(),
                            to: part.gradient.as_mut_ptr(),
                            coefficients: coefficients.each_ref().map(|v| v.as_ptr()),
                            scale: stem.norm.scale.as_ptr(),
                            shift: stem.norm.shift.as_ptr(),
                            activation: stem.activation,
                        });
                    }
                    let rows = stem.rows(image, row, &part.zeros);
                    let (from, to) = (&part.gradient, part.taps.as_mut_ptr());
                    stem.runs(rows, &mut part.patch, |column, pixels, rows, step| {
                        let gradient = stem::Gradient {
                            rows,
                            taps: 3 * inputs,
                            step,
                            pixels,
                            channels,
                            gradient: from[column * channels..].as_ptr(),
                            weight_gradient: to,
                        };
                        // SAFETY: the taps of the run lie in the image or the patch, its pixels in the row.
                        unsafe { stem::gradient(stem.level, &gradient) };
                    });
                    if let Some(dx) = dx {
                        // SAFETY: the slice's own patches.
                        unsafe {
                            let (a, c) = (part.gradient.as_ptr(), part.patches.as_mut_ptr());
                            let (k, n) = (channels, 9 * inputs);
                            let b = Right::Rows(back.as_ptr(), n);
                            gemm(stem.level, width, k, n, a, k, b, c, n, &Epilogue::SET);
                        }
                        // SAFETY: the image's own gradient.
                        let dx = unsafe { dx.slice(i * stem.input.len(), stem.input.len()) };
                        stem.scatter(&part.patches, row, dx);
                    }
                }
            }
        });
        self.parts = parts;
        let (_, gradients) = parameters.values_and_gradients_mut();
        let gradient = &mut gradients[self.weight.clone()];
        for (o, kernel) in gradient.chunks_exact_mut(9 * inputs).enumerate() {
            for (i, value) in kernel.iter_mut().enumerate() {
                let (channel, position) = (i / 9, i % 9);
                let tap = (position * inputs + channel) * channels + o;
                for part in &self.parts {
                    *value += part.taps[tap];
                }
            }
        }
    }

    /// Adds the gradients of a row's patches to the image's.
    fn scatter(&self, patches: &[f32], row: usize, dx: &mut [f32]) {
        let inputs = self.input.channels;
        for (column, patch) in patches.chunks_exact(9 * inputs).enumerate() {
            for (t, taps) in patch.chunks_exact(inputs).enumerate() {
                let y = (row * self.stride + t / 3).checked_sub(self.padding.top);
                let x = (column * self.stride + t % 3).checked_sub(self.padding.left);
                let (Some(y), Some(x)) = (y, x) else { continue };
                if y < self.input.height && x < self.input.width {
                    let at = (y * self.input.width + x) * inputs;
                    for (to, from) in dx[at..at + inputs].iter_mut().zip(taps) {
                        *to += from;
                    }
                }
            }
        }
    }
}

impl Layer for Stem {
    fn output(&self) -> Size {
        self.output
    }

    fn saved(&self) -> usize {
        self.batch * self.output.len()
    }

    fn scratch(&self) -> usize {
        0
    }

    fn forward(&mut self, pass: &mut Pass<'_>, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), self.batch * self.input.len(), "size of the input");
        assert_eq!(
            y.len(),
            self.batch * self.output.len(),
            "size of the output"
        );
        let keeps = pass.mode.keeps();
        assert!(
            !keeps || self.purpose == Purpose::Train,
            "the layer was planned for another purpose"
        );
        let raw = keeps.then(|| &mut pass.saved[..y.len()]);
        let (parameters, mode) = (&mut *pass.parameters, pass.mode);
        rayon::scope(|_| self.run_forward(parameters, mode, x, raw, y));
    }

    fn backward(
        &mut self,
        pass: &mut Pass<'_>,
        x: &[f32],
        _: &[f32],
        dy: &mut [f32],
        dx: Option<&mut [f32]>,
    ) {
        assert_eq!(x.len(), self.batch * self.input.len(), "size of the input");
        assert_eq!(
            dy.len(),
            self.batch * self.output.len(),
            "size of the gradient"
        );
        let raw = &pass.saved[..dy.len()];
        let parameters = &mut *pass.parameters;
        rayon::scope(|_| self.run_backward(parameters, raw, x, dy, dx));
    }
}

#[cfg(test)]
mod tests;
