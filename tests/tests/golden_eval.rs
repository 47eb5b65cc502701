//! The paper's metrics against the reference: alignment, uniformity and instance discrimination, from two independent sets
//! of numbers, and from the images themselves.

use serde_json::Value;
use smallfry::{
    Metric,
    metric::{Evaluation, FeatureSet, Judged, Original, Score},
    testing::Set,
};
use smallfry_metrics::{
    Alignment, InstanceDiscrimination, IntraClassAlignment, Uniformity,
    instance_discrimination::{Mode, ranks},
};
use smallfry_tests::golden::{Reference, Tensor, counted_scaled, floats};

/// Numbers may differ so much from those of single precision on another machine.
const CLOSE: f64 = 1e-5;

fn set(tensor: &Tensor, labels: Option<Vec<u32>>) -> Set {
    Set {
        values: tensor.floats(),
        width: tensor.shape[1],
        labels,
    }
}

/// The three views of the reference's photographs, ten of each of eight classes.
fn photographs(reference: &Reference) -> [Set; 3] {
    let tensors = reference.tensors("golden/g5_eval/features.safetensors");
    let labels = (0..80).map(|row| row / 10).collect();
    [
        set(&tensors["d"], Some(labels)),
        set(&tensors["sd1"], None),
        set(&tensors["sd2"], None),
    ]
}

fn evaluation<'a>(test: &'a Set, views: &'a [&'a dyn FeatureSet]) -> Evaluation<'a> {
    Evaluation {
        views,
        ..Evaluation::of(test)
    }
}

fn score<'a>(scores: &'a [Score], name: &str) -> &'a Score {
    let found = scores.iter().find(|score| score.name == name);
    found.unwrap_or_else(|| panic!("no score `{name}`"))
}

#[track_caller]
fn assert_close(found: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().expect("a number");
    assert!(
        (found - expected).abs() <= tolerance,
        "{found} instead of {expected}"
    );
}

/// Hit@1 to hit@5.
fn top(scores: &[Score]) -> Vec<f64> {
    scores[0].table[..5]
        .iter()
        .map(|(_, value)| *value)
        .collect()
}

#[test]
fn statistics_of_photographs_are_those_of_the_reference() {
    let Some(reference) = Reference::find("alignment and uniformity of photographs") else {
        return;
    };
    let [d, sd1, sd2] = photographs(&reference);
    let views: [&dyn FeatureSet; 2] = [&sd1, &sd2];
    let evaluation = evaluation(&d, &views);
    let file = reference.json("golden/g5_eval/evaluation.json");
    let stats = &file["stats"];
    let align = Alignment {}.evaluate(&evaluation).expect("sound sets");
    let within = IntraClassAlignment {}
        .evaluate(&evaluation)
        .expect("sound sets");
    for (scores, name, expected) in [
        (&align, "D-SD alignment", "D-SD align"),
        (&align, "SD-SD alignment", "SD-SD align"),
        (&within, "D intra-class alignment", "D cls-align"),
        (&within, "SD intra-class alignment", "SD cls-align"),
    ] {
        assert_close(score(scores, name).value, &stats[expected], CLOSE);
    }
    for (name, expected) in [
        ("D intra-class alignment", "D cls-align per class"),
        ("SD intra-class alignment", "SD cls-align per class"),
    ] {
        let table = &score(&within, name).table;
        let expected = stats[expected].as_array().expect("one for each class");
        assert_eq!(table.len(), expected.len());
        for ((_, found), expected) in table.iter().zip(expected) {
            assert_close(*found, expected, CLOSE);
        }
    }
    let judged = Judged {
        checkpoint: "",
        data: "",
    };
    let printed = [
        Alignment {}.original(&align, &judged),
        IntraClassAlignment {}.original(&within, &judged),
    ];
    let columns = printed.into_iter().flat_map(|original| match original {
        Some(Original::Columns(columns)) => columns,
        other => panic!("{other:?} are no columns"),
    });
    let (headings, numbers): (Vec<_>, Vec<_>) = columns
        .map(|(heading, number)| (heading, format!("{number:.4}")))
        .unzip();
    let lines = &stats["seed_script_output (class_num replaced, f32)"];
    let line = |i: usize| lines[i].as_str().expect("a line");
    assert!(
        line(0).starts_with(
            &headings
                .iter()
                .map(|h| format!("{h:<15}"))
                .collect::<String>()
        )
    );
    assert!(
        line(1)
            .split_whitespace()
            .take(4)
            .eq(numbers.iter().map(String::as_str))
    );
    let uniform = Uniformity::default()
        .evaluate(&evaluation)
        .expect("sound sets");
    for (name, expected) in [
        ("D uniformity", "D uniform (all pairs)"),
        ("SD uniformity", "SD uniform (all pairs)"),
    ] {
        assert_close(score(&uniform, name).value, &stats[expected], CLOSE);
    }
}

