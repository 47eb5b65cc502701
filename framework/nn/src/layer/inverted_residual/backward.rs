//! The backward pass of the block.
//!
//! 1. Two sums per channel of the output's gradient; with them the gradient through the last norm is affine:
//!    dy₃ = p·g + q·y₃ + r.
//! 2. Project convolution backwards, chunk by chunk: dy₃ into a buffer, da = dy₃·W; then one pass that recomputes the
//!    activation (for the weight gradient), multiplies da by the activation's slope and sums, per image, what gate and
//!    norm need.
//! 3. The gate needs only those sums. So does the depthwise norm: its gradient, dy₂ = p·du + q·y₂ + r, is applied when du
//!    is read.
//! 4. Depthwise and expand convolution backwards together, by bands of input rows and blocks of channels: recompute the
//!    expanded tensor, input gradient, activation, weight gradient; then from the same buffer P += dz·(γ/σ W) and
//!    Q += xᵀ·dz.
//! 5. The sums c₁ = Σdz/M and c₂ = Σ(dz·xhat)/M of the first norm are known only now. They enter linearly:
//!    dW = γ/σ (Q − Σx·c₁ − M c₂/σ W·Cov(x)),   dx = P − x·[Wᵀ diag(γ/σ² c₂) W] − Wᵀ γ/σ (c₁ − mean/σ c₂).

use rayon::prelude::*;

use super::{InvertedResidual, Place, each};
use crate::{
    kernel::{
        elementwise::{Add, GateGradient, NormGradient, NormSums},
        gemm::{Epilogue, Right, gemm, gemm_tn_onto, pack_rows, packed_len},
    },
    network::Activation,
    parameter::Parameters,
};

/// Channels that a task of the gate's sums takes.
const CHANNELS: usize = 64;
/// Images that a task of the coefficients takes.
const IMAGES: usize = 8;

/// Per image `[batch, padded]` or per channel: the coefficients of the depthwise norm's gradient.
pub(super) struct Coefficients {
    pub p: Vec<f32>,
    pub q: Vec<f32>,
    pub r: Vec<f32>,
    /// What the gate adds times the activation's slope; empty where it does not.
    pub t: Vec<f32>,
}

impl InvertedResidual {
    pub(super) fn run_backward(
        &mut self,
        parameters: &mut Parameters,
        kept: Place,
        scratch: Place,
        x: &[f32],
        dy: &[f32],
        dx: Option<&mut [f32]>,
    ) {
        let last = self.last_norm(parameters, kept, dy);
        let sums = self.project_back(parameters, kept, scratch, dy, &last);
        let coefficients = self.gate_back(parameters, sums);
        if self.stored {
            self.take_moments(x, scratch);
            let place = self.expand.clone().expect("a stored block expands");
            self.weighted_moments(&parameters.values()[place], kept);
        }
        let dx = dx.map(Place::new);
        self.filter_back(parameters, kept, scratch, x, dy, dx, &coefficients);
        self.add_filter_gradients(parameters, scratch);
        if self.expand.is_some() {
            self.correct(parameters, kept, scratch, x, dy, dx);
        }
    }

    /// p, q, r of the last norm, per channel.
    fn last_norm(&mut self, parameters: &mut Parameters, kept: Place, dy: &[f32]) -> [Vec<f32>; 3] {
        let (len, o, level) = (self.output.len(), self.output.channels, self.level);
        let (norm, factors) = (&self.norms[2], &self.factors);
        let raw = kept.from(self.memory.project);
        each(&mut self.parts, |part| {
            part.clear();
            for i in part.images.clone() {
                // SAFETY: the image's pixels; the sums are padded.
                unsafe {
                    level.run(NormSums {
                        rows: len / o,
                        channels: o,
                        end: o,
                        gradient: dy[i * len..].as_ptr(),
                        raw: raw.at(i * len),
                        inverse: norm.inverse.as_ptr(),
                        negative: norm.negative.as_ptr(),
                        gamma: [std::ptr::null(); 2],
                        activation: Activation::Identity,
                        factor: factors[i],
                        sum: part.image[0].as_mut_ptr(),
                        product: part.image[1].as_mut_ptr(),
                    });
                }
                part.flush();
            }
        });
        let mut out: [Vec<f32>; 3] = std::array::from_fn(|_| vec![0.0; o.next_multiple_of(16)]);
        for c in 0..o {
            let [plain, product] = self.total(c);
            let coefficients = norm.gradient(c, plain, product, parameters);
            for (out, value) in out.iter_mut().zip(coefficients) {
                out[c] = value as f32;
            }
        }
        out
    }

