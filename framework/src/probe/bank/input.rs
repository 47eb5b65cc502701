//! Features as the products of a bank read them.

use rayon::prelude::*;
use smallfry_nn::kernel::{Level, gemm::Packed};

use super::GROUP;

/// Length below which a feature is divided by it instead of its own, as in PyTorch's `normalize`.
const LEAST: f32 = 1e-12;

/// A batch of features, packed for both products, group by group.
#[derive(Default)]
pub(super) struct Input {
    pub groups: Vec<Group>,
}

/// Some samples, at most [`GROUP`].
pub(super) struct Group {
    pub samples: usize,
    /// `[width, samples]`.
    pub forward: Packed,
    /// `[samples, width]`.
    pub backward: Packed,
}

impl Input {
    /// Packs `features` `[batch, width]`; for a step also as backward reads them.
    pub fn pack(&mut self, level: Level, width: usize, features: &[f32], step: bool) {
        let rows = features.len() / width;
        let sizes = (0..rows.div_ceil(GROUP)).map(|i| GROUP.min(rows - i * GROUP));
        if !self
            .groups
            .iter()
            .map(|group| group.samples)
            .eq(sizes.clone())
        {
            let group = |samples| Group {
                samples,
                forward: Packed::new(level, width, samples),
                backward: Packed::new(level, samples, width),
            };
            self.groups = sizes.map(group).collect();
        }
        self.groups
            .par_iter_mut()
            .zip(features.par_chunks(GROUP * width))
            .for_each(|(group, features)| {
                group.forward.set_transposed(features, width, None);
                if step {
                    group.backward.set_rows(features, width);
                }
            });
    }
}

/// Every row divided by its length.
pub(super) fn unit_rows(features: &[f32], width: usize) -> Vec<f32> {
    let mut rows = features.to_vec();
    rows.par_chunks_mut(width).for_each(|row| {
        let squares = row.iter().map(|&v| f64::from(v) * f64::from(v));
        let length = (squares.sum::<f64>().sqrt() as f32).max(LEAST);
        row.iter_mut().for_each(|value| *value /= length);
    });
    rows
}
