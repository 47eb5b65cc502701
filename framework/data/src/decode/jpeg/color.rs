//! Rows of samples to rows of RGB pixels.
//!
//! The conversion from YCbCr has 16 fraction bits and libjpeg's rounding. Four inks are taken for inverted, as Adobe
//! writes them and Pillow assumes, and become RGB by Pillow's division by 255.

use crate::kernel::dispatch_narrow;

/// What the components of a picture stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Grey,
    Rgb,
    YCbCr,
    /// Inverted cyan, magenta, yellow and black.
    Cmyk,
    /// The first three as YCbCr of what the inks leave.
    Ycck,
}

impl Space {
    /// Fills a row of pixels, `[width, 3]`, from one row of samples a component.
    pub(super) fn convert(self, rows: &[&[u8]], out: &mut [u8]) {
        match (self, rows) {
            (Space::Grey, [grey]) => repeat(grey, out),
            (Space::Rgb, [r, g, b]) => interleave(r, g, b, out),
            (Space::YCbCr, [y, cb, cr]) => ycbcr(y, cb, cr, out),
            (Space::Cmyk, [c, m, y, k]) => {
                interleave(c, m, y, out);
                darken(k, out);
            }
            (Space::Ycck, [y, cb, cr, k]) => {
                ycbcr(y, cb, cr, out);
                out.iter_mut().for_each(|value| *value = 255 - *value);
                darken(k, out);
            }
            _ => unreachable!("the space fixes the number of components"),
        }
    }
}

dispatch_narrow! {
    /// Grey pixels.
    pub fn repeat(grey: &[u8], out: &mut [u8]) = repeat_row;
}

dispatch_narrow! {
    /// Three planes, one after the other in each pixel.
    pub fn interleave(r: &[u8], g: &[u8], b: &[u8], out: &mut [u8]) = interleave_row;
}

dispatch_narrow! {
    /// Pixels of luma and colour differences.
    pub fn ycbcr(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) = ycbcr_row;
}

dispatch_narrow! {
    /// Puts black over three inks, all inverted.
    pub fn darken(black: &[u8], out: &mut [u8]) = darken_row;
}

#[inline(always)]
fn repeat_row(grey: &[u8], out: &mut [u8]) {
    for (pixel, &value) in out.as_chunks_mut::<3>().0.iter_mut().zip(grey) {
        *pixel = [value; 3];
    }
}

#[inline(always)]
fn interleave_row(r: &[u8], g: &[u8], b: &[u8], out: &mut [u8]) {
    let pixels = out.as_chunks_mut::<3>().0;
    for (((pixel, &r), &g), &b) in pixels.iter_mut().zip(r).zip(g).zip(b) {
        *pixel = [r, g, b];
    }
}

/// Pixels converted at a time.
const BLOCK: usize = 64;

#[inline(always)]
fn ycbcr_row(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    let n = out.len() / 3;
    let (y, cb, cr) = (&y[..n], &cb[..n], &cr[..n]);
    let whole = n / BLOCK * BLOCK;
    for at in (0..whole).step_by(BLOCK) {
        let part = |row: &[u8]| -> [u8; BLOCK] {
            row[at..at + BLOCK].try_into().expect("a block's length")
        };
        let pixels = ycbcr_block(&part(y), &part(cb), &part(cr));
        out[3 * at..][..3 * BLOCK].copy_from_slice(&pixels);
    }
    let part = |row: &[u8]| {
        let mut block = [0; BLOCK];
        block[..n - whole].copy_from_slice(&row[whole..]);
        block
    };
    let pixels = ycbcr_block(&part(y), &part(cb), &part(cr));
    out[3 * whole..].copy_from_slice(&pixels[..3 * (n - whole)]);
}

#[inline(always)]
fn ycbcr_block(y: &[u8; BLOCK], cb: &[u8; BLOCK], cr: &[u8; BLOCK]) -> [u8; 3 * BLOCK] {
    let (mut r, mut g, mut b) = ([0u8; BLOCK], [0u8; BLOCK], [0u8; BLOCK]);
    for i in 0..BLOCK {
        let luma = i32::from(y[i]);
        let (blue, red) = (i32::from(cb[i]) - 128, i32::from(cr[i]) - 128);
        // 1.402, 0.34414, 0.71414 and 1.772 with 16 fraction bits.
        let more_red = (91881 * red + 32768) >> 16;
        let more_green = (32768 - 22554 * blue - 46802 * red) >> 16;
        let more_blue = (116130 * blue + 32768) >> 16;
        r[i] = (luma + more_red).clamp(0, 255) as u8;
        g[i] = (luma + more_green).clamp(0, 255) as u8;
        b[i] = (luma + more_blue).clamp(0, 255) as u8;
    }
    let mut out = [0; 3 * BLOCK];
    for i in 0..BLOCK {
        out[3 * i] = r[i];
        out[3 * i + 1] = g[i];
        out[3 * i + 2] = b[i];
    }
    out
}

#[inline(always)]
fn darken_row(black: &[u8], out: &mut [u8]) {
    for (pixel, &black) in out.as_chunks_mut::<3>().0.iter_mut().zip(black) {
        for value in pixel {
            let product = u32::from(255 - *value) * u32::from(black) + 128;
            let taken = ((product >> 8) + product) >> 8;
            *value = black - taken as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Level;

    #[test]
    fn primary_colors_come_out() {
        let mut out = [0; 9];
        ycbcr(&[76, 150, 29], &[85, 44, 255], &[255, 21, 107], &mut out);
        assert_eq!(out, [254, 0, 0, 0, 255, 1, 0, 0, 254]);
    }

    #[test]
    fn inks_become_light() {
        // Stored inverted: no ink at all, all black, half cyan.
        let rows: [&[u8]; 4] = [&[255, 255, 128], &[255; 3], &[255; 3], &[255, 0, 255]];
        let mut out = [0; 9];
        Space::Cmyk.convert(&rows, &mut out);
        assert_eq!(out, [255, 255, 255, 0, 0, 0, 128, 255, 255]);
    }

    /// All triples of some values, against floating point.
    #[test]
    fn conversion_is_within_one_of_the_definition() {
        let steps: Vec<u8> = (0..=255).step_by(15).collect();
        let n = steps.len();
        let pick = |div: usize| -> Vec<u8> { (0..n * n * n).map(|i| steps[i / div % n]).collect() };
        let (y, cb, cr) = (pick(1), pick(n), pick(n * n));
        for level in Level::available() {
            let mut out = vec![0; 3 * y.len()];
            level.with(|| ycbcr(&y, &cb, &cr, &mut out));
            for (i, pixel) in out.as_chunks::<3>().0.iter().enumerate() {
                let (y, cb, cr) = (
                    f64::from(y[i]),
                    f64::from(cb[i]) - 128.0,
                    f64::from(cr[i]) - 128.0,
                );
                let exact = [
                    y + 1.402 * cr,
                    y - 0.344136 * cb - 0.714136 * cr,
                    y + 1.772 * cb,
                ];
                for (value, exact) in pixel.iter().zip(exact) {
                    assert!((f64::from(*value) - exact.clamp(0.0, 255.0)).abs() < 0.51);
                }
            }
        }
    }
}
