//! What a core can multiply and add at most: the ceiling that kernels are measured against.

use super::simd::{Kernel, Level, Simd};

/// Chains of dependent operations; enough to fill the pipelines of two units, few enough for the registers of AVX2.
const CHAINS: usize = 12;

/// Does `rounds` rounds of independent multiply-adds in registers; returns how many multiply-adds of single numbers that
/// was, and a number that depends on all of them.
pub fn multiply_adds(level: Level, rounds: usize) -> (usize, f32) {
    // SAFETY: the kernel takes no pointer.
    unsafe { level.run(Chains { rounds }) }
}

struct Chains {
    rounds: usize,
}

impl Kernel for Chains {
    type Output = (usize, f32);

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) -> Self::Output {
        let (a, b) = (s.splat(std::hint::black_box(0.999)), s.splat(1e-3));
        let mut sums = [s.zero(); CHAINS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = s.fmadd(*sum, a, b);
            }
        }
        let mut total = s.zero();
        for sum in sums {
            total = s.add(total, sum);
        }
        let mut lanes = [0.0; 64];
        assert!(S::LANES <= lanes.len());
        // SAFETY: there is room for a vector.
        unsafe { s.store(lanes.as_mut_ptr(), total) };
        (self.rounds * CHAINS * S::LANES, lanes.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_does_what_it_counts() {
        for level in Level::available() {
            let (count, sum) = multiply_adds(level, 1);
            // One round leaves 1e-3 in every lane.
            assert!(
                (sum - 1e-3 * count as f32).abs() < 1e-6 * count as f32,
                "{level}"
            );
            let (count, sum) = multiply_adds(level, 100_000);
            // The fixed point of x = 0.999 x + 0.001.
            let lanes = (count / 100_000) as f32;
            assert!((sum / lanes - 1.0).abs() < 1e-3, "{level}: {sum}");
        }
    }
}
