//! Depthwise and expand convolution backwards: steps 4 and 5 of [`backward`](super::backward).

use std::ops::Range;

use rayon::prelude::*;

use super::{InvertedResidual, Place, backward::Coefficients, each};
use crate::{
    kernel::{
        depthwise,
        elementwise::{Activate, Add, Affine, NormGradient, Slope},
        gemm::{Epilogue, Right, gemm, gemm_tn_onto, pack_rows},
    },
    layer::place::product_tn,
    network::Activation,
    parameter::Parameters,
};

/// Pixels of a chunk of the correction.
const CORRECTION_CHUNK: usize = 196;

impl InvertedResidual {
    /// Depthwise and expand convolution backwards; dx is P after it, or finished where the block does not expand.
    #[expect(clippy::too_many_arguments, reason = "the tensors of the pass")]
    pub(super) fn filter_back(
        &mut self,
        parameters: &Parameters,
        kept: Place,
        scratch: Place,
        x: &[f32],
        dy: &[f32],
        dx: Option<Place>,
        coefficients: &Coefficients,
    ) {
        let (k, padded, level) = (self.input.channels, self.padded, self.level);
        let (h, w) = (self.input.height, self.input.width);
        let expands = self.expand.is_some();
        if let Some(place) = self.expand.clone() {
            if !self.stored {
                // xhat comes straight out of the product.
                let factor = &self.norms[0].inverse;
                self.pack_expand(parameters, scratch, &self.backward_blocks, factor);
            }
            self.pack_expand_back(&parameters.values()[place], scratch);
        }
        let mut parts = std::mem::take(&mut self.parts);
        let block = &*self;
        let (m, rows, columns) = (&block.memory, block.rows, block.columns);
        let [gradient_size, pixel_size, activated_size, _] = block.backward_sizes();
        let group = block.backward_group();
        let band = block.backward_band();
        each(&mut parts, |part| {
            part.clear();
            let gradients = scratch.from(m.gradients + part.index * m.gradient);
            // SAFETY: the slice's own gradients; those of the expand weights are set by the first product.
            unsafe { gradients.slice(k * padded, m.gradient_project - k * padded) }.fill(0.0);
            let dy2 = scratch.from(m.chunks + part.index * m.chunk);
            let normalised = dy2.from(gradient_size);
            let activated = normalised.from(pixel_size);
            let left = activated.from(activated_size);
            for image in part.images.clone().step_by(group) {
                // Only whole images come in groups, so bands of several images follow each other too.
                let count = group.min(part.images.end - image);
                let mut first = 0;
                while first < h {
                    let end = (first + band).min(h);
                    let (pixel, pixels) = ((image * h + first) * w, (end - first) * w);
                    let fresh = image == part.images.start && first == 0;
                    for (number, &(channel, width)) in block.backward_blocks.iter().enumerate() {
                        // SAFETY: the buffers were sized for a band; pixels are the images' own.
                        unsafe {
                            let all = count * pixels;
                            block.fill_normalised(
                                kept, scratch, x, pixel, all, channel, width, normalised,
                            );
                            for i in 0..count {
                                let normalised = normalised.from(i * pixels * width);
                                block.fill_gradient(
                                    kept,
                                    scratch,
                                    coefficients,
                                    image + i,
                                    first..end,
                                    channel,
                                    width,
                                    dy2,
                                    left,
                                );
                                let (gamma, beta) = if expands {
                                    (&block.norms[0].gamma, &block.norms[0].beta)
                                } else {
                                    (&block.ones, &block.zeros)
                                };
                                depthwise::backward(
                                    level,
                                    &depthwise::Backward {
                                        rows,
                                        columns,
                                        first,
                                        end,
                                        block: width,
                                        gradient: dy2.at(0),
                                        weight: block.taps.as_ptr().add(channel),
                                        tap: padded,
                                        normalised: normalised.at(0),
                                        activated: activated.at(0),
                                        activation: block.expanded_activation(),
                                        gamma: gamma.as_ptr().add(channel),
                                        beta: beta.as_ptr().add(channel),
                                        sum: part.image[0].as_mut_ptr().add(channel),
                                        product: part.image[1].as_mut_ptr().add(channel),
                                        weight_gradient: gradients
                                            .at(m.gradient_depthwise + channel),
                                    },
                                );
                            }
                            if !expands {
                                if let Some(dx) = dx {
                                    let to = dx.from(pixel * k);
                                    block.write_input_gradient(
                                        normalised, all, channel, width, dy, pixel, to,
                                    );
                                }
                                continue;
                            }
                            if let Some(dx) = dx {
                                let e = if number == 0 {
                                    Epilogue::SET
                                } else {
                                    Epilogue::ADD
                                };
                                let place = m.packed_expand_back + channel * k.next_multiple_of(16);
                                let (a, c) = (normalised.at(0), dx.at(pixel * k));
                                let b = Right::Packed(scratch.at(place), std::ptr::null());
                                gemm(level, all, width, k, a, width, b, c, k, &e);
                            }
                            let (a, c) = (x[pixel * k..].as_ptr(), gradients.at(channel));
                            let d = normalised.at(0);
                            gemm_tn_onto(level, !fresh, all, k, width, a, k, d, width, c, padded);
                        }
                    }
                    first = end;
                }
                part.flush();
            }
        });
        self.parts = parts;
    }

