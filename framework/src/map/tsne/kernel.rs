//! The vector code of t-SNE: what many points of a map do to one.
//!
//! With d = the difference of two places and n = 1 / (1 + |d|²), a point is pulled by the sum of w·n·d and pushed by the sum
//! of m·n²·d; the sum of m·n is its part of the normalisation. Single precision, sixteen partial sums at most; the point
//! itself takes part with d = 0 and n = 1, which its caller subtracts.
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

#[cfg(test)]
mod tests {
    use smallfry_data::random::Random;

    use super::*;

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
