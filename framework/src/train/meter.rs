//! Means over steps, and the clock of an epoch.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{log::Measures, results::finite};

/// Means of a loss and of other figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "Sums", from = "Sums")]
pub struct Meter {
    steps: u64,
    loss: f64,
    measures: BTreeMap<String, f64>,
}

/// A meter as it is saved: the bits of its sums, because a decimal number need not come back as the same one.
#[derive(Serialize, Deserialize)]
struct Sums {
    steps: u64,
    loss: u64,
    measures: BTreeMap<String, u64>,
}

impl From<Meter> for Sums {
    fn from(meter: Meter) -> Self {
        let measures = meter.measures.into_iter();
        Self {
            steps: meter.steps,
            loss: meter.loss.to_bits(),
            measures: measures.map(|(n, sum)| (n, sum.to_bits())).collect(),
        }
    }
}

impl From<Sums> for Meter {
    fn from(sums: Sums) -> Self {
        let measures = sums.measures.into_iter();
        Self {
            steps: sums.steps,
            loss: f64::from_bits(sums.loss),
            measures: measures.map(|(n, sum)| (n, f64::from_bits(sum))).collect(),
        }
    }
}

/// Everything that an epoch adds up on its way and tells of at its end.
///
/// It is saved with a state within the epoch; what is carried from step to step and is neither here nor in the
/// learner's buffers is lost by a kill.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The whole epoch.
    pub whole: Meter,
    /// The steps since the last line of the log.
    pub recent: Meter,
    /// Unreadable images that were replaced: name and reason, in the order of the batches.
    pub replaced: Vec<(String, String)>,
}

impl Meter {
    /// Counts a step in.
    pub fn add(&mut self, loss: f64, measures: &[(&'static str, f64)]) {
        self.steps += 1;
        self.loss += loss;
        for &(name, value) in measures {
            match self.measures.get_mut(name) {
                Some(sum) => *sum += value,
                None => {
                    self.measures.insert(name.to_owned(), value);
                }
            }
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
            .map(|(name, &sum)| (name.clone(), mean(sum)))
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

    #[test]
    fn sums_come_back_to_the_last_bit() {
        let mut meter = Meter::default();
        for value in [0.1, 1e-300, -7.3e15, 1.0 / 3.0, f64::NAN] {
            meter.add(value, &[("a", value), ("b", -0.0)]);
            let text = serde_json::to_string(&meter).unwrap();
            let back: Meter = serde_json::from_str(&text).unwrap();
            assert_eq!(back.loss.to_bits(), meter.loss.to_bits());
            let bits = |meter: &Meter| {
                meter
                    .measures
                    .values()
                    .map(|v| v.to_bits())
                    .collect::<Vec<_>>()
            };
            assert_eq!((back.steps, bits(&back)), (meter.steps, bits(&meter)));
        }
    }
}
