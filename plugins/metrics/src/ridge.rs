//! A linear classifier in closed form: ridge regression from features to classes.
//!
//! Features are centred and scaled by the training set, each class is a target of one and the others of zero, and the
//! weights are the exact solution W = (XᵀX + λ·n·I)⁻¹ XᵀY in double precision. There is no learning rate to tune and no
//! chance in it, so the figure is quick and always the same; a classifier trained by gradient descent ends a little
//! higher. What it tells is the course of one training, not a number to compare with papers.

use rayon::prelude::*;
use smallfry::{
    Context, Invalid, Metric,
    metric::{Evaluation, FeatureSet, Needs, Score, Watch},
    plugin,
    tensor::values,
};

/// Rows that are read at once.
const ROWS: usize = 1024;

/// The standard deviation of a number, as a share of its mean, up to which it is taken for constant and left out.
const LEAST: f64 = 1e-9;

plugin! {
    /// Accuracy of a linear classifier in closed form (ridge regression)
    pub struct RidgeProbe: Metric {
        /// What is added to the variance of each direction, as a share of that of a number; above 0.
        strength: f64 = 0.1,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Metric>, Invalid> {
        if !(self.strength > 0.0 && self.strength.is_finite()) {
            return Err(Invalid::new("strength", "must be above 0"));
        }
        Ok(Box::new(self))
    }
}

impl Metric for RidgeProbe {
    fn needs(&self) -> Needs {
        Needs {
            train: true,
            classes: true,
            ..Needs::default()
        }
    }

    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let train = evaluation
            .train
            .ok_or("needs a training set; name one by `train`")?;
        let labels = train.labels().ok_or("the training set has no classes")?;
        let test = evaluation.test;
        let truth = test.labels().ok_or("the test set has no classes")?;
        if train.width() != test.width() {
            return Err("training and test features must come from one encoder".into());
        }
        if labels.is_empty() || truth.is_empty() {
            return Err("a set is empty".into());
        }
        let classifier = Classifier::fit(train, labels, self.strength, evaluation.watch)?;
        let mut correct = 0;
        for first in (0..test.rows()).step_by(ROWS) {
            evaluation.watch.go_on()?;
            let rows = first..test.rows().min(first + ROWS);
            let features = test.read(rows.clone());
            let features = finite(&values(&features), "test")?;
            for (feature, &class) in features.chunks(test.width()).zip(&truth[rows]) {
                correct += usize::from(classifier.class(feature) == class as usize);
            }
        }
        Ok(vec![Score {
            name: "ridge probe".to_owned(),
            value: 100.0 * correct as f64 / truth.len() as f64,
            unit: "%",
            higher_is_better: true,
            error: None,
            setting: String::new(),
            table: Vec::new(),
        }])
    }
}

/// Numbers in double precision, refused where they are not finite.
fn finite(features: &[f32], set: &str) -> Result<Vec<f64>, String> {
    match features.iter().all(|value| value.is_finite()) {
        true => Ok(features.iter().map(|&value| f64::from(value)).collect()),
        false => Err(format!("a {set} feature is not finite")),
    }
}

/// A linear map from features to classes.
struct Classifier {
    mean: Vec<f64>,
    /// One over the standard deviation of each number; 0 for one that is constant.
    scale: Vec<f64>,
    /// `[classes, width]`.
    weights: Vec<f64>,
    /// The share of each class.
    bias: Vec<f64>,
}

