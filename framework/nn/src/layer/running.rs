//! The running statistics of a batch norm: what inference normalises with.

use std::ops::Range;

use crate::{network::Norm, parameter::Parameters};

/// Where the running statistics of a batch norm are, and how fast they move.
#[derive(Clone, Debug)]
pub(in crate::layer) struct Running {
    momentum: f64,
    mean: Range<usize>,
    variance: Range<usize>,
    counter: usize,
}

impl Running {
    /// Those of the batch norm that `norm` describes.
    pub fn new(norm: &Norm, parameters: &Parameters) -> Self {
        let name = |last| format!("{}.{last}", norm.name);
        Self {
            momentum: norm.momentum.into(),
            mean: parameters.statistic_place(&name("running_mean")),
            variance: parameters.statistic_place(&name("running_var")),
            counter: parameters.counter_place(&name("num_batches_tracked")),
        }
    }

    /// Mean and variance of channel `c`.
    pub fn channel(&self, c: usize, parameters: &Parameters) -> (f64, f64) {
        let statistics = parameters.statistics();
        let [mean, variance] =
            [&self.mean, &self.variance].map(|place| statistics[place.start + c]);
        (mean.into(), variance.into())
    }

    /// Moves those of channel `c` towards a batch's mean and unbiased variance.
    pub fn follow(&self, c: usize, mean: f64, variance: f64, parameters: &mut Parameters) {
        let statistics = parameters.statistics_mut();
        for (place, value) in [(&self.mean, mean), (&self.variance, variance)] {
            let number = &mut statistics[place.start + c];
            let old = f64::from(*number);
            *number = (old + self.momentum * (value - old)) as f32;
        }
    }

    /// Counts a batch that all channels have followed.
    pub fn count(&self, parameters: &mut Parameters) {
        parameters.counters_mut()[self.counter] += 1;
    }
}
