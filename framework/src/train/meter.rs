//! Means over steps, and the clock of an epoch.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{log::Measures, run::results::finite};

/// Means of a loss and of other figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meter {
    steps: u64,
    loss: f64,
    measures: BTreeMap<&'static str, f64>,
}

impl Meter {
    /// Counts a step in.
    pub fn add(&mut self, loss: f64, measures: &[(&'static str, f64)]) {
        self.steps += 1;
        self.loss += loss;
        for &(name, value) in measures {
            *self.measures.entry(name).or_default() += value;
        }
    }

    /// The mean loss; none before the first step.
    pub fn loss(&self) -> Option<f64> {
        finite(self.loss / self.steps as f64)
    }

    /// The means of the other figures.
    pub fn measures(&self) -> Measures {
        let mean = |sum: f64| finite(sum / self.steps as f64);
        let measures = self.measures.iter();
        measures
            .map(|(n, &sum)| ((*n).to_owned(), mean(sum)))
            .collect()
    }
}

/// How the time of an epoch is spent.
#[derive(Debug)]
pub struct Clock {
    begin: Instant,
    waiting: Duration,
    images: usize,
}

impl Clock {
    /// Starts.
    pub fn start() -> Self {
        Self {
            begin: Instant::now(),
            waiting: Duration::ZERO,
            images: 0,
        }
    }

    /// Counts the time that `wait` takes as waiting for data.
    pub fn waiting<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let value = wait();
        self.waiting += begin.elapsed();
        value
    }

    /// Counts images that were trained on.
    pub fn images(&mut self, images: usize) {
        self.images += images;
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// Images a second since the start.
    pub fn images_per_second(&self) -> f64 {
        self.images as f64 / self.seconds().max(1e-9)
    }

    /// Share of the time spent waiting.
    pub fn waiting_share(&self) -> f64 {
        self.waiting.as_secs_f64() / self.seconds().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means() {
        let mut meter = Meter::default();
        assert_eq!(meter.loss(), None);
        meter.add(2.0, &[("acc1", 10.0)]);
        meter.add(4.0, &[("acc1", 30.0)]);
        assert_eq!(meter.loss(), Some(3.0));
        assert_eq!(meter.measures()["acc1"], Some(20.0));
    }
}
