//! Chroma samples brought to the size of the picture.
//!
//! Factors of two are interpolated by a triangle filter, three parts of the nearer sample and one of the farther. The
//! rounding alternates from sample to sample, so that it does not drift; which one rounds up is libjpeg's choice.
//! Neighbours beyond the edge are the edge itself.

use crate::kernel::dispatch_narrow;

dispatch_narrow! {
    /// Doubles a row in width: `[n]` to `[2 n]`.
    pub fn double_width(row: &[u8], out: &mut [u8]) = width;
}

dispatch_narrow! {
    /// Mixes a row with the `other` one, nearer to the upper edge (`bias` 1) or the lower one (`bias` 2).
    pub fn mix_rows(row: &[u8], other: &[u8], bias: u16, out: &mut [u8]) = mix;
}

dispatch_narrow! {
    /// Doubles a row in width after mixing it with the `other` one; `sums` is scratch.
    pub fn double_both(row: &[u8], other: &[u8], sums: &mut Vec<u16>, out: &mut [u8]) = both;
}

/// Repeats every sample `factor` times.
pub(super) fn repeat(row: &[u8], factor: usize, out: &mut [u8]) {
    for (out, &value) in out.chunks_exact_mut(factor).zip(row) {
        out.fill(value);
    }
}

#[inline(always)]
fn width(row: &[u8], out: &mut [u8]) {
    let n = row.len();
    let (pairs, _) = out.as_chunks_mut::<2>();
    let pairs = &mut pairs[..n];
    let mixed =
        |near: u8, far: u8, bias: u16| ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
    pairs[0] = [row[0], mixed(row[0], row[1.min(n - 1)], 2)];
    for (pair, around) in pairs[1..].iter_mut().zip(row.windows(3)) {
        *pair = [
            mixed(around[1], around[0], 1),
            mixed(around[1], around[2], 2),
        ];
    }
    pairs[n - 1] = [mixed(row[n - 1], row[n.max(2) - 2], 1), row[n - 1]];
}

#[inline(always)]
fn mix(row: &[u8], other: &[u8], bias: u16, out: &mut [u8]) {
    for ((out, &near), &far) in out.iter_mut().zip(row).zip(other) {
        *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
    }
}

#[inline(always)]
fn both(row: &[u8], other: &[u8], sums: &mut Vec<u16>, out: &mut [u8]) {
    let n = row.len();
    sums.resize(n + 2, 0);
    let sums = &mut sums[..n + 2];
    for ((sum, &near), &far) in sums[1..=n].iter_mut().zip(row).zip(other) {
        *sum = 3 * u16::from(near) + u16::from(far);
    }
    sums[0] = sums[1];
    sums[n + 1] = sums[n];
    let (pairs, _) = out.as_chunks_mut::<2>();
    for (pair, around) in pairs[..n].iter_mut().zip(sums.windows(3)) {
        let near = 3 * around[1];
        *pair = [
            ((near + around[0] + 8) >> 4) as u8,
            ((near + around[2] + 7) >> 4) as u8,
        ];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Level;

    #[test]
    fn rows_are_interpolated_as_by_hand() {
        let mut out = [0; 6];
        double_width(&[10, 20, 40], &mut out);
        // (30 + 20 + 2) / 4, (60 + 10 + 1) / 4, (60 + 40 + 2) / 4, (120 + 20 + 1) / 4
        assert_eq!(out, [10, 13, 17, 25, 35, 40]);
        let mut out = [0; 3];
        mix_rows(&[10, 20, 40], &[11, 22, 255], 1, &mut out);
        assert_eq!(out, [10, 20, 94]);
        mix_rows(&[10, 20, 40], &[11, 22, 255], 2, &mut out);
        assert_eq!(out, [10, 21, 94]);
        let mut out = [0; 6];
        // Sums 40, 80, 160.
        double_both(&[10, 20, 40], &[10, 20, 40], &mut Vec::new(), &mut out);
        assert_eq!(out, [10, 12, 18, 25, 35, 40]);
        let mut out = [0; 6];
        repeat(&[1, 2], 3, &mut out);
        assert_eq!(out, [1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn all_levels_agree() {
        let row: Vec<u8> = (0..301u32).map(|i| (i * i % 251) as u8).collect();
        let other: Vec<u8> = (0..301u32).map(|i| (i * 97 % 256) as u8).collect();
        for n in [1, 2, 3, 17, 300, 301] {
            let results: Vec<_> = Level::available()
                .into_iter()
                .map(|level| {
                    level.with(|| {
                        let mut outs = vec![vec![0; 2 * n]; 3];
                        double_width(&row[..n], &mut outs[0]);
                        mix_rows(&row[..n], &other[..n], 2, &mut outs[1]);
                        double_both(&row[..n], &other[..n], &mut Vec::new(), &mut outs[2]);
                        outs
                    })
                })
                .collect();
            assert!(results.iter().all(|result| *result == results[0]));
        }
    }
}
