//! The losses in ordinary dfdx, for every device.
//!
//! No `concat`, `stack` or non-contiguous `reshape`: on a GPU dfdx compiles those at run time, with header paths of the
//! machine it was built on. So the positive is never joined to the negatives: with d the negatives' log-sum-exp less
//! the positive's logit, the cross-entropy is ln(1 + exp(d)), written so that no d overflows.

use dfdx::{
    shapes::{Axes2, Axis, HasShape},
    tensor::{Merge, OwnedTape, PutTape, SplitTape, Tape, Tensor},
    tensor_ops::{BroadcastTo, Device, LogSumExpTo, MeanTo, PermuteTo, SumTo, TryMatMul},
};

use super::{Contrast, Distillation, LEAST_NORM, check, largest::Largest};
use crate::tensor::Features;

type Rows<D, T> = Tensor<Features, f32, D, T>;
type Column<D, T> = Tensor<(usize,), f32, D, T>;
type Recorded<D> = OwnedTape<f32, D>;

/// As [`normalise`](super::normalise).
pub fn normalise<D: Device<f32>, T: Tape<f32, D>>(rows: Rows<D, T>) -> Rows<D, T> {
    let shape = *rows.shape();
    // The square is bounded, not the root: at zero the root's gradient would be infinite.
    let squares: Column<D, T> = rows.retaped::<T>().square().sum::<_, Axis<1>>();
    let length = squares
        .clamp(LEAST_NORM * LEAST_NORM, f64::from(f32::MAX))
        .sqrt();
    rows / length.broadcast_like::<_, Axis<1>>(&shape)
}

/// As [`info_nce`](super::info_nce).
pub fn info_nce<D: Device<f32>, T: Tape<f32, D>>(
    query: Rows<D, Recorded<D>>,
    key: Rows<D, T>,
    queue: &Rows<D, dfdx::tensor::NoneTape>,
    temperature: f32,
) -> Contrast<D>
where
    Recorded<D>: Merge<T>,
{
    check(*query.shape(), *key.shape(), *queue.shape());
    let (query, tape) = query.split_tape();
    let positive: Column<D, _> =
        (query.clone().put_tape(tape) * key).sum::<_, Axis<1>>() / temperature;
    let (positive, tape) = positive.split_tape();
    let keys = queue.clone().permute::<Features, Axes2<1, 0>>();
    let negatives = query.put_tape(tape).matmul(keys) / temperature;
    let (negatives, tape) = negatives.split_tape();
    let above = above(&negatives, &positive);
    let others: Column<D, _> = negatives.put_tape(tape).logsumexp::<_, Axis<1>>();
    Contrast {
        loss: softplus(others - positive).mean::<(), _>(),
        above,
    }
}

/// As [`soft_nce`](super::soft_nce).
pub fn soft_nce<D: Device<f32>>(
    query: Rows<D, Recorded<D>>,
    key: &Rows<D, dfdx::tensor::NoneTape>,
    target: &Rows<D, dfdx::tensor::NoneTape>,
    queue: &Rows<D, dfdx::tensor::NoneTape>,
    temperature: f32,
) -> Contrast<D> {
    check(*query.shape(), *key.shape(), *queue.shape());
    check(*query.shape(), *target.shape(), *queue.shape());
    let (query, tape) = query.split_tape();
    let positive: Column<D, _> =
        (query.clone().put_tape(tape) * key.clone()).sum::<_, Axis<1>>() / temperature;
    let (positive, tape) = positive.split_tape();
    let keys = queue.clone().permute::<Features, Axes2<1, 0>>();
    let negatives = query.clone().put_tape(tape).matmul(keys) / temperature;
    let (negatives, tape) = negatives.split_tape();
    let above = above(&negatives, &positive);
    let others: Column<D, _> = negatives.put_tape(tape).logsumexp::<_, Axis<1>>();
    let total = softplus(others - positive.clone()) + positive;
    let (total, tape) = total.split_tape();
    let wanted: Column<D, _> =
        (query.put_tape(tape) * target.clone()).sum::<_, Axis<1>>() / temperature;
    Contrast {
        loss: (-wanted + total).mean::<(), _>(),
        above,
    }
}

