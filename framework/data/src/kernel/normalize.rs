//! Bytes to normalised floats.

use super::dispatch;

/// What each byte of each channel becomes, `[channel][byte]`.
pub type Table = [[f32; 256]; 3];

/// Division by a constant as a multiplication and one correction step.
///
/// The correction makes the quotient the correctly rounded one for all but a few divisors, which
/// [`crate::normalize::Normalization`] finds by trying all 768 inputs.
#[derive(Clone, Copy, Debug)]
pub struct Divisor {
    /// The divisor.
    pub value: f32,
    /// One over it, rounded.
    pub inverse: f32,
}

impl Divisor {
    /// Prepares a division by `value`.
    pub fn new(value: f32) -> Self {
        Self {
            value,
            inverse: 1.0 / value,
        }
    }

    /// `x` divided by the divisor.
    #[inline(always)]
    pub fn divide(self, x: f32) -> f32 {
        let quotient = x * self.inverse;
        let rest = (-self.value).mul_add(quotient, x);
        rest.mul_add(self.inverse, quotient)
    }
}

/// `(byte / 255 - mean) / deviation` by corrected multiplications.
#[inline(always)]
pub fn normalized(byte: u8, full: Divisor, mean: f32, deviation: Divisor) -> f32 {
    deviation.divide(full.divide(f32::from(byte)) - mean)
}

dispatch! {
    /// Writes the normalised values of interleaved pixels, arithmetic being as good as the table for these constants.
    pub fn compute(pixels: &[u8], out: &mut [f32], mean: &[f32; 3], deviation: &[Divisor; 3]) = compute_body;
}

/// Bytes of a block: whole pixels and whole vectors.
const BLOCK: usize = 48;

#[inline(always)]
fn compute_body(pixels: &[u8], out: &mut [f32], mean: &[f32; 3], deviation: &[Divisor; 3]) {
    let full = Divisor::new(255.0);
    let means: [f32; BLOCK] = std::array::from_fn(|i| mean[i % 3]);
    let values: [f32; BLOCK] = std::array::from_fn(|i| deviation[i % 3].value);
    let inverses: [f32; BLOCK] = std::array::from_fn(|i| deviation[i % 3].inverse);
    let (chunks, outs) = (pixels.chunks_exact(BLOCK), out.chunks_exact_mut(BLOCK));
    let done = pixels.len() / BLOCK * BLOCK;
    for (chunk, out) in chunks.zip(outs) {
        for i in 0..BLOCK {
            let divisor = Divisor {
                value: values[i],
                inverse: inverses[i],
            };
            out[i] = normalized(chunk[i], full, means[i], divisor);
        }
    }
    for i in done..pixels.len() {
        out[i] = normalized(pixels[i], full, mean[i % 3], deviation[i % 3]);
    }
}

/// Writes the values that `table` has for interleaved pixels.
pub fn look_up(pixels: &[u8], out: &mut [f32], table: &Table) {
    for (pixel, out) in pixels.chunks_exact(3).zip(out.chunks_exact_mut(3)) {
        for c in 0..3 {
            out[c] = table[c][usize::from(pixel[c])];
        }
    }
}
