//! Best-NN against a slow reference implementation, hand-checkable sets and bad input.

use std::{collections::BTreeMap, ops::Range, path::Path};

use smallfry::{
    Plugin,
    tensor::{Features, Plain, import},
};

use super::*;

struct Set {
    width: usize,
    features: Vec<f32>,
    labels: Option<Vec<u32>>,
}

impl FeatureSet for Set {
    fn rows(&self) -> usize {
        self.features.len() / self.width
    }

    fn width(&self) -> usize {
        self.width
    }

    fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    fn read(&self, rows: Range<usize>) -> Plain<Features> {
        let values = self.features[rows.start * self.width..rows.end * self.width].to_vec();
        import(values, (rows.len(), self.width))
    }
}

/// Loose clusters of classes, with coarse values so that equal distances occur.
fn random(seed: u64, rows: usize, width: usize, classes: u32) -> Set {
    let mut random = Random::new(&[seed]);
    let labels: Vec<u32> = (0..rows)
        .map(|_| (random.unit() * f64::from(classes)) as u32)
        .collect();
    let features = labels.iter().flat_map(|&label| {
        let values = (0..width).map(|i| {
            let centre = if i as u32 % classes == label {
                0.5
            } else {
                0.0
            };
            ((centre + random.unit()) * 8.0).floor() as f32 / 8.0 + 1.0
        });
        values.collect::<Vec<f32>>()
    });
    Set {
        width,
        features: features.collect(),
        labels: Some(labels),
    }
}

fn evaluation<'a>(train: &'a Set, test: &'a Set) -> Evaluation<'a> {
    Evaluation {
        train: Some(train),
        seed: 3,
        ..Evaluation::of(test)
    }
}

/// Distances in double precision, a full sort, a fresh count for every k.
fn slowly(train: &Set, test: &Set, k: usize) -> Vec<Vec<u32>> {
    let labels = train.labels.as_ref().expect("it has labels");
    let rows = |set: &Set| {
        set.features
            .chunks(set.width)
            .map(<[f32]>::to_vec)
            .collect::<Vec<_>>()
    };
    let train_rows = rows(train);
    let predict = |test: Vec<f32>| {
        let mut order: Vec<(f64, usize)> = train_rows
            .iter()
            .enumerate()
            .map(|(row, train)| {
                let gaps = train
                    .iter()
                    .zip(&test)
                    .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
                (gaps.sum(), row)
            })
            .collect();
        order.sort_by(|a, b| a.partial_cmp(b).expect("distances are numbers"));
        let winner = |k: usize| {
            let mut counts = BTreeMap::new();
            for (_, row) in &order[..k] {
                *counts.entry(labels[*row]).or_insert(0) += 1;
            }
            let most = counts.values().copied().max().expect("k is above 0");
            *counts
                .iter()
                .find(|(_, count)| **count == most)
                .expect("it is among them")
                .0
        };
        (1..=k.min(order.len())).step_by(2).map(winner).collect()
    };
    rows(test).into_iter().map(predict).collect()
}

fn voting(k: usize, space: Space) -> Voting {
    Voting {
        k,
        space,
        centre: Centre::Whole,
    }
}

#[test]
fn it_agrees_with_sorting_all_distances() {
    for (train, test, width, classes, k) in [
        (1, 1, 1, 1, 1),
        (40, 7, 3, 4, 5),
        (300, 70, 17, 5, 21),
        (700, 33, 64, 10, 101),
        (9, 5, 2, 3, 40),
    ] {
        let (train, test) = (
            random(1, train, width, classes),
            random(2, test, width, classes),
        );
        let predictions = voting(k, Space::Original).predictions(&evaluation(&train, &test));
        assert_eq!(
            predictions.expect("the sets are sound"),
            slowly(&train, &test, k)
        );
    }
}

#[test]
fn near_ties_far_from_the_origin_are_decided_exactly() {
    // Single precision resolves 4096² to 1; the two candidates' squared distances differ by 2⁻⁸.
    let train = Set {
        width: 2,
        features: vec![4096.0, 4096.25, 4096.0, 4096.242],
        labels: Some(vec![0, 1]),
    };
    let test = Set {
        width: 2,
        features: vec![4096.0, 4096.0],
        labels: Some(vec![1]),
    };
    let predictions = voting(1, Space::Original).predictions(&evaluation(&train, &test));
    assert_eq!(predictions, Ok(vec![vec![1]]));
}

