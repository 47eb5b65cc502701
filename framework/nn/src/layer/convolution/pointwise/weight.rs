//! Weight gradient: products over pixels.

use rayon::prelude::*;

use super::{BLOCK, Pointwise, Rows};
use crate::{
    kernel::{dense::Operand, gemm::gemm_tn},
    layer::{each_slice, pieces, place::Place, slices},
    parameter::Parameters,
};

impl Pointwise {
    /// Adds the gradient of the weights.
    pub fn weight_gradient(
        &self,
        parameters: &mut Parameters,
        x: Operand<'_>,
        dy: Operand<'_>,
        scratch: &mut [f32],
    ) {
        let (_, gradients) = parameters.values_and_gradients_mut();
        self.add_products(&mut gradients[self.weight.clone()], x, dy, scratch);
    }

    /// Adds the products of x and dy, `[outputs, inputs]`, to `gradient`.
    pub fn add_products(
        &self,
        gradient: &mut [f32],
        x: Operand<'_>,
        dy: Operand<'_>,
        scratch: &mut [f32],
    ) {
        assert_eq!(x.len(), self.batch * self.input.len());
        assert_eq!(dy.len(), self.batch * self.output.len());
        assert_eq!(gradient.len(), self.inputs * self.outputs);
        let (x, dy) = (self.rows_of_x(x), self.rows_of_dy(dy));
        if self.shared() {
            self.blocks(x, dy, gradient, scratch);
        } else {
            self.copies(x, dy, gradient, scratch);
        }
    }

    /// The gradient of many weights: a block of weights is a task.
    fn blocks(&self, x: Rows<'_>, dy: Rows<'_>, gradient: &mut [f32], scratch: &mut [f32]) {
        let (c, o) = (self.inputs, self.outputs);
        let m = self.batch * self.pixels;
        let (of_x, of_dy) = scratch.split_at_mut(m * c);
        let x = self.all(x, of_x);
        let dy = self.all(dy, of_dy);
        let columns = c.div_ceil(BLOCK[1]);
        let out = Place::new(gradient);
        let tasks = (0..o.div_ceil(BLOCK[0]) * columns).into_par_iter();
        tasks.with_max_len(1).for_each(|task| {
            let (row, column) = (task / columns * BLOCK[0], task % columns * BLOCK[1]);
            let (rows, width) = (BLOCK[0].min(o - row), BLOCK[1].min(c - column));
            // SAFETY: m rows of c and of o numbers; the block of the gradient is this task's own.
            unsafe {
                gemm_tn(
                    self.level,
                    m,
                    rows,
                    width,
                    dy.as_ptr().add(row),
                    o,
                    x.as_ptr().add(column),
                    c,
                    out.at(row * c + column),
                    c,
                );
            }
        });
    }

    /// A whole operand, or its pixels at the stride.
    fn all<'a>(&self, rows: Rows<'a>, out: &'a mut [f32]) -> &'a [f32] {
        if let (1, Some(values)) = (rows.stride, rows.operand.plain()) {
            return values;
        }
        let len = self.pixels * rows.len;
        let out = &mut out[..self.batch * len];
        let parts = pieces(out, len, self.batch).zip(slices(self.batch));
        each_slice(parts, |(out, images)| {
            let (first, m) = (images.start * self.pixels, images.len() * self.pixels);
            let written = self.rows_of(rows, first, m, out);
            assert_eq!(written.len(), m * rows.len);
        });
        out
    }

    /// The gradient of few weights: every slice of the batch has a copy.
    fn copies(&self, x: Rows<'_>, dy: Rows<'_>, gradient: &mut [f32], scratch: &mut [f32]) {
        let (c, o, rows) = (self.inputs, self.outputs, self.rows());
        let (sums, buffers) = scratch.split_at_mut(self.count() * c * o);
        let parts = sums
            .chunks_mut(c * o)
            .zip(buffers.chunks_mut(rows * (c + o)))
            .zip(slices(self.batch));
        each_slice(parts, |((sums, buffer), images)| {
            sums.fill(0.0);
            let (of_x, of_dy) = buffer.split_at_mut(rows * c);
            let end = images.end * self.pixels;
            for first in (images.start * self.pixels..end).step_by(rows) {
                let m = rows.min(end - first);
                let x = self.rows_of(x, first, m, of_x);
                let dy = self.rows_of(dy, first, m, of_dy);
                assert!(x.len() == m * c && dy.len() == m * o);
                // SAFETY: m rows of both, and a sum for every pair of their columns.
                unsafe {
                    gemm_tn(
                        self.level,
                        m,
                        o,
                        c,
                        dy.as_ptr(),
                        o,
                        x.as_ptr(),
                        c,
                        sums.as_mut_ptr(),
                        c,
                    );
                }
            }
        });
        let sums = &*sums;
        let piece = (1 << 12).min(c * o);
        gradient
            .par_chunks_mut(piece)
            .enumerate()
            .for_each(|(i, gradient)| {
                for copy in sums.chunks(c * o) {
                    let copy = &copy[i * piece..][..gradient.len()];
                    for (gradient, value) in gradient.iter_mut().zip(copy) {
                        *gradient += value;
                    }
                }
            });
    }
}