    /// The two sums of channel `c` over the whole batch.
    pub(super) fn total(&self, c: usize) -> [f64; 2] {
        [0, 1].map(|i| self.parts.iter().map(|part| part.sums[i][c]).sum())
    }

    /// Project convolution, activation and gate backwards; returns the per-image sums `[batch, padded]`.
    fn project_back(
        &mut self,
        parameters: &mut Parameters,
        kept: Place,
        scratch: Place,
        dy: &[f32],
        last: &[Vec<f32>; 3],
    ) -> [Vec<f32>; 5] {
        let (n, o, padded, level) = (self.hidden, self.output.channels, self.padded, self.level);
        let image = self.output.height * self.output.width;
        let chunk = self.project_rows();
        let m = &self.memory;
        let weight = &parameters.values()[self.project.clone()];
        // SAFETY: the map gives this memory to the packed weights alone.
        let packed = unsafe { scratch.slice(m.packed_project_back, packed_len(o, n)) };
        pack_rows(level, o, n, weight, n, packed);
        let after = self.gate.as_ref().is_some_and(|gate| gate.after);
        let mut sums: [Vec<f32>; 5] = std::array::from_fn(|i| {
            vec![
                0.0;
                if i < 2 || after {
                    self.batch * padded
                } else {
                    0
                }
            ]
        });
        let sum_places = sums.each_mut().map(|sums| Place::new(sums));
        let mut parts = std::mem::take(&mut self.parts);
        let block = &*self;
        each(&mut parts, |part| {
            let gradients = scratch.from(m.gradients + part.index * m.gradient);
            let buffer = scratch.from(m.chunks + part.index * m.chunk);
            let (dy3, da) = (buffer, buffer.from((chunk * o).next_multiple_of(16)));
            for (number, (images, pixels)) in block.project_chunks(part.images.clone()).enumerate()
            {
                let norm = &block.norms[1];
                let (first, rows) = (pixels.start, pixels.len());
                // The pixels of one of the chunk's images.
                let own = |i: usize| {
                    let start = first.max(i * image);
                    (start, pixels.end.min((i + 1) * image) - start)
                };
                // SAFETY: the chunk lies in the slice's buffers, the pixels are the images' own.
                unsafe {
                    for i in images.clone() {
                        let (pixel, rows) = own(i);
                        // Stochastic depth multiplies the gradient of this image.
                        let p: Vec<f32> = last[0].iter().map(|p| p * block.factors[i]).collect();
                        level.run(NormGradient {
                            rows,
                            channels: o,
                            end: o,
                            gradient: dy[pixel * o..].as_ptr(),
                            raw: kept.at(m.project + pixel * o),
                            from_row: o,
                            to: dy3.at((pixel - first) * o),
                            to_row: o,
                            coefficients: [p.as_ptr(), last[1].as_ptr(), last[2].as_ptr()],
                            slope: None,
                        });
                    }
                    let b = Right::Packed(scratch.at(m.packed_project_back), std::ptr::null());
                    let (a, c) = (dy3.at(0), da.at(0));
                    gemm(level, rows, o, n, a, o, b, c, n, &Epilogue::SET);
                    for i in images {
                        let (pixel, rows) = own(i);
                        let (gate, gate_after) = block.gate_of(i);
                        level.run(GateGradient {
                            rows,
                            channels: n,
                            end: n,
                            gradient: da.at((pixel - first) * n),
                            raw: kept.at(m.depthwise + pixel * n),
                            passed: scratch.at(m.passed + pixel * n),
                            inverse: norm.inverse.as_ptr(),
                            negative: norm.negative.as_ptr(),
                            gamma: norm.gamma.as_ptr(),
                            beta: norm.beta.as_ptr(),
                            gate,
                            gate_after,
                            activation: block.activations[1],
                            sums: sum_places.map(|place| place.at(i * padded)),
                        });
                    }
                    let (a, d) = (dy3.at(0), da.at(0));
                    let c = gradients.at(m.gradient_project);
                    gemm_tn_onto(level, number > 0, rows, o, n, a, o, d, n, c, n);
                }
            }
        });
        self.parts = parts;
        let (_, gradients) = parameters.values_and_gradients_mut();
        let place = self.project.clone();
        self.add_parts(scratch, self.memory.gradient_project, &mut gradients[place]);
        sums
    }