impl Classifier {
    fn fit(
        train: &dyn FeatureSet,
        labels: &[u32],
        strength: f64,
        watch: Watch<'_>,
    ) -> Result<Self, String> {
        let (rows, width) = (train.rows(), train.width());
        let count = rows as f64;
        let classes = labels.iter().max().map_or(0, |&last| last as usize + 1);
        let read = |visit: &mut dyn FnMut(usize, &[f64])| -> Result<(), String> {
            for first in (0..rows).step_by(ROWS) {
                watch.go_on()?;
                let features = train.read(first..rows.min(first + ROWS));
                let features = finite(&values(&features), "training")?;
                visit(first, &features);
            }
            Ok(())
        };
        let mut mean = vec![0.0; width];
        read(&mut |_, features| {
            for feature in features.chunks_exact(width) {
                add(&mut mean, 1.0 / count, feature);
            }
        })?;
        let mut scale = vec![0.0; width];
        read(&mut |_, features| {
            for feature in features.chunks_exact(width) {
                for ((sum, value), mean) in scale.iter_mut().zip(feature).zip(&mean) {
                    *sum += (value - mean).powi(2) / count;
                }
            }
        })?;
        for (value, mean) in scale.iter_mut().zip(&mean) {
            let deviation = value.sqrt();
            *value = match deviation > LEAST * mean.abs() {
                true => 1.0 / deviation,
                false => 0.0,
            };
        }
        let mut bias = vec![0.0; classes];
        for &label in labels {
            bias[label as usize] += 1.0 / count;
        }
        // XᵀX and, a row a class, YᵀX; the mean of X is 0, so Y needs no centring.
        let mut gram = vec![0.0; width * width];
        let mut weights = vec![0.0; classes * width];
        let mut centred = vec![0.0; ROWS * width];
        read(&mut |first, features| {
            let centred = &mut centred[..features.len()];
            let rows = centred.chunks_exact_mut(width);
            rows.zip(features.chunks_exact(width))
                .for_each(|(centred, feature)| centre(centred, feature, &mean, &scale));
            // Every sum takes the features in their order, whatever the number of threads.
            let sums = gram.par_chunks_exact_mut(width).enumerate();
            sums.for_each(|(i, sums)| {
                for centred in centred.chunks_exact(width) {
                    add(&mut sums[..=i], centred[i] / count, &centred[..=i]);
                }
            });
            for (&label, centred) in labels[first..].iter().zip(centred.chunks_exact(width)) {
                let class = label as usize * width;
                add(&mut weights[class..][..width], 1.0 / count, centred);
            }
        })?;
        for i in 0..width {
            gram[i * width + i] += strength;
        }
        factorise(&mut gram, width);
        for class in weights.chunks_exact_mut(width) {
            solve(&gram, class);
        }
        Ok(Self {
            mean,
            scale,
            weights,
            bias,
        })
    }

    /// The class of a feature; the smallest where several are alike.
    fn class(&self, feature: &[f64]) -> usize {
        let mut centred = vec![0.0; feature.len()];
        centre(&mut centred, feature, &self.mean, &self.scale);
        let classes = self.weights.chunks_exact(feature.len()).zip(&self.bias);
        let mut best = (0, f64::NEG_INFINITY);
        for (class, (weights, bias)) in classes.enumerate() {
            let score = bias + dot(weights, &centred);
            if score > best.1 {
                best = (class, score);
            }
        }
        best.0
    }
}

fn centre(centred: &mut [f64], feature: &[f64], mean: &[f64], scale: &[f64]) {
    for (i, value) in centred.iter_mut().enumerate() {
        *value = (feature[i] - mean[i]) * scale[i];
    }
}

