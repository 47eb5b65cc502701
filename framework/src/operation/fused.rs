//! The losses as one operation each, on the CPU.
//!
//! A loss is a scalar, so its gradient is computed along with its value and only scaled in backward.

use dfdx::{
    shapes::HasShape,
    tensor::{Merge, OwnedTape, PutTape, SplitTape, Tape, Tensor},
    tensor_ops::ReshapeTo,
};

use super::{
    Contrast, Distillation, LEAST_NORM,
    attention::{attend, dot, largest_products},
    candidates::Candidates,
    check,
};
use crate::tensor::{Device, Features, Plain, Traced, add_gradient, gradient, import, values};

/// As [`normalise`](super::normalise).
pub fn normalise<T: Tape<f32, Device>>(
    rows: Tensor<Features, f32, Device, T>,
) -> Tensor<Features, f32, Device, T> {
    let (rows, mut tape) = rows.contiguous().split_tape();
    let width = rows.shape().1.max(1);
    let mut result = values(&rows).into_owned();
    let lengths: Vec<f64> = result
        .chunks_exact_mut(width)
        .map(|row| {
            let length = dot(row, row).sqrt().max(LEAST_NORM);
            for value in row {
                *value = (f64::from(*value) / length) as f32;
            }
            length
        })
        .collect();
    let result = import(result, *rows.shape());
    if T::OWNS_TAPE {
        let output = result.clone();
        tape.add_backward_op(move |gradients| {
            let mut gradient = gradient(gradients, &output)?;
            let output = values(&output);
            let pairs = gradient
                .chunks_exact_mut(width)
                .zip(output.chunks_exact(width));
            for ((gradient, output), length) in pairs.zip(lengths) {
                // A row that was too short is merely scaled: its length is a constant.
                let along = match length > LEAST_NORM {
                    true => dot(gradient, output),
                    false => 0.0,
                };
                for (gradient, output) in gradient.iter_mut().zip(output) {
                    *gradient =
                        ((f64::from(*gradient) - along * f64::from(*output)) / length) as f32;
                }
            }
            add_gradient(gradients, &rows, &gradient, 1.0)
        });
    }
    result.put_tape(tape)
}

/// As [`info_nce`](super::info_nce).
pub fn info_nce<'q, T: Tape<f32, Device>>(
    query: Traced<Features>,
    key: Tensor<Features, f32, Device, T>,
    queue: impl Into<Candidates<'q>>,
    temperature: f32,
) -> Contrast
where
    OwnedTape<f32, Device>: Merge<T>,
{
    let queue = queue.into();
    check(*query.shape(), *key.shape(), queue.shape());
    let (query, tape) = query.contiguous().split_tape();
    let (key, other) = key.contiguous().split_tape();
    let (batch, width) = *query.shape();
    let scale = 1.0 / temperature;
    let (queries, keys) = (values(&query), values(&key));
    let attention = attend(
        &queries,
        &keys,
        &queue.vectors(),
        width,
        &vec![scale; batch],
    );

    let pairs = attention.log_sum.iter().zip(&attention.own_logit);
    let losses: Vec<f64> = pairs.map(|(total, own)| total - own).collect();
    let above = counted(&losses, &attention.above);

    let factor = scale / batch as f32;
    let to_query = scaled_difference(attention.mean, &keys, factor);
    let to_key: Vec<f32> = match T::OWNS_TAPE {
        false => Vec::new(),
        true => {
            let rows = queries.chunks_exact(width).zip(&attention.own_share);
            rows.flat_map(|(row, share)| {
                let factor = factor * (share - 1.0) as f32;
                row.iter().map(move |query| factor * query)
            })
            .collect()
        }
    };
    drop((queries, keys));
    let mut tape = tape.merge(other);
    let loss = mean(&losses);
    let output = loss.clone();
    tape.add_backward_op(move |gradients| {
        let upstream = gradient(gradients, &output)?[0];
        add_gradient(gradients, &query, &to_query, upstream)?;
        if T::OWNS_TAPE {
            add_gradient(gradients, &key, &to_key, upstream)?;
        }
        Ok(())
    });
    Contrast {
        loss: loss.put_tape(tape),
        above,
    }
}

