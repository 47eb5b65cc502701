//! Cross-entropy of rows of scores, as the last layer of a network gives them.

use super::figures::{Figures, rank};

/// Figures of `scores` `[batch, classes]` for classes `labels`. With `gradient`, writes the gradient of the mean
/// cross-entropy of the batch to it.
///
/// # Panics
/// If a label is no class, or a slice has another length.
pub fn cross_entropy(scores: &[f32], labels: &[u32], mut gradient: Option<&mut [f32]>) -> Figures {
    let classes = scores.len() / labels.len();
    assert_eq!(scores.len(), labels.len() * classes, "a row for each label");
    let share = 1.0 / labels.len() as f64;
    let mut figures = Figures::default();
    for (i, (row, &label)) in scores.chunks(classes).zip(labels).enumerate() {
        let own = row[label as usize];
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponential = |score: &f32| f64::from(score - largest).exp();
        let sum: f64 = row.iter().map(exponential).sum();
        let loss = sum.ln() + (f64::from(largest) - f64::from(own));
        figures.count(loss, rank(row.iter().copied(), label as usize, own));
        if let Some(gradient) = &mut gradient {
            let slots = &mut gradient[i * classes..][..classes];
            for (class, (slot, score)) in slots.iter_mut().zip(row).enumerate() {
                let wanted = f64::from(u8::from(class == label as usize));
                *slot = (share * (exponential(score) / sum - wanted)) as f32;
            }
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_are_chance() {
        let mut gradient = [0.0; 8];
        let figures = cross_entropy(&[3.0; 8], &[0, 3], Some(&mut gradient));
        assert!((figures.mean_loss().unwrap() - 4f64.ln()).abs() < 1e-12);
        assert_eq!((figures.first, figures.fifth), (1, 2));
        assert_eq!(gradient[..4], [-0.375, 0.125, 0.125, 0.125]);
        assert_eq!(gradient[4..], [0.125, 0.125, 0.125, -0.375]);
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let scores: Vec<f32> = (0..15).map(|i| (1.7 * i as f32).sin() * 3.0).collect();
        let labels = [4, 0, 2];
        let mut gradient = [0.0; 15];
        cross_entropy(&scores, &labels, Some(&mut gradient));
        for i in 0..15 {
            let moved = |by: f32| {
                let mut scores = scores.clone();
                scores[i] += by;
                cross_entropy(&scores, &labels, None).mean_loss().unwrap()
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-4, "{i}");
        }
    }

    #[test]
    fn large_scores_do_not_overflow_and_no_number_is_told() {
        let figures = cross_entropy(&[1e30, -1e30, 0.0, 1e30], &[0, 1], None);
        assert_eq!((figures.loss, figures.first), (0.0, 2));
        let figures = cross_entropy(&[f32::NAN, 0.0], &[0], None);
        assert!(figures.mean_loss().is_none() && figures.first == 0);
        assert!(
            cross_entropy(&[f32::INFINITY, 0.0], &[0], None)
                .mean_loss()
                .is_none()
        );
    }
}
