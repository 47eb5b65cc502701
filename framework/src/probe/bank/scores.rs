//! The scores of a head, their figures, and their gradients.

use smallfry_nn::kernel::gemm::{Finish, Rows, multiply_packed};

use super::{
    super::figures::{Figures, rank},
    GAP, GROUP,
    input::Group,
};

/// The scores of one head on one group.
pub(super) struct Task<'a> {
    /// `[classes, width]`, rows `width + GAP` apart.
    pub weight: &'a [f32],
    /// `[classes]`.
    pub bias: &'a [f32],
    /// Where the scores go, `[classes, samples]`, rows `GROUP + GAP` apart.
    pub products: &'a mut [f32],
    /// The samples.
    pub group: &'a Group,
    /// Their classes.
    pub labels: &'a [u32],
}

impl Task<'_> {
    /// Works out the scores and their figures; with a `share` that each sample has in the loss, replaces the scores by
    /// their gradients.
    pub fn run(self, width: usize, share: Option<f32>) -> Figures {
        let (classes, stride) = (self.bias.len(), width + GAP);
        multiply_packed(
            classes,
            Rows {
                values: self.weight,
                stride,
            },
            &self.group.forward,
            self.products,
            GROUP + GAP,
            Finish::default(),
        );
        let samples = self.labels.len();
        // The largest score and then the sum of exponentials of each sample; samples are neighbours in memory.
        let mut largest = [f32::NEG_INFINITY; GROUP];
        let mut sums = [0.0f32; GROUP];
        let rows = self.products.chunks_mut(GROUP + GAP).zip(self.bias);
        for (row, bias) in rows {
            for (score, largest) in row[..samples].iter_mut().zip(&mut largest) {
                *score += bias;
                *largest = largest.max(*score);
            }
        }
        let mut figures = Figures::default();
        let mut own = [0.0f32; GROUP];
        let mut ranks = [0; GROUP];
        for (j, &label) in self.labels.iter().enumerate() {
            let scores = self.products.chunks(GROUP + GAP).map(|row| row[j]);
            own[j] = self.products[label as usize * (GROUP + GAP) + j];
            ranks[j] = rank(scores, label as usize, own[j]);
        }
        for row in self.products.chunks_mut(GROUP + GAP) {
            let columns = row[..samples].iter_mut().zip(&largest).zip(&mut sums);
            for ((score, largest), sum) in columns {
                *score = (*score - largest).exp();
                *sum += *score;
            }
        }
        for j in 0..samples {
            // In this order the two large numbers meet first.
            let loss = f64::from(sums[j].ln()) + (f64::from(largest[j]) - f64::from(own[j]));
            figures.count(loss, ranks[j]);
        }
        if let Some(share) = share {
            let scales: Vec<f32> = sums[..samples].iter().map(|sum| share / sum).collect();
            for row in self.products.chunks_mut(GROUP + GAP) {
                for (value, scale) in row[..samples].iter_mut().zip(&scales) {
                    *value *= scale;
                }
            }
            for (j, &label) in self.labels.iter().enumerate() {
                self.products[label as usize * (GROUP + GAP) + j] -= share;
            }
        }
        figures
    }
}
