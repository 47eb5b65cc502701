//! The fused operations against the composed ones, finite differences and closed forms.

use dfdx::{
    shapes::HasShape,
    tensor::{PutTape, SplitTape, Trace},
    tensor_ops::{Backward, SumTo},
};

use super::{HalfRows, composed, fused};
use crate::tensor::{Features, Plain, Traced, import, scalar, values};

/// Deterministic numbers in [−1, 1).
fn numbers(stream: u64, rows: usize, width: usize) -> Plain<Features> {
    let mut random = smallfry_data::random::Random::new(&[stream]);
    let values = (0..rows * width)
        .map(|_| (2.0 * random.unit() - 1.0) as f32)
        .collect();
    import(values, (rows, width))
}

fn unit_rows(stream: u64, rows: usize, width: usize) -> Plain<Features> {
    fused::normalise(numbers(stream, rows, width))
}

fn assert_close(a: &[f32], b: &[f32], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let error = norm(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let size = norm(&mut b.iter().map(|&b| f64::from(b)));
    assert!(error <= tolerance * size, "relative error {}", error / size);
}

/// Batches, widths and queue lengths around the kernel's vectors and chunks.
const SIZES: &[(usize, usize, usize)] = &[
    (1, 1, 1),
    (3, 5, 7),
    (16, 8, 512),
    (17, 33, 513),
    (32, 128, 1500),
    (65, 16, 2048),
];

#[test]
fn normalised_rows_have_length_one_and_the_composed_gradient() {
    for &(batch, width, _) in SIZES {
        let x = numbers(1, batch, width);
        let weights = numbers(2, batch, width);
        let (fused, composed) = (
            fused::normalise(x.leaky_trace()),
            composed::normalise(x.leaky_trace()),
        );
        for row in values(&fused).chunks(width) {
            let length: f64 = row.iter().map(|&v| f64::from(v).powi(2)).sum();
            assert!((length - 1.0).abs() < 1e-6);
        }
        assert_close(&values(&fused), &values(&composed), 1e-6);
        let a = (fused * weights.clone()).sum::<(), _>().backward();
        let b = (composed * weights).sum::<(), _>().backward();
        // A row of one number has no gradient: what remains is rounding.
        if width > 1 {
            assert_close(&a.get(&x).as_vec(), &b.get(&x).as_vec(), 1e-5);
        }
    }
}

#[test]
fn a_row_of_zeros_stays_zero_and_has_a_finite_gradient() {
    let x = import(vec![0.0, 0.0, 3.0, 4.0], (2, 2));
    for y in [
        fused::normalise(x.leaky_trace()),
        composed::normalise(x.leaky_trace()),
    ] {
        assert_close(&values(&y), &[0.0, 0.0, 0.6, 0.8], 1e-6);
        let gradient = y.sum::<(), _>().backward().get(&x).as_vec();
        assert!(gradient.iter().all(|g| g.is_finite()));
        assert_close(&gradient[..2], &[1e12, 1e12], 1e-6);
    }
}

#[test]
fn info_nce_agrees_with_the_composed_loss() {
    for (i, &(batch, width, length)) in SIZES.iter().enumerate() {
        for temperature in [0.07f32, 0.1, 1.0] {
            let stream = 10 * i as u64;
            let query = unit_rows(stream, batch, width);
            let key = unit_rows(stream + 1, batch, width);
            let queue = unit_rows(stream + 2, length, width);
            let a = fused::info_nce(query.leaky_trace(), key.leaky_trace(), &queue, temperature);
            let b = composed::info_nce(query.leaky_trace(), key.leaky_trace(), &queue, temperature);
            assert_eq!(a.above, b.above);
            assert_close(&[scalar(&a.loss)], &[scalar(&b.loss)], 3e-6);
            let (a, b) = (a.loss.backward(), b.loss.backward());
            assert_close(&a.get(&query).as_vec(), &b.get(&query).as_vec(), 2e-5);
            assert_close(&a.get(&key).as_vec(), &b.get(&key).as_vec(), 2e-5);
        }
    }
}

/// Labels spread over the key and its nearest in the queue, as MoCo spreads them: the targets of all rows.
fn spread(key: &Plain<Features>, queue: &Plain<Features>, share: f32, count: usize) -> Vec<f32> {
    let width = values(key).len() / key.shape().0;
    let (keys, vectors) = (values(key), values(queue));
    let places = fused::nearest(key, queue, count);
    let rows = keys.chunks(width).zip(places.chunks(count));
    rows.flat_map(|(key, places)| {
        let vectors = &vectors;
        key.iter().enumerate().map(move |(i, own)| {
            let near: f32 = places.iter().map(|place| vectors[place * width + i]).sum();
            (1.0 - share) * own + share / count as f32 * near
        })
    })
    .collect()
}

#[test]
fn soft_labels_are_the_cross_entropy_with_the_whole_distribution() {
    let (share, temperature) = (0.3f32, 0.2f32);
    for (i, &(batch, width, length)) in SIZES.iter().enumerate() {
        let stream = 300 + 10 * i as u64;
        let count = 5.min(length);
        let query = unit_rows(stream, batch, width);
        let key = unit_rows(stream + 1, batch, width);
        let queue = unit_rows(stream + 2, length, width);
        let target = import(spread(&key, &queue, share, count), (batch, width));
        let a = fused::soft_nce(query.leaky_trace(), &key, &target, &queue, temperature);
        let b = composed::soft_nce(query.leaky_trace(), &key, &target, &queue, temperature);
        assert_eq!(a.above, b.above);

        // Every logit, every share, in double precision.
        let places = composed::nearest(&key, &queue, count);
        assert_eq!(places, fused::nearest(&key, &queue, count));
        let (queries, keys, vectors) = (values(&query), values(&key), values(&queue));
        let mut loss = 0.0;
        for row in 0..batch {
            let query = &queries[row * width..(row + 1) * width];
            let candidates = std::iter::once(&keys[row * width..(row + 1) * width]);
            let candidates: Vec<_> = candidates.chain(vectors.chunks(width)).collect();
            let mut shares = vec![0.0; candidates.len()];
            shares[0] = 1.0 - f64::from(share);
            for place in &places[row * count..(row + 1) * count] {
                shares[1 + place] += f64::from(share) / count as f64;
            }
            let logit = |v: &&[f32]| super::attention::dot(query, v) / f64::from(temperature);
            let logits: Vec<_> = candidates.iter().map(logit).collect();
            let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            let pairs = shares.iter().zip(&logits);
            loss -= pairs
                .map(|(share, logit)| share * (logit - total))
                .sum::<f64>();
        }
        let expected = (loss / batch as f64) as f32;
        assert_close(&[scalar(&a.loss)], &[expected], 3e-6);
        assert_close(&[scalar(&b.loss)], &[expected], 3e-6);
        let (a, b) = (a.loss.backward(), b.loss.backward());
        assert_close(&a.get(&query).as_vec(), &b.get(&query).as_vec(), 2e-5);
    }
}

#[test]
fn hard_labels_are_soft_labels_on_the_key_alone() {
    let (query, key) = (unit_rows(1, 9, 16), unit_rows(2, 9, 16));
    let queue = unit_rows(3, 700, 16);
    let hard = fused::info_nce(query.leaky_trace(), key.clone(), &queue, 0.1);
    let soft = fused::soft_nce(query.leaky_trace(), &key, &key, &queue, 0.1);
    assert_close(&[scalar(&soft.loss)], &[scalar(&hard.loss)], 1e-6);
    let (hard, soft) = (hard.loss.backward(), soft.loss.backward());
    assert_close(&soft.get(&query).as_vec(), &hard.get(&query).as_vec(), 1e-6);
}

#[test]
fn a_queue_in_half_precision_is_that_of_its_rounded_numbers() {
    for &(batch, width, length) in SIZES {
        let (query, key) = (unit_rows(1, batch, width), unit_rows(2, batch, width));
        let queue = unit_rows(3, length, width);
        let half = HalfRows::of(&values(&queue), width);
        let rounded = import(half.widened(), (length, width));
        let a = fused::info_nce(query.leaky_trace(), key.clone(), &half, 0.1);
        let b = fused::info_nce(query.leaky_trace(), key.clone(), &rounded, 0.1);
        assert_eq!(scalar(&a.loss).to_bits(), scalar(&b.loss).to_bits());
        assert_eq!(a.above, b.above);
        let (a, b) = (a.loss.backward(), b.loss.backward());
        assert_eq!(a.get(&query).as_vec(), b.get(&query).as_vec());
        let count = 3.min(length);
        let nearest = fused::nearest(&key, &half, count);
        assert_eq!(nearest, fused::nearest(&key, &rounded, count));
        let full = fused::info_nce(query.leaky_trace(), key.clone(), &queue, 0.1);
        let half = fused::info_nce(query.leaky_trace(), key, &half, 0.1);
        assert_close(&[scalar(&half.loss)], &[scalar(&full.loss)], 2e-3);
    }
}

#[test]
fn the_nearest_are_those_of_a_full_sort() {
    for &(batch, width, length) in SIZES {
        let (rows, queue) = (unit_rows(5, batch, width), unit_rows(6, length, width));
        let count = 7.min(length);
        let found = fused::nearest(&rows, &queue, count);
        let vectors = values(&queue);
        for (row, found) in values(&rows).chunks(width).zip(found.chunks(count)) {
            let products: Vec<f64> = vectors
                .chunks(width)
                .map(|v| super::attention::dot(row, v))
                .collect();
            let mut sorted = products.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            for (place, best) in found.iter().zip(&sorted) {
                assert!((products[*place] - best).abs() < 1e-6);
            }
            let mut apart = found.to_vec();
            apart.sort_unstable();
            apart.dedup();
            assert_eq!(apart.len(), count);
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let (batch, width, length) = (3, 4, 9);
    let (query, key) = (numbers(40, batch, width), numbers(41, batch, width));
    let queue = numbers(42, length, width);
    let contrast = |query: &Plain<Features>, key: &Plain<Features>| {
        let query = fused::normalise(query.leaky_trace());
        fused::info_nce(query, key.leaky_trace(), &queue, 0.5).loss
    };
    let distil = |student: &Plain<Features>, teacher: &Plain<Features>| {
        fused::distillation(
            fused::normalise(student.leaky_trace()),
            teacher,
            &queue,
            0.4,
            0.3,
        )
        .loss
    };
    let target = import(spread(&key, &queue, 0.4, 3), (batch, width));
    let soft = |query: &Plain<Features>| {
        let query = fused::normalise(query.leaky_trace());
        fused::soft_nce(query, &key, &target, &queue, 0.5).loss
    };
    let to_soft = soft(&query).backward().get(&query).as_vec();
    let step = 1e-2;
    let moved = |x: &Plain<Features>, i: usize, by: f32| {
        let mut values = x.as_vec();
        values[i] += by;
        import(values, (batch, width))
    };
    let slope = |up: Traced<()>, down: Traced<()>| (scalar(&up) - scalar(&down)) / (2.0 * step);
    let gradients = contrast(&query, &key).backward();
    let (to_query, to_key) = (gradients.get(&query).as_vec(), gradients.get(&key).as_vec());
    let to_student = distil(&query, &key).backward().get(&query).as_vec();
    for i in 0..batch * width {
        let (up, down) = (moved(&query, i, step), moved(&query, i, -step));
        let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-3, "{i}: {a} and {b}");
        close(
            to_query[i],
            slope(contrast(&up, &key), contrast(&down, &key)),
        );
        close(to_student[i], slope(distil(&up, &key), distil(&down, &key)));
        close(to_soft[i], slope(soft(&up), soft(&down)));
        let (up, down) = (moved(&key, i, step), moved(&key, i, -step));
        close(
            to_key[i],
            slope(contrast(&query, &up), contrast(&query, &down)),
        );
    }
}

#[test]
fn distillation_agrees_with_the_composed_loss() {
    for (i, &(batch, width, length)) in SIZES.iter().enumerate() {
        for temperature in [1e-4f32, 0.05, 0.5] {
            let stream = 100 + 10 * i as u64;
            let student = unit_rows(stream, batch, width);
            let teacher = unit_rows(stream + 1, batch, width);
            let queue = unit_rows(stream + 2, length, width);
            let a = fused::distillation(student.leaky_trace(), &teacher, &queue, 0.2, temperature);
            let b =
                composed::distillation(student.leaky_trace(), &teacher, &queue, 0.2, temperature);
            assert_eq!(a.above, b.above);
            let (va, vb) = (scalar(&a.loss), scalar(&b.loss));
            // A teacher this cold amplifies the rounding of its logits.
            let tolerance = if temperature < 1e-3 { 1e-2 } else { 1e-5 };
            assert!(
                (va - vb).abs() <= tolerance * vb.abs().max(1.0),
                "{va} and {vb}"
            );
            assert!(
                (a.entropy - b.entropy).abs() <= f64::from(tolerance) * b.entropy.max(1.0),
                "{} and {}",
                a.entropy,
                b.entropy
            );
            assert!(f64::from(va) >= a.entropy - f64::from(tolerance));
            let (a, b) = (a.loss.backward(), b.loss.backward());
            let (a, b) = (a.get(&student).as_vec(), b.get(&student).as_vec());
            let gap = a
                .iter()
                .zip(&b)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(gap <= tolerance, "gradients differ by {gap}");
        }
    }
}

#[test]
fn a_uniform_softmax_costs_the_logarithm_of_its_size() {
    // Orthogonal to everything: all K + 1 logits are zero.
    let mut axis = vec![0.0; 8];
    axis[0] = 1.0;
    let query = import(axis, (1, 8));
    let zero = import(vec![0.0; 8], (1, 8));
    let queue = import(vec![0.0; 99 * 8], (99, 8));
    let contrast = fused::info_nce(query.leaky_trace(), zero, &queue, 0.1);
    assert!((scalar(&contrast.loss) - 100f32.ln()).abs() < 1e-6);
    assert_eq!(contrast.above, [0]);
    assert_eq!(contrast.accuracy(1), 100.0);
}

#[test]
fn a_student_equal_to_its_teacher_has_the_entropy_as_its_loss() {
    let rows = unit_rows(80, 6, 8);
    let queue = unit_rows(81, 40, 8);
    let equal = fused::distillation(rows.leaky_trace(), &rows, &queue, 0.1, 0.1);
    assert!((f64::from(scalar(&equal.loss)) - equal.entropy).abs() < 1e-6);
    assert_eq!((equal.accuracy(1), equal.above.len()), (100.0, 6));
    // Two candidates alike: the teacher is undecided between them.
    let one = import(vec![1.0, 0.0], (1, 2));
    let queue = import(vec![1.0, 0.0, -1.0, 0.0], (2, 2));
    let undecided = fused::distillation(one.leaky_trace(), &one, &queue, 0.2, 1e-4);
    assert!(
        (undecided.entropy - 2f64.ln()).abs() < 1e-3,
        "{}",
        undecided.entropy
    );
}

#[test]
fn accuracy_counts_the_negatives_above_the_positive() {
    let query = import(vec![1.0, 0.0, 1.0, 0.0], (2, 2));
    let key = import(vec![0.5, 0.0, 1.0, 0.0], (2, 2));
    let queue = import(vec![0.6, 0.0, 0.7, 0.0, 0.5, 0.0, 0.4, 0.0], (4, 2));
    let contrast = fused::info_nce(query.leaky_trace(), key, &queue, 0.1);
    assert_eq!(contrast.above, [2, 0]);
    assert_eq!(
        [1, 2, 3, 5].map(|best| contrast.accuracy(best)),
        [50.0, 50.0, 100.0, 100.0]
    );
}

#[test]
fn a_diverged_query_has_no_loss_and_no_hit() {
    let query = import(vec![f32::NAN, 0.0, 1.0, 0.0], (2, 2));
    let key = import(vec![1.0, 0.0, 1.0, 0.0], (2, 2));
    let queue = numbers(50, 20, 2);
    for contrast in [
        fused::info_nce(query.leaky_trace(), key.clone(), &queue, 0.1),
        composed::info_nce(query.leaky_trace(), key.clone(), &queue, 0.1),
    ] {
        assert!(scalar(&contrast.loss).is_nan());
        assert_eq!(contrast.above[0], usize::MAX);
        assert_eq!(contrast.accuracy(1000), 50.0);
    }
}

#[test]
fn extreme_logits_neither_overflow_nor_vanish() {
    let query = import(vec![1.0, 0.0], (1, 2));
    let key = import(vec![-1.0, 0.0], (1, 2));
    let queue = import(vec![1.0, 0.0], (1, 2));
    for contrast in [
        fused::info_nce(query.leaky_trace(), key.clone(), &queue, 1e-3),
        composed::info_nce(query.leaky_trace(), key.clone(), &queue, 1e-3),
    ] {
        assert_close(&[scalar(&contrast.loss)], &[2000.0], 1e-6);
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let query = unit_rows(60, 32, 128);
    let key = unit_rows(61, 32, 128);
    let queue = unit_rows(62, 5000, 128);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let (query, key, queue) = (query.clone(), key.clone(), queue.clone());
        pool.expect("threads start").install(move || {
            let contrast = fused::info_nce(query.leaky_trace(), key, &queue, 0.1);
            let loss = scalar(&contrast.loss).to_bits();
            let gradient = contrast.loss.backward().get(&query).as_vec();
            (
                loss,
                gradient.iter().map(|g| g.to_bits()).collect::<Vec<_>>(),
            )
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(4));
}

#[test]
fn upstream_gradients_scale_the_result() {
    let query = unit_rows(70, 4, 8);
    let (key, queue) = (unit_rows(71, 4, 8), unit_rows(72, 30, 8));
    let once = fused::info_nce(query.leaky_trace(), key.clone(), &queue, 0.1).loss;
    let thrice = fused::info_nce(query.leaky_trace(), key, &queue, 0.1).loss * 3.0;
    let once: Vec<f32> = once
        .backward()
        .get(&query)
        .as_vec()
        .iter()
        .map(|g| 3.0 * g)
        .collect();
    let (thrice, tape) = thrice.split_tape();
    assert_close(
        &thrice.put_tape(tape).backward().get(&query).as_vec(),
        &once,
        1e-6,
    );
}
