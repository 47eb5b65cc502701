//! Rows of blocks to rows of pixels, without planes for the whole picture.
//!
//! Interpolation looks at one row of samples above and below, so a row of units is kept until the next one is there:
//! pixels lag one group of rows behind, a group being what belongs to one row of the most subsampled component.

use super::{
    color::Space,
    frame::{Component, Enlargement, Frame},
    idct::inverse_row,
    upsample::{double_both, double_width, mix_rows, repeat},
};
use crate::image::Image;

/// Groups of rows kept of the row of units before.
const KEPT: usize = 2;

/// Groups of rows in a row of units.
const GROUPS: usize = 8;

/// The samples of one row of units and the last of the one before, for one component.
struct Band {
    samples: Vec<u8>,
    /// Samples in a row.
    stride: usize,
    quantization: [u16; 64],
    /// A row of samples at the width of the picture.
    line: Vec<u8>,
}

/// Turns rows of units into the rows of an image.
pub(super) struct Rows<'f> {
    frame: &'f Frame,
    space: Space,
    bands: Vec<Band>,
    sums: Vec<u16>,
    image: Image,
    /// Rows of units that came.
    done: usize,
}

impl<'f> Rows<'f> {
    pub(super) fn new(frame: &'f Frame, space: Space) -> Self {
        let band = |component: &Component| {
            let stride = 8 * component.blocks_wide;
            let factor = frame.most_across / component.across;
            Band {
                samples: vec![0; (KEPT + GROUPS) * component.down * stride],
                stride,
                quantization: component.quantization.unwrap_or([0; 64]),
                line: match component.enlargement {
                    Enlargement::None => Vec::new(),
                    _ => vec![0; stride * factor],
                },
            }
        };
        Self {
            frame,
            space,
            bands: frame.components.iter().map(band).collect(),
            sums: Vec::new(),
            image: Image::scratch(frame.width, frame.height),
            done: 0,
        }
    }

    /// Takes the next row of units: by component, its rows of blocks.
    pub(super) fn push<'c>(&mut self, coefficients: impl Iterator<Item = &'c [i16]>) {
        let components = self.frame.components.iter().zip(&mut self.bands);
        for ((component, band), blocks) in components.zip(coefficients) {
            let rows = blocks.chunks_exact(64 * component.blocks_wide);
            let kept = KEPT * component.down * band.stride;
            let samples = band.samples[kept..].chunks_exact_mut(8 * band.stride);
            for (row, samples) in rows.zip(samples) {
                inverse_row(row, &band.quantization, samples, band.stride);
            }
        }
        let unit = self.done;
        self.done += 1;
        let first = (GROUPS * unit).saturating_sub(1);
        let behind = GROUPS * self.done;
        let is_last = self.done == self.frame.units_high;
        let end = if is_last { behind } else { behind - 1 };
        let down = self.frame.most_down;
        for y in first * down..(end * down).min(self.frame.height) {
            self.put(y, unit);
        }
        for (component, band) in self.frame.components.iter().zip(&mut self.bands) {
            let kept = KEPT * component.down * band.stride;
            let from = GROUPS * component.down * band.stride;
            band.samples.copy_within(from..from + kept, 0);
        }
    }

    /// Makes a row of pixels while the samples of a row of units are there.
    fn put(&mut self, y: usize, unit: usize) {
        for (component, band) in self.frame.components.iter().zip(&mut self.bands) {
            let Band {
                samples,
                stride,
                line,
                ..
            } = band;
            // The row of the band that holds a row of the component; there is none beyond the last.
            let first = GROUPS * unit * component.down;
            let row = |row: usize| {
                let row = row.min(component.height - 1) + KEPT * component.down - first;
                &samples[row * *stride..][..component.width]
            };
            let at = y / component.rows_for_one;
            let is_upper = y.is_multiple_of(2);
            let other = if is_upper {
                at.saturating_sub(1)
            } else {
                at + 1
            };
            match component.enlargement {
                Enlargement::None => {}
                Enlargement::Width => double_width(row(at), line),
                Enlargement::Height => {
                    mix_rows(row(at), row(other), if is_upper { 1 } else { 2 }, line);
                }
                Enlargement::Both => double_both(row(at), row(other), &mut self.sums, line),
                Enlargement::Repeat(factor) => repeat(row(at), factor, line),
            }
        }
        let width = self.frame.width;
        let mut rows: [&[u8]; 4] = [&[]; 4];
        for ((out, component), band) in rows.iter_mut().zip(&self.frame.components).zip(&self.bands)
        {
            *out = match component.enlargement {
                Enlargement::None => {
                    let first = GROUPS * unit * component.down;
                    let row = y + KEPT * component.down - first;
                    &band.samples[row * band.stride..][..width]
                }
                _ => &band.line[..width],
            };
        }
        let out = &mut self.image.pixels[3 * width * y..][..3 * width];
        self.space.convert(&rows[..self.bands.len()], out);
    }

    /// The image, after the last row of units.
    pub(super) fn finish(self) -> Image {
        debug_assert_eq!(self.done, self.frame.units_high);
        self.image
    }
}
