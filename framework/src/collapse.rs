//! When features are taken for collapsed.
//!
//! The bounds are far from anything that a healthy run shows, so that no run is stopped for nothing. Two things look
//! like a collapse and are none: a hard task begins at chance, and a fresh network, whose running statistics are not yet
//! those of its layers, gives nearly the same feature for every image. So features are judged once they have been apart,
//! or after so many steps that the slowest running statistics (a momentum of 0.01) have settled.

use crate::log::Entry;

/// Steps after which features are judged even if they have never been apart.
const SETTLED: u64 = 3000;

/// Steps after which something must be learnt of the task.
const LEARNT: u64 = 1000;

/// Deviation of the features, as a share of that of features spread evenly, below which they lie on one point.
const SPREAD: f64 = 0.01;

/// Effective rank below which features lie on one line.
const RANK: f64 = 1.5;

/// Share of the loss by which it must differ from that of guessing.
const LOSS: f64 = 0.005;

/// How many times as often as by guessing the right key must be found.
const HITS: f64 = 2.0;

/// Images below which the features are not judged.
const IMAGES: usize = 8;

/// What is known of an encoder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// Steps done.
    pub step: u64,
    /// Images that were measured.
    pub images: usize,
    /// Width of their features.
    pub width: usize,
    /// Mean standard deviation of the numbers of features of length one.
    pub deviation: Option<f64>,
    /// Directions that the features use.
    pub effective_rank: Option<f64>,
    /// What is wrong where a feature is not finite.
    pub not_finite: Option<String>,
    /// Mean loss of the epoch.
    pub loss: Option<f64>,
    /// The loss of guessing.
    pub chance_loss: Option<f64>,
    /// How often the right key was found in the epoch, in percent.
    pub acc1: Option<f64>,
}

impl Evidence {
    /// What a line of the log tells of the features.
    pub fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Health { images, width, .. } => Self {
                images: *images,
                width: *width,
                deviation: entry.figure("deviation"),
                effective_rank: entry.figure("effective_rank"),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    /// Whether the features are known to lie apart, on more than a line.
    pub fn apart(&self) -> bool {
        let known = self.deviation.is_some() && self.effective_rank.is_some();
        known && self.point().is_none() && self.line().is_none()
    }

    /// Whether the features are known to lie on one point or one line, whatever that means so early.
    pub fn together(&self) -> bool {
        self.point().or_else(|| self.line()).is_some()
    }

    /// The reason to take the encoder for collapsed, if there is one. Only what no time can mend counts unless
    /// `patience` is at its end; `apart` where the features lay apart before.
    pub fn collapse(&self, patience: bool, apart: bool) -> Option<String> {
        if self.not_finite.is_some() || !patience {
            return self.not_finite.clone();
        }
        let features = || self.point().or_else(|| self.line());
        let features = (apart || self.step >= SETTLED).then(features).flatten();
        features.or_else(|| self.chance().filter(|_| self.step >= LEARNT))
    }

    fn point(&self) -> Option<String> {
        let deviation = self.deviation.filter(|_| self.images >= IMAGES)?;
        let even = 1.0 / (self.width as f64).sqrt();
        (deviation < SPREAD * even).then(|| {
            format!(
                "the features have collapsed: those of all {} images are nearly the same (standard deviation \
                 {deviation:.2e}; spread evenly, features of {} numbers have {even:.2e})",
                self.images, self.width
            )
        })
    }

    fn line(&self) -> Option<String> {
        let enough = self.images >= IMAGES && self.width > 1;
        let rank = self.effective_rank.filter(|_| enough)?;
        (rank < RANK).then(|| {
            format!(
                "the features have collapsed: those of all {} images lie along one direction (effective rank {rank:.2} \
                 of {})",
                self.images, self.width
            )
        })
    }

    fn chance(&self) -> Option<String> {
        let (loss, chance, acc1) = (self.loss?, self.chance_loss?, self.acc1?);
        let guessed = 100.0 * (-chance).exp();
        let stuck = (loss - chance).abs() < LOSS * chance && acc1 < HITS * guessed;
        stuck.then(|| {
            format!(
                "nothing is learnt: the loss of {loss:.4} is that of guessing, {chance:.4}, and the key of the same \
                 image is found in {acc1:.3} % of cases, by guessing in {guessed:.3} %"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Evidence {
        Evidence {
            step: LEARNT,
            images: 512,
            width: 128,
            deviation: Some(0.07),
            effective_rank: Some(40.0),
            not_finite: None,
            loss: Some(8.2),
            chance_loss: Some(65_537f64.ln()),
            acc1: Some(30.0),
        }
    }

    #[test]
    fn each_reason_alone() {
        let reason = |change: fn(&mut Evidence)| {
            let mut evidence = healthy();
            change(&mut evidence);
            evidence.collapse(true, true).unwrap_or_default()
        };
        assert_eq!(reason(|_| ()), "");
        for (change, said) in [
            (
                (|e| e.deviation = Some(0.0008)) as fn(&mut Evidence),
                "nearly the same (standard deviation 8.00e-4; spread evenly, features of 128 numbers have 8.84e-2)",
            ),
            (
                |e| e.effective_rank = Some(1.2),
                "effective rank 1.20 of 128",
            ),
            (
                |e| (e.loss, e.acc1) = (Some(11.08), Some(0.002)),
                "the loss of 11.0800 is that of guessing, 11.0904",
            ),
        ] {
            assert!(reason(change).contains(said), "{}", reason(change));
        }
    }

    #[test]
    fn what_is_only_slow_or_hard_is_no_collapse() {
        for change in [
            (|e| e.deviation = Some(0.001)) as fn(&mut Evidence),
            |e| e.effective_rank = Some(1.6),
            // A loss at chance with hits beyond it, hits at chance with another loss, and no such figures.
            |e| (e.loss, e.acc1) = (Some(11.08), Some(0.01)),
            |e| (e.loss, e.acc1) = (Some(11.2), Some(0.001)),
            |e| (e.loss, e.acc1) = (Some(11.08), None),
            |e| (e.deviation, e.images) = (Some(0.0), 7),
            |e| (e.effective_rank, e.width) = (Some(1.0), 1),
        ] {
            let mut evidence = healthy();
            change(&mut evidence);
            assert_eq!(evidence.collapse(true, true), None);
        }
    }

    #[test]
    fn features_are_apart_where_that_is_known() {
        let mut evidence = healthy();
        assert!(evidence.apart());
        evidence.effective_rank = Some(1.1);
        assert!(!evidence.apart());
        assert!(!Evidence::default().apart());
    }

    #[test]
    fn time_is_given_to_what_time_can_mend() {
        let mut evidence = healthy();
        evidence.deviation = Some(0.0);
        assert_eq!(evidence.collapse(false, true), None);
        // A fresh network whose running statistics may not have settled.
        assert_eq!(evidence.collapse(true, false), None);
        evidence.step = SETTLED;
        assert!(evidence.collapse(true, false).is_some());
        evidence = healthy();
        (evidence.loss, evidence.acc1) = (Some(11.08), Some(0.0));
        assert!(evidence.collapse(true, false).is_some());
        evidence.step = LEARNT - 1;
        assert_eq!(evidence.collapse(true, true), None);
        evidence.not_finite = Some("no numbers".to_owned());
        assert_eq!(
            evidence.collapse(false, false).as_deref(),
            Some("no numbers")
        );
    }
}