#[test]
fn ties_go_to_the_smallest_class_and_the_smallest_k() {
    // At distances 1, 2, 3, 4, 5 from the test feature.
    let train = Set {
        width: 1,
        features: vec![1.0, 2.0, 3.0, 4.0, 5.0],
        labels: Some(vec![2, 1, 0, 0, 1]),
    };
    let test = Set {
        width: 1,
        features: vec![0.0],
        labels: Some(vec![0]),
    };
    let votes = voting(6, Space::Original).predictions(&evaluation(&train, &test));
    assert_eq!(votes, Ok(vec![vec![2, 0, 0]]));
    let scores = voting(6, Space::Original).evaluate(&evaluation(&train, &test));
    let score = &scores.expect("the sets are sound")[0];
    assert_eq!((score.value, score.setting.as_str()), (100.0, "k = 3"));
    let table: Vec<f64> = score.table.iter().map(|(_, value)| *value).collect();
    assert_eq!(table, [0.0, 100.0, 100.0]);
    assert_eq!(score.table[2].0, "k = 5");
}

#[test]
fn spaces_transform_as_they_say() {
    // Directions decide in `norm`, lengths do not; `shift-norm` looks from the mean.
    let train = Set {
        width: 2,
        features: vec![1.0, 0.0, 0.0, 10.0],
        labels: Some(vec![0, 1]),
    };
    let test = Set {
        width: 2,
        features: vec![0.0, 0.1, 10.0, 1.0],
        labels: Some(vec![1, 0]),
    };
    let predict = |space| voting(1, space).predictions(&evaluation(&train, &test));
    assert_eq!(predict(Space::Original), Ok(vec![vec![0], vec![0]]));
    assert_eq!(predict(Space::Norm), Ok(vec![vec![1], vec![0]]));
    // Test features less (5, 0.55) point left and right; training features less (0.5, 5) down-right and up-left.
    assert_eq!(predict(Space::ShiftNorm), Ok(vec![vec![1], vec![0]]));
}

#[test]
fn batches_are_shuffled_by_the_seed_and_one_batch_is_the_whole() {
    let (train, test) = (random(5, 200, 6, 4), random(6, 90, 6, 4));
    let predict = |centre, seed| {
        let voting = Voting {
            k: 9,
            space: Space::ShiftNorm,
            centre,
        };
        let evaluation = Evaluation {
            seed,
            ..evaluation(&train, &test)
        };
        voting.predictions(&evaluation).expect("the sets are sound")
    };
    let whole = predict(Centre::Whole, 1);
    assert_eq!(predict(Centre::Batches(200), 1), whole);
    let batches = predict(Centre::Batches(16), 1);
    assert_eq!(predict(Centre::Batches(16), 1), batches);
    assert_ne!(predict(Centre::Batches(16), 2), batches);
    assert_ne!(batches, whole);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (train, test) = (random(7, 900, 20, 7), random(8, 150, 20, 7));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let voting = voting(31, Space::Norm);
        pool.expect("threads start")
            .install(|| voting.predictions(&evaluation(&train, &test)))
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn what_is_lacking_is_named_with_a_remedy() {
    let (train, test) = (random(1, 20, 3, 2), random(2, 5, 3, 2));
    let refusal = |train: Option<&Set>, test: &Set| {
        let evaluation = Evaluation {
            train: train.map(|set| set as &dyn FeatureSet),
            ..Evaluation::of(test)
        };
        voting(5, Space::Norm)
            .evaluate(&evaluation)
            .expect_err("it cannot be computed")
    };
    let unlabelled = |set: &Set| Set {
        labels: None,
        width: set.width,
        features: set.features.clone(),
    };
    assert!(refusal(None, &test).contains("`train`"));
    assert!(refusal(Some(&unlabelled(&train)), &test).contains("training set has no classes"));
    assert!(refusal(Some(&train), &unlabelled(&test)).contains("test set has no classes"));
    assert!(refusal(Some(&train), &random(2, 5, 4, 2)).contains("3 numbers and test features 4"));
    assert!(refusal(Some(&random(1, 0, 3, 2)), &test).contains("empty"));
    assert!(refusal(Some(&train), &random(1, 0, 3, 2)).contains("empty"));
    let mut diverged = random(1, 20, 3, 2);
    diverged.features[16] = f32::NAN;
    assert!(refusal(Some(&diverged), &test).contains("feature 5 of the training set"));
}

#[test]
fn parameters_are_checked_and_both_spellings_are_accepted() {
    let context = Context {
        folder: Path::new("."),
    };
    let build = |change: fn(&mut BestNN)| {
        let mut metric = BestNN::default();
        change(&mut metric);
        metric.build(&context).err().map(|invalid| invalid.field())
    };
    assert_eq!(build(|_| ()), None);
    for name in ["original", "norm", "shift-norm", "shifted-norm"] {
        assert!(Space::named(name).is_some());
    }
    assert_eq!(build(|metric| metric.space = "shifted-norm".into()), None);
    assert_eq!(
        build(|metric| metric.space = "cosine".into()),
        Some("space")
    );
    assert_eq!(build(|metric| metric.k = 0), Some("k"));
    assert_eq!(
        build(|metric| metric.centre = Centre::Batches(1)),
        Some("centre")
    );
}
