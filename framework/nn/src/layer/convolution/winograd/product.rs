//! Forward and input gradient: points of inputs times filters, then back to outputs.

use std::ops::Range;

use rayon::prelude::*;

use super::{Finish, PANEL, Sum, Winograd, parts, plane};
use crate::{
    kernel::{
        dense::Operand,
        gemm::{Epilogue, Right, gemm, packed_len},
        winograd::{FilterSource, OutputTiles, POINTS, filters},
    },
    layer::{each_slice, place::Place},
};

impl Winograd {
    /// y (+)= x ∗ filters, from k to n channels. The filters' points lie in `packed`, where they are written first if
    /// there is a source.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    pub(super) fn convolve<T: Send>(
        &self,
        [k, n]: [usize; 2],
        source: Option<FilterSource<'_>>,
        packed: &mut [f32],
        x: Operand<'_>,
        y: &mut [f32],
        finish: Finish<'_>,
        scratch: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        let pixels = self.batch * self.height * self.width;
        assert!(x.len() == pixels * k && y.len() == pixels * n);
        assert!(finish.start.is_none_or(|start| start.len() >= n));
        assert!(partial.len() >= self.parts());
        let (level, cut) = (self.level, self.cut(k * n, k + n, 28));
        let right_plane = plane(packed_len(k, PANEL));
        let block = POINTS * right_plane;
        assert_eq!(packed.len(), self.filter_len([k, n]));
        let band = self.band(cut, k);
        let (bands, points) = scratch.split_at_mut(self.parts() * band);
        let most = self.chunk_tiles(cut);
        let (plane_in, plane_out) = (plane(most * k), plane(most * n));
        let out = Place::new(y);
        // A chunk's points are `[point, tile, channel]` in buffers of `most` tiles.
        let inputs = |units: Range<usize>, before: usize, band: &mut [f32], to: Place| {
            for run in self.runs(units, before) {
                self.inputs(run, x, k, plane_in, band, to);
            }
        };
        let outputs = |units: Range<usize>, before: usize, from: Place, partial: &mut T| {
            for run in self.runs(units, before) {
                let (at, len) = self.pixels(run, n);
                let kernel = OutputTiles {
                    points: from.at(run.before * n),
                    plane: plane_out,
                    channels: n,
                    tiles: (run.rows, self.tiles.1),
                    out: out.at(at),
                    size: (len / n / self.width, self.width),
                    start: finish.start.map_or(std::ptr::null(), <[f32]>::as_ptr),
                    addend: match finish.sum {
                        Sum::Set => std::ptr::null(),
                        Sum::Add => out.at(at).cast_const(),
                        Sum::With(tensor) => tensor[at..][..len].as_ptr(),
                    },
                    activation: finish.activation,
                };
                // SAFETY: the points hold the run's tiles; its pixels lie in y, and no other part has them.
                unsafe {
                    level.run(kernel);
                    done(partial, at, out.slice(at, len));
                }
            }
        };
        if let Some(source) = source {
            let panels = (0..n).step_by(PANEL).zip(packed.chunks_mut(block));
            each_slice(panels, |(column, packed)| {
                let width = PANEL.min(n - column);
                filters(level, source, k, column, width, right_plane, packed);
            });
        }
        let packed = &*packed;
        let product = |m: usize, point: usize, from: Place, to: Place| {
            for (column, of_columns) in (0..n).step_by(PANEL).zip(packed.chunks(block)) {
                let width = PANEL.min(n - column);
                let right = &of_columns[point * right_plane..];
                // The same point of the next columns, or the next point.
                let next = if column + PANEL < n {
                    right.as_ptr().wrapping_add(block)
                } else {
                    packed
                        .as_ptr()
                        .wrapping_add((point + 1) % POINTS * right_plane)
                };
                assert!(right.len() >= packed_len(k, width));
                // SAFETY: m tiles of every point lie in both buffers; the filters were made for k and these columns.
                unsafe {
                    gemm(
                        level,
                        m,
                        k,
                        width,
                        from.at(point * plane_in),
                        k,
                        Right::Packed(right.as_ptr(), next),
                        to.at(point * plane_out + column),
                        n,
                        &Epilogue::SET,
                    );
                }
            }
        };
        if cut.shared {
            let (from, to) = points.split_at_mut(POINTS * plane_in);
            assert!(to.len() >= POINTS * plane_out);
            let (from, to) = (Place::new(from), Place::new(to));
            for first in (0..self.units()).step_by(cut.units) {
                let chunk = first..(first + cut.units).min(self.units());
                let m = chunk.len() * self.tiles.1;
                each_slice(
                    parts(chunk.clone(), self.parts()).zip(bands.chunks_mut(band)),
                    |(part, band)| inputs(part, first, band, from),
                );
                let tasks = (0..POINTS).into_par_iter().with_max_len(1);
                tasks.for_each(|point| product(m, point, from, to));
                each_slice(
                    parts(chunk, self.parts()).zip(&mut *partial),
                    |(part, partial)| outputs(part, first, to, partial),
                );
            }
        } else {
            let images = parts(0..self.batch, self.parts());
            let work = images
                .zip(bands.chunks_mut(band))
                .zip(points.chunks_mut(POINTS * (plane_in + plane_out)))
                .zip(partial);
            each_slice(work, |(((images, band), points), partial)| {
                let (from, to) = points.split_at_mut(POINTS * plane_in);
                assert!(to.len() >= POINTS * plane_out);
                let (from, to) = (Place::new(from), Place::new(to));
                let units = images.start * self.tiles.0..images.end * self.tiles.0;
                for first in units.clone().step_by(cut.units) {
                    let chunk = first..(first + cut.units).min(units.end);
                    let m = chunk.len() * self.tiles.1;
                    inputs(chunk.clone(), first, band, from);
                    for point in 0..POINTS {
                        product(m, point, from, to);
                    }
                    outputs(chunk, first, to, partial);
                }
            });
        }
    }
}
