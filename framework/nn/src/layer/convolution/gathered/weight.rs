//! Weight gradient: the transpose of the output's gradient times gathered rows.

use std::ops::Range;

use rayon::prelude::*;

use super::{BAND, Gathered, STRIP};
use crate::{
    kernel::{dense::Operand, gemm::gemm_tn},
    layer::each_slice,
    parameter::Parameters,
};

impl Gathered {
    /// Adds the gradient of the weights.
    pub fn weight_gradient(
        &self,
        parameters: &mut Parameters,
        x: Operand<'_>,
        dy: Operand<'_>,
        scratch: &mut [f32],
    ) {
        let stored = "operands are stored for this method";
        let (x, dy) = (x.plain().expect(stored), dy.plain().expect(stored));
        let (own, outputs, area) = (self.own(), self.outputs(), self.area());
        let k = area * own;
        let copies = self.weight_slices().len();
        let (sums, buffers) = scratch.split_at_mut(copies * self.groups * outputs * k);
        // A task is a strip of columns of one group from one slice of the batch; its sums are `[outputs, width]`.
        let mut tasks = Vec::with_capacity(copies * self.groups * k.div_ceil(STRIP));
        let (mut sums_left, mut buffers_left) = (&mut *sums, buffers);
        for images in self.weight_slices() {
            for group in 0..self.groups {
                for column in (0..k).step_by(STRIP) {
                    let columns = column..(column + STRIP).min(k);
                    let (sum, rest) = sums_left.split_at_mut(outputs * columns.len());
                    sums_left = rest;
                    let (buffer, rest) = buffers_left.split_at_mut(BAND);
                    buffers_left = rest;
                    tasks.push((images.clone(), group, columns, sum, buffer));
                }
            }
        }
        each_slice(
            tasks.into_iter(),
            |(images, group, columns, sum, buffer)| {
                sum.fill(0.0);
                self.strip_gradient(x, dy, images, group, columns, sum, buffer);
            },
        );
        let (_, gradients) = parameters.values_and_gradients_mut();
        let gradient = &mut gradients[self.weight.clone()];
        let sums = &*sums;
        gradient
            .par_chunks_mut(k)
            .enumerate()
            .for_each(|(o, gradient)| {
                let (group, o) = (o / outputs, o % outputs);
                for copy in 0..copies {
                    let sums = &sums[(copy * self.groups + group) * outputs * k..][..outputs * k];
                    for column in (0..k).step_by(STRIP) {
                        let width = STRIP.min(k - column);
                        let row = &sums[outputs * column + o * width..][..width];
                        for (i, value) in (column..).zip(row) {
                            gradient[i % own * area + i / own] += value;
                        }
                    }
                }
            });
    }

    /// sum += dyᵀ · rows, for one group and some columns of the rows.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of one product and their places"
    )]
    fn strip_gradient(
        &self,
        x: &[f32],
        dy: &[f32],
        images: Range<usize>,
        group: usize,
        columns: Range<usize>,
        sum: &mut [f32],
        buffer: &mut [f32],
    ) {
        let gather = &self.forward[group];
        let (pixels, depth) = (self.output.height * self.output.width, self.output.channels);
        let (outputs, width) = (self.outputs(), columns.len());
        let most = (BAND / width).min(pixels);
        let mut add = |rows: &[f32], stride: usize, dy: &[f32], m: usize| {
            assert!(rows.len() >= (m - 1) * stride + width);
            assert!(dy.len() >= (m - 1) * depth + outputs && sum.len() >= outputs * width);
            // SAFETY: just checked: m rows of each operand, and the sums of all their pairs of columns.
            unsafe {
                gemm_tn(
                    self.level,
                    m,
                    outputs,
                    width,
                    dy.as_ptr(),
                    depth,
                    rows.as_ptr(),
                    stride,
                    sum.as_mut_ptr(),
                    width,
                );
            }
        };
        if gather.is_identity() {
            let rows = &x[images.start * self.input.len() + columns.start..];
            let dy = &dy[images.start * self.output.len() + group * outputs..];
            add(rows, gather.len(), dy, images.len() * pixels);
            return;
        }
        for image in images {
            let x = &x[image * self.input.len()..][..self.input.len()];
            let dy = &dy[image * self.output.len()..][..self.output.len()];
            for first in (0..pixels).step_by(most) {
                let last = (first + most).min(pixels);
                gather.fill(x, first..last, columns.clone(), buffer);
                let dy = &dy[first * depth + group * outputs..];
                add(buffer, width, dy, last - first);
            }
        }
    }
}
