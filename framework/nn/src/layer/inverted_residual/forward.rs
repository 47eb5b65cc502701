//! The forward pass of the block.
//!
//! 1. Statistics of the expanded tensor y = x·W, from the moments of x: mean = W·E[x], variance = w·Cov(x)·w. That costs
//!    K² instead of K·N multiply-adds per pixel and reads only the narrow tensor.
//! 2. Expand, norm, activation and depthwise convolution together, band by band: the norm's scale is folded into the
//!    packed weights, shift and activation happen in the product's epilogue, and the result goes straight into the padded
//!    buffer that the depthwise kernel reads.
//! 3. Squeeze-excite from the per-image sums that the depthwise kernel took along.
//! 4. Norm, gate and activation into a buffer, project convolution out of it.
//! 5. The last norm, and the shortcut.

use rayon::prelude::*;

use super::{InvertedResidual, Place, each};
use crate::{
    executor::Mode,
    kernel::{
        depthwise,
        elementwise::{Activate, Affine, Sum},
        gemm::{Epilogue, Right, gemm, pack_transposed, packed_len},
    },
    network::Activation,
    parameter::Parameters,
};

impl InvertedResidual {
    pub(super) fn run_forward(
        &mut self,
        parameters: &mut Parameters,
        mode: Mode,
        kept: Place,
        scratch: Place,
        x: &[f32],
        y: &mut [f32],
    ) {
        let infer = mode == Mode::Infer;
        let pixels = (self.batch * self.output.height * self.output.width) as f64;
        if !mode.takes_batch() {
            for norm in &mut self.norms {
                norm.take_running(parameters);
            }
        }
        if self.stored {
            self.expand(parameters, mode, kept, scratch, x);
        } else if self.expand.is_some() && !infer {
            self.take_moments(x, scratch);
            self.moments_of_expanded(parameters, mode, kept);
        }

        self.spread_taps(parameters);
        let expand_again = self.expand.is_some() && !self.stored;
        if expand_again {
            self.pack_expand(
                parameters,
                scratch,
                &self.forward_blocks,
                &self.norms[0].scale,
            );
        }
        self.filter(infer, kept, scratch, x);
        if mode.takes_batch() {
            let sums = self.parts.iter().map(|part| &part.sums);
            self.norms[1].take_sums(pixels, sums, parameters);
        }

        self.excite(parameters, kept);
        self.project(parameters, infer, kept, scratch, x, y);
        if mode.takes_batch() {
            let sums = self.parts.iter().map(|part| &part.sums);
            self.norms[2].take_sums(pixels, sums, parameters);
        }
        if !infer {
            self.finish(kept, x, y);
        }
    }

    /// Depthwise weights with the channels fastest, zero behind the last.
    fn spread_taps(&mut self, parameters: &Parameters) {
        let weight = &parameters.values()[self.depthwise.clone()];
        let taps = self.rows.kernel * self.rows.kernel;
        self.taps
            .par_chunks_mut(self.padded)
            .enumerate()
            .with_min_len((1 << 11) / self.padded + 1)
            .for_each(|(t, channels)| {
                for (to, channel) in channels.iter_mut().zip(weight.chunks_exact(taps)) {
                    *to = channel[t];
                }
            });
    }

    /// Packs the expand weights block by block, times a factor per channel.
    pub(super) fn pack_expand(
        &self,
        parameters: &Parameters,
        scratch: Place,
        blocks: &[(usize, usize)],
        factor: &[f32],
    ) {
        let (k, n) = (self.input.channels, self.hidden);
        let place = self.expand.clone().expect("called for blocks that expand");
        let weight = &parameters.values()[place];
        for &(first, width) in blocks {
            let real = width.min(n - first);
            // SAFETY: the map gives this memory to the packed weights alone.
            let packed = unsafe { scratch.slice(self.memory.packed_expand + k * first, k * width) };
            let (weight, factor) = (&weight[first * k..], &factor[first..]);
            if real == width {
                pack_transposed(self.level, k, width, weight, k, Some(factor), packed);
            } else {
                let value = |i: usize, j: usize| {
                    if j < real {
                        weight[j * k + i] * factor[j]
                    } else {
                        0.0
                    }
                };
                crate::kernel::gemm::pack(self.level, k, width, packed, value);
            }
        }
    }

