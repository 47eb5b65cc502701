//! The vector code of t-SNE: what many points of a map do to one.
//!
//! With d = the difference of two places and n = 1 / (1 + |d|²), a point is pulled by the sum of w·n·d and pushed by the sum
//! of m·n²·d; the sum of m·n is its part of the normalisation. Single precision, sixteen partial sums at most; the point
//! itself takes part with d = 0 and n = 1, which its caller subtracts. [`gaussian`] is the work of the perplexity search, in
//! double precision, as its tolerance asks for.
//!
//! Lists are padded to a multiple of [`PAD`] with points of weight zero at [`FAR`], so that no vector is cut.

use smallfry_nn::kernel::{
    Level,
    simd::{Kernel, Simd},
};

/// Lengths of lists are multiples of it; a multiple of the lanes of every level.
pub(super) const PAD: usize = 16;

/// Where padding stands: so far away that it does nothing, and its distance still has a square.
pub(super) const FAR: f32 = 1e18;

/// Places of points, padded.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    /// To the right.
    pub x: &'a [f32],
    /// Upwards.
    pub y: &'a [f32],
}

/// What many points do to one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// The sum of m·n.
    pub total: f32,
    /// The sum of w·n·d.
    pub pull: [f32; 2],
    /// The sum of m·n²·d.
    pub push: [f32; 2],
}

/// Pull by `weights` and push by masses of one, in one sweep.
///
/// # Panics
/// If the lists differ in length or are not padded.
pub(super) fn both(level: Level, places: Places<'_>, weights: &[f32], at: [f32; 2]) -> Sums {
    run::<true, true>(level, places, weights, at)
}

/// Pull by `weights` alone.
///
/// # Panics
/// As [`both`].
pub(super) fn pull(level: Level, places: Places<'_>, weights: &[f32], at: [f32; 2]) -> [f32; 2] {
    run::<true, false>(level, places, weights, at).pull
}

/// Push by `masses` alone.
///
/// # Panics
/// As [`both`].
pub(super) fn push(level: Level, places: Places<'_>, masses: &[f32], at: [f32; 2]) -> Sums {
    run::<false, true>(level, places, masses, at)
}

fn run<const PULL: bool, const PUSH: bool>(
    level: Level,
    places: Places<'_>,
    weights: &[f32],
    at: [f32; 2],
) -> Sums {
    let length = weights.len();
    assert!(length.is_multiple_of(PAD) && places.x.len() == length && places.y.len() == length);
    // SAFETY: the lengths were checked, and every level's lanes divide them.
    unsafe {
        level.run(Around::<PULL, PUSH> {
            places,
            weights,
            at,
        })
    }
}

struct Around<'a, const PULL: bool, const PUSH: bool> {
    places: Places<'a>,
    weights: &'a [f32],
    at: [f32; 2],
}

impl<const PULL: bool, const PUSH: bool> Kernel for Around<'_, PULL, PUSH> {
    type Output = Sums;

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) -> Sums {
        let (at_x, at_y) = (s.splat(self.at[0]), s.splat(self.at[1]));
        let one = s.splat(1.0);
        let mut total = s.zero();
        let mut pull = [s.zero(); 2];
        let mut push = [s.zero(); 2];
        for i in (0..self.weights.len()).step_by(S::LANES) {
            // SAFETY: the caller promises three lists of this length, a multiple of the lanes.
            let (x, y, weight) = unsafe {
                (
                    s.load(self.places.x.as_ptr().add(i)),
                    s.load(self.places.y.as_ptr().add(i)),
                    s.load(self.weights.as_ptr().add(i)),
                )
            };
            let (x, y) = (s.sub(at_x, x), s.sub(at_y, y));
            let near = s.reciprocal(s.fmadd(x, x, s.fmadd(y, y, one)));
            let weighted = s.mul(weight, near);
            if PULL {
                pull = [s.fmadd(weighted, x, pull[0]), s.fmadd(weighted, y, pull[1])];
            }
            if PUSH {
                // With pull, weights are the pull's, and masses are one.
                let mass = if PULL { near } else { weighted };
                let square = s.mul(mass, near);
                total = s.add(total, mass);
                push = [s.fmadd(square, x, push[0]), s.fmadd(square, y, push[1])];
            }
        }
        Sums {
            total: sum(s, total),
            pull: pull.map(|v| sum(s, v)),
            push: push.map(|v| sum(s, v)),
        }
    }
}

/// The lanes of a vector, added in pairs.
#[inline(always)]
fn sum<S: Simd>(s: S, v: S::Vector) -> f32 {
    let mut lanes = [0.0f32; PAD];
    // SAFETY: no vector has more lanes.
    unsafe { s.store(lanes.as_mut_ptr(), v) };
    let mut count = S::LANES;
    while count > 1 {
        count /= 2;
        for i in 0..count {
            lanes[i] += lanes[i + count];
        }
    }
    lanes[0]
}

/// The sum of exp(−precision · (d − nearest)) over `distances` d, and that of (d − nearest) times it.
pub(super) fn gaussian(
    level: Level,
    distances: &[f64],
    nearest: f64,
    precision: f64,
) -> (f64, f64) {
    // SAFETY: the kernel takes no pointer.
    unsafe {
        level.run(Gaussian {
            distances,
            nearest,
            precision,
        })
    }
}

