//! The forward cosine transform of blocks and its quantisation, with the rounding of libjpeg's accurate integer method.
//!
//! Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications" (ICASSP 1989), with
//! constants of 13 fraction bits; two more bits are kept between the passes. Rows come before columns, since the
//! rounding between them shows in the file. Coefficients come out eight times as large as they are defined.

#[cfg(target_arch = "x86_64")]
use crate::kernel::Level;

#[cfg(target_arch = "x86_64")]
mod x86;

/// Fraction bits of the constants.
const FRACTION: u32 = 13;

/// Fraction bits kept from the rows to the columns.
const KEPT: u32 = 2;

/// A block of coefficients or samples, rows first.
#[cfg(any(test, not(target_arch = "x86_64")))]
type Words = [[i16; 8]; 8];

/// A constant of the transform with its fraction bits.
const fn constant(value: f64) -> i32 {
    (value * (1 << FRACTION) as f64 + 0.5) as i32
}

/// Quantisation steps as the transform needs them, in natural order.
///
/// A quotient is `(size + half) * reciprocal >> 16`, times `scale >> 16`: a product and a shift in 16-bit numbers. Coefficients
/// are below 2^14, in eighths, and so are their sums with half a step of up to 255. Reciprocals have 16 bits, rounded up:
/// that is exact for sums below 2^15.
pub(super) struct Steps {
    /// Half a step, in the transform's eighths.
    half: [u16; 64],
    /// 2^16 times a power of 2 that brings it to 2^15 or more, over the step in eighths, rounded up.
    reciprocal: [u16; 64],
    /// 2^16 over that power of 2.
    scale: [u16; 64],
}

impl Steps {
    /// Steps from 1 to 255.
    pub(super) fn new(table: &[u8; 64]) -> Self {
        let power = |step: u8| (8 * u32::from(step)).next_power_of_two() / 2;
        Self {
            half: table.map(|step| 4 * u16::from(step)),
            reciprocal: table.map(|step| (power(step) << 16).div_ceil(8 * u32::from(step)) as u16),
            scale: table.map(|step| ((1 << 16) / power(step)) as u16),
        }
    }
}

/// Turns eight rows of samples, `stride` bytes from one to the next, into the quantised coefficients of a row of
/// blocks, `[blocks, 8, 8]` in natural order.
pub(super) fn forward_row(samples: &[u8], stride: usize, steps: &Steps, coefficients: &mut [i16]) {
    #[cfg(target_arch = "x86_64")]
    match Level::current() {
        Level::Portable => x86::sse2(samples, stride, steps, coefficients),
        // SAFETY: the level is only ever one that the machine was found to have.
        _ => unsafe { x86::avx2(samples, stride, steps, coefficients) },
    }
    #[cfg(not(target_arch = "x86_64"))]
    row(samples, stride, steps, coefficients);
}

/// The same in plain numbers: for other machines, and what the vector code is compared with.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn row(samples: &[u8], stride: usize, steps: &Steps, coefficients: &mut [i16]) {
    for (index, out) in coefficients.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let mut words = [[0; 8]; 8];
        for (y, words) in words.iter_mut().enumerate() {
            let row: &[u8; 8] = samples[y * stride + 8 * index..][..8]
                .try_into()
                .expect("the slice has this length");
            *words = row.map(|sample| i16::from(sample) - 128);
        }
        let words = pass::<false>(&transposed(&words));
        let words = pass::<true>(&transposed(&words));
        quantize(words.as_flattened(), steps, out);
    }
}

/// The quotients of coefficients and steps, rounded to nearest, halves away from zero.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn quantize(words: &[i16], steps: &Steps, out: &mut [i16; 64]) {
    let words: &[i16; 64] = words.try_into().expect("a block has 64 coefficients");
    for i in 0..64 {
        let size = u32::from(words[i].unsigned_abs() + steps.half[i]);
        let product = (size * u32::from(steps.reciprocal[i])) >> 16;
        let quotient = ((product * u32::from(steps.scale[i])) >> 16) as i16;
        out[i] = if words[i] < 0 { -quotient } else { quotient };
    }
}

/// Exchanges rows and columns.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn transposed(words: &Words) -> Words {
    std::array::from_fn(|x| std::array::from_fn(|y| words[y][x]))
}

