//! The softmax of rows over a queue, walked once: what the fused losses are made of.
//!
//! For rows r with scales s, and a queue of vectors v, the probabilities are p ∝ exp(s · r·v) over the row's own
//! candidate and the whole queue. The losses need the log of the sum, the probability of the row's own candidate and
//! the mean Σ p·v, which is the gradient of the log-sum but for the scale. All three come from one walk: each chunk of
//! the queue gives its maximum, its sum and its weighted vectors relative to that maximum, and the chunks are joined in
//! their order, so results do not depend on the number of threads.

use std::ops::Range;

use rayon::prelude::*;
use smallfry_nn::kernel::{
    Level,
    gemm::{Finish, Packed, Rows, multiply_packed, multiply_transposed},
    simd::{Kernel, Simd},
};

use super::{candidates::Vectors, largest::Largest};

/// Vectors of the queue in a chunk: with 128 numbers each, a chunk and its similarities stay in the second cache.
const CHUNK: usize = 512;

/// No vector of any level is wider.
const PADDING: usize = 16;

/// What the softmax of every row comes to.
pub(super) struct Attention {
    /// ln Σ exp(s · r·v) over the row's own candidate and the queue.
    pub log_sum: Vec<f64>,
    /// s · r·v of the row's own candidate.
    pub own_logit: Vec<f64>,
    /// The probability of the row's own candidate.
    pub own_share: Vec<f64>,
    /// Vectors of the queue with a larger logit than the row's own candidate.
    pub above: Vec<usize>,
    /// Σ p·v, `[rows, width]`.
    pub mean: Vec<f32>,
}

/// One chunk's share of the sums.
struct Part {
    /// Largest r·v of each row, padded.
    largest: Vec<f32>,
    /// Σ exp(s · (r·v − largest)).
    sum: Vec<f32>,
    /// Vectors with a larger r·v than the row's own candidate.
    above: Vec<f32>,
    /// Σ exp(s · (r·v − largest)) · v, `[rows, width]`.
    weighted: Vec<f32>,
}

/// Walks the queue. `rows` and `own` are `[rows, width]`, vectors of the queue `[.., width]`, `scale` has one number a row.
pub(super) fn attend(
    rows: &[f32],
    own: &[f32],
    queue: &Vectors<'_>,
    width: usize,
    scale: &[f32],
) -> Attention {
    let count = scale.len();
    let stride = count.next_multiple_of(PADDING);
    let level = Level::current();
    let mut packed = Packed::new(level, width, count);
    packed.set_transposed(rows, width, None);

    let products: Vec<f64> = rows
        .chunks_exact(width)
        .zip(own.chunks_exact(width))
        .map(|(row, own)| dot(row, own))
        .collect();
    let mut own_products: Vec<f32> = products.iter().map(|&product| product as f32).collect();
    own_products.resize(stride, f32::INFINITY);
    let mut scales = scale.to_vec();
    scales.resize(stride, 0.0);

    let parts: Vec<Part> = chunks(queue, width)
        .into_par_iter()
        .map_init(
            || (vec![0.0f32; CHUNK * stride], Vec::new()),
            |(similarities, scratch), chunk| {
                let vectors = queue.read(chunk, scratch);
                let length = vectors.len() / width;
                let vectors = Rows::dense(vectors, width);
                multiply_packed(
                    length,
                    vectors,
                    &packed,
                    similarities,
                    stride,
                    Finish::default(),
                );
                let mut part = Part {
                    largest: vec![0.0; stride],
                    sum: vec![0.0; stride],
                    above: vec![0.0; stride],
                    weighted: vec![0.0; count * width],
                };
                let kernel = Softmax {
                    length,
                    stride,
                    similarities: similarities.as_mut_ptr(),
                    own: own_products.as_ptr(),
                    scale: scales.as_ptr(),
                    largest: part.largest.as_mut_ptr(),
                    sum: part.sum.as_mut_ptr(),
                    above: part.above.as_mut_ptr(),
                };
                // SAFETY: `similarities` holds at least `length` rows of `stride` numbers, every other array `stride`
                // numbers, and `stride` is a multiple of every vector's lanes.
                unsafe { level.run(kernel) };
                multiply_transposed(
                    level,
                    length,
                    count,
                    width,
                    Rows::dense(similarities, stride),
                    vectors,
                    &mut part.weighted,
                    width,
                );
                part
            },
        )
        .collect();
    join(&parts, &products, own, width, scale)
}

/// Where the chunks of a queue lie.
fn chunks(queue: &Vectors<'_>, width: usize) -> Vec<Range<usize>> {
    let (length, size) = (queue.len(), CHUNK * width);
    let starts = (0..length).step_by(size);
    starts
        .map(|start| start..length.min(start + size))
        .collect()
}

