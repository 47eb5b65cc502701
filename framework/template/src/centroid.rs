//! Accuracy of the nearest class mean: what is left of a classifier without a parameter to choose.

use smallfry::{
    Context, Invalid, Metric,
    metric::{Evaluation, FeatureSet, Score},
    plugin,
    tensor::values,
};

/// Rows that are read at once: memory stays bounded however large a set is.
const ROWS: usize = 1024;

plugin! {
    /// Accuracy of the nearest class mean
    pub struct Centroid: Metric {
        /// Whether features are brought to length 1 before.
        normalise: bool = true,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Metric>, Invalid> {
        Ok(Box::new(self))
    }
}

impl Metric for Centroid {
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let train = evaluation
            .train
            .ok_or("needs a set `train` to learn from")?;
        let test = evaluation.test;
        let (Some(known), Some(wanted)) = (train.labels(), test.labels()) else {
            return Err("needs images with classes".to_owned());
        };
        if test.rows() == 0 || train.rows() == 0 {
            return Err("needs at least one image in each set".to_owned());
        }
        let classes = known.iter().max().map_or(0, |&label| label as usize + 1);
        let mut sums = vec![vec![0.0; train.width()]; classes];
        let mut counts = vec![0.0; classes];
        self.rows(train, |row, feature| {
            let class = known[row] as usize;
            counts[class] += 1.0;
            for (sum, value) in sums[class].iter_mut().zip(feature) {
                *sum += value;
            }
        });
        for (sum, count) in sums.iter_mut().zip(&counts) {
            for value in sum {
                *value /= count;
            }
        }
        let mut hits = 0;
        self.rows(test, |row, feature| {
            let distances = sums
                .iter()
                .zip(&counts)
                .enumerate()
                .filter(|(_, (_, count))| **count > 0.0);
            let nearest = distances
                .map(|(class, (mean, _))| {
                    let squares = mean.iter().zip(feature).map(|(a, b)| (a - b).powi(2));
                    (squares.sum::<f64>(), class)
                })
                .min_by(|a, b| a.0.total_cmp(&b.0));
            hits += usize::from(nearest.is_some_and(|(_, class)| class == wanted[row] as usize));
        });
        Ok(vec![Score {
            name: "centroid".to_owned(),
            value: 100.0 * hits as f64 / test.rows() as f64,
            unit: "%",
            higher_is_better: true,
            error: None,
            setting: String::new(),
            table: Vec::new(),
        }])
    }
}

impl Centroid {
    /// Calls `with` with the number and the feature of every row, in double precision.
    fn rows(&self, set: &dyn FeatureSet, mut with: impl FnMut(usize, &[f64])) {
        for start in (0..set.rows()).step_by(ROWS) {
            let features = set.read(start..(start + ROWS).min(set.rows()));
            for (i, row) in values(&features).chunks_exact(set.width()).enumerate() {
                let mut row: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
                if self.normalise {
                    let length = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
                    row.iter_mut().for_each(|value| *value /= length);
                }
                with(start + i, &row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use smallfry::testing::Set;

    use super::*;

    #[test]
    fn by_hand() {
        let set = |values: &[f32], labels: &[u32]| Set {
            values: values.to_vec(),
            width: 2,
            labels: Some(labels.to_vec()),
        };
        // Means at (1, 0) and (0, 1) after normalisation; class 1 has no image to learn from.
        let train = set(&[2.0, 0.0, 5.0, 0.0, 0.0, 3.0], &[0, 0, 2]);
        let test = set(&[9.0, 1.0, 1.0, 9.0, 9.0, 1.0, 1.0, 9.0], &[0, 2, 2, 1]);
        let evaluation = Evaluation {
            train: Some(&train),
            ..Evaluation::of(&test)
        };
        let scores = Centroid::default().evaluate(&evaluation);
        assert_eq!(scores.map(|scores| scores[0].value), Ok(50.0));
    }
}
