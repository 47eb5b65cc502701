//! Dropout masks of wide tensors: sixteen random bits for each number, the same on every instruction set.
//!
//! A mask is a function of a key, the row's place in the batch and the column, so it is worked out again in backward
//! instead of being kept. The hash is on 32 bits, as vectors multiply those fast, and gives two columns at once; the
//! loops are plain so that the compiler turns them into the vectors of whichever level they are compiled for.

/// The dropout of one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    key: u64,
    /// Of 65536 equally likely values, those below drop.
    bound: u32,
    /// What the others are multiplied by.
    scale: f32,
}

/// The odd number nearest to 2³² divided by the golden ratio.
const GOLDEN: u32 = 0x9E37_79B9;

impl Mask {
    /// The mask of `key` that zeroes numbers with probability `p`, rounded to a 65536th; none where that is 0.
    pub fn new(key: u64, p: f32) -> Option<Self> {
        let bound = (f64::from(p) * 65536.0).round() as u32;
        let scale = (65536.0 / (65536.0 - f64::from(bound))) as f32;
        (bound > 0).then_some(Self { key, bound, scale })
    }

    /// The factors of a row, each 0 or the inverse of the probability of staying.
    #[inline(always)]
    pub fn fill(&self, row: u64, factors: &mut [f32]) {
        // Two words of the row's own: one starts its counter, the other separates rows whose counters meet.
        let mut seed = self.key ^ row.wrapping_mul(0xD1B5_4A32_D192_ED03);
        seed = (seed ^ (seed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        seed = (seed ^ (seed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        seed ^= seed >> 32;
        let (start, second) = (seed as u32, (seed >> 32) as u32);
        let factor = |bits: u32| if bits < self.bound { 0.0 } else { self.scale };
        let half = factors.len().div_ceil(2);
        let (low, high) = factors.split_at_mut(half);
        let odd = low.len() - high.len();
        let pairs = half - odd;
        let low = &mut low[..half];
        let high = &mut high[..pairs];
        let hash = |column: u32| {
            let mut x = column.wrapping_mul(GOLDEN).wrapping_add(start);
            x = (x ^ (x >> 16))
                .wrapping_mul(0x7FEB_352D)
                .wrapping_add(second);
            x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
            x ^ (x >> 16)
        };
        for i in 0..pairs {
            let bits = hash(i as u32);
            low[i] = factor(bits & 0xFFFF);
            high[i] = factor(bits >> 16);
        }
        if odd == 1 {
            low[pairs] = factor(hash(pairs as u32) & 0xFFFF);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(key: u64, p: f32, count: usize, width: usize) -> Vec<f32> {
        let mask = Mask::new(key, p).unwrap();
        let mut all = vec![7.0; count * width];
        for (row, factors) in all.chunks_mut(width).enumerate() {
            mask.fill(row as u64, factors);
        }
        all
    }

    #[test]
    fn drops_the_right_share_and_keeps_the_mean() {
        for (p, width) in [(0.1f32, 192), (0.5, 7), (0.25, 1)] {
            let count = 400_000 / width;
            let all = rows(3, p, count, width);
            let n = all.len() as f64;
            let zeros = all.iter().filter(|f| **f == 0.0).count() as f64;
            let deviation = (f64::from(p) * (1.0 - f64::from(p)) * n).sqrt();
            assert!(
                (zeros - f64::from(p) * n).abs() < 4.0 * deviation,
                "{zeros}"
            );
            let mean = all.iter().map(|f| f64::from(*f)).sum::<f64>() / n;
            assert!((mean - 1.0).abs() < 5.0 * deviation / n / (1.0 - f64::from(p)));
        }
    }

    #[test]
    fn columns_rows_and_keys_are_independent() {
        // Correlations of neighbours, of the two halves of a row, of rows and of keys, each of 400,000 pairs.
        let (count, width) = (2000, 200);
        let (a, b) = (rows(1, 0.5, count, width), rows(2, 0.5, count, width));
        let correlation = |shift: usize, other: &[f32]| {
            let n = a.len() - shift;
            let sum: f64 = (0..n)
                .map(|i| f64::from(a[i] - 1.0) * f64::from(other[i + shift] - 1.0))
                .sum();
            sum / n as f64
        };
        for shift in [1, 2, 100, 200, 201, 400] {
            assert!(correlation(shift, &a).abs() < 0.008, "{shift}");
        }
        assert!(correlation(0, &b).abs() < 0.008);
        assert!((correlation(0, &a) - 1.0).abs() < 0.01);
    }

    #[test]
    fn nothing_drops_at_probability_0() {
        assert_eq!(Mask::new(5, 0.0), None);
    }
}
