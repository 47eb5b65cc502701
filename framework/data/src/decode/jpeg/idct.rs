//! The inverse cosine transform of blocks, with the rounding of libjpeg's accurate integer method.
//!
//! Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications" (ICASSP 1989), with
//! constants of 13 fraction bits; two more bits are kept between the passes. Columns come before rows, since the
//! rounding between them shows in the pixels.

use std::num::Wrapping;

use crate::kernel::dispatch_narrow;

/// Fraction bits of the constants.
const FRACTION: usize = 13;

/// Fraction bits kept from the columns to the rows.
const KEPT: usize = 2;

type Word = Wrapping<i32>;

/// A constant of the transform with its fraction bits.
const fn constant(value: f64) -> Word {
    Wrapping((value * (1 << FRACTION) as f64 + 0.5) as i32)
}

dispatch_narrow! {
    /// Turns a row of blocks of coefficients, `[blocks, 8, 8]` in natural order, into eight rows of samples with
    /// `stride` bytes from one to the next.
    pub fn inverse_row(coefficients: &[i16], quantization: &[u16; 64], samples: &mut [u8], stride: usize) = row;
}

#[inline(always)]
fn row(coefficients: &[i16], quantization: &[u16; 64], samples: &mut [u8], stride: usize) {
    for (index, block) in coefficients.as_chunks::<64>().0.iter().enumerate() {
        let samples = &mut samples[8 * index..];
        if is_constant(block) {
            let value = i32::from(block[0].wrapping_mul(quantization[0] as i16));
            let value = (((value << KEPT) + 16) >> (KEPT + 3)) + 128;
            let value = value.clamp(0, 255) as u8;
            for y in 0..8 {
                samples[y * stride..][..8].fill(value);
            }
        } else {
            inverse(block, quantization, samples, stride);
        }
    }
}

/// Whether all coefficients but the first are zero.
#[inline(always)]
fn is_constant(block: &[i16; 64]) -> bool {
    // Whole rows first, which makes whole vectors.
    let mut columns = [0; 8];
    for k in 1..8 {
        for x in 0..8 {
            columns[x] |= block[8 * k + x];
        }
    }
    let any = |values: &[i16]| values.iter().fold(0, |all, &value| all | value) != 0;
    !any(&columns) && !any(&block[1..8])
}

/// Puts down the samples of one block.
#[inline(always)]
fn inverse(block: &[i16; 64], quantization: &[u16; 64], samples: &mut [u8], stride: usize) {
    let mut words = [[Wrapping(0); 8]; 8];
    for k in 0..8 {
        for x in 0..8 {
            let value = block[8 * k + x].wrapping_mul(quantization[8 * k + x] as i16);
            words[k][x] = Wrapping(i32::from(value));
        }
    }
    let words = transposed(&pass::<{ FRACTION - KEPT }>(&words));
    let words = transposed(&pass::<{ FRACTION + KEPT + 3 }>(&words));
    for (y, words) in words.iter().enumerate() {
        let out: &mut [u8] = &mut samples[y * stride..][..8];
        for (out, word) in out.iter_mut().zip(words) {
            *out = (word.0 + 128).clamp(0, 255) as u8;
        }
    }
}

/// Exchanges rows and columns.
#[inline(always)]
fn transposed(words: &[[Word; 8]; 8]) -> [[Word; 8]; 8] {
    let mut out = [[Wrapping(0); 8]; 8];
    for y in [0, 4] {
        for x in [0, 4] {
            transpose_quarter(words, &mut out, y, x);
        }
    }
    out
}

/// Moves the four rows and columns from `y` and `x` on; in vectors of four, since wider loads would wait for the stores
/// of the pass before.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_quarter(from: &[[Word; 8]; 8], to: &mut [[Word; 8]; 8], y: usize, x: usize) {
    use std::arch::x86_64::*;
    let load = |row: &[Word; 8]| {
        let four: &[Word] = &row[x..x + 4];
        // SAFETY: the slice has the sixteen bytes that are read, and unaligned reads are fine.
        unsafe { _mm_loadu_si128(four.as_ptr().cast()) }
    };
    let rows = [
        load(&from[y]),
        load(&from[y + 1]),
        load(&from[y + 2]),
        load(&from[y + 3]),
    ];
    // SAFETY: SSE2 is part of the target; the slices have the sixteen bytes that are written.
    unsafe {
        let low = [
            _mm_unpacklo_epi32(rows[0], rows[1]),
            _mm_unpacklo_epi32(rows[2], rows[3]),
        ];
        let high = [
            _mm_unpackhi_epi32(rows[0], rows[1]),
            _mm_unpackhi_epi32(rows[2], rows[3]),
        ];
        let columns = [
            _mm_unpacklo_epi64(low[0], low[1]),
            _mm_unpackhi_epi64(low[0], low[1]),
            _mm_unpacklo_epi64(high[0], high[1]),
            _mm_unpackhi_epi64(high[0], high[1]),
        ];
        for (i, column) in columns.into_iter().enumerate() {
            let four: &mut [Word] = &mut to[x + i][y..y + 4];
            _mm_storeu_si128(four.as_mut_ptr().cast(), column);
        }
    }
}

