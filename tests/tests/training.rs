//! The trainer on plugins small enough to follow: what a run leaves behind, and what stops it.

use std::{fs, path::Path};

use serde_json::Value;
use smallfry::{
    checkpoint::Weights,
    failure::{Cause, Failure},
    plan::Stage,
    results::StageOutcome,
    run::{self, RunOptions},
    workplace::Existing,
};
use smallfry_tests::{
    golden::{self, Reference},
    program,
    small::{self, Follow, Shape},
};

fn train(folder: &Path, shape: &Shape, existing: Existing) -> Result<run::Summary, Failure> {
    let options = RunOptions {
        experiment: "as given".to_owned(),
        existing,
        ..RunOptions::default()
    };
    run::run(&small::plan(folder, shape), &options)
}

/// The names of all files in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_run_leaves_everything_behind() {
    let folder = tempfile::tempdir().unwrap();
    let summary = train(folder.path(), &Shape::default(), Existing::Refuse).unwrap();
    let run = folder.path().join("small");
    assert_eq!(summary.folder, run);
    assert_eq!(
        names(&run),
        [
            ".lock",
            "checkpoints",
            "events",
            "experiment.ron",
            "log.jsonl",
            "receipt.json",
            "report.html",
            "resolved.ron",
            "results.json",
            "samples",
            "timings.jsonl",
        ]
    );
    assert_eq!(
        names(&run.join("checkpoints/pretrain")),
        [
            "epoch-0001.safetensors",
            "epoch-0002.safetensors",
            "epoch-0003.safetensors"
        ]
    );
    assert_eq!(
        fs::read_to_string(run.join("experiment.ron")).unwrap(),
        "as given"
    );
    assert_eq!(names(&run.join("samples/pretrain")).len(), 8 * 3);
    assert_eq!(lines(&run.join("timings.jsonl")).len(), 3);

    let log = lines(&run.join("log.jsonl"));
    assert_eq!(log[0]["event"], "start");
    assert_eq!(log[0]["steps_per_epoch"], 5);
    assert_eq!(log[0]["chance_loss"], 0.25);
    let epochs: Vec<_> = log.iter().filter(|line| line["event"] == "epoch").collect();
    assert_eq!(epochs.len(), 3);
    for (i, epoch) in epochs.iter().enumerate() {
        assert_eq!(epoch["epoch"], i + 1);
        assert_eq!(epoch["step"], 5 * (i + 1));
        assert_eq!(epoch["lr"], 0.5 / f64::from(1 << i));
        // The objective gives the number of the step: means 2, 7 and 12.
        assert_eq!(epoch["acc1"], 2.0 + 5.0 * i as f64);
        assert!(epoch["replaced"].as_array().unwrap().is_empty());
    }
    let loss = |i: usize| epochs[i]["loss"].as_f64().unwrap();
    assert!(
        loss(2) < 0.7 * loss(0),
        "{} {} {}",
        loss(0),
        loss(1),
        loss(2)
    );

    let stages: Vec<_> = summary
        .results
        .stages
        .iter()
        .map(|s| s.stage.as_str())
        .collect();
    assert_eq!(stages, ["untrained", "pretrain", "trained"]);
    let value = |i: usize| match &summary.results.stages[i].outcome {
        StageOutcome::Evaluate { scores, test, .. } => {
            assert_eq!(test.samples, 40);
            scores[0].value.unwrap()
        }
        _ => panic!("stage {i} is no evaluation"),
    };
    assert_ne!(value(0), value(2));
}

#[test]
fn untrained_weights_are_those_that_training_starts_from() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape::default();
    let summary = train(folder.path(), &shape, Existing::Refuse).unwrap();
    let StageOutcome::Evaluate {
        scores, weights, ..
    } = &summary.results.stages[0].outcome
    else {
        panic!("the first stage is an evaluation");
    };
    assert_eq!(
        weights,
        "start of stage `pretrain`: 3 tensors of `encoder_q`, 1 of the head left off"
    );
    // A plan without training draws the same backbone from the same seed: its first numbers are those of the encoder.
    let mut plan = small::plan(folder.path(), &shape);
    plan.name = "alone".to_owned();
    plan.stages.truncate(1);
    let alone = run::run(&plan, &RunOptions::default()).unwrap();
    let StageOutcome::Evaluate { scores: again, .. } = &alone.results.stages[0].outcome else {
        panic!("the only stage is an evaluation");
    };
    assert_eq!(scores[0].value, again[0].value);
}