/// As [`nearest`](super::nearest).
pub fn nearest<D: Device<f32>>(
    rows: &Rows<D, dfdx::tensor::NoneTape>,
    queue: &Rows<D, dfdx::tensor::NoneTape>,
    count: usize,
) -> Vec<usize> {
    let length = queue.shape().0;
    let keys = queue.clone().permute::<Features, Axes2<1, 0>>();
    let products = rows.clone().matmul(keys).as_vec();
    let best = products.chunks_exact(length).flat_map(|row| {
        let mut largest = Largest::new(count);
        (row.iter().enumerate()).for_each(|(place, &value)| largest.add(value, place));
        largest.places()
    });
    best.collect()
}

/// As [`distillation`](super::distillation).
pub fn distillation<D: Device<f32>>(
    student: Rows<D, Recorded<D>>,
    teacher: &Rows<D, dfdx::tensor::NoneTape>,
    queue: &Rows<D, dfdx::tensor::NoneTape>,
    student_temperature: f32,
    teacher_temperature: f32,
) -> Distillation<D> {
    check(*student.shape(), *teacher.shape(), *queue.shape());
    let shape = (student.shape().0, queue.shape().0);
    let keys = queue.clone().permute::<Features, Axes2<1, 0>>();

    let own: Column<D, _> = teacher.clone().square().sum::<_, Axis<1>>() / teacher_temperature;
    let others = teacher.clone().matmul(keys.clone()) / teacher_temperature;
    let total: Column<D, _> = others.clone().logsumexp::<_, Axis<1>>();
    // The teacher's log-partition, then its probabilities of its own embedding and of the queue.
    let total = own.clone() + softplus(total - own.clone());
    let own_share = (own.clone() - total.clone()).exp();
    let shares = (others.clone() - total.clone().broadcast_like::<_, Axis<1>>(&shape)).exp();
    let expected: Column<D, _> = (others * shares.clone()).sum::<_, Axis<1>>();
    let entropies = (total - expected - own * own_share.clone()).as_vec();

    let (student, tape) = student.split_tape();
    let own: Column<D, _> = (student.clone().put_tape(tape) * teacher.clone()).sum::<_, Axis<1>>()
        / student_temperature;
    let (own, tape) = own.split_tape();
    let others = student.put_tape(tape).matmul(keys) / student_temperature;
    let (others, tape) = others.split_tape();
    let above = above(&others, &own);
    let total: Column<D, _> = others.clone().put_tape(tape).logsumexp::<_, Axis<1>>();
    let total = softplus(total - own.clone()) + own.clone();
    let (total, tape) = total.split_tape();
    // −Σ share · (logit − total) = total − Σ share · logit, as shares sum to one.
    let (from_queue, tape): (Column<D, _>, _) = (others.put_tape(tape) * shares)
        .sum::<_, Axis<1>>()
        .split_tape();
    let from_own = own.put_tape(tape) * own_share;
    let entropy: f64 = entropies.iter().map(|&entropy| f64::from(entropy)).sum();
    Distillation {
        loss: (-(from_own + from_queue) + total).mean::<(), _>(),
        entropy: (entropy / entropies.len() as f64).max(0.0),
        above,
    }
}

/// ln(1 + exp(x)), for any x.
fn softplus<D: Device<f32>, T: Tape<f32, D>>(x: Column<D, T>) -> Column<D, T> {
    let (x, tape) = x.split_tape();
    let small = ((-x.clone().put_tape(tape).abs()).exp() + 1.0).ln();
    let (small, tape) = small.split_tape();
    x.put_tape(tape).relu() + small
}

/// How many of each row of `negatives` are larger than the row's positive.
fn above<D: Device<f32>>(
    negatives: &Rows<D, dfdx::tensor::NoneTape>,
    positive: &Column<D, dfdx::tensor::NoneTape>,
) -> Vec<usize> {
    let shape = *negatives.shape();
    let gap = negatives.clone() - positive.clone().broadcast_like::<_, Axis<1>>(&shape);
    // One for every positive gap: differences of logits are zero or far above 1e-30.
    let counts: Column<D, _> = (gap * 1e30).clamp(0.0, 1.0).sum::<_, Axis<1>>();
    let finite = positive.as_vec();
    let counts = counts.as_vec();
    counts
        .iter()
        .zip(&finite)
        .map(
            |(&count, positive)| match count.is_nan() || positive.is_nan() {
                true => usize::MAX,
                false => count as usize,
            },
        )
        .collect()
}
