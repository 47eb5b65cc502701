//! Sixteen rows of an image on their way to coefficients.

use crate::image::Image;

use super::{
    color::{convert, halve},
    dct::{Steps, forward_row},
};

/// Rows and columns of the unit that all components share a part of.
pub(super) const UNIT: usize = 16;

/// Samples, then coefficients, of sixteen rows; the last strip of an image may have fewer.
pub(super) struct Strip {
    width: usize,
    /// Luma, sixteen rows of whole blocks.
    luma: Vec<u8>,
    /// The colour differences of two rows at full width, one after the other.
    pair: [Vec<u8>; 2],
    /// The halved colour differences, eight rows of whole blocks.
    chroma: [Vec<u8>; 2],
    /// Coefficients of luma, `[2, blocks, 64]`, and of the colour differences, `[blocks, 64]`.
    pub coefficients: [Vec<i16>; 3],
    /// Rows of luma blocks that hold pixels.
    pub luma_rows: usize,
    /// Luma blocks across that hold pixels; there are [`units`](Self::units) of each colour difference.
    pub luma_blocks: usize,
    /// Units across.
    pub units: usize,
}

impl Strip {
    /// Room for the strips of `image`.
    pub(super) fn new(image: &Image) -> Self {
        let (blocks, units) = (image.width.div_ceil(8), image.width.div_ceil(UNIT));
        let of = |length| vec![0; length];
        Self {
            width: image.width,
            luma: of(UNIT * 8 * blocks),
            pair: [of(2 * UNIT * units), of(2 * UNIT * units)],
            chroma: [of(8 * 8 * units), of(8 * 8 * units)],
            coefficients: [2 * blocks, units, units].map(|blocks| vec![0; 64 * blocks]),
            luma_rows: 0,
            luma_blocks: blocks,
            units,
        }
    }

    /// Takes over the rows of `image` from `top` on.
    pub(super) fn fill(&mut self, image: &Image, top: usize) {
        let rows = (image.height - top).min(UNIT);
        let (wide, full, half) = (8 * self.luma_blocks, UNIT * self.units, 8 * self.units);
        self.luma_rows = rows.div_ceil(8);
        for y in 0..rows {
            let at = full * (y % 2);
            let luma = &mut self.luma[wide * y..][..wide];
            let [blue, red] = self.pair.each_mut().map(|pair| &mut pair[at..][..full]);
            convert(image.row(top + y), luma, blue, red);
            for row in [luma, blue, red] {
                let (pixels, beyond) = row.split_at_mut(self.width);
                beyond.fill(pixels[self.width - 1]);
            }
            // The last row of an odd number is a pair with itself.
            let last = y + 1 == rows;
            if y % 2 == 1 || last {
                let upper = if y % 2 == 1 { 0 } else { at };
                for (pair, chroma) in self.pair.iter().zip(&mut self.chroma) {
                    let out = &mut chroma[half * (y / 2)..][..half];
                    halve(&pair[upper..][..full], &pair[at..][..full], out);
                }
            }
        }
        repeat_last(&mut self.luma, wide, rows);
        for chroma in &mut self.chroma {
            repeat_last(chroma, half, rows.div_ceil(2));
        }
    }

    /// Works out the coefficients with the quantisation of luma and of the colour differences.
    pub(super) fn transform(&mut self, steps: &[Steps; 2]) {
        let [luma, chroma @ ..] = &mut self.coefficients;
        let (wide, half) = (8 * self.luma_blocks, 8 * self.units);
        for (y, out) in luma
            .chunks_exact_mut(8 * wide)
            .take(self.luma_rows)
            .enumerate()
        {
            forward_row(&self.luma[8 * wide * y..], wide, &steps[0], out);
        }
        for (samples, out) in self.chroma.iter().zip(chroma) {
            forward_row(samples, half, &steps[1], out);
        }
    }
}

/// Fills the rows of `width` samples behind the first `rows` with the last of those.
fn repeat_last(samples: &mut [u8], width: usize, rows: usize) {
    let (known, beyond) = samples.split_at_mut(width * rows);
    for row in beyond.chunks_exact_mut(width) {
        row.copy_from_slice(&known[width * (rows - 1)..]);
    }
}
