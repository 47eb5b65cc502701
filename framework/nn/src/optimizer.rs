//! Fused passes over the parameter arena.
//!
//! A step reads and writes every array once. The arrays are cut into fixed chunks that all threads share; as elements do
//! not depend on each other, the cut does not show in the result. Where they do, in norms, the chunks' sums are added in
//! order.

mod adamw;
mod lars;
mod sgd;

use std::ops::Range;

use rayon::prelude::*;

use crate::parameter::Parameters;

pub use adamw::AdamW;
pub use lars::Lars;
pub use sgd::Sgd;

/// Elements of a chunk: three arrays of it fit into the second-level cache.
const CHUNK: usize = 1 << 15;

/// The chunks of `slice` within `ranges`, which ascend and do not overlap: one list for all threads to share, however
/// small the tensors are.
fn cut<'a>(mut slice: &'a mut [f32], ranges: &[Range<usize>]) -> Vec<&'a mut [f32]> {
    let (mut chunks, mut at) = (Vec::new(), 0);
    for range in ranges {
        let (_, rest) = std::mem::take(&mut slice).split_at_mut(range.start - at);
        let (part, rest) = rest.split_at_mut(range.len());
        chunks.extend(part.chunks_mut(CHUNK));
        (slice, at) = (rest, range.end);
    }
    chunks
}

/// The chunks of `slice` within `ranges`, as [`cut`] cuts them.
fn pieces<'a>(slice: &'a [f32], ranges: &[Range<usize>]) -> Vec<&'a [f32]> {
    let parts = ranges.iter().map(|range| &slice[range.clone()]);
    parts.flat_map(|part| part.chunks(CHUNK)).collect()
}

/// The sum of squares of the gradients of the trained tensors. Not finite exactly where a gradient is not.
pub fn gradient_squares(parameters: &Parameters) -> f64 {
    let pieces = pieces(parameters.gradients(), &parameters.trained_ranges());
    let sums: Vec<f64> = pieces.into_par_iter().map(squares).collect();
    sums.iter().sum()
}

/// The sum of squares of some numbers, each squared in double precision, where no single one overflows.
fn squares(values: &[f32]) -> f64 {
    // Eight sums at once, as vector units add.
    let mut sums = [0.0; 8];
    let (whole, rest) = values.as_chunks::<8>();
    for values in whole {
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        *sum += f64::from(value) * f64::from(value);
    }
    sums.iter().sum()
}

/// Multiplies every gradient by `factor`.
pub fn scale_gradients(parameters: &mut Parameters, factor: f32) {
    let (_, gradients) = parameters.values_and_gradients_mut();
    gradients
        .par_chunks_mut(CHUNK)
        .for_each(|chunk| chunk.iter_mut().for_each(|gradient| *gradient *= factor));
}

/// Moves every value of `target` towards that of `source`: t ← momentum · t + (1 − momentum) · s. Statistics and counters
/// stay: a momentum encoder keeps its own.
///
/// # Panics
/// If the two differ in layout.
pub fn average(target: &mut Parameters, source: &Parameters, momentum: f64) {
    assert!(
        target.specs().len() == source.specs().len()
            && target.values().len() == source.values().len(),
        "both are parameters of the same network"
    );
    // The rest is taken in double precision, as in the reference: 1 − 0.999 in single is off by 2 in 100,000.
    let (momentum, rest) = (momentum as f32, (1.0 - momentum) as f32);
    target
        .values_mut()
        .par_chunks_mut(CHUNK)
        .zip(source.values().par_chunks(CHUNK))
        .for_each(|(target, source)| {
            for (t, s) in target.iter_mut().zip(source) {
                *t = momentum * *t + rest * s;
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        init::Init,
        network::{Role, Spec},
    };

    /// Tensors of the given lengths and roles, filled with numbers that repeat nowhere near.
    pub(super) fn parameters(tensors: &[(usize, Role)]) -> Parameters {
        let specs = tensors.iter().enumerate().map(|(i, &(length, role))| Spec {
            name: format!("tensor{i}"),
            shape: vec![length],
            role,
            init: Init::Constant(0.0),
        });
        let mut parameters = Parameters::new(specs.collect());
        let (values, gradients) = parameters.values_and_gradients_mut();
        fill(values, 0.37, 1.0);
        fill(gradients, 0.71, 0.1);
        parameters
    }

    /// Numbers of about `size`.
    pub(super) fn fill(values: &mut [f32], frequency: f64, size: f64) {
        for (i, value) in values.iter_mut().enumerate() {
            *value = (size * (frequency * i as f64 + frequency).sin()) as f32;
        }
    }

    /// Whether single precision came within a few roundings of the double-precision `expected`.
    pub(super) fn assert_close(values: &[f32], expected: &[f64]) {
        assert_eq!(values.len(), expected.len());
        for (i, (value, expected)) in values.iter().zip(expected).enumerate() {
            let gap = (f64::from(*value) - expected).abs();
            assert!(
                gap <= 2e-6 * expected.abs().max(0.1),
                "{i}: {value} for {expected}"
            );
        }
    }

    #[test]
    fn chunks_cover_the_ranges_and_nothing_else() {
        let mut slice: Vec<f32> = vec![0.0; 3 * CHUNK];
        let ranges = [3..5, 5..6, CHUNK..2 * CHUNK + 7];
        let lengths: Vec<_> = pieces(&slice, &ranges).iter().map(|p| p.len()).collect();
        assert_eq!(lengths, [2, 1, CHUNK, 7]);
        for chunk in cut(&mut slice, &ranges) {
            chunk.iter_mut().for_each(|value| *value += 1.0);
        }
        for (i, value) in slice.iter().enumerate() {
            let inside = ranges.iter().any(|range| range.contains(&i));
            assert_eq!(*value, f32::from(u8::from(inside)), "{i}");
        }
    }

    #[test]
    fn the_norm_is_that_of_trained_tensors_and_never_overflows() {
        let mut p = parameters(&[(3, Role::Weight), (2, Role::Frozen), (2, Role::Weight)]);
        let set = |p: &mut Parameters, values: &[f32]| {
            p.values_and_gradients_mut().1.copy_from_slice(values);
        };
        set(&mut p, &[1.0, -2.0, 3.0, 100.0, f32::NAN, 4.0, -5.0]);
        assert_eq!(gradient_squares(&p), 55.0);
        set(&mut p, &[1e30, 0.0, 0.0, 0.0, 0.0, 0.0, 1e30]);
        assert!((gradient_squares(&p).sqrt() / (2f64.sqrt() * 1e30) - 1.0).abs() < 1e-6);
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            set(&mut p, &[1.0, 0.0, 0.0, 0.0, 0.0, wrong, 2.0]);
            assert!(!gradient_squares(&p).is_finite(), "{wrong}");
        }
    }

    #[test]
    fn the_norm_of_many_is_that_of_a_plain_sum() {
        let p = parameters(&[(2 * CHUNK + 5, Role::Weight), (9, Role::Weight)]);
        let plain = p
            .gradients()
            .iter()
            .map(|&g| f64::from(g).powi(2))
            .sum::<f64>();
        assert!((gradient_squares(&p) / plain - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_average_moves_values_only() {
        let mut target = parameters(&[(3, Role::Weight), (3, Role::Frozen)]);
        let mut source = target.clone();
        target.values_mut().fill(1.0);
        source.values_mut().fill(3.0);
        average(&mut target, &source, 0.75);
        assert_eq!(target.values(), [1.5; 6]);
        assert_eq!(target.gradients(), source.gradients());
    }
}
