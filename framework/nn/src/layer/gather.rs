//! Rows of a convolution's operand, gathered from an image: one row for each output pixel, its taps side by side.
//!
//! With such rows every dense convolution is a matrix product. They are made for a band of pixels at a time, in a buffer
//! that stays in the cache, and never for a whole tensor. The input gradient uses the same rows: for stride s, the
//! pixels of the input fall into s² classes, and each class is a convolution of the output's gradient with those taps
//! that reach it.

use std::ops::Range;

use super::Size;

/// Which numbers make up the rows.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    /// The image that is read.
    pub source: Size,
    /// First channel that is read.
    pub first_channel: usize,
    /// Channels that are read of every tap.
    pub channels: usize,
    /// Columns of the grid of rows.
    pub width: usize,
    /// Step in the source from one row of the grid to the next, in both directions.
    pub step: usize,
    /// Where the taps of the row at (0, 0) lie in the source, in rows and columns; outside it they are zero.
    pub taps: Vec<(isize, isize)>,
}

impl Gather {
    /// Numbers in a row.
    pub fn len(&self) -> usize {
        self.taps.len() * self.channels
    }

    /// Whether the rows are the source's own pixels.
    pub fn is_identity(&self) -> bool {
        self.step == 1
            && self.taps == [(0, 0)]
            && self.channels == self.source.channels
            && self.width == self.source.width
    }

    /// Writes the numbers `columns` of the rows `pixels` (positions in the grid, row by row) to `out`.
    ///
    /// # Panics
    /// If `out` is too short.
    pub fn fill(
        &self,
        source: &[f32],
        pixels: Range<usize>,
        columns: Range<usize>,
        out: &mut [f32],
    ) {
        let count = columns.len();
        let out = &mut out[..pixels.len() * count];
        let mut column = columns.start;
        while column < columns.end {
            // The part of one tap that lies in `columns`.
            let tap = column / self.channels;
            let end = ((tap + 1) * self.channels).min(columns.end);
            let channel = self.first_channel + column - tap * self.channels;
            self.fill_tap(
                source,
                pixels.clone(),
                self.taps[tap],
                channel..channel + end - column,
                &mut out[column - columns.start..],
                count,
            );
            column = end;
        }
    }

    fn fill_tap(
        &self,
        source: &[f32],
        pixels: Range<usize>,
        tap: (isize, isize),
        channels: Range<usize>,
        out: &mut [f32],
        stride: usize,
    ) {
        let Size {
            height,
            width,
            channels: depth,
        } = self.source;
        let count = channels.len();
        let mut written = 0;
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            // The rest of one row of the grid.
            let (y, first) = (pixel / self.width, pixel % self.width);
            let last = self.width.min(first + pixels.end - pixel);
            let row = (y * self.step) as isize + tap.0;
            let inside = (0..height as isize).contains(&row);
            for x in first..last {
                let target = &mut out[written * stride..][..count];
                let column = (x * self.step) as isize + tap.1;
                if inside && (0..width as isize).contains(&column) {
                    let at = (row as usize * width + column as usize) * depth + channels.start;
                    copy(&source[at..at + count], target);
                } else {
                    target.fill(0.0);
                }
                written += 1;
            }
            pixel += last - first;
        }
    }
}

/// A copy that does not call `memcpy` for the few numbers of a narrow image.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    if from.len() < 16 {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    } else {
        to.copy_from_slice(from);
    }
}