    /// Adds every slice's gradient from `offset` on to `to`, in the order of the slices.
    fn add_parts(&self, scratch: Place, offset: usize, to: &mut [f32]) {
        let (m, level) = (&self.memory, self.level);
        to.par_chunks_mut(1 << 13)
            .enumerate()
            .for_each(|(piece, to)| {
                for part in 0..self.parts.len() {
                    // SAFETY: the slices' gradients lie there and nobody writes them now.
                    unsafe {
                        level.run(Add {
                            len: to.len(),
                            from: scratch
                                .at(m.gradients + part * m.gradient + offset + (piece << 13)),
                            to: to.as_mut_ptr(),
                        });
                    }
                }
            });
    }

    /// The gate's and the depthwise norm's own gradients; what is left for dy₂ are coefficients.
    fn gate_back(&mut self, parameters: &mut Parameters, sums: [Vec<f32>; 5]) -> Coefficients {
        let (n, padded, batch) = (self.hidden, self.padded, self.batch);
        let pixels = (self.output.height * self.output.width) as f64;
        let [s1, s2, s3, a1, a2] = sums;
        let mut means = Vec::new();
        let mut after = false;
        if let Some(gate) = &mut self.gate {
            means = vec![0.0; batch * padded];
            after = gate.after;
            let norm = &self.norms[1];
            let gradient = |i: usize, c: usize| {
                let e = i * padded + c;
                if after {
                    s3[e]
                } else {
                    norm.gamma[c] * s2[e] + norm.beta[c] * s1[e]
                }
            };
            gate.backward(self.level, parameters, gradient, &mut means);
        }
        let mut out = Coefficients {
            p: vec![0.0; batch * padded],
            q: vec![0.0; padded],
            r: vec![0.0; batch * padded],
            t: vec![0.0; if after { batch * padded } else { 0 }],
        };
        let (norm, gate, image_sums) = (&self.norms[1], &self.gate, &self.image_sums);
        // dz = factor · du + t · (1, or the activation's slope).
        let terms = |e: usize| match gate {
            Some(gate) => (f64::from(gate.factors[e]), f64::from(means[e]) / pixels),
            None => (1.0, 0.0),
        };
        let mut sums = vec![[0.0; 2]; n];
        sums.par_chunks_mut(CHANNELS)
            .enumerate()
            .for_each(|(task, sums)| {
                // Image by image, as memory lies.
                for i in 0..batch {
                    for (j, [plain, product]) in sums.iter_mut().enumerate() {
                        let c = task * CHANNELS + j;
                        let e = i * padded + c;
                        let (factor, t) = terms(e);
                        *plain += factor * f64::from(s1[e]);
                        *product += factor * f64::from(s2[e]);
                        if after {
                            *plain += t * f64::from(a1[e]);
                            *product += t * f64::from(a2[e]);
                        } else {
                            let sum = f64::from(image_sums[e]) - pixels * norm.mean(c);
                            *plain += t * pixels;
                            *product += t * norm.inverse(c) * sum;
                        }
                    }
                }
            });
        let coefficients: Vec<[f64; 3]> = sums
            .iter()
            .enumerate()
            .map(|(c, &[plain, product])| norm.gradient(c, plain, product, parameters))
            .collect();
        for (to, [_, q, _]) in out.q.iter_mut().zip(&coefficients) {
            *to = *q as f32;
        }
        out.p
            .par_chunks_mut(padded)
            .zip(out.r.par_chunks_mut(padded))
            .with_min_len(IMAGES)
            .enumerate()
            .for_each(|(i, (to_p, to_r))| {
                for (c, [p, _, r]) in coefficients.iter().enumerate() {
                    let (factor, t) = terms(i * padded + c);
                    to_p[c] = (p * factor) as f32;
                    to_r[c] = if after { *r } else { r + p * t } as f32;
                }
            });
        // Empty unless the gate acts after the activation.
        for (i, to_t) in out.t.chunks_exact_mut(padded).enumerate() {
            for (c, [p, ..]) in coefficients.iter().enumerate() {
                to_t[c] = (p * terms(i * padded + c).1) as f32;
            }
        }
        out
    }
}
