//! Evaluations as a whole: the reference's figures from its own JPEG files, features that come from the cache, and metrics
//! that cannot be computed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use smallfry::{
    experiment,
    plan::Plan,
    results::{ScoreRecord, StageOutcome},
    run::{self, RunOptions},
    source::Source,
    workplace::Existing,
};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::golden::{Reference, floats};

/// An evaluation of the reference's checkpoint on its photographs, with `more` of its fields.
fn text(reference: &Reference, test: &str, more: &str) -> String {
    let checkpoint = reference.path("golden/g4_checkpoints/checkpoint_0000.pth.tar");
    format!(
        "Evaluate(
            weights: File({checkpoint:?}),
            backbone: mobilenetv3_small,
            test: {test},
            {more}
        )"
    )
}

fn views(path: &Path) -> String {
    format!("StaticViews(path: {path:?})")
}

fn plan(text: String, name: &str, output: &Path) -> Plan {
    let parsed = experiment::parse(Source::new("eval.ron", text), Path::new("."), name, &[]);
    let mut plan = parsed.unwrap_or_else(|errors| panic!("{}", errors[0]));
    plan.output = output.to_owned();
    plan
}

/// Runs it anew; gives what its stage came to, and the remarks.
fn run(text: String, name: &str, output: &Path) -> (StageOutcome, Vec<String>) {
    let options = RunOptions {
        existing: Existing::Overwrite,
        ..RunOptions::default()
    };
    let plan = plan(text, name, output);
    let summary = run::run(&plan, &options).unwrap_or_else(|failure| panic!("{failure}"));
    let notes = summary.notes;
    let mut stages = summary.results.stages;
    (stages.remove(0).outcome, notes)
}

fn score<'a>(scores: &'a [ScoreRecord], name: &str) -> &'a ScoreRecord {
    let found = scores.iter().find(|score| score.name == name);
    found.unwrap_or_else(|| panic!("no score `{name}`"))
}

fn value(scores: &[ScoreRecord], name: &str) -> f64 {
    score(scores, name).value.expect("it is a number")
}

fn files(output: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(output.join(".features")).expect("the cache is there");
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn jpeg_files_give_the_figures_of_the_reference() {
    let Some(reference) = Reference::find("the paper's metrics from JPEG files") else {
        return;
    };
    let output = tempfile::tempdir().unwrap();
    let metrics = "metrics: [
        Alignment, IntraClassAlignment, Uniformity, OverClustering, RankMe, FeatureStatistics,
        InstanceDiscrimination(chunk: Some(10)),
        InstanceDiscrimination(mode: SDSD, chunk: Some(7)),
    ]";
    let test = views(&reference.path("golden/g5_eval/static"));
    let (outcome, _) = run(text(&reference, &test, metrics), "golden", output.path());
    assert_eq!(outcome.refused(), []);
    let (scores, file) = (
        outcome.scores(),
        reference.json("golden/g5_eval/evaluation.json"),
    );
    for (name, expected) in [
        ("D-SD alignment", "D-SD align"),
        ("SD-SD alignment", "SD-SD align"),
        ("D intra-class alignment", "D cls-align"),
        ("SD intra-class alignment", "SD cls-align"),
        ("D uniformity", "D uniform (all pairs)"),
        ("SD uniformity", "SD uniform (all pairs)"),
    ] {
        let (found, expected) = (value(&scores, name), number(&file["stats"][expected]));
        // Pixels are Pillow's own, so this is closer than the 0.01 that decoders may differ by.
        assert!(
            (found - expected).abs() < 1e-4,
            "{name}: {found} {expected}"
        );
    }
    for (mode, name, chunk) in [("d-sd", "D-SD", "s=10"), ("sd-sd", "SD-SD", "s=7")] {
        let found = score(&scores, &format!("{name} instance discrimination"));
        let expected = floats(&file["instdisc"][mode][chunk]["top1_5"]);
        for ((_, found), expected) in found.table.iter().zip(expected) {
            let found = found.expect("it is a number");
            assert!(
                (found - expected).abs() < 1e-9,
                "{name}: {found} {expected}"
            );
        }
    }
    let rank = value(&scores, "RankMe");
    assert!(rank > 1.0 && rank <= 80.0, "{rank}");
    assert_eq!(
        value(&scores, "over-clustering"),
        value(&scores, "own view nearest") - value(&scores, "nearest image of its class")
    );
}

