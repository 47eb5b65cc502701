//! Weight gradient: products over the pixels of bands, one for every segment.

use std::ops::Range;

use rayon::prelude::*;

use super::{Direct, TURNED};
use crate::{
    kernel::dense::{DirectTransposed, Operand},
    layer::{convolution::PANEL, each_slice, place::Place, slices},
    parameter::Parameters,
};

impl Direct {
    /// Adds the gradient of the weights.
    pub fn weight_gradient(
        &self,
        parameters: &mut Parameters,
        x: Operand<'_>,
        dy: Operand<'_>,
        scratch: &mut [f32],
    ) {
        let (own, outputs, area) = (self.own(), self.outputs(), self.area());
        let (k, all) = (area * own, self.weight.len() * self.merged);
        let (tasks, copies) = self.weight_tasks();
        let (sums, buffers) = scratch.split_at_mut(copies * all);
        let shared = Place::new(sums);
        let buffers = buffers.chunks_mut(self.weight_buffers());
        each_slice((0..tasks).zip(buffers), |(task, buffer)| {
            // The sums are `[group, panel of outputs, tap, channel, output]`; a task has all of a copy, or one panel.
            let panels = outputs.div_ceil(PANEL);
            let (images, groups, columns, copy) = if copies > 1 {
                let images = slices(self.batch).nth(task).expect("a task for each slice");
                (images, 0..self.groups, 0..outputs, task)
            } else if tasks > 1 {
                let (group, first) = (task / panels, task % panels * PANEL);
                let columns = first..(first + PANEL).min(outputs);
                (0..self.batch, group..group + 1, columns, 0)
            } else {
                (0..self.batch, 0..self.groups, 0..outputs, 0)
            };
            let place = |group: usize, column: usize, row: usize| {
                let width = PANEL.min(outputs - column);
                shared.from(copy * all + (group * outputs + column) * k + row * width)
            };
            for group in groups.clone() {
                // SAFETY: the task's own sums.
                unsafe { place(group, columns.start, 0).slice(0, columns.len() * k) }.fill(0.0);
            }
            for image in images {
                self.image_sums(
                    image,
                    x,
                    dy,
                    groups.clone(),
                    columns.clone(),
                    buffer,
                    &place,
                );
            }
        });
        let (_, gradients) = parameters.values_and_gradients_mut();
        let (sums, true_own) = (&*sums, own / self.merged);
        gradients[self.weight.clone()]
            .par_chunks_mut(TURNED * true_own * area)
            .enumerate()
            .for_each(|(i, gradient)| {
                for copy in sums.chunks(all) {
                    for channel in 0..true_own {
                        for tap in 0..area {
                            let rows = gradient.chunks_mut(true_own * area);
                            for (o, gradient) in (i * TURNED..).zip(rows) {
                                let (group, o) = (o / outputs, o % outputs);
                                let first = o / (outputs / self.merged) * true_own;
                                let row = tap * own + first + channel;
                                let panel = o / PANEL * PANEL;
                                let width = PANEL.min(outputs - panel);
                                let at = (group * outputs + panel) * k + row * width;
                                gradient[channel * area + tap] += copy[at + o - panel];
                            }
                        }
                    }
                }
            });
    }

    /// Adds one image to the sums of some groups and columns.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of one product and their places"
    )]
    fn image_sums(
        &self,
        image: usize,
        x: Operand<'_>,
        dy: Operand<'_>,
        groups: Range<usize>,
        columns: Range<usize>,
        buffer: &mut [f32],
        place: &impl Fn(usize, usize, usize) -> Place,
    ) {
        let (geometry, size) = (self.forward_geometry(), self.output);
        let (outputs, depth) = (self.outputs(), self.input.channels);
        let (band, of_dy) = buffer.split_at_mut(geometry.len(depth));
        let row = size.width * size.channels;
        let pitch = geometry.columns * depth;
        for first in (0..size.height).step_by(geometry.rows) {
            let count = geometry.rows.min(size.height - first);
            geometry.fill(self.level, self.input, x, image, first, count, band);
            let part = dy.part((image * size.height + first) * row, count * row);
            let d = match part.plain() {
                Some(d) => d,
                None => {
                    let out = &mut of_dy[..count * row];
                    part.write(self.level, size.channels, out);
                    out
                }
            };
            assert_eq!(d.len(), count * row);
            for group in groups.clone() {
                let segments = self.segments(group);
                let length = self.area() * self.own() / segments.len();
                for column in (0..columns.len()).step_by(PANEL) {
                    for (i, &segment) in segments.iter().enumerate() {
                        let work = DirectTransposed {
                            pixels: (count, size.width),
                            k: length,
                            n: PANEL.min(columns.len() - column),
                            x: band[segment..].as_ptr(),
                            ldx: (self.stride * pitch, self.stride * depth),
                            d: d[group * outputs + columns.start + column..].as_ptr(),
                            ldd: size.channels,
                            c: place(group, columns.start + column, i * length).at(0),
                            ldc: PANEL.min(outputs - columns.start - column),
                        };
                        // SAFETY: the band was filled for the taps of these rows, `d` has all their pixels, and the
                        // sums are the caller's own.
                        unsafe { work.run(self.level) };
                    }
                }
            }
        }
    }
}
