//! One pass of an extended box filter, along rows or down columns.
//!
//! The box covers `2e + 1` pixels with weight `inner` and one more at each end with the smaller weight `outer`, in
//! units of 2^-24; pixels beyond the edge repeat the edge.

use super::dispatch;

/// An extended box filter in fixed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoxFilter {
    /// Whole pixels on each side of the centre.
    pub reach: usize,
    /// Weight of each whole pixel, in 2^-24.
    pub inner: u32,
    /// Weight of the two fractional pixels, in 2^-24.
    pub outer: u32,
}

impl BoxFilter {
    /// Pixels that a pass reads on each side.
    pub fn margin(self) -> usize {
        self.reach + 1
    }
}

dispatch! {
    /// Filters one interleaved row three times; `row` is both input and output, `a` and `b` are scratch of at least
    /// `row.len() + 6 * filter.margin()` bytes.
    pub fn blur_row(row: &mut [u8], filter: BoxFilter, a: &mut [u8], b: &mut [u8]) = blur_row_body;
}

#[inline(always)]
fn blur_row_body(row: &mut [u8], filter: BoxFilter, a: &mut [u8], b: &mut [u8]) {
    let n = row.len();
    let pad = 3 * filter.margin();
    a[pad..pad + n].copy_from_slice(row);
    let (mut from, mut to) = (a, b);
    for pass in 0..3 {
        for i in 0..filter.margin() {
            for c in 0..3 {
                from[3 * i + c] = from[pad + c];
                from[pad + n + 3 * i + c] = from[pad + n - 3 + c];
            }
        }
        let target: &mut [u8] = if pass == 2 {
            &mut row[..]
        } else {
            &mut to[pad..pad + n]
        };
        match filter.reach {
            0 => near::<0>(from, target, 3, filter),
            1 => near::<1>(from, target, 3, filter),
            _ => far(from, target, filter),
        }
        std::mem::swap(&mut from, &mut to);
    }
}

/// A pass over a padded row with a reach known at compile time.
#[inline(always)]
fn near<const REACH: usize>(padded: &[u8], out: &mut [u8], step: usize, filter: BoxFilter) {
    let n = out.len();
    let taps: [&[u8]; 5] = std::array::from_fn(|k| {
        let k = k.min(2 * REACH + 2);
        &padded[k * step..k * step + n]
    });
    for (i, out) in out.iter_mut().enumerate() {
        let mut sum = 0u16;
        for tap in &taps[1..2 * REACH + 2] {
            sum += u16::from(tap[i]);
        }
        let ends = u16::from(taps[0][i]) + u16::from(taps[2 * REACH + 2][i]);
        *out = mix(sum, ends, filter);
    }
}

/// A pass over a padded interleaved row with any reach, by running sums.
#[inline(always)]
fn far(padded: &[u8], out: &mut [u8], filter: BoxFilter) {
    let reach = filter.reach;
    for c in 0..3 {
        let at = |pixel: usize| u32::from(padded[3 * pixel + c]);
        // The whole pixels of the first output are 1..=2*reach+1 of the padded row.
        let mut sum: u32 = (1..=2 * reach + 1).map(at).sum();
        for x in 0..out.len() / 3 {
            let ends = at(x) + at(x + 2 * reach + 2);
            out[3 * x + c] = mix_wide(sum, ends, filter);
            sum = sum + at(x + 2 * reach + 2) - at(x + 1);
        }
    }
}

#[inline(always)]
fn mix(sum: u16, ends: u16, filter: BoxFilter) -> u8 {
    mix_wide(u32::from(sum), u32::from(ends), filter)
}

#[inline(always)]
fn mix_wide(sum: u32, ends: u32, filter: BoxFilter) -> u8 {
    // At most 255 * 2^24 + 2^23, which fits.
    ((filter.inner * sum + filter.outer * ends + (1 << 23)) >> 24) as u8
}

dispatch! {
    /// One pass down the columns of an image of `height` rows of `stride` bytes, from `from` to `to`; `sums` is
    /// scratch of `stride` elements.
    pub fn blur_columns(from: &[u8], to: &mut [u8], stride: usize, height: usize, filter: BoxFilter, sums: &mut [u32])
        = blur_columns_body;
}

#[inline(always)]
fn blur_columns_body(
    from: &[u8],
    to: &mut [u8],
    stride: usize,
    height: usize,
    filter: BoxFilter,
    sums: &mut [u32],
) {
    let reach = filter.reach as isize;
    let row = |y: isize| {
        let y = y.clamp(0, height as isize - 1) as usize;
        &from[y * stride..(y + 1) * stride]
    };
    for (y, out) in to.chunks_exact_mut(stride).take(height).enumerate() {
        let y = y as isize;
        let (above, below) = (row(y - reach - 1), row(y + reach + 1));
        match filter.reach {
            0 => {
                let center = row(y);
                for i in 0..stride {
                    let ends = u16::from(above[i]) + u16::from(below[i]);
                    out[i] = mix(u16::from(center[i]), ends, filter);
                }
            }
            1 => {
                let (a, b, c) = (row(y - 1), row(y), row(y + 1));
                for i in 0..stride {
                    let sum = u16::from(a[i]) + u16::from(b[i]) + u16::from(c[i]);
                    let ends = u16::from(above[i]) + u16::from(below[i]);
                    out[i] = mix(sum, ends, filter);
                }
            }
            _ => {
                if y == 0 {
                    sums.fill(0);
                    for k in -reach..=reach {
                        for (sum, &value) in sums.iter_mut().zip(row(k)) {
                            *sum += u32::from(value);
                        }
                    }
                } else {
                    let (gone, come) = (row(y - reach - 1), row(y + reach));
                    for i in 0..stride {
                        sums[i] = sums[i] + u32::from(come[i]) - u32::from(gone[i]);
                    }
                }
                for i in 0..stride {
                    let ends = u32::from(above[i]) + u32::from(below[i]);
                    out[i] = mix_wide(sums[i], ends, filter);
                }
            }
        }
    }
}
