//! The clock of an epoch of classifiers. Training's own waits by itself; here each kind of classifier tells its waiting.

use std::time::Duration;

/// How the time of an epoch is spent.
#[derive(Debug, Default)]
pub struct Clock {
    /// Time spent in steps.
    pub time: Duration,
    waited: f64,
    images: usize,
}

impl Clock {
    /// Counts a step of `images` images in, of whose `time` so many seconds were `waited` for them.
    pub fn add(&mut self, time: Duration, waited: f64, images: usize) {
        self.time += time;
        self.waited += waited;
        self.images += images;
    }

    /// Images a second.
    pub fn images_per_second(&self) -> f64 {
        self.images as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// Share of the time spent waiting, from 0 to 1.
    pub fn waiting(&self) -> f64 {
        self.waited / self.time.as_secs_f64().max(1e-9)
    }
}