/// The transform of all columns: the first of the two passes keeps some bits, the `LAST` rounds them away.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn pass<const LAST: bool>(words: &Words) -> Words {
    let mut out = [[0; 8]; 8];
    for x in 0..8 {
        let at = |k: usize| i32::from(words[k][x]);
        let round = |value: i32, bits: u32| ((value + (1 << (bits - 1))) >> bits) as i16;
        let whole = |value: i32| match LAST {
            true => round(value, KEPT),
            false => (value << KEPT) as i16,
        };
        let scaled = |value: i32| match LAST {
            true => round(value, FRACTION + KEPT),
            false => round(value, FRACTION - KEPT),
        };
        let [s0, s1, s2, s3] = [0, 1, 2, 3].map(|k| at(k) + at(7 - k));
        let [a, b, c, d] = [3, 2, 1, 0].map(|k| at(k) - at(7 - k));
        // The even half: a butterfly and a rotation.
        let (outer, inner) = (s0 + s3, s1 + s2);
        let (wide, narrow) = (s0 - s3, s1 - s2);
        let turn = (wide + narrow) * constant(0.541196100);
        out[0][x] = whole(outer + inner);
        out[4][x] = whole(outer - inner);
        out[2][x] = scaled(turn + wide * constant(0.765366865));
        out[6][x] = scaled(turn - narrow * constant(1.847759065));
        // The odd half.
        let ad = (a + d) * constant(0.899976223);
        let bc = (b + c) * constant(2.562915447);
        let all = (a + b + c + d) * constant(1.175875602);
        let ac = all - (a + c) * constant(1.961570560);
        let bd = all - (b + d) * constant(0.390180644);
        out[7][x] = scaled(a * constant(0.298631336) - ad + ac);
        out[5][x] = scaled(b * constant(2.053119869) - bc + bd);
        out[3][x] = scaled(c * constant(3.072711026) - bc + ac);
        out[1][x] = scaled(d * constant(1.501321110) - ad + bd);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;
    use crate::{kernel::Level, random::Random};

    /// The definition, in double precision, unrounded.
    fn reference(samples: &[u8; 64]) -> [f64; 64] {
        std::array::from_fn(|at| {
            let (v, u) = ((at / 8) as f64, (at % 8) as f64);
            let scale = |k: f64| if k == 0.0 { 0.5f64.sqrt() } else { 1.0 };
            let terms = samples.iter().enumerate().map(|(i, &sample)| {
                let (y, x) = ((i / 8) as f64, (i % 8) as f64);
                (f64::from(sample) - 128.0)
                    * ((2.0 * x + 1.0) * u * PI / 16.0).cos()
                    * ((2.0 * y + 1.0) * v * PI / 16.0).cos()
            });
            terms.sum::<f64>() * scale(u) * scale(v) / 4.0
        })
    }

    #[test]
    fn coefficients_are_within_one_of_the_definition() {
        let mut random = Random::new(&[1]);
        for case in 0..300 {
            let contrast = [256, 40, 2][case % 3];
            let samples = std::array::from_fn(|_| match contrast {
                2 => 255 * random.below(2) as u8,
                _ => random.below(contrast) as u8,
            });
            let expected = reference(&samples);
            let table = std::array::from_fn(|i| [1, (i + 1) as u8, 255][case / 3 % 3]);
            for level in Level::available() {
                let mut coefficients = [0; 64];
                level.with(|| forward_row(&samples, 8, &Steps::new(&table), &mut coefficients));
                for (i, coefficient) in coefficients.iter().enumerate() {
                    let exact = expected[i] / f64::from(table[i]);
                    assert!((f64::from(*coefficient) - exact).abs() < 0.8, "{exact}");
                }
            }
        }
    }

    #[test]
    fn vectors_hold_the_plain_numbers() {
        let mut random = Random::new(&[2]);
        for case in 0..400 {
            let blocks = case % 5;
            // Few different values, the extremes among them, reach the ends of the 16 bits.
            let values = [2, 3, 256][case % 3];
            let samples: Vec<u8> = (0..64 * blocks)
                .map(|_| (random.below(values) * 255 / (values - 1)) as u8)
                .collect();
            let table = std::array::from_fn(|_| 1 + random.below(255) as u8);
            let steps = Steps::new(&[table, [1; 64]][case / 3 % 2]);
            let mut expected = vec![0; 64 * blocks];
            row(&samples, 8 * blocks, &steps, &mut expected);
            for level in Level::available() {
                let mut coefficients = vec![0; 64 * blocks];
                level.with(|| forward_row(&samples, 8 * blocks, &steps, &mut coefficients));
                assert!(coefficients == expected, "{blocks} blocks, {level:?}");
            }
        }
    }

    #[test]
    fn quotients_are_rounded_to_nearest() {
        for step in 1..=255u8 {
            let steps = Steps::new(&[step; 64]);
            let mut out = [0; 64];
            for start in (-9000..9000i16).step_by(64) {
                let words: [i16; 64] = std::array::from_fn(|i| start + i as i16);
                quantize(&words, &steps, &mut out);
                for (word, quotient) in words.into_iter().zip(out) {
                    let exact = f64::from(word) / (8.0 * f64::from(step));
                    // `round` takes halves away from zero.
                    assert_eq!(f64::from(quotient), exact.round(), "{word} / 8 / {step}");
                }
            }
        }
    }
}