    /// Expand (again, where asked for), norm, activation and depthwise convolution.
    fn filter(&mut self, infer: bool, kept: Place, scratch: Place, x: &[f32]) {
        let image_sums = Place::new(&mut self.image_sums);
        let mut parts = std::mem::take(&mut self.parts);
        let block = &*self;
        let (h, w) = (block.input.height, block.input.width);
        let (oh, ow) = (block.output.height, block.output.width);
        let (n, padded) = (block.hidden, block.padded);
        let (rows, columns, m) = (block.rows, block.columns, &block.memory);
        let band = block.forward_band();
        let line = columns.padded();
        let raw = kept.from(m.depthwise);
        each(&mut parts, |part| {
            part.clear();
            let buffer = scratch.from(m.chunks + part.index * m.chunk);
            for i in part.images.clone() {
                let mut first = 0;
                while first < oh {
                    let end = (first + band).min(oh);
                    let lines = (end - 1 - first) * rows.stride + rows.kernel;
                    for &(channel, width) in &block.forward_blocks {
                        for l in 0..lines {
                            let row = (first * rows.stride + l) as isize - rows.before as isize;
                            let to = buffer.from(l * line * width);
                            // SAFETY: the line lies in the slice's chunk buffer.
                            unsafe {
                                if row < 0 || row >= h as isize {
                                    to.slice(0, line * width).fill(0.0);
                                    continue;
                                }
                                let (before, after) = (columns.before, columns.before + w);
                                to.slice(0, before * width).fill(0.0);
                                to.slice(after * width, (line - after) * width).fill(0.0);
                                let pixel = (i * h + row as usize) * w;
                                let to = to.at(before * width);
                                block.fill_line(infer, kept, scratch, x, pixel, channel, width, to);
                            }
                        }
                        // SAFETY: the buffer has the lines of the band; the output rows are the image's own.
                        unsafe {
                            depthwise::forward(
                                block.level,
                                &depthwise::Forward {
                                    kernel: rows.kernel,
                                    stride: rows.stride,
                                    rows: end - first,
                                    width: ow,
                                    channels: width.min(n - channel),
                                    input: buffer.at(0),
                                    pitch: line * width,
                                    block: width,
                                    weight: block.taps.as_ptr().add(channel),
                                    tap: padded,
                                    output: raw.at((i * oh + first) * ow * n + channel),
                                    pixel: n,
                                    sum: part.image[0].as_mut_ptr().add(channel),
                                    squares: part.image[1].as_mut_ptr().add(channel),
                                },
                            );
                        }
                    }
                    first = end;
                }
                // SAFETY: the image's own row.
                unsafe { image_sums.slice(i * padded, padded) }
                    .copy_from_slice(&part.image[0][..padded]);
                part.flush();
            }
        });
        self.parts = parts;
    }

    /// One row of the activated input of the depthwise convolution, of one block of channels.
    ///
    /// # Safety
    /// `to` must have the row's pixels times `width` numbers.
    #[expect(clippy::too_many_arguments, reason = "one step of the loop above")]
    unsafe fn fill_line(
        &self,
        infer: bool,
        kept: Place,
        scratch: Place,
        x: &[f32],
        pixel: usize,
        channel: usize,
        width: usize,
        to: *mut f32,
    ) {
        let (k, n, w) = (self.input.channels, self.hidden, self.input.width);
        let norm = &self.norms[0];
        // SAFETY: the row lies within x and the kept tensor; the caller's promise for `to`.
        unsafe {
            if self.expand.is_some() && !self.stored {
                let e = Epilogue {
                    start: norm.shift.as_ptr().add(channel),
                    activation: self.expanded_activation(),
                    ..Epilogue::SET
                };
                let b = Right::Packed(
                    scratch.at(self.memory.packed_expand + k * channel),
                    std::ptr::null(),
                );
                let a = x.as_ptr().add(pixel * k);
                gemm(self.level, w, k, width, a, k, b, to, width, &e);
                return;
            }
            let stored: *const f32 = kept.at(self.memory.expanded);
            let (from, scale, shift) = if self.stored && infer {
                (stored, &self.ones, &self.zeros)
            } else if self.stored {
                (stored, &norm.scale, &norm.shift)
            } else {
                (x.as_ptr(), &self.ones, &self.zeros)
            };
            self.level.run(Activate {
                rows: w,
                channels: width.min(n - channel),
                end: width,
                from: from.add(pixel * n + channel),
                from_row: n,
                to,
                to_row: width,
                scale: scale.as_ptr().add(channel),
                shift: shift.as_ptr().add(channel),
                gate: std::ptr::null(),
                gate_after: false,
                activation: if infer {
                    Activation::Identity
                } else {
                    self.expanded_activation()
                },
            });
        }
    }

    /// The gate's factors.
    fn excite(&mut self, parameters: &Parameters, kept: Place) {
        let Some(mut gate) = self.gate.take() else {
            return;
        };
        let (n, padded, norm) = (self.hidden, self.padded, &self.norms[1]);
        let image = self.output.height * self.output.width;
        if gate.after {
            let sums = Place::new(&mut self.image_sums);
            let (level, activation) = (self.level, self.activations[1]);
            let raw = kept.from(self.memory.depthwise);
            each(&mut self.parts, |part| {
                for i in part.images.clone() {
                    // SAFETY: the image's own row of sums; the image lies in the kept tensor.
                    unsafe {
                        let sum = sums.slice(i * padded, padded);
                        sum.fill(0.0);
                        level.run(Sum {
                            rows: image,
                            channels: n,
                            end: n,
                            from: raw.at(i * image * n),
                            from_row: n,
                            scale: norm.scale.as_ptr(),
                            shift: norm.shift.as_ptr(),
                            activation,
                            sum: sum.as_mut_ptr(),
                        });
                    }
                }
            });
        }
        let (sums, share, after) = (&self.image_sums, 1.0 / image as f32, gate.after);
        gate.forward(self.level, parameters, |i, c| {
            let mean = sums[i * padded + c] * share;
            if after {
                mean
            } else {
                norm.scale[c] * mean + norm.shift[c]
            }
        });
        self.gate = Some(gate);
    }

