//! Weight gradient: products over tiles, then back to 3×3.

use std::ops::Range;

use rayon::prelude::*;

use super::{ROWS, Winograd, parts, plane};
use crate::{
    kernel::{
        dense::Operand,
        gemm::gemm_tn,
        winograd::{POINTS, WeightGradient},
    },
    layer::{each_slice, place::Place},
    parameter::Parameters,
};

impl Winograd {
    /// Adds the gradient of the weights.
    pub fn weight_gradient(
        &self,
        parameters: &mut Parameters,
        x: Operand<'_>,
        dy: Operand<'_>,
        scratch: &mut [f32],
    ) {
        let (c, o, level) = (self.inputs, self.outputs, self.level);
        let pixels = self.batch * self.height * self.width;
        assert!(x.len() == pixels * c && dy.len() == pixels * o);
        let cut = self.weight_cut();
        let (most, copies) = (self.chunk_tiles(cut), self.lanes(cut));
        let band = self.band(cut, c.max(o));
        let (plane_x, plane_dy, plane_sum) = (plane(most * c), plane(most * o), plane(c * o));
        let (sums, scratch) = scratch.split_at_mut(copies * POINTS * plane_sum);
        let (bands, points) = scratch.split_at_mut(self.parts() * band);
        let points_len = POINTS * (plane_x + plane_dy);
        let transform =
            |units: Range<usize>, before: usize, band: &mut [f32], from: Place, to: Place| {
                for run in self.runs(units, before) {
                    self.inputs(run, x, c, plane_x, band, from);
                    self.gradients(run, dy, plane_dy, band, to);
                }
            };
        let product = |m: usize, point: usize, rows: Range<usize>, from: Place, to: Place, sums| {
            // SAFETY: m tiles of every point lie in both buffers, and `sums` are the rows' own.
            unsafe {
                gemm_tn(
                    level,
                    m,
                    rows.len(),
                    c,
                    to.at(point * plane_dy + rows.start),
                    o,
                    from.at(point * plane_x),
                    c,
                    sums,
                    c,
                );
            }
        };
        if cut.shared {
            assert!(points.len() >= points_len);
            let (from, to) = points.split_at_mut(POINTS * plane_x);
            let (from, to) = (Place::new(from), Place::new(to));
            for first in (0..self.units()).step_by(cut.units) {
                let chunk = first..(first + cut.units).min(self.units());
                let m = chunk.len() * self.tiles.1;
                each_slice(
                    parts(chunk.clone(), self.parts()).zip(bands.chunks_mut(band)),
                    |(part, band)| transform(part, first, band, from, to),
                );
                let tasks = sums
                    .chunks_mut(plane_sum)
                    .enumerate()
                    .flat_map(|(point, sums)| {
                        let sums = &mut sums[..c * o];
                        let rows = (0..o).step_by(ROWS).zip(sums.chunks_mut(ROWS * c));
                        rows.map(move |(row, sums)| (point, row, sums))
                    });
                each_slice(tasks, |(point, row, sums)| {
                    if first == 0 {
                        sums.fill(0.0);
                    }
                    let rows = row..row + sums.len() / c;
                    product(m, point, rows, from, to, sums.as_mut_ptr());
                });
            }
        } else {
            let images = parts(0..self.batch, self.parts());
            let work = images
                .zip(bands.chunks_mut(band))
                .zip(points.chunks_mut(points_len))
                .zip(sums.chunks_mut(POINTS * plane_sum));
            each_slice(work, |(((images, band), points), sums)| {
                assert!(points.len() >= points_len);
                sums.fill(0.0);
                let (from, to) = points.split_at_mut(POINTS * plane_x);
                let (from, to) = (Place::new(from), Place::new(to));
                let units = images.start * self.tiles.0..images.end * self.tiles.0;
                for first in units.clone().step_by(cut.units) {
                    let chunk = first..(first + cut.units).min(units.end);
                    let m = chunk.len() * self.tiles.1;
                    transform(chunk, first, band, from, to);
                    for (point, sums) in sums.chunks_mut(plane_sum).enumerate() {
                        product(m, point, 0..o, from, to, sums.as_mut_ptr());
                    }
                }
            });
        }
        let (_, gradients) = parameters.values_and_gradients_mut();
        let sums = &*sums;
        gradients[self.weight.clone()]
            .par_chunks_mut(9 * c)
            .enumerate()
            .for_each(|(row, gradient)| {
                let kernel = WeightGradient {
                    sums: sums[row * c..].as_ptr(),
                    copies,
                    copy: POINTS * plane_sum,
                    plane: plane_sum,
                    inputs: c,
                    out: gradient.as_mut_ptr(),
                };
                // SAFETY: every point of every copy has a row of c sums for each output; the gradient has 9 · c numbers.
                unsafe { level.run(kernel) }
            });
    }
}