#[test]
fn weights_in_a_file_give_the_score_of_their_stage() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape::default();
    let first = train(folder.path(), &shape, Existing::Refuse).unwrap();
    let mut plan = small::plan(folder.path(), &shape);
    plan.name = "file".to_owned();
    plan.stages.drain(..2);
    let path = first
        .folder
        .join("checkpoints/pretrain/epoch-0003.safetensors");
    let Stage::Evaluate(stage) = &mut plan.stages[0] else {
        panic!("the last stage is an evaluation");
    };
    stage.subject.weights = Weights::File(path);
    let second = run::run(&plan, &RunOptions::default()).unwrap();
    let scores = |stage: &smallfry::results::StageResult| match &stage.outcome {
        StageOutcome::Evaluate { scores, .. } => scores.clone(),
        _ => panic!("an evaluation"),
    };
    assert_eq!(
        scores(&first.results.stages[2]),
        scores(&second.results.stages[0])
    );
}

#[test]
fn unreadable_images_are_replaced_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape {
        bad: vec![3, 11],
        ..Shape::default()
    };
    let summary = train(folder.path(), &shape, Existing::Refuse).unwrap();
    for line in lines(&summary.folder.join("log.jsonl")) {
        if line["event"] == "epoch" {
            // 40 samples fill 5 batches of 8, so every sample is drawn in every epoch.
            let expected = serde_json::json!([["11.png", "is damaged"], ["3.png", "is damaged"]]);
            assert_eq!(line["replaced"], expected);
        }
    }
    let StageOutcome::Evaluate { test, .. } = &summary.results.stages[2].outcome else {
        panic!("the last stage is an evaluation");
    };
    assert_eq!(test.samples, 38);
    assert_eq!(
        test.left_out[0],
        ("3.png".to_owned(), "is damaged".to_owned())
    );
    let notes = [
        "left out of `untrained`",
        "replaced in `pretrain`",
        "left out of `trained`",
    ]
    .map(|what| ["11.png", "3.png"].map(|name| format!("{what}: `{name}` is damaged")));
    assert_eq!(summary.notes, notes.concat());
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_state() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape {
        objective: Follow {
            diverge: Some(7),
            kill: None,
        },
        ..Shape::default()
    };
    let failure = train(folder.path(), &shape, Existing::Refuse).unwrap_err();
    assert_eq!(failure.cause, Cause::Fault);
    assert_eq!(
        failure.message,
        "stage `pretrain` stopped in step 3 of epoch 2: the loss is NaN at learning rate 0.25; the state after epoch 1 is kept"
    );
    let checkpoints = folder.path().join("small/checkpoints/pretrain");
    assert_eq!(names(&checkpoints), ["epoch-0001.safetensors"]);
}

#[test]
fn only_the_newest_checkpoints_are_kept() {
    for (keep, left) in [(1, vec![4]), (2, vec![3, 4]), (9, vec![1, 2, 3, 4])] {
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape {
            keep: Some(keep),
            epochs: 4,
            ..Shape::default()
        };
        let summary = train(folder.path(), &shape, Existing::Refuse).unwrap();
        let expected: Vec<_> = left
            .iter()
            .map(|e| format!("epoch-000{e}.safetensors"))
            .collect();
        assert_eq!(
            names(&summary.folder.join("checkpoints/pretrain")),
            expected
        );
    }
}

