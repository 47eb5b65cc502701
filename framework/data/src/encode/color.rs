//! Luma and colour differences of rows of pixels, and the mean of two by two colour differences.

use crate::kernel::dispatch;

/// Pixels converted at a time.
const BLOCK: usize = 64;

/// Fraction bits of the weights.
const FRACTION: u32 = 16;

/// A half, for rounding.
const HALF: i32 = 1 << (FRACTION - 1);

dispatch! {
    /// Takes a row of pixels, `[width, 3]`, apart into luma and the two colour differences, `[width]` each.
    pub fn convert(pixels: &[u8], luma: &mut [u8], blue: &mut [u8], red: &mut [u8]) = convert_row;
}

#[inline(always)]
fn convert_row(pixels: &[u8], luma: &mut [u8], blue: &mut [u8], red: &mut [u8]) {
    let n = pixels.len() / 3;
    let (luma, blue, red) = (&mut luma[..n], &mut blue[..n], &mut red[..n]);
    let whole = n / BLOCK * BLOCK;
    for at in (0..whole).step_by(BLOCK) {
        let block: &[u8; 3 * BLOCK] = pixels[3 * at..][..3 * BLOCK]
            .try_into()
            .expect("the slice has this length");
        let [y, cb, cr] = convert_block(block);
        luma[at..][..BLOCK].copy_from_slice(&y);
        blue[at..][..BLOCK].copy_from_slice(&cb);
        red[at..][..BLOCK].copy_from_slice(&cr);
    }
    let rest = n - whole;
    if rest > 0 {
        let mut block = [0; 3 * BLOCK];
        block[..3 * rest].copy_from_slice(&pixels[3 * whole..3 * n]);
        let [y, cb, cr] = convert_block(&block);
        luma[whole..].copy_from_slice(&y[..rest]);
        blue[whole..].copy_from_slice(&cb[..rest]);
        red[whole..].copy_from_slice(&cr[..rest]);
    }
}

#[inline(always)]
fn convert_block(pixels: &[u8; 3 * BLOCK]) -> [[u8; BLOCK]; 3] {
    let (mut r, mut g, mut b) = ([0u8; BLOCK], [0u8; BLOCK], [0u8; BLOCK]);
    for i in 0..BLOCK {
        r[i] = pixels[3 * i];
        g[i] = pixels[3 * i + 1];
        b[i] = pixels[3 * i + 2];
    }
    let mut out = [[0u8; BLOCK]; 3];
    for i in 0..BLOCK {
        let [r, g, b] = [r[i], g[i], b[i]].map(i32::from);
        // 0.299, 0.587, 0.114; then 0.168736, 0.331264, 0.5 and 0.5, 0.418688, 0.081312 about 128. The differences
        // round a half down, so that 255.5 stays a byte.
        let luma = 19595 * r + 38470 * g + 7471 * b + HALF;
        let blue = (128 << FRACTION) + HALF - 1 + (b << (FRACTION - 1)) - 11059 * r - 21709 * g;
        let red = (128 << FRACTION) + HALF - 1 + (r << (FRACTION - 1)) - 27439 * g - 5329 * b;
        out[0][i] = (luma >> FRACTION) as u8;
        out[1][i] = (blue >> FRACTION) as u8;
        out[2][i] = (red >> FRACTION) as u8;
    }
    out
}

dispatch! {
    /// Halves two rows of `2 * width` samples to one of `width`: sums of four get 1 and 2 in turn before they are divided.
    pub fn halve(upper: &[u8], lower: &[u8], out: &mut [u8]) = halve_rows;
}

#[inline(always)]
fn halve_rows(upper: &[u8], lower: &[u8], out: &mut [u8]) {
    let (upper, lower) = (upper.as_chunks::<2>().0, lower.as_chunks::<2>().0);
    for (x, ((out, upper), lower)) in out.iter_mut().zip(upper).zip(lower).enumerate() {
        let sum = [upper[0], upper[1], lower[0], lower[1]].map(u16::from);
        let sum = sum[0] + sum[1] + sum[2] + sum[3];
        *out = ((sum + 1 + (x as u16 & 1)) >> 2) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Level;

    /// All triples of some values, against floating point.
    #[test]
    fn conversion_is_within_one_of_the_definition() {
        let steps: Vec<u8> = (0..=255).step_by(15).collect();
        let n = steps.len();
        let pixels: Vec<u8> = (0..n * n * n)
            .flat_map(|i| [steps[i % n], steps[i / n % n], steps[i / n / n]])
            .collect();
        for level in Level::available() {
            let [mut luma, mut blue, mut red] = [0; 3].map(|fill| vec![fill; n * n * n]);
            level.with(|| convert(&pixels, &mut luma, &mut blue, &mut red));
            for (i, pixel) in pixels.as_chunks::<3>().0.iter().enumerate() {
                let [r, g, b] = pixel.map(f64::from);
                let y = 0.299 * r + 0.587 * g + 0.114 * b;
                let exact = [y, 128.0 + (b - y) / 1.772, 128.0 + (r - y) / 1.402];
                for (value, exact) in [luma[i], blue[i], red[i]].into_iter().zip(exact) {
                    assert!((f64::from(value) - exact).abs() < 0.51, "{pixel:?}");
                }
            }
        }
    }

    #[test]
    fn means_round_up_and_down_in_turn() {
        let (upper, lower) = ([1, 0, 1, 0, 1, 1, 1, 1], [0, 1, 0, 1, 1, 0, 1, 0]);
        let mut out = [9; 5];
        halve(&upper, &lower, &mut out[..4]);
        // Sums of 2, 2, 3 and 3.
        assert_eq!(out, [0, 1, 1, 1, 9]);
        for level in Level::available() {
            let rows: Vec<u8> = (0..400u32).map(|i| (i * i % 256) as u8).collect();
            let mut out = [0; 100];
            level.with(|| halve(&rows[..200], &rows[200..], &mut out));
            for (x, &mean) in out.iter().enumerate() {
                let sum: u32 = [0, 1, 200, 201]
                    .map(|i| u32::from(rows[2 * x + i]))
                    .iter()
                    .sum();
                assert_eq!(u32::from(mean), (sum + 1 + x as u32 % 2) / 4);
            }
        }
    }
}
