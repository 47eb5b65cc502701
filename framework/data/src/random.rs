//! Counter-based random numbers: any sample's stream can be had without drawing the ones before it.
//!
//! A stream is fixed by a key of integers, such as `[seed, epoch, sample, view, operation]`; what other threads draw,
//! or what was drawn before a restart, never matters.

/// A stream of random numbers, fixed by the key it was made from.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of a key, such as `[seed, epoch, sample, view, operation]`.
    pub fn new(key: &[u64]) -> Self {
        let mut state = 0x243F_6A88_85A3_08D3;
        for &part in key {
            state = mix(state ^ part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        }
        Self { state }
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [low, high); `low` where the two are equal.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A uniform integer in `0..n`, without bias.
    ///
    /// # Panics
    /// `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "there is no number below 0");
        // The high half of a 128-bit product; the few low halves that would come up once too often are drawn again.
        let unfair = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.bits()) * u128::from(n);
            if product as u64 >= unfair {
                return (product >> 64) as u64;
            }
        }
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Normal with mean 0 and variance 1, by the Box-Muller transform.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Puts the elements into a uniformly random order.
    pub fn shuffle<T>(&mut self, elements: &mut [T]) {
        for last in (1..elements.len()).rev() {
            elements.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// A uniformly random order of `0..n`.
    ///
    /// # Panics
    /// `n` is more than 2^32.
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n)
            .map(|i| u32::try_from(i).expect("a data set has at most 2^32 samples"))
            .collect();
        self.shuffle(&mut order);
        order
    }
}

/// The finaliser of splitmix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_key_matters() {
        let first = |key: &[u64]| Random::new(key).bits();
        let keys: [&[u64]; 7] = [
            &[0, 0, 0],
            &[1, 0, 0],
            &[0, 1, 0],
            &[0, 0, 1],
            &[0, 0],
            &[0],
            &[],
        ];
        let draws: std::collections::HashSet<_> = keys.iter().map(|key| first(key)).collect();
        assert_eq!(draws.len(), keys.len());
        assert_eq!(first(&[4, 2]), first(&[4, 2]));
    }

    #[test]
    fn a_permutation_holds_every_number_once() {
        for n in [0, 1, 2, 1000] {
            let mut order = Random::new(&[n as u64]).permutation(n);
            order.sort_unstable();
            assert!(order.iter().copied().eq(0..n as u32));
        }
    }

    /// All 24 orders of four elements come equally often: chi squared with 23 degrees of freedom.
    #[test]
    fn permutations_are_uniform() {
        let mut counts = std::collections::HashMap::new();
        let draws = 24_000;
        for i in 0..draws {
            *counts
                .entry(Random::new(&[7, i]).permutation(4))
                .or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let expected = draws as f64 / 24.0;
        let chi: f64 = counts
            .values()
            .map(|&n| (f64::from(n) - expected).powi(2) / expected)
            .sum();
        assert!(chi < 50.0, "chi squared {chi}");
    }

    #[test]
    fn draws_have_the_moments_of_their_distribution() {
        let mut random = Random::new(&[11]);
        let n = 100_000;
        let mean = |draw: &mut dyn FnMut() -> f64| (0..n).map(|_| draw()).sum::<f64>() / n as f64;
        let tolerance = 5.0 / (n as f64).sqrt();
        assert!(mean(&mut || random.normal()).abs() < tolerance);
        assert!((mean(&mut || random.normal().powi(2)) - 1.0).abs() < 2.0 * tolerance);
        assert!((mean(&mut || f64::from(random.chance(0.3))) - 0.3).abs() < tolerance);
        assert!((mean(&mut || random.below(6) as f64) - 2.5).abs() < 2.0 * tolerance);
        assert!((mean(&mut || random.uniform(-1.0, 3.0)) - 1.0).abs() < 2.0 * tolerance);
    }
}