#[test]
fn the_subsets_of_uniformity_are_drawn_as_by_the_reference() {
    let Some(reference) = Reference::find("the estimate of uniformity") else {
        return;
    };
    let [d, sd1, _] = photographs(&reference);
    let views: [&dyn FeatureSet; 1] = [&sd1];
    let file = reference.json("golden/g5_eval/evaluation.json");
    for (case, size) in [("subset procedure", 128), ("subset procedure, small", 8)] {
        let case = &file["stats"][case];
        let metric = Uniformity {
            subset_size: size,
            ..Uniformity::default()
        };
        let draws = 200;
        let (mut d_sum, mut sd_sum) = (0.0, 0.0);
        for seed in 0..draws {
            let evaluation = Evaluation {
                seed,
                ..evaluation(&d, &views)
            };
            let scores = metric.evaluate(&evaluation).expect("sound sets");
            let estimate = score(&scores, "D uniformity, subsets");
            let subset = case["subset_size"].as_u64().expect("a number");
            assert_eq!(estimate.setting, format!("3 × {subset} images"));
            assert!(estimate.error.is_some_and(|error| error > 0.0));
            d_sum += estimate.value;
            sd_sum += score(&scores, "SD uniformity, subsets").value;
        }
        let (means, deviations) = (floats(&case["mean_d_sd"]), floats(&case["std_d_sd"]));
        for (i, sum) in [d_sum, sd_sum].into_iter().enumerate() {
            // Four standard errors of the difference of a mean of 200 draws and one of 50.
            let error = deviations[i] * (1.0 / draws as f64 + 1.0 / 50.0).sqrt();
            let gap = (sum / draws as f64 - means[i]).abs();
            assert!(gap < 4.0 * error, "{gap} against {error}");
        }
    }
}

#[test]
fn instances_are_told_apart_as_by_the_reference() {
    let Some(reference) = Reference::find("instance discrimination of photographs") else {
        return;
    };
    let [d, sd1, sd2] = photographs(&reference);
    let views: [&dyn FeatureSet; 2] = [&sd1, &sd2];
    let evaluation = evaluation(&d, &views);
    let file = reference.json("golden/g5_eval/evaluation.json");
    let all: [&dyn FeatureSet; 3] = [&d, &sd1, &sd2];
    for (mode, name, first) in [(Mode::DSD, "d-sd", 0), (Mode::SDSD, "sd-sd", 1)] {
        let case = &file["instdisc"][name];
        let found = ranks(all[first], all[first + 1], Default::default()).expect("sound sets");
        let expected = floats(&case["rank_of_positive_among_other_originals"]);
        let margins = floats(&case["margin_per_sample"]);
        for (row, rank) in found.iter().enumerate() {
            if margins[row] > 1e-6 {
                assert_eq!(f64::from(rank.nearer), expected[row], "{name}, row {row}");
            }
        }
        let plain = InstanceDiscrimination {
            mode,
            ..InstanceDiscrimination::default()
        };
        for (chunk, stride, key) in [
            (10, 1, "s=10"),
            (7, 1, "s=7"),
            (
                5,
                2,
                "s=5, every second chunk (special case of the script, forced)",
            ),
        ] {
            let metric = InstanceDiscrimination {
                chunk: Some(chunk),
                query_stride: stride,
                ..plain
            };
            let scores = metric.evaluate(&evaluation).expect("sound sets");
            for (found, expected) in top(&scores).iter().zip(floats(&case[key]["top1_5"])) {
                assert!(
                    (found - expected).abs() < 1e-9,
                    "{name}, {key}: {found} {expected}"
                );
            }
        }
        let metric = InstanceDiscrimination {
            chunk: Some(10),
            ..plain
        };
        let scores = metric.evaluate(&evaluation).expect("sound sets");
        let printed = case["seed_script_output"].as_str().expect("a line");
        let (line, data) = printed.split_once("; Dataset: ").expect("it ends so");
        let (_, checkpoint) = line.split_once("; CKPT: ").expect("before the data");
        let original = metric.original(&scores, &Judged { checkpoint, data });
        assert_eq!(original, Some(Original::Line(printed.to_owned())));
        // All chunks of ten being whole, their mean is that of all queries.
        let scores = plain.evaluate(&evaluation).expect("sound sets");
        assert_eq!(top(&scores), floats(&case["s=10"]["top1_5"]));
    }
}