#[test]
fn mistakes_are_found_before_the_folder_is_made() {
    let check = |shape: Shape, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let failure = train(folder.path(), &shape, Existing::Refuse).unwrap_err();
        assert_eq!(failure.exit_code(), 2, "{failure}");
        assert!(failure.to_string().contains(expected), "{failure}");
        assert!(names(folder.path()).is_empty(), "{failure}");
    };
    check(
        Shape {
            samples: 7,
            ..Shape::default()
        },
        "8 is more than the 7 images",
    );
    check(
        Shape {
            samples: 0,
            ..Shape::default()
        },
        "holds no image",
    );
    check(
        Shape {
            epochs: 0,
            ..Shape::default()
        },
        "`epochs` must be above 0",
    );
}

#[test]
fn a_run_folder_belongs_to_one_run() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), &Shape::default(), Existing::Refuse).unwrap();
    let run = folder.path().join("small");
    fs::write(run.join("notes.txt"), "mine").unwrap();
    let before = fs::read(run.join("log.jsonl")).unwrap();

    let refused = train(folder.path(), &Shape::default(), Existing::Refuse).unwrap_err();
    assert_eq!(refused.exit_code(), 2);
    assert!(refused.help.unwrap().contains("--resume"));

    let lock = fs::File::options()
        .write(true)
        .open(run.join(".lock"))
        .unwrap();
    lock.lock().unwrap();
    for existing in [Existing::Resume, Existing::Overwrite] {
        let busy = train(folder.path(), &Shape::default(), existing).unwrap_err();
        assert!(busy.message.contains("another run is at work"), "{busy}");
        assert_eq!(busy.exit_code(), 2);
    }
    drop(lock);

    let changed = Shape {
        seed: 8,
        ..Shape::default()
    };
    train(folder.path(), &changed, Existing::Overwrite).unwrap();
    assert_ne!(fs::read(run.join("log.jsonl")).unwrap(), before);
    assert_eq!(fs::read_to_string(run.join("notes.txt")).unwrap(), "mine");
}

#[test]
fn a_folder_that_is_no_run_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("small");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("thesis.tex"), "mine").unwrap();
    for existing in [Existing::Refuse, Existing::Overwrite] {
        let failure = train(folder.path(), &Shape::default(), existing).unwrap_err();
        assert_eq!(failure.exit_code(), 2, "{failure}");
    }
    assert_eq!(fs::read_to_string(run.join("thesis.tex")).unwrap(), "mine");
}

#[test]
fn a_set_with_every_odd_file_mixed_in_trains_to_the_end() {
    let Some(reference) = Reference::find("training with odd image files") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let class = folder.path().join("images/odd");
    fs::create_dir_all(class.join("dir_named.jpg")).unwrap();
    let odd = reference.path("data/odd");
    for from in [odd, golden::repository().join("tests/fixtures/images/jpeg")] {
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, class.join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    let text = r#"Pretrain(
    data: ImageFolder(path: "images"),
    backbone: mobilenetv3_small,
    objective: MoCo(queue: 8, dim: 8),
    view: [RandomResizedCrop(size: 32)],
    optimizer: SGD,
    schedule: Cosine,
    epochs: 3,
    batch: 4,
)"#;
    fs::write(folder.path().join("odd.ron"), text).unwrap();
    let outcome = program::run(folder.path(), &["run", "odd.ron"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    let log = lines(&folder.path().join("runs/odd/log.jsonl"));
    let replaced: Vec<_> = log
        .iter()
        .filter_map(|line| line["replaced"].as_array())
        .flatten()
        .map(|image| image[0].as_str().unwrap().rsplit('/').next().unwrap())
        .collect();
    // Three epochs of nearly all images meet each of them; the program tells in the end.
    for name in ["truncated.jpg", "zero.jpg", "text.jpg", "dir_named.jpg"] {
        assert!(replaced.contains(&name), "{name} is not in {replaced:?}");
        assert!(outcome.output.contains(name), "{}", outcome.output);
    }
    let expected = reference.json("data/odd/expected.json");
    for name in replaced {
        assert_ne!(expected[name]["ok"], true, "{name} is a good image");
    }
}
