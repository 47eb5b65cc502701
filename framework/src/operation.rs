//! Operations on tapes that dfdx lacks, or is slow at.
//!
//! dfdx runs elementwise operations and softmax on one thread, and a loss over 32 × 65,537 logits composed from them
//! costs more than half a step of a small network. So the losses against a queue are one operation each on the CPU: the
//! queue is walked in fixed chunks with a maximum and a sum for every row, logits are never stored whole, and the
//! gradient falls out of the same walk. [`composed`] has the same functions in ordinary dfdx, for every device: it is
//! what runs on a GPU, what the tests compare with, and the model for new objectives.

use dfdx::{
    shapes::HasShape,
    tensor::{Merge, OwnedTape, Storage, Tape, Tensor},
};

use crate::tensor::{Device, Features, Plain, Traced};

pub mod candidates;
pub mod composed;

pub use candidates::{Candidates, HalfRows};

#[cfg(not(feature = "cuda"))]
mod attention;
#[cfg(not(feature = "cuda"))]
mod fused;
mod largest;
#[cfg(not(feature = "cuda"))]
use fused as chosen;

#[cfg(feature = "cuda")]
use composed as chosen;

#[cfg(all(test, not(feature = "cuda")))]
mod tests;

/// The least length that a row is divided by, as in PyTorch.
pub const LEAST_NORM: f64 = 1e-12;

/// What a contrastive loss comes to.
pub struct Contrast<D: Storage<f32> = Device> {
    /// The mean cross-entropy of the positive among all candidates.
    pub loss: Tensor<(), f32, D, OwnedTape<f32, D>>,
    /// For each query, how many negatives have a larger logit than the positive; `usize::MAX` where logits are no
    /// numbers.
    pub above: Vec<usize>,
}

impl<D: Storage<f32>> Contrast<D> {
    /// The share of queries whose positive is among the `best` largest logits, in percent.
    pub fn accuracy(&self, best: usize) -> f64 {
        share_above(&self.above, best)
    }
}

/// What a distillation loss comes to.
pub struct Distillation<D: Storage<f32> = Device> {
    /// The mean cross-entropy of the student's distribution against the teacher's.
    pub loss: Tensor<(), f32, D, OwnedTape<f32, D>>,
    /// The mean entropy of the teacher's distributions: no student has a lower loss.
    pub entropy: f64,
    /// For each image, how many vectors of the queue the student finds more like its embedding than the teacher's
    /// embedding of the same image; `usize::MAX` where logits are no numbers.
    pub above: Vec<usize>,
}

impl<D: Storage<f32>> Distillation<D> {
    /// The share of images whose teacher's embedding is among the student's `best` candidates, in percent.
    pub fn accuracy(&self, best: usize) -> f64 {
        share_above(&self.above, best)
    }
}

/// The share of rows with fewer than `best` candidates above the right one, in percent.
fn share_above(above: &[usize], best: usize) -> f64 {
    let hits = above.iter().filter(|&&above| above < best).count();
    100.0 * hits as f64 / above.len() as f64
}

/// Divides each row by its Euclidean length, or by [`LEAST_NORM`] where it is shorter.
pub fn normalise<T: Tape<f32, Device>>(
    rows: Tensor<Features, f32, Device, T>,
) -> Tensor<Features, f32, Device, T> {
    chosen::normalise(rows)
}

/// InfoNCE: the mean cross-entropy of `key[i]` for `query[i]`, `[batch, width]` both, against all rows of `queue`,
/// `[negatives, width]`, with inner products divided by `temperature` as logits (van den Oord et al. 2018, equation 4).
///
/// # Panics
/// If the batch is empty or the shapes do not fit together.
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
    #[cfg(feature = "cuda")]
    let queue = &*plain(queue);
    chosen::info_nce(query, key, queue, temperature)
}

/// InfoNCE with soft labels: as [`info_nce`], where a query's label is spread over several candidates. `target[i]` is the
/// sum of the candidates of `query[i]`, each times its share of the label; shares add up to one. All are `[batch, width]`.
///
/// # Panics
/// If the batch is empty or the shapes do not fit together.
pub fn soft_nce<'q>(
    query: Traced<Features>,
    key: &Plain<Features>,
    target: &Plain<Features>,
    queue: impl Into<Candidates<'q>>,
    temperature: f32,
) -> Contrast {
    let queue = queue.into();
    #[cfg(feature = "cuda")]
    let queue = &*plain(queue);
    chosen::soft_nce(query, key, target, queue, temperature)
}

/// For each row the places of the `count` vectors of `queue` with the largest inner product, the largest first and the
/// earlier of equals first: `[rows, count]`, row after row.
///
/// # Panics
/// If the queue has fewer vectors, or the widths differ.
pub fn nearest<'q>(
    rows: &Plain<Features>,
    queue: impl Into<Candidates<'q>>,
    count: usize,
) -> Vec<usize> {
    let queue = queue.into();
    let ((_, width), (length, other)) = (*rows.shape(), queue.shape());
    assert_eq!(width, other, "rows and queue differ in width");
    assert!(count <= length, "{count} of {length} vectors are wanted");
    #[cfg(feature = "cuda")]
    let queue = &*plain(queue);
    chosen::nearest(rows, queue, count)
}

/// SEED's loss: the mean cross-entropy of the student's distribution over the teacher's own embedding and the queue
/// against the teacher's distribution over the same (Fang et al. 2021, equation 4).
///
/// `student` and `teacher` are `[batch, width]`, `queue` is `[candidates, width]`; each side's inner products are
/// divided by its own temperature.
///
/// # Panics
/// If the batch is empty or the shapes do not fit together.
pub fn distillation<'q>(
    student: Traced<Features>,
    teacher: &Plain<Features>,
    queue: impl Into<Candidates<'q>>,
    student_temperature: f32,
    teacher_temperature: f32,
) -> Distillation {
    let queue = queue.into();
    #[cfg(feature = "cuda")]
    let queue = &*plain(queue);
    chosen::distillation(
        student,
        teacher,
        queue,
        student_temperature,
        teacher_temperature,
    )
}

/// Candidates as the composed losses take them.
#[cfg(feature = "cuda")]
fn plain(candidates: Candidates<'_>) -> std::borrow::Cow<'_, Plain<Features>> {
    use std::borrow::Cow;
    match candidates {
        Candidates::Full(rows) => Cow::Borrowed(rows),
        Candidates::Half(rows) => Cow::Owned(crate::tensor::import(rows.widened(), rows.shape())),
    }
}

/// Refuses shapes that do not fit together.
fn check(query: Features, key: Features, queue: Features) {
    assert!(query.0 > 0, "the batch is empty");
    assert_eq!(query, key, "queries and keys differ in shape");
    assert_eq!(query.1, queue.1, "queries and queue differ in width");
}
