//! What a classifier's answers add up to: loss, and how often the right class was among the first.

use serde::{Deserialize, Serialize};

use crate::results::finite;

/// Sums over samples; the reference's `Acc@1` and `Acc@5` are [`top1`](Self::top1) and [`top5`](Self::top5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Samples counted.
    pub samples: u64,
    /// Sum of the cross-entropies, as bits: a decimal number need not come back as the same one.
    #[serde(with = "bits")]
    pub loss: f64,
    /// Samples whose class had the largest score.
    pub first: u64,
    /// Samples whose class was among the five largest scores.
    pub fifth: u64,
}

impl Figures {
    /// Counts a sample with cross-entropy `loss`, whose class came `rank` places behind the largest score.
    pub fn count(&mut self, loss: f64, rank: usize) {
        self.samples += 1;
        self.loss += loss;
        self.first += u64::from(rank == 0);
        self.fifth += u64::from(rank < 5);
    }

    /// Counts the samples of `other` behind the own ones.
    pub fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.loss += other.loss;
        self.first += other.first;
        self.fifth += other.fifth;
    }

    /// Mean cross-entropy; none where it is no number or there is no sample.
    pub fn mean_loss(&self) -> Option<f64> {
        finite(self.loss / self.samples as f64)
    }

    /// Share of right answers in percent; none without samples.
    pub fn top1(&self) -> Option<f64> {
        finite(100.0 * self.first as f64 / self.samples as f64)
    }

    /// Share of samples whose class was among the first five in percent; none without samples.
    pub fn top5(&self) -> Option<f64> {
        finite(100.0 * self.fifth as f64 / self.samples as f64)
    }
}

/// Classes that come before class `label` when scores are sorted, the largest first and equal ones in the order of the
/// classes. A score that is no number comes behind all.
pub fn rank(scores: impl Iterator<Item = f32>, label: usize, own: f32) -> usize {
    if own.is_nan() {
        return usize::MAX;
    }
    let ahead = |&(class, score): &(usize, f32)| score > own || (score == own && class < label);
    scores.enumerate().filter(ahead).count()
}

mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_scores_and_then_classes() {
        let scores = [0.5, 2.0, 0.5, f32::NAN, -1.0];
        for (label, expected) in [(0, 1), (1, 0), (2, 2), (3, usize::MAX), (4, 3)] {
            assert_eq!(
                rank(scores.into_iter(), label, scores[label]),
                expected,
                "{label}"
            );
        }
    }

    #[test]
    fn shares_are_of_all_samples() {
        let mut figures = Figures::default();
        assert_eq!((figures.mean_loss(), figures.top1()), (None, None));
        for (loss, rank) in [(0.5, 0), (1.0, 4), (1.5, 5), (5.0, usize::MAX)] {
            figures.count(loss, rank);
        }
        assert_eq!(figures.mean_loss(), Some(2.0));
        assert_eq!((figures.top1(), figures.top5()), (Some(25.0), Some(50.0)));
        let mut twice = figures;
        twice.add(&figures);
        assert_eq!((twice.samples, twice.top5()), (8, Some(50.0)));
    }

    #[test]
    fn sums_come_back_to_the_last_bit() {
        for loss in [0.1, f64::NAN, f64::INFINITY, 1.0 / 3.0] {
            let figures = Figures {
                loss,
                ..Figures::default()
            };
            let text = serde_json::to_string(&figures).unwrap();
            let back: Figures = serde_json::from_str(&text).unwrap();
            assert_eq!(back.loss.to_bits(), loss.to_bits());
        }
    }
}
