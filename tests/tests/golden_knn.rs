//! Best-NN against the reference: every k, every space, predictions, from two independent sets of numbers.

use std::ops::Range;

use smallfry::{
    Metric,
    metric::{Evaluation, FeatureSet, Judged, Original},
    tensor::{Features, Plain, import},
};
use smallfry_metrics::{
    best_nn::Voting,
    space::{Centre, Space},
};
use smallfry_tests::golden::{Reference, Tensor, counted_scaled};

struct Set {
    width: usize,
    features: Vec<f32>,
    labels: Vec<u32>,
}

impl Set {
    fn new(features: &Tensor, labels: &Tensor) -> Self {
        Self {
            width: features.shape[1],
            features: features.floats(),
            labels: labels.values.iter().map(|&label| label as u32).collect(),
        }
    }
}

impl FeatureSet for Set {
    fn rows(&self) -> usize {
        self.labels.len()
    }

    fn width(&self) -> usize {
        self.width
    }

    fn labels(&self) -> Option<&[u32]> {
        Some(&self.labels)
    }

    fn read(&self, rows: Range<usize>) -> Plain<Features> {
        let values = self.features[rows.start * self.width..rows.end * self.width].to_vec();
        import(values, (rows.len(), self.width))
    }
}

const SPACES: [Space; 3] = [Space::Original, Space::Norm, Space::ShiftNorm];

#[test]
fn photographs_are_classified_as_by_the_reference() {
    let Some(reference) = Reference::find("best-NN on features of photographs") else {
        return;
    };
    let tensors = reference.tensors("golden/g5_eval/knn_features.safetensors");
    let train = Set::new(&tensors["train_features"], &tensors["train_labels"]);
    let test = Set::new(&tensors["val_features"], &tensors["val_labels"]);
    let evaluation = Evaluation {
        train: Some(&train),
        ..Evaluation::of(&test)
    };
    let file = reference.json("golden/g5_eval/evaluation.json");
    let knn = &file["knn"];
    let k = knn["k_max"].as_u64().expect("a number") as usize;
    for space in SPACES {
        let case = &knn["rep_spaces"][space.name()];
        let voting = Voting {
            k,
            space,
            centre: Centre::Batches(512),
        };
        let scores = voting.evaluate(&evaluation).expect("the sets are sound");
        let score = &scores[0];
        assert_eq!(score.table.len(), 11);
        for (name, accuracy) in &score.table {
            let k = name.strip_prefix("k = ").expect("a row for each k");
            let expected = case["accuracy_by_k"][k].as_f64().expect("an accuracy");
            assert_eq!(*accuracy, 100.0 * expected, "{}, {name}", space.name());
        }
        let best = case["best_accuracy"].as_f64().expect("an accuracy");
        assert_eq!(score.value, 100.0 * best);
        let setting = format!("k = {}", case["best_k"]);
        assert_eq!(score.setting.split(',').next(), Some(&*setting));
        let judged = Judged {
            checkpoint: "",
            data: "",
        };
        let printed = case["seed_script_output"].as_str().expect("a line");
        let original = voting.original(&scores, &judged);
        assert_eq!(original, Some(Original::Line(printed.to_owned())));
        let predictions = voting.predictions(&evaluation).expect("the sets are sound");
        for (column, name) in [(0, "predictions_k1"), (2, "predictions_k5")] {
            let expected = case[name].as_array().expect("predictions");
            assert_eq!(expected.len(), predictions.len());
            for (row, expected) in predictions.iter().zip(expected) {
                assert_eq!(Some(u64::from(row[column])), expected.as_u64(), "{name}");
            }
        }
    }
}

#[test]
fn clusters_are_classified_as_in_the_second_set_of_values() {
    let Some(reference) = Reference::find("best-NN on drawn clusters") else {
        return;
    };
    let text = reference.text("spec/values/golden_training.txt");
    let (classes, each, width) = (6, 5, 16);
    let centres = counted_scaled(700, classes * width, 1.0);
    let [first, _, third] = [701, 702, 703].map(|t| counted_scaled(t, classes * each * width, 1.0));
    let labels: Vec<u32> = (0..(classes * each) as u32)
        .map(|i| i / each as u32)
        .collect();
    let mut train = Vec::new();
    let mut test = Vec::new();
    for (i, (first, third)) in first.iter().zip(&third).enumerate() {
        let centre = f64::from(centres[i / (each * width) * width + i % width]);
        let value = 0.5 * centre + f64::from(*first);
        train.push(value as f32);
        test.push((value + 0.9 * f64::from(*third)) as f32);
    }
    let set = |features| Set {
        width,
        features,
        labels: labels.clone(),
    };
    let (train, test) = (set(train), set(test));
    let evaluation = Evaluation {
        train: Some(&train),
        ..Evaluation::of(&test)
    };
    for space in SPACES {
        let start = format!("knn train=R0 test=R2 {}", space.name());
        let line = text
            .lines()
            .find(|line| line.starts_with(&start))
            .expect("a line of values");
        let (_, table) = line.split_once('{').expect("a table");
        let voting = Voting {
            k: 11,
            space,
            centre: Centre::Whole,
        };
        let scores = voting.evaluate(&evaluation).expect("the sets are sound");
        let expected: Vec<&str> = table.trim_end_matches('}').split(", ").collect();
        assert_eq!(scores[0].table.len(), expected.len());
        for ((name, accuracy), expected) in scores[0].table.iter().zip(expected) {
            let (k, expected) = expected.split_once(": ").expect("k and accuracy");
            let expected: f64 = expected.parse().expect("an accuracy");
            assert_eq!(name, &format!("k = {k}"));
            assert!(
                (accuracy - expected).abs() < 1e-5,
                "{start}, {name}: {accuracy} for {expected}"
            );
        }
    }
}