    /// Norm, gate, activation and project convolution; in inference also the last norm and the shortcut.
    fn project(
        &mut self,
        parameters: &Parameters,
        infer: bool,
        kept: Place,
        scratch: Place,
        x: &[f32],
        y: &mut [f32],
    ) {
        let (n, o, level) = (self.hidden, self.output.channels, self.level);
        let image = self.output.height * self.output.width;
        let (m, last) = (&self.memory, &self.norms[2]);
        let weight = &parameters.values()[self.project.clone()];
        // SAFETY: the map gives this memory to the packed weights alone.
        let packed = unsafe { scratch.slice(m.packed_project, packed_len(n, o)) };
        let scale = infer.then_some(&last.scale[..]);
        pack_transposed(level, n, o, weight, n, scale, packed);
        let out = if infer {
            Place::new(y)
        } else {
            kept.from(m.project)
        };
        let mut parts = std::mem::take(&mut self.parts);
        let block = &*self;
        each(&mut parts, |part| {
            part.clear();
            let buffer = scratch.at(m.chunks + part.index * m.chunk);
            for (images, pixels) in block.project_chunks(part.images.clone()) {
                let mut epilogue = Epilogue {
                    sum: part.image[0].as_mut_ptr(),
                    squares: part.image[1].as_mut_ptr(),
                    ..Epilogue::SET
                };
                if infer {
                    epilogue = Epilogue {
                        start: last.shift.as_ptr(),
                        accumulate: block.shortcut,
                        ..Epilogue::SET
                    };
                }
                // SAFETY: the chunk lies in the slice's buffer, the pixels are the images' own.
                unsafe {
                    for i in images {
                        let first = pixels.start.max(i * image);
                        let rows = pixels.end.min((i + 1) * image) - first;
                        let to = buffer.add((first - pixels.start) * n);
                        block.activate(kept, i, first, rows, to);
                    }
                    let (first, rows) = (pixels.start * o, pixels.len());
                    let c = out.at(first);
                    if epilogue.accumulate {
                        let shortcut = &x[first..first + rows * o];
                        out.slice(first, rows * o).copy_from_slice(shortcut);
                    }
                    let b = Right::Packed(scratch.at(m.packed_project), std::ptr::null());
                    gemm(level, rows, n, o, buffer, n, b, c, o, &epilogue);
                }
                part.flush();
            }
        });
        self.parts = parts;
    }

    /// What the project convolution sees of some pixels of image `i`.
    ///
    /// # Safety
    /// The pixels must be the image's, and `to` must have place for them.
    unsafe fn activate(&self, kept: Place, i: usize, pixel: usize, rows: usize, to: *mut f32) {
        let (n, norm) = (self.hidden, &self.norms[1]);
        let gate = self.gate_of(i);
        // SAFETY: the caller's promise.
        unsafe {
            self.level.run(Activate {
                rows,
                channels: n,
                end: n,
                from: kept.at(self.memory.depthwise + pixel * n),
                from_row: n,
                to,
                to_row: n,
                scale: norm.scale.as_ptr(),
                shift: norm.shift.as_ptr(),
                gate: gate.0,
                gate_after: gate.1,
                activation: self.activations[1],
            });
        }
    }

    /// The gate's factors for image `i`, or null, and whether they act after the activation.
    pub(super) fn gate_of(&self, i: usize) -> (*const f32, bool) {
        match &self.gate {
            Some(gate) => (gate.factors[i * self.padded..].as_ptr(), gate.after),
            None => (std::ptr::null(), false),
        }
    }

    /// y = the last norm of the project convolution, + x.
    fn finish(&mut self, kept: Place, x: &[f32], y: &mut [f32]) {
        let len = self.output.len();
        let o = self.output.channels;
        let (out, norm) = (Place::new(y), &self.norms[2]);
        let (raw, factors) = (kept.from(self.memory.project), &self.factors);
        let (level, shortcut) = (self.level, self.shortcut);
        each(&mut self.parts, |part| {
            for i in part.images.clone() {
                // SAFETY: the image's own pixels.
                unsafe {
                    level.run(Affine {
                        rows: len / o,
                        channels: o,
                        end: o,
                        from: raw.at(i * len),
                        from_row: o,
                        shortcut: if shortcut {
                            x[i * len..].as_ptr()
                        } else {
                            std::ptr::null()
                        },
                        to: out.at(i * len),
                        to_row: o,
                        scale: norm.scale.as_ptr(),
                        shift: norm.shift.as_ptr(),
                        factor: factors[i],
                    });
                }
            }
        });
    }
}
