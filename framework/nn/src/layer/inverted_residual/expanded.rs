//! Statistics of the expanded tensor: step 1 of [`forward`](super::forward), with the tensor itself where the input is
//! wide, and from the moments of the input where it is narrow.

use std::ops::Range;

use rayon::prelude::*;

use super::{InvertedResidual, Place, each};
use crate::{
    executor::Mode,
    kernel::{
        elementwise::Sum,
        gemm::{Epilogue, Right, gemm, gemm_tn_onto, pack_transposed, packed_len},
    },
    layer::place::product,
    network::Activation,
    parameter::Parameters,
};

/// Input pixels of a chunk of the moments.
const MOMENTS_CHUNK: usize = 784;
/// Elements of a matrix of weights or moments that are worth a task of their own.
const TASK: usize = 1 << 11;

/// Small images by so many that they make a chunk, others one by one.
fn groups(images: Range<usize>, pixels: usize) -> impl Iterator<Item = Range<usize>> {
    let (end, group) = (images.end, (MOMENTS_CHUNK / pixels).max(1));
    images
        .step_by(group)
        .map(move |first| first..(first + group).min(end))
}

impl InvertedResidual {
    /// The expanded tensor itself, and its statistics; in inference normalised and activated.
    pub(super) fn expand(
        &mut self,
        parameters: &mut Parameters,
        mode: Mode,
        kept: Place,
        scratch: Place,
        x: &[f32],
    ) {
        let infer = mode == Mode::Infer;
        let (k, n, level) = (self.input.channels, self.hidden, self.level);
        let image = self.input.height * self.input.width;
        let place = self.expand.clone().expect("a stored block expands");
        // SAFETY: the map gives this memory to the packed weights alone.
        let packed = unsafe { scratch.slice(self.memory.packed_expand, packed_len(k, n)) };
        let (norm, activation) = (&self.norms[0], self.expanded_activation());
        let scale = infer.then_some(&norm.scale[..]);
        let weight = &parameters.values()[place];
        pack_transposed(level, k, n, weight, k, scale, packed);
        let (packed, out) = (Place::new(packed), kept.from(self.memory.expanded));
        each(&mut self.parts, |part| {
            part.clear();
            for i in part.images.clone() {
                let e = if infer {
                    Epilogue {
                        start: norm.shift.as_ptr(),
                        activation,
                        ..Epilogue::SET
                    }
                } else {
                    Epilogue {
                        sum: part.image[0].as_mut_ptr(),
                        squares: part.image[1].as_mut_ptr(),
                        ..Epilogue::SET
                    }
                };
                let x = &x[i * image * k..(i + 1) * image * k];
                // SAFETY: the image's own rows of the tensor.
                unsafe {
                    let (b, c) = (
                        Right::Packed(packed.at(0), std::ptr::null()),
                        out.at(i * image * n),
                    );
                    gemm(level, image, k, n, x.as_ptr(), k, b, c, n, &e);
                }
                part.flush();
            }
        });
        if !mode.takes_batch() {
            return;
        }
        let sums = self.parts.iter().map(|part| &part.sums);
        self.norms[0].take_sums((self.batch * image) as f64, sums, parameters);
    }

    /// Mean and covariance of the input channels.
    pub(super) fn take_moments(&mut self, x: &[f32], scratch: Place) {
        let (k, level) = (self.input.channels, self.level);
        let image = self.input.height * self.input.width;
        let (chunks, chunk) = (scratch.from(self.memory.chunks), self.memory.chunk);
        let (ones, zeros) = (&self.ones, &self.zeros);
        each(&mut self.parts, |part| {
            part.gram.fill(0.0);
            part.clear_image();
            // SAFETY: the slice's own chunk buffer.
            let gram = unsafe { chunks.slice(part.index * chunk, k * k) };
            for images in groups(part.images.clone(), image) {
                let x = &x[images.start * image * k..images.end * image * k];
                for (number, x) in x.chunks(MOMENTS_CHUNK * k).enumerate() {
                    let rows = x.len() / k;
                    // SAFETY: sizes of the slices; the sums are padded.
                    unsafe {
                        let p = x.as_ptr();
                        let c = gram.as_mut_ptr();
                        gemm_tn_onto(level, number > 0, rows, k, k, p, k, p, k, c, k);
                        level.run(Sum {
                            rows,
                            channels: k,
                            end: k,
                            from: p,
                            from_row: k,
                            scale: ones.as_ptr(),
                            shift: zeros.as_ptr(),
                            activation: Activation::Identity,
                            sum: part.image[0].as_mut_ptr(),
                        });
                    }
                }
                let (products, sums) = part.gram.split_at_mut(k * k);
                for (sum, value) in products.iter_mut().zip(gram.iter()) {
                    *sum += f64::from(*value);
                }
                for (sum, value) in sums.iter_mut().zip(&mut part.image[0]) {
                    *sum += f64::from(*value);
                    *value = 0.0;
                }
            }
        });
        let (count, parts) = ((self.batch * image) as f64, &self.parts);
        let total = |e: usize| parts.iter().map(|part| part.gram[e]).sum::<f64>() / count;
        for (j, mean) in self.input_mean.iter_mut().enumerate() {
            *mean = total(k * k + j);
        }
        let means = &self.input_mean;
        // Means are subtracted in double precision: what is left may be much smaller than either.
        self.covariance
            .par_chunks_mut(k)
            .with_min_len(TASK.div_ceil(k))
            .enumerate()
            .for_each(|(i, row)| {
                for (j, covariance) in row.iter_mut().enumerate() {
                    *covariance = (total(i * k + j) - means[i] * means[j]) as f32;
                }
            });
    }

    /// W · covariance, `[hidden, input]`; it is needed for the variances, and again in backward.
    pub(super) fn weighted_moments(&self, weight: &[f32], kept: Place) {
        let (k, n) = (self.input.channels, self.hidden);
        // SAFETY: the map gives this memory to the moments alone.
        let moments = unsafe { kept.slice(self.memory.moments, n * k) };
        product(self.level, [n, k, k], weight, &self.covariance, moments);
    }

    pub(super) fn moments_of_expanded(
        &mut self,
        parameters: &mut Parameters,
        mode: Mode,
        kept: Place,
    ) {
        let (k, n) = (self.input.channels, self.hidden);
        let place = self.expand.clone().expect("called for blocks that expand");
        self.weighted_moments(&parameters.values()[place.clone()], kept);
        if !mode.takes_batch() {
            return;
        }
        // SAFETY: as in `weighted_moments`.
        let moments = &*unsafe { kept.slice(self.memory.moments, n * k) };
        let mut result = vec![(0.0, 0.0); n];
        let (weights, means) = (&parameters.values()[place], &self.input_mean);
        let rows = weights.par_chunks(k).zip(moments.par_chunks(k));
        result
            .par_iter_mut()
            .zip(rows)
            .with_min_len(TASK.div_ceil(k))
            .for_each(|((mean, variance), (weights, moments))| {
                for ((&weight, &moment), input_mean) in weights.iter().zip(moments).zip(means) {
                    let w = f64::from(weight);
                    *mean += w * input_mean;
                    *variance += w * f64::from(moment);
                }
                *variance = variance.max(0.0);
            });
        let count = (self.batch * self.input.height * self.input.width) as f64;
        self.norms[0].take_batch(count, |c| result[c], parameters);
    }
}