/// Moves the four rows and columns from `y` and `x` on.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn transpose_quarter(from: &[[Word; 8]; 8], to: &mut [[Word; 8]; 8], y: usize, x: usize) {
    for row in y..y + 4 {
        for column in x..x + 4 {
            to[column][row] = from[row][column];
        }
    }
}

/// The transform of all columns, rounded to `SHIFT` fewer bits.
#[inline(always)]
fn pass<const SHIFT: usize>(words: &[[Word; 8]; 8]) -> [[Word; 8]; 8] {
    let mut out = [[Wrapping(0); 8]; 8];
    for x in 0..8 {
        let at = |k: usize| words[k][x];
        // The even half: a rotation and a butterfly.
        let turn = (at(2) + at(6)) * constant(0.541196100);
        let low = turn - at(6) * constant(1.847759065);
        let high = turn + at(2) * constant(0.765366865);
        let sum = (at(0) + at(4)) << FRACTION;
        let difference = (at(0) - at(4)) << FRACTION;
        let even = [sum + high, difference + low, difference - low, sum - high];
        // The odd half.
        let (a, b, c, d) = (at(7), at(5), at(3), at(1));
        let ad = (a + d) * constant(0.899976223);
        let bc = (b + c) * constant(2.562915447);
        let all = (a + b + c + d) * constant(1.175875602);
        let ac = all - (a + c) * constant(1.961570560);
        let bd = all - (b + d) * constant(0.390180644);
        let odd = [
            d * constant(1.501321110) - ad + bd,
            c * constant(3.072711026) - bc + ac,
            b * constant(2.053119869) - bc + bd,
            a * constant(0.298631336) - ad + ac,
        ];
        let half = Wrapping(1 << (SHIFT - 1));
        for k in 0..4 {
            out[k][x] = (even[k] + odd[k] + half) >> SHIFT;
            out[7 - k][x] = (even[k] - odd[k] + half) >> SHIFT;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;
    use crate::{kernel::Level, random::Random};

    /// The definition, in double precision, unrounded.
    fn reference(block: &[f64; 64]) -> [f64; 64] {
        let mut out = [0.0; 64];
        for (at, value) in out.iter_mut().enumerate() {
            let (y, x) = ((at / 8) as f64, (at % 8) as f64);
            for (from, coefficient) in block.iter().enumerate() {
                let (v, u) = ((from / 8) as f64, (from % 8) as f64);
                let scale = |k: f64| if k == 0.0 { 0.5f64.sqrt() } else { 1.0 };
                *value += coefficient / 4.0
                    * scale(u)
                    * scale(v)
                    * ((2.0 * x + 1.0) * u * PI / 16.0).cos()
                    * ((2.0 * y + 1.0) * v * PI / 16.0).cos();
            }
            *value += 128.0;
        }
        out
    }

    #[test]
    fn samples_are_within_one_of_the_definition() {
        let mut random = Random::new(&[1]);
        for case in 0..500 {
            let mut block = [0i16; 64];
            for _ in 0..case % 20 + 1 {
                let at = random.below(64) as usize;
                block[at] = random.below(201) as i16 - 100;
            }
            let quantization = std::array::from_fn(|i| (i % 5 + 1) as u16);
            let scaled = std::array::from_fn(|i| f64::from(block[i]) * f64::from(quantization[i]));
            let expected = reference(&scaled);
            for level in Level::available() {
                let mut samples = [0; 64];
                level.with(|| inverse_row(&block, &quantization, &mut samples, 8));
                for (sample, exact) in samples.iter().zip(&expected) {
                    let exact = exact.clamp(0.0, 255.0);
                    assert!((f64::from(*sample) - exact).abs() < 1.0, "{sample} {exact}");
                }
            }
        }
    }

    #[test]
    fn blocks_lie_side_by_side() {
        let mut coefficients = [0; 128];
        coefficients[0] = 80;
        coefficients[64] = -80;
        let mut samples = [0; 160];
        inverse_row(&coefficients, &[1; 64], &mut samples, 20);
        for y in 0..8 {
            assert_eq!(samples[20 * y..][..8], [138; 8]);
            assert_eq!(samples[20 * y + 8..][..8], [118; 8]);
            assert_eq!(samples[20 * y + 16..][..4], [0; 4]);
        }
    }

    #[test]
    fn extreme_coefficients_do_not_overflow() {
        for value in [i16::MIN, i16::MAX] {
            for level in Level::available() {
                let mut samples = [0; 64];
                level.with(|| inverse_row(&[value; 64], &[u16::MAX; 64], &mut samples, 8));
                level.with(|| inverse_row(&[value; 64], &[3; 64], &mut samples, 8));
            }
        }
    }
}
