//! Which samples an epoch takes, in which order.

use crate::random::Random;

/// Sets the shuffling apart from the streams of views, whose third part is a sample number.
const SHUFFLE: u64 = u64::MAX;

/// The order of samples in an epoch, and what happens to those that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// For training: another order each epoch, batches always full, the rest dropped.
    ///
    /// A sample drawn by the seed stands in for an unreadable one.
    Shuffled,
    /// As `Shuffled`, but every sample comes: the last batch is as large as is left.
    ShuffledWhole,
    /// For evaluation: the set's own order, the last batch as large as is left.
    ///
    /// Unreadable samples are left out; [`super::Batch::samples`] says what is there.
    Sequential,
}

impl Order {
    /// Batches of an epoch.
    pub fn batches(self, samples: usize, batch: usize) -> usize {
        let batch = batch.max(1);
        match self {
            Order::Shuffled => samples / batch,
            Order::ShuffledWhole | Order::Sequential => samples.div_ceil(batch),
        }
    }

    /// The samples of an epoch, before any of them turns out to be unreadable.
    pub fn samples(self, samples: usize, seed: u64, epoch: u64) -> Vec<u32> {
        match self {
            Order::Shuffled | Order::ShuffledWhole => {
                Random::new(&[seed, epoch, SHUFFLE]).permutation(samples)
            }
            Order::Sequential => (0..samples as u32).collect(),
        }
    }
}

/// A place in a run: the next batch to load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The batch in the epoch, from 0.
    pub batch: usize,
}