    /// Packs the right-hand side of P: block by block the rows of W times γ/σ.
    fn pack_expand_back(&self, weight: &[f32], scratch: Place) {
        let (k, n) = (self.input.channels, self.hidden);
        let m = &self.memory;
        // SAFETY: the map gives this memory to the scaled weights alone.
        let scaled = unsafe { scratch.slice(m.scaled, n * k) };
        for (c, (to, from)) in scaled
            .chunks_exact_mut(k)
            .zip(weight.chunks_exact(k))
            .enumerate()
        {
            let factor = self.norms[0].scale[c];
            for (to, from) in to.iter_mut().zip(from) {
                *to = from * factor;
            }
        }
        let row = k.next_multiple_of(16);
        for &(channel, width) in &self.backward_blocks {
            let real = width.min(n - channel);
            // SAFETY: the map gives this memory to the packed weights alone.
            let packed =
                unsafe { scratch.slice(m.packed_expand_back + channel * row, width * row) };
            if real == width {
                pack_rows(self.level, width, k, &scaled[channel * k..], k, packed);
            } else {
                let value = |i: usize, j: usize| {
                    if i < real {
                        scaled[(channel + i) * k + j]
                    } else {
                        0.0
                    }
                };
                crate::kernel::gemm::pack(self.level, width, k, packed, value);
            }
        }
    }

    /// dy₂ of the output lines of image `i` that a band of input rows reaches, with zeros beyond the borders. The lines
    /// that the next band reaches too stay in `left`; those of the band before come from there.
    ///
    /// # Safety
    /// `to` and `left` must have place for the lines, and bands must come in order.
    #[expect(clippy::too_many_arguments, reason = "one step of the loop above")]
    unsafe fn fill_gradient(
        &self,
        kept: Place,
        scratch: Place,
        coefficients: &Coefficients,
        i: usize,
        band: Range<usize>,
        channel: usize,
        width: usize,
        to: Place,
        left: Place,
    ) {
        let line = self.columns.reached(0, self.columns.input).len() * width;
        let lines = self.rows.reached(band.start, band.end);
        // Lines that this band has in common with the one before, and with the next.
        let known = match band.start.checked_sub(1) {
            Some(before) => self.rows.reached(before, band.start).end - lines.start,
            None => 0,
        };
        let common = lines.end - self.rows.reached(band.end, band.end + 1).start;
        let left = left.from(self.common_lines() * line / width * channel);
        // SAFETY: the caller's promise.
        unsafe {
            let known = known.max(0) as usize;
            to.slice(0, known * line)
                .copy_from_slice(left.slice(0, known * line));
            for (number, row) in lines.clone().enumerate().skip(known) {
                let to = to.from(number * line);
                self.fill_gradient_line(kept, scratch, coefficients, i, row, channel, width, to);
            }
            if band.end < self.input.height {
                let common = common.max(0) as usize;
                let first = lines.len() - common;
                left.slice(0, common * line)
                    .copy_from_slice(to.slice(first * line, common * line));
            }
        }
    }