/// For each row the places of the `count` vectors of `queue` with the largest r·v, as [`nearest`](super::nearest) orders
/// them.
pub(super) fn largest_products(
    rows: &[f32],
    queue: &Vectors<'_>,
    width: usize,
    count: usize,
) -> Vec<usize> {
    let number = rows.len() / width;
    let stride = number.next_multiple_of(PADDING);
    let mut packed = Packed::new(Level::current(), width, number);
    packed.set_transposed(rows, width, None);
    let parts: Vec<Vec<Largest>> = chunks(queue, width)
        .into_par_iter()
        .map_init(
            || (vec![0.0f32; CHUNK * stride], Vec::new()),
            |(similarities, scratch), chunk| {
                let first = chunk.start / width;
                let vectors = queue.read(chunk, scratch);
                let length = vectors.len() / width;
                multiply_packed(
                    length,
                    Rows::dense(vectors, width),
                    &packed,
                    similarities,
                    stride,
                    Finish::default(),
                );
                let mut largest = vec![Largest::new(count); number];
                let lines = similarities.chunks_exact(stride).take(length);
                for (vector, line) in lines.enumerate() {
                    for (largest, &similarity) in largest.iter_mut().zip(line) {
                        largest.add(similarity, first + vector);
                    }
                }
                largest
            },
        )
        .collect();
    let joined = (0..number).flat_map(|row| {
        let mut largest = Largest::new(count);
        for part in &parts {
            largest.join(&part[row]);
        }
        largest.places()
    });
    joined.collect()
}

/// Adds the chunks and each row's own candidate, in this order.
fn join(parts: &[Part], products: &[f64], own: &[f32], width: usize, scale: &[f32]) -> Attention {
    let mut mean = vec![0.0f32; own.len()];
    let rows: Vec<(f64, f64, usize)> = mean
        .par_chunks_mut(width)
        .enumerate()
        .map(|(row, mean)| {
            let (scale, product) = (f64::from(scale[row]), products[row]);
            let largest = parts.iter().fold(product, |largest, part| {
                largest.max(f64::from(part.largest[row]))
            });
            let weight = |value: f64| ((value - largest) * scale).exp();
            let own_weight = weight(product);
            let mut sum = own_weight;
            let mut above = 0;
            for part in parts {
                sum += weight(f64::from(part.largest[row])) * f64::from(part.sum[row]);
                above += part.above[row] as usize;
            }
            for part in parts {
                let share = (weight(f64::from(part.largest[row])) / sum) as f32;
                for (mean, weighted) in mean.iter_mut().zip(&part.weighted[row * width..]) {
                    *mean += share * weighted;
                }
            }
            let own_share = own_weight / sum;
            for (mean, own) in mean.iter_mut().zip(&own[row * width..]) {
                *mean += own_share as f32 * own;
            }
            (sum.ln() + largest * scale, own_share, above)
        })
        .collect();
    Attention {
        log_sum: rows.iter().map(|row| row.0).collect(),
        own_logit: products
            .iter()
            .zip(scale)
            .map(|(p, &s)| p * f64::from(s))
            .collect(),
        own_share: rows.iter().map(|row| row.1).collect(),
        above: rows.iter().map(|row| row.2).collect(),
        mean,
    }
}

/// The inner product, in double precision.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum()
}

/// Replaces similarities `[length, stride]`, a row of the batch in each column, by exp(scale · (similarity − largest of
/// the column)), and says of each column the largest, the sum and how many exceed `own`.
struct Softmax {
    length: usize,
    stride: usize,
    similarities: *mut f32,
    own: *const f32,
    scale: *const f32,
    largest: *mut f32,
    sum: *mut f32,
    above: *mut f32,
}

impl Kernel for Softmax {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for column in (0..self.stride).step_by(S::LANES) {
            // SAFETY: rows and columns stay within the sizes that the maker of the kernel promises.
            unsafe {
                let own = s.load(self.own.add(column));
                let scale = s.load(self.scale.add(column));
                let one = s.splat(1.0);
                let start = self.similarities.add(column);
                let mut largest = s.splat(f32::MIN);
                let mut above = s.zero();
                for row in 0..self.length {
                    let x = s.load(start.add(row * self.stride));
                    largest = s.max(x, largest);
                    above = s.add(above, s.where_greater(x, own, one));
                }
                let mut sum = s.zero();
                for row in 0..self.length {
                    let place = start.add(row * self.stride);
                    let e = s.exp(s.mul(s.sub(s.load(place), largest), scale));
                    sum = s.add(sum, e);
                    s.store(place, e);
                }
                s.store(self.largest.add(column), largest);
                s.store(self.sum.add(column), sum);
                s.store(self.above.add(column), above);
            }
        }
    }
}
