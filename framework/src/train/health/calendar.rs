//! The epochs in which the health of a training is measured.

use crate::{objective::Setup, plan::Health};

/// Share of the images that training looks at which measuring may look at in all, where the file leaves the epochs open.
/// An image costs a measurement less than training, which goes backward too: time grows by less than this.
const SHARE: f64 = 0.02;

/// The epochs in which an encoder is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    /// Multiples of this, 0 among them; the last epoch alone where none.
    every: Option<usize>,
    last: usize,
}

impl Calendar {
    /// The epochs of a run of `setup` in which `looked_at` images are measured each time, as `health` says.
    pub fn of(health: &Health, setup: &Setup, looked_at: usize) -> Self {
        let thinned = || {
            let seen = (setup.samples * setup.epochs) as f64;
            let count = (SHARE * seen / looked_at.max(1) as f64) as usize;
            // The start is one of them.
            (count >= 2).then(|| setup.epochs.div_ceil(count - 1))
        };
        Self {
            every: health.every.or_else(thinned),
            last: setup.epochs,
        }
    }

    /// Whether the encoder is measured after `epoch` epochs.
    pub fn due(&self, epoch: usize) -> bool {
        epoch == self.last || self.every.is_some_and(|every| epoch.is_multiple_of(every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_follow_from_sizes() {
        let due = |every, samples, epochs, looked_at| {
            let health = Health {
                every,
                ..Health::default()
            };
            let setup = Setup {
                seed: 0,
                batch: 8,
                samples,
                epochs,
            };
            let calendar = Calendar::of(&health, &setup, looked_at);
            let due = (0..=epochs).filter(|&epoch| calendar.due(epoch));
            due.collect::<Vec<_>>()
        };
        assert_eq!(due(Some(2), 10, 5, 10), [0, 2, 4, 5]);
        assert_eq!(due(None, 1_281_167, 3, 512), [0, 1, 2, 3]);
        // 2 % of 250 images in 100 epochs are 500, two measurements of 250.
        assert_eq!(due(None, 250, 100, 250), [0, 100]);
        assert_eq!(due(None, 250, 99, 250), [99]);
        assert_eq!(
            due(None, 250, 400, 250),
            [0, 58, 116, 174, 232, 290, 348, 400]
        );
        for (samples, epochs, looked_at) in [(60, 7, 60), (5000, 10, 512), (50_000, 200, 3000)] {
            let times = due(None, samples, epochs, looked_at).len();
            let allowed = (SHARE * (samples * epochs) as f64 / looked_at as f64).max(1.0);
            assert!(times as f64 <= allowed, "{times} {allowed}");
        }
    }
}