    /// A line of dy₂.
    ///
    /// # Safety
    /// `to` must have place for the line.
    #[expect(clippy::too_many_arguments, reason = "one step of the loop above")]
    unsafe fn fill_gradient_line(
        &self,
        kept: Place,
        scratch: Place,
        coefficients: &Coefficients,
        i: usize,
        row: isize,
        channel: usize,
        width: usize,
        to: Place,
    ) {
        let (n, m, norm) = (self.hidden, &self.memory, &self.norms[1]);
        let (oh, ow) = (self.output.height, self.output.width);
        let reached = self.columns.reached(0, self.columns.input);
        let line = reached.len();
        // Output columns that are reached at all: with a large stride the last ones may not be.
        let (left, right) = (
            (-reached.start).max(0) as usize,
            reached.end.min(ow as isize),
        );
        let skipped = reached.start.max(0) as usize;
        let count = (right as usize).saturating_sub(skipped);
        // SAFETY: the caller's promise; a row within the borders is the image's.
        unsafe {
            if row < 0 || row >= oh as isize {
                to.slice(0, line * width).fill(0.0);
                return;
            }
            to.slice(0, left * width).fill(0.0);
            to.slice((left + count) * width, (line - left - count) * width)
                .fill(0.0);
            let from = ((i * oh + row as usize) * ow + skipped) * n + channel;
            let e = i * self.padded + channel;
            self.level.run(NormGradient {
                rows: count,
                channels: width.min(n - channel),
                end: width,
                gradient: scratch.at(m.passed + from),
                raw: kept.at(m.depthwise + from),
                from_row: n,
                to: to.at(left * width),
                to_row: width,
                coefficients: [
                    coefficients.p[e..].as_ptr(),
                    coefficients.q[channel..].as_ptr(),
                    coefficients.r[e..].as_ptr(),
                ],
                slope: (!coefficients.t.is_empty()).then(|| Slope {
                    factor: coefficients.t[e..].as_ptr(),
                    scale: norm.scale[channel..].as_ptr(),
                    shift: norm.shift[channel..].as_ptr(),
                    activation: self.activations[1],
                }),
            });
        }
    }

    /// The normalised expanded tensor of some pixels; the input itself where the block does not expand.
    ///
    /// # Safety
    /// `to` must have place for the pixels.
    #[expect(clippy::too_many_arguments, reason = "one step of the loop above")]
    unsafe fn fill_normalised(
        &self,
        kept: Place,
        scratch: Place,
        x: &[f32],
        pixel: usize,
        pixels: usize,
        channel: usize,
        width: usize,
        to: Place,
    ) {
        let (k, n, norm) = (self.input.channels, self.hidden, &self.norms[0]);
        // SAFETY: the caller's promise; the pixels lie within x and the kept tensor.
        unsafe {
            if self.expand.is_some() && !self.stored {
                let e = Epilogue {
                    start: norm.negative.as_ptr().add(channel),
                    ..Epilogue::SET
                };
                let b = Right::Packed(
                    scratch.at(self.memory.packed_expand + k * channel),
                    std::ptr::null(),
                );
                let a = x[pixel * k..].as_ptr();
                gemm(self.level, pixels, k, width, a, k, b, to.at(0), width, &e);
                return;
            }
            let (from, scale, shift) = if self.stored {
                let raw: *const f32 = kept.at(self.memory.expanded);
                (raw, &norm.inverse, &norm.negative)
            } else {
                (x.as_ptr(), &self.ones, &self.zeros)
            };
            self.level.run(Activate {
                rows: pixels,
                channels: width.min(n - channel),
                end: width,
                from: from.add(pixel * n + channel),
                from_row: n,
                to: to.at(0),
                to_row: width,
                scale: scale.as_ptr().add(channel),
                shift: shift.as_ptr().add(channel),
                gate: std::ptr::null(),
                gate_after: false,
                activation: Activation::Identity,
            });
        }
    }

    /// Without an expand convolution the depthwise kernel's result is dx, up to the shortcut.
    ///
    /// # Safety
    /// `to` must have the pixels.
    #[expect(clippy::too_many_arguments, reason = "one step of the loop above")]
    unsafe fn write_input_gradient(
        &self,
        from: Place,
        pixels: usize,
        channel: usize,
        width: usize,
        dy: &[f32],
        pixel: usize,
        to: Place,
    ) {
        let k = self.input.channels;
        let real = width.min(k - channel);
        // SAFETY: the caller's promise.
        unsafe {
            self.level.run(Affine {
                rows: pixels,
                channels: real,
                end: real,
                from: from.at(0),
                from_row: width,
                shortcut: if self.shortcut {
                    dy[pixel * k + channel..].as_ptr()
                } else {
                    std::ptr::null()
                },
                to: to.at(channel),
                to_row: k,
                scale: self.ones.as_ptr(),
                shift: self.zeros.as_ptr(),
                factor: 1.0,
            });
        }
    }

    /// Adds the depthwise weights' gradient.
    pub(super) fn add_filter_gradients(&self, parameters: &mut Parameters, scratch: Place) {
        let (_, gradients) = parameters.values_and_gradients_mut();
        let taps = self.rows.kernel * self.rows.kernel;
        let m = &self.memory;
        let gradient = &mut gradients[self.depthwise.clone()];
        let (parts, padded) = (self.parts.len(), self.padded);
        gradient
            .par_chunks_mut(16 * taps)
            .enumerate()
            .with_min_len((1 << 11) / (16 * taps) + 1)
            .for_each(|(group, channels)| {
                for t in 0..taps {
                    for part in 0..parts {
                        let slice = m.gradients + part * m.gradient + m.gradient_depthwise;
                        // SAFETY: the slices' gradients lie there and nobody writes them now; rows are padded.
                        let from = unsafe { scratch.slice(slice + t * padded + group * 16, 16) };
                        for (channel, value) in channels.chunks_exact_mut(taps).zip(from) {
                            channel[t] += *value;
                        }
                    }
                }
            });
    }