#[test]
fn drawn_clusters_come_out_as_in_the_second_set_of_values() {
    let Some(reference) = Reference::find("metrics on drawn clusters") else {
        return;
    };
    let text = reference.text("spec/values/golden_training.txt");
    let numbers = |start: &str| -> Vec<f64> {
        let line = text.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no line `{start}`"));
        line[start.len()..]
            .split(|c: char| !(c.is_ascii_digit() || "+-.e".contains(c)))
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let (classes, each, width) = (6, 5, 16);
    let centres = counted_scaled(700, classes * width, 1.0);
    let noise = [701, 702, 703].map(|t| counted_scaled(t, classes * each * width, 1.0));
    let row = |i: usize| {
        let centre = f64::from(centres[i / (each * width) * width + i % width]);
        0.5 * centre + f64::from(noise[0][i])
    };
    let view = |further: Option<usize>| {
        let moved = |i: usize| further.map_or(0.0, |view| 0.9 * f64::from(noise[view][i]));
        let values = (0..classes * each * width).map(|i| (row(i) + moved(i)) as f32);
        Set {
            values: values.collect(),
            width,
            labels: Some((0..30).map(|i| i / each as u32).collect()),
        }
    };
    let (d, first, second) = (view(None), view(Some(1)), view(Some(2)));
    let views: [&dyn FeatureSet; 2] = [&first, &second];
    let evaluation = evaluation(&d, &views);
    for (start, mode, chunk) in [
        ("instdisc d-sd  s=5 [", Mode::DSD, 5),
        ("instdisc sd-sd s=5 [", Mode::SDSD, 5),
        ("instdisc d-sd s=4 (last chunk 2) [", Mode::DSD, 4),
    ] {
        let metric = InstanceDiscrimination {
            mode,
            chunk: Some(chunk),
            ..InstanceDiscrimination::default()
        };
        let found = top(&metric.evaluate(&evaluation).expect("sound sets"));
        let expected = numbers(start);
        assert_eq!(expected.len(), 5);
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-9,
                "{start}: {found} {expected}"
            );
        }
    }
    let align = Alignment {}.evaluate(&evaluation).expect("sound sets");
    let within = IntraClassAlignment {}
        .evaluate(&evaluation)
        .expect("sound sets");
    let uniform = Uniformity::default()
        .evaluate(&evaluation)
        .expect("sound sets");
    for (start, scores, names) in [
        ("align d-sd", &align, ["D-SD alignment", "SD-SD alignment"]),
        (
            "cls-align d",
            &within,
            ["D intra-class alignment", "SD intra-class alignment"],
        ),
        (
            "uniformity over all 30 rows: d",
            &uniform,
            ["D uniformity", "SD uniformity"],
        ),
    ] {
        // The words between the numbers hold none.
        for (name, expected) in names.into_iter().zip(numbers(start)) {
            let found = score(scores, name).value;
            assert!(
                (found - expected).abs() < CLOSE,
                "{name}: {found} {expected}"
            );
        }
    }
}