/// As [`soft_nce`](super::soft_nce).
pub fn soft_nce<'q>(
    query: Traced<Features>,
    key: &Plain<Features>,
    target: &Plain<Features>,
    queue: impl Into<Candidates<'q>>,
    temperature: f32,
) -> Contrast {
    let queue = queue.into();
    check(*query.shape(), *key.shape(), queue.shape());
    check(*query.shape(), *target.shape(), queue.shape());
    let (query, tape) = query.contiguous().split_tape();
    let (batch, width) = *query.shape();
    let scale = 1.0 / temperature;
    let (queries, keys, targets) = (values(&query), values(key), values(target));
    let attention = attend(
        &queries,
        &keys,
        &queue.vectors(),
        width,
        &vec![scale; batch],
    );

    // Σ share·logit = s · query·(Σ share·v): the target is all the loss needs of the labels.
    let rows = queries.chunks_exact(width).zip(targets.chunks_exact(width));
    let losses: Vec<f64> = rows
        .zip(&attention.log_sum)
        .map(|((query, target), total)| total - f64::from(scale) * dot(query, target))
        .collect();
    let above = counted(&losses, &attention.above);
    let to_query = scaled_difference(attention.mean, &targets, scale / batch as f32);
    drop(queries);
    Contrast {
        loss: taped(tape, query, to_query, &losses),
        above,
    }
}

/// As [`nearest`](super::nearest).
pub fn nearest<'q>(
    rows: &Plain<Features>,
    queue: impl Into<Candidates<'q>>,
    count: usize,
) -> Vec<usize> {
    largest_products(
        &values(rows),
        &queue.into().vectors(),
        rows.shape().1,
        count,
    )
}

/// The mean of `losses` on a tape that takes its gradient, `to_rows` times what comes from above, back to `rows`.
fn taped(
    mut tape: OwnedTape<f32, Device>,
    rows: Plain<Features>,
    to_rows: Vec<f32>,
    losses: &[f64],
) -> Traced<()> {
    let loss = mean(losses);
    let output = loss.clone();
    tape.add_backward_op(move |gradients| {
        let upstream = gradient(gradients, &output)?[0];
        add_gradient(gradients, &rows, &to_rows, upstream)
    });
    loss.put_tape(tape)
}

/// As [`distillation`](super::distillation).
pub fn distillation<'q>(
    student: Traced<Features>,
    teacher: &Plain<Features>,
    queue: impl Into<Candidates<'q>>,
    student_temperature: f32,
    teacher_temperature: f32,
) -> Distillation {
    let queue = queue.into();
    check(*student.shape(), *teacher.shape(), queue.shape());
    let (student, tape) = student.contiguous().split_tape();
    let (batch, width) = *student.shape();
    let (students, teachers) = (values(&student), values(teacher));
    // Both sides walk the queue together: the student's rows, then the teacher's.
    let rows: Vec<f32> = students.iter().chain(teachers.iter()).copied().collect();
    let own: Vec<f32> = teachers.iter().chain(teachers.iter()).copied().collect();
    let mut scales = vec![1.0 / student_temperature; batch];
    scales.resize(2 * batch, 1.0 / teacher_temperature);
    let attention = attend(&rows, &own, &queue.vectors(), width, &scales);

    // Σ p·logit = s · row·(Σ p·v): the mean of the candidates under the teacher is all the loss needs of it.
    let (means, targets) = attention.mean.split_at(batch * width);
    let cross_entropy = |rows: &[f32], first: usize| -> Vec<f64> {
        let pairs = rows.chunks_exact(width).zip(targets.chunks_exact(width));
        let expected = pairs.map(|(row, target)| dot(row, target));
        (first..)
            .zip(expected)
            .map(|(i, expected)| attention.log_sum[i] - f64::from(scales[i]) * expected)
            .collect()
    };
    let losses = cross_entropy(&students, 0);
    let entropies = cross_entropy(&teachers, batch);
    let above = counted(&losses, &attention.above);
    let to_student = scaled_difference(means.to_vec(), targets, scales[0] / batch as f32);
    drop(students);
    Distillation {
        loss: taped(tape, student, to_student, &losses),
        // Where a cold teacher's logits are large their rounding is not.
        entropy: (entropies.iter().sum::<f64>() / batch as f64).max(0.0),
        above,
    }
}

/// The counts of rows that have a loss.
fn counted(losses: &[f64], above: &[usize]) -> Vec<usize> {
    let rows = losses.iter().zip(above);
    rows.map(|(loss, &above)| match loss.is_nan() {
        true => usize::MAX,
        false => above,
    })
    .collect()
}

/// (a − b) · factor.
fn scaled_difference(mut a: Vec<f32>, b: &[f32], factor: f32) -> Vec<f32> {
    for (a, b) in a.iter_mut().zip(b) {
        *a = (*a - b) * factor;
    }
    a
}

/// The mean as a scalar tensor.
fn mean(losses: &[f64]) -> Plain<()> {
    import(
        vec![(losses.iter().sum::<f64>() / losses.len() as f64) as f32],
        (),
    )
}