    /// The gradients of the first norm and of the expand weights, and the rest of dx.
    pub(super) fn correct(
        &mut self,
        parameters: &mut Parameters,
        kept: Place,
        scratch: Place,
        x: &[f32],
        dy: &[f32],
        dx: Option<Place>,
    ) {
        let (k, n, padded, level) = (self.input.channels, self.hidden, self.padded, self.level);
        let image = self.input.height * self.input.width;
        let place = self.expand.clone().expect("called for blocks that expand");
        let (m, norm) = (&self.memory, &self.norms[0]);
        let count = (self.batch * image) as f64;
        // Per channel: γ/σ, c₁, M c₂/σ; and what multiplies W twice, and once.
        let mut terms = vec![[0.0f64; 5]; n];
        for (c, terms) in terms.iter_mut().enumerate() {
            let [plain, product] = self.total(c);
            let [scale, slope, constant] = norm.gradient(c, plain, product, parameters);
            let (c1, c2) = if norm.follows_batch() {
                (plain / count, product * norm.inverse(c))
            } else {
                (0.0, 0.0)
            };
            *terms = [scale, c1, c2, -slope, -constant];
        }
        let (values, gradients) = parameters.values_and_gradients_mut();
        let weight = &values[place.clone()];
        let gradient = &mut gradients[place];
        let (means, parts) = (&self.input_mean, self.parts.len());
        // Tasks of sixteen channels, the width that the slices' gradients have next to each other.
        gradient
            .par_chunks_mut(16 * k)
            .enumerate()
            .with_min_len((1 << 13) / (16 * k) + 1)
            .for_each(|(group, gradient)| {
                let first = group * 16;
                for j in 0..k {
                    let mut q = [0.0f32; 16];
                    for part in 0..parts {
                        let from = m.gradients + part * m.gradient + j * padded + first;
                        // SAFETY: the slices' gradients lie there and nobody writes them now.
                        let from = unsafe { scratch.slice(from, 16) };
                        for (q, value) in q.iter_mut().zip(from) {
                            *q += *value;
                        }
                    }
                    for (c, row) in gradient.chunks_exact_mut(k).enumerate() {
                        let [scale, c1, c2, ..] = terms[first + c];
                        // SAFETY: the moments lie there and nobody writes them now.
                        let moment = unsafe { *kept.at(m.moments + (first + c) * k + j) };
                        let rest = means[j] * count * c1 + c2 * f64::from(moment);
                        row[j] += (scale * (f64::from(q[c]) - rest)) as f32;
                    }
                }
            });

        let Some(dx) = dx else { return };
        // SAFETY: the map gives this memory to the scaled weights and the correction alone.
        let (scaled, correction) = unsafe {
            (
                scratch.slice(m.scaled, n * k),
                scratch.slice(m.correction, k * k),
            )
        };
        let mut constant = vec![0.0f64; k];
        let rows = weight.chunks_exact(k).zip(scaled.chunks_exact_mut(k));
        for ((weight, scaled), terms) in rows.zip(&terms) {
            for ((w, scaled), constant) in weight.iter().zip(scaled).zip(&mut constant) {
                let w = f64::from(*w);
                *scaled = (-terms[3] * w) as f32;
                *constant -= terms[4] * w;
            }
        }
        correction.fill(0.0);
        product_tn(level, [n, k, k], weight, scaled, correction);
        let constant: Vec<f32> = constant.iter().map(|&v| v as f32).collect();
        let shortcut = self.shortcut;
        each(&mut self.parts, |part| {
            for i in part.images.clone() {
                let mut row = 0;
                while row < image {
                    let rows = CORRECTION_CHUNK.min(image - row);
                    let offset = (i * image + row) * k;
                    let e = Epilogue {
                        start: constant.as_ptr(),
                        ..Epilogue::ADD
                    };
                    // SAFETY: the image's own pixels.
                    unsafe {
                        let (a, c) = (x[offset..].as_ptr(), dx.at(offset));
                        let b = Right::Rows(scratch.at(m.correction), k);
                        gemm(level, rows, k, k, a, k, b, c, k, &e);
                        if shortcut {
                            level.run(Add {
                                len: rows * k,
                                from: dy[offset..].as_ptr(),
                                to: c,
                            });
                        }
                    }
                    row += rows;
                }
            }
        });
    }
}