fn add(sums: &mut [f64], factor: f64, values: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Cholesky's factor L of a positive definite matrix `[size, size]` in its lower half, in place.
fn factorise(matrix: &mut [f64], size: usize) {
    for i in 0..size {
        let (above, row) = matrix.split_at_mut(i * size);
        for j in 0..i {
            let other = &above[j * size..];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        row[i] = (row[i] - dot(&row[..i], &row[..i])).sqrt();
    }
}

/// Solves L·Lᵀ·x = `vector` in place.
fn solve(factor: &[f64], vector: &mut [f64]) {
    let size = vector.len();
    for i in 0..size {
        let row = &factor[i * size..];
        vector[i] = (vector[i] - dot(&row[..i], &vector[..i])) / row[i];
    }
    for i in (0..size).rev() {
        let row = &factor[i * size..];
        vector[i] /= row[i];
        let value = vector[i];
        add(&mut vector[..i], -value, &row[..i]);
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use smallfry::{
        data::random::Random,
        tensor::{Features, Plain, import},
    };

    use super::*;

    /// Features in memory, two numbers each.
    struct Set {
        values: Vec<f32>,
        labels: Option<Vec<u32>>,
    }

    impl FeatureSet for Set {
        fn rows(&self) -> usize {
            self.values.len() / 2
        }

        fn width(&self) -> usize {
            2
        }

        fn labels(&self) -> Option<&[u32]> {
            self.labels.as_deref()
        }

        fn read(&self, rows: Range<usize>) -> Plain<Features> {
            let values = &self.values[2 * rows.start..2 * rows.end];
            import(values.to_vec(), (rows.len(), 2))
        }
    }

    #[test]
    fn a_system_is_solved() {
        let (size, mut random) = (7, Random::new(&[1]));
        let factor: Vec<f64> = (0..size * size).map(|_| random.normal()).collect();
        let mut matrix: Vec<f64> = (0..size * size)
            .map(|i| {
                let (a, b) = (&factor[i / size * size..], &factor[i % size * size..]);
                dot(&a[..size], &b[..size]) + f64::from(u8::from(i / size == i % size))
            })
            .collect();
        let wanted: Vec<f64> = (0..size).map(|i| i as f64 - 2.5).collect();
        let mut vector: Vec<f64> = matrix.chunks(size).map(|row| dot(row, &wanted)).collect();
        factorise(&mut matrix, size);
        solve(&matrix, &mut vector);
        for (found, wanted) in vector.iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        }
    }

    /// Two classes on a line, a third set of numbers that never changes.
    fn line(values: &[f32]) -> Set {
        Set {
            values: values.iter().flat_map(|&value| [value, 7.0]).collect(),
            labels: Some(values.iter().map(|&value| u32::from(value > 0.0)).collect()),
        }
    }

    #[test]
    fn one_number_by_hand() {
        // Values ±1 and ±3 have variance 5; scaled, their mean product with class 1 is (1 + 3) / 4 / √5 = 1/√5, which the
        // strength of 1 halves: score(class 1) = 1/2 + x / 10.
        let train = line(&[-3.0, -1.0, 1.0, 3.0]);
        let classifier =
            Classifier::fit(&train, train.labels().unwrap(), 1.0, Watch::default()).unwrap();
        assert!((classifier.weights[2] - 0.5 / 5f64.sqrt()).abs() < 1e-12);
        assert!((classifier.weights[0] + 0.5 / 5f64.sqrt()).abs() < 1e-12);
        assert_eq!((classifier.weights[1], classifier.weights[3]), (0.0, 0.0));
        assert_eq!(classifier.bias, [0.5, 0.5]);
        assert_eq!(classifier.class(&[0.2, 7.0]), 1);
        assert_eq!(classifier.class(&[-0.2, 7.0]), 0);
    }

    #[test]
    fn accuracy_and_refusals() {
        let (train, test) = (line(&[-3.0, -1.0, 1.0, 3.0]), line(&[-2.0, -0.5, 0.5, 9.0]));
        let mut wrong = line(&[-2.0, -0.5, 0.5, 9.0]);
        wrong.labels = Some(vec![0, 1, 1, 1]);
        let probe = RidgeProbe::default();
        let score = |train: Option<&Set>, test: &Set| {
            let evaluation = Evaluation {
                train: train.map(|set| set as &dyn FeatureSet),
                ..Evaluation::of(test)
            };
            probe.evaluate(&evaluation).map(|scores| scores[0].value)
        };
        assert_eq!(score(Some(&train), &test), Ok(100.0));
        assert_eq!(score(Some(&train), &wrong), Ok(75.0));
        assert!(score(None, &test).is_err());
        let mut broken = line(&[1.0, -1.0]);
        broken.values[2] = f32::NAN;
        assert!(score(Some(&broken), &test).is_err_and(|e| e.contains("training feature")));
        assert!(score(Some(&train), &broken).is_err_and(|e| e.contains("test feature")));
    }
}