#[test]
fn neighbours_of_jpeg_files_are_those_of_the_reference() {
    let Some(reference) = Reference::find("best-NN from JPEG files") else {
        return;
    };
    let output = tempfile::tempdir().unwrap();
    let folder = reference.path("golden/g5_eval/knn_photos");
    let set = |part: &str| format!("ImageFolder(path: {:?})", folder.join(part));
    let more = format!(
        "train: {},
        metrics: [BestNN(k: 21), BestNN(k: 21, space: \"norm\"), BestNN(k: 21, space: \"shift-norm\")]",
        set("train")
    );
    let text = text(&reference, &set("val"), &more);
    let (outcome, _) = run(text, "neighbours", output.path());
    let file = reference.json("golden/g5_eval/evaluation.json");
    let spaces = ["original", "norm", "shift-norm"];
    for (score, space) in outcome.scores().iter().zip(spaces) {
        let case = &file["knn"]["rep_spaces"][space];
        for (name, found) in &score.table {
            let k = name.strip_prefix("k = ").expect("a row for each k");
            let expected = 100.0 * number(&case["accuracy_by_k"][k]);
            assert_eq!(*found, Some(expected), "{space}, {name}");
        }
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn the_second_time_features_come_from_the_cache() {
    let Some(reference) = Reference::find("cached features") else {
        return;
    };
    let output = tempfile::tempdir().unwrap();
    let output = output.path();
    let photos = output.join("photos");
    copy(&reference.path("golden/g5_eval/static"), &photos);
    let of = |metrics: &str| text(&reference, &views(&photos), metrics);
    let metrics = "metrics: [Alignment, RankMe]";
    let (first, notes) = run(of(metrics), "a", output);
    assert_eq!(notes, [""; 0]);
    // Three views of one set.
    let cached = files(output);
    assert_eq!(cached.len(), 3);
    let whole = fs::read(&cached[1]).unwrap();

    // Another run with another metric beside; the files stay.
    let (second, notes) = run(of("metrics: [Alignment, RankMe, Uniformity]"), "b", output);
    assert_eq!(notes, [""; 0]);
    assert_eq!(second.scores()[..3], first.scores()[..]);
    assert_eq!(files(output), cached);

    // A damaged file is said to be so, and made again.
    let mut damaged = whole.clone();
    damaged[5000] ^= 1;
    fs::write(&cached[1], damaged).unwrap();
    let (third, notes) = run(of(metrics), "c", output);
    assert!(
        notes[0].contains("made again") && notes[0].contains("checksum"),
        "{notes:?}"
    );
    assert_eq!(third.scores(), first.scores());
    assert_eq!(fs::read(&cached[1]).unwrap(), whole);

    // Features of other bits under the right name and with the right checksum: the first batch betrays them.
    fs::copy(&cached[0], &cached[2]).unwrap();
    let (fourth, notes) = run(of(metrics), "d", output);
    assert!(
        notes[0].contains("not what the network gives now"),
        "{notes:?}"
    );
    assert_eq!(fourth.scores(), first.scores());

    // An image that changed is another set.
    let image = photos.join("fig_bowl/fig_bowl_00003-0.jpeg");
    fs::copy(photos.join("fig_bowl/fig_bowl_00004-0.jpeg"), &image).unwrap();
    let (fifth, notes) = run(of(metrics), "e", output);
    assert_eq!(notes, [""; 0]);
    assert_ne!(fifth.scores(), first.scores());
    assert_eq!(files(output).len(), 6);

    // A broken view leaves its image out of all views.
    fs::write(&image, "no image").unwrap();
    let (sixth, notes) = run(of(&format!("cache: false, {metrics}")), "f", output);
    assert!(notes[0].contains("fig_bowl_00003-0"), "{notes:?}");
    let StageOutcome::Evaluate { test, .. } = sixth else {
        panic!("it is an evaluation");
    };
    assert_eq!((test.samples, test.left_out.len()), (79, 1));
    assert_eq!(files(output).len(), 6);
}

fn copy(from: &Path, to: &Path) {
    for class in fs::read_dir(from).unwrap() {
        let class = class.unwrap();
        let folder = to.join(class.file_name());
        fs::create_dir_all(&folder).unwrap();
        for file in fs::read_dir(class.path()).unwrap() {
            let file = file.unwrap();
            let bytes = fs::read(file.path()).unwrap();
            fs::write(folder.join(file.file_name()), bytes).unwrap();
        }
    }
}

#[test]
fn one_metric_that_refuses_does_not_take_the_others_along() {
    let Some(reference) = Reference::find("metrics that refuse") else {
        return;
    };
    let output = tempfile::tempdir().unwrap();
    // One image of each class, so that none has a pair.
    let photos = output.path().join("photos");
    for class in ["a", "b"] {
        fs::create_dir_all(photos.join(class)).unwrap();
        let source = reference.path("golden/g5_eval/static/fig_bowl/fig_bowl_00003-0.jpeg");
        fs::write(
            photos.join(class).join("x-0.jpeg"),
            fs::read(source).unwrap(),
        )
        .unwrap();
    }
    let set = format!("ImageFolder(path: {photos:?})");
    let metrics = "metrics: [IntraClassAlignment, FeatureStatistics]";
    let plan = plan(text(&reference, &set, metrics), "refused", output.path());
    let summary = run::run(&plan, &RunOptions::default()).unwrap();
    let outcome = &summary.results.stages[0].outcome;
    assert_eq!(outcome.refused()[0].1, "no class has two images");
    assert_eq!(outcome.scores().len(), 4);
    let failure = summary.results.refusal().expect("something is missing");
    assert_eq!(failure.exit_code(), 1);
    let text = fs::read_to_string(summary.folder.join("results.json")).unwrap();
    assert!(text.contains("no class has two images"));
    assert!(summary.results.to_string().contains("refused"));
}

#[test]
fn what_a_metric_lacks_is_said_before_any_work() {
    let Some(reference) = Reference::find("needs of metrics") else {
        return;
    };
    let photos = reference.path("golden/g5_eval/knn_photos/val");
    let set = format!("ImageFolder(path: {photos:?})");
    for (metrics, reason) in [
        ("Alignment", "2 views of each image"),
        (
            "InstanceDiscrimination(mode: SDSD)",
            "3 views of each image",
        ),
        ("BestNN", "`train`"),
    ] {
        let text = text(&reference, &set, &format!("metrics: [{metrics}]"));
        let plan = plan(text, "lacking", Path::new("nowhere"));
        let Err(errors) = smallfry::preflight::check(&plan) else {
            panic!("{metrics} needs more");
        };
        assert!(errors[0].message.contains(reason), "{}", errors[0]);
    }
}