/// Partial sums of [`Gaussian`].
const SUMS: usize = 8;

struct Gaussian<'a> {
    distances: &'a [f64],
    nearest: f64,
    precision: f64,
}

impl Kernel for Gaussian<'_> {
    type Output = (f64, f64);

    /// Plain code on doubles, which the compiler turns into vectors of the level. It has no fused operations, so all
    /// levels give the same bits.
    #[inline(always)]
    unsafe fn run<S: Simd>(self, _: S) -> (f64, f64) {
        let (mut sums, mut moments) = ([0.0; SUMS], [0.0; SUMS]);
        let mut add = |i: usize, distance: f64| {
            let distance = distance - self.nearest;
            let near = exp(-self.precision * distance);
            sums[i] += near;
            moments[i] += distance * near;
        };
        let groups = self.distances.chunks_exact(SUMS);
        let rest = groups.remainder();
        for group in groups {
            for (i, &distance) in group.iter().enumerate() {
                add(i, distance);
            }
        }
        for (i, &distance) in rest.iter().enumerate() {
            add(i, distance);
        }
        (sums.iter().sum(), moments.iter().sum())
    }
}

/// e to the power of `x`, at most 0, to some 10⁻¹⁶ relative; 10⁻³⁰⁴ for what is less than that.
#[inline(always)]
fn exp(x: f64) -> f64 {
    /// Adding it leaves the nearest integer in the last bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    /// ln 2 in two parts, of which the first has so few bits that its multiples are exact.
    const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    let x = x.max(-700.0);
    let rounded = x * std::f64::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    // Taylor's series: |r| is at most half of ln 2.
    let mut p = 1.0 / 6_227_020_800.0;
    for factorial in [
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
        1.0,
        1.0,
    ] {
        p = p * r + 1.0 / factorial;
    }
    // n goes into the exponent.
    f64::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 52))
}

#[cfg(test)]
mod tests {
    use smallfry_data::random::Random;

    use super::*;

    #[test]
    fn the_exponential_is_exact_to_double_precision() {
        for i in 0..200_000 {
            let x = -f64::from(i) * 0.003_497;
            let (found, expected) = (exp(x), x.exp());
            assert!((found - expected).abs() <= 5e-16 * expected, "{x}: {found}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) < 1e-300 && exp(f64::NEG_INFINITY) < 1e-300);
    }

    #[test]
    fn sums_of_a_gaussian_are_the_same_on_every_level() {
        let mut random = Random::new(&[2]);
        let distances: Vec<f64> = (0..203).map(|_| 0.25 + 4.0 * random.unit()).collect();
        let near = |d: &f64| (-3.0 * (d - 0.25)).exp();
        let sum: f64 = distances.iter().map(near).sum();
        let moment: f64 = distances.iter().map(|d| (d - 0.25) * near(d)).sum();
        let mut all = Level::available().map(|level| gaussian(level, &distances, 0.25, 3.0));
        let first = all.next().unwrap();
        assert!((first.0 / sum - 1.0).abs() < 1e-14 && (first.1 / moment - 1.0).abs() < 1e-14);
        assert!(all.all(|found| found == first));
    }

    #[test]
    fn every_level_agrees_with_double_precision() {
        let mut random = Random::new(&[1]);
        let mut draw = |count: usize, scale: f64| -> Vec<f32> {
            (0..count)
                .map(|_| (scale * random.normal()) as f32)
                .collect()
        };
        let (mut x, mut y) = (draw(300, 20.0), draw(300, 20.0));
        let mut weights: Vec<f32> = draw(300, 1.0).iter().map(|v| v.abs()).collect();
        x.resize(304, FAR);
        y.resize(304, FAR);
        weights.resize(304, 0.0);
        let at = [3.0f32, -4.0];
        let mut expected = [0.0f64; 8];
        for i in 0..300 {
            let dx = f64::from(at[0]) - f64::from(x[i]);
            let dy = f64::from(at[1]) - f64::from(y[i]);
            let near = 1.0 / (1.0 + dx * dx + dy * dy);
            let weight = f64::from(weights[i]);
            for (sum, term) in expected.iter_mut().zip([
                near,
                weight * near * dx,
                weight * near * dy,
                near * near * dx,
                near * near * dy,
                weight * near,
                weight * near * near * dx,
                weight * near * near * dy,
            ]) {
                *sum += term;
            }
        }
        for level in Level::available() {
            let places = Places { x: &x, y: &y };
            let a = both(level, places, &weights, at);
            let b = push(level, places, &weights, at);
            let found = [
                a.total, a.pull[0], a.pull[1], a.push[0], a.push[1], b.total, b.push[0], b.push[1],
            ];
            for (found, expected) in found.iter().zip(expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(
                    error < 1e-5 * expected.abs().max(1.0),
                    "{level}: {found} {expected}"
                );
            }
            assert_eq!(pull(level, places, &weights, at), a.pull, "{level}");
        }
    }
}
