//! Input gradient: a convolution of stride 1 for every class of input pixels.

use super::{Class, Direct, Geometry, blocks};
use crate::{
    kernel::dense::{self, Operand},
    layer::{
        convolution::{PANEL, Sum},
        each_slice, pieces, slices,
    },
    network::Activation,
    parameter::Parameters,
};

impl Direct {
    /// The input gradient, as [`Convolution::input_gradient`](super::super::Convolution::input_gradient).
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    pub fn input_gradient<T: Send>(
        &self,
        parameters: &Parameters,
        dy: Operand<'_>,
        dx: &mut [f32],
        sum: Sum<'_>,
        scratch: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        let weights = &parameters.values()[self.weight.clone()];
        let outputs = self.outputs();
        let packed_len: usize = self.pairs().map(|pair| self.gradient_block(pair)).sum();
        let (mut packed, buffers) = scratch.split_at_mut(self.groups * packed_len);
        let mut right = Vec::with_capacity(self.rows[0].len() * self.rows[1].len() * self.groups);
        for pair in self.pairs() {
            let [y, x] = pair;
            let places: Vec<[usize; 2]> = (0..y.taps.len() * x.taps.len() * outputs)
                .map(|i| {
                    let (place, o) = (i / outputs, i % outputs);
                    let (row, column) =
                        (y.taps[place / x.taps.len()], x.taps[place % x.taps.len()]);
                    [row * self.kernel + column, o]
                })
                .collect();
            let block = self.gradient_block(pair);
            let (own, rest) = packed.split_at_mut(self.groups * block);
            packed = rest;
            self.pack(places.len(), self.own(), own, |group, i, channel| {
                let [tap, o] = places[i];
                self.weight_of(weights, group, o, channel, tap)
            });
            let own = &*own;
            right.extend(
                (0..self.groups).map(|group| (pair, group, &own[group * block..][..block])),
            );
        }
        let geometry = self.gradient_geometry();
        let band = geometry.len(self.output.channels);
        let len = self.input.len();
        let row = self.input.width * self.input.channels;
        let parts = pieces(dx, len, self.batch)
            .zip(buffers.chunks_mut(band))
            .zip(slices(self.batch))
            .zip(partial);
        each_slice(parts, |(((dx, buffer), images), partial)| {
            for (dx, image) in dx.chunks_mut(len).zip(images) {
                let bands = dx.chunks_mut(geometry.rows * self.stride * row);
                for (dx, first) in bands.zip((0..).step_by(geometry.rows)) {
                    geometry.fill(
                        self.level,
                        self.output,
                        dy,
                        image,
                        first,
                        geometry.rows,
                        buffer,
                    );
                    let at = image * len + first * self.stride * row;
                    for &(pair, group, packed) in &right {
                        for r in (pair[0].first..dx.len() / row).step_by(self.stride) {
                            let sum = match sum {
                                Sum::With(tensor) => Sum::With(&tensor[at + r * row..][..row]),
                                other => other,
                            };
                            let dx = &mut dx[r * row..][..row];
                            let a = &buffer
                                [r / self.stride * geometry.columns * self.output.channels..];
                            self.row_gradient(pair, group, a, &geometry, packed, dx, sum);
                        }
                    }
                    done(partial, at, dx);
                }
            }
        });
    }

    /// One class and group of one row of the input.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of one product and their places"
    )]
    fn row_gradient(
        &self,
        [y, x]: [&Class; 2],
        group: usize,
        a: &[f32],
        geometry: &Geometry,
        packed: &[f32],
        dx: &mut [f32],
        sum: Sum<'_>,
    ) {
        let (own, outputs, depth) = (self.own(), self.outputs(), self.output.channels);
        let pitch = geometry.columns * depth;
        let base = |class: &Class, before: usize| (class.reach + before as isize) as usize;
        let k = y.taps.len() * x.taps.len() * outputs;
        let mut segments = Vec::with_capacity(y.taps.len() * x.taps.len());
        if k > 0 {
            let corner = base(y, geometry.before[0]) * pitch + base(x, geometry.before[1]) * depth;
            for row in 0..y.taps.len() {
                let at = corner + row * pitch + group * outputs;
                if self.groups == 1 {
                    segments.push(at);
                } else {
                    segments.extend((0..x.taps.len()).map(|column| at + column * depth));
                }
            }
        }
        let length = k / segments.len().max(1);
        for (column, packed) in blocks(packed, k, own) {
            let at = x.first * self.input.channels + group * own + column;
            let work = dense::Direct {
                m: x.count,
                n: PANEL.min(own - column),
                segments: &segments,
                length,
                a: a.as_ptr(),
                lda: depth,
                b: packed.as_ptr(),
                c: dx[at..].as_mut_ptr(),
                ldc: self.stride * self.input.channels,
                start: std::ptr::null(),
                addend: match sum {
                    Sum::Set => std::ptr::null(),
                    Sum::Add => dx[at..].as_ptr(),
                    Sum::With(tensor) => tensor[at..].as_ptr(),
                },
                activation: Activation::Identity,
            };
            // SAFETY: the band was filled for the reach of every class, the panels were packed for this one, and the row
            // of the input holds its pixels.
            unsafe { work.run(self.level) };
        }
    }
}
