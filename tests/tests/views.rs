//! How views are made, from experiment file to log: published recipes as they are written, views made together, and
//! views of several sizes.

use std::{fs, path::Path};

use serde_json::Value;
use smallfry::{
    JointAugmentation, augmentation, experiment,
    plan::{Plan, Stage},
    preflight,
    registry::{self, Context},
    run::{self, RunOptions},
    source::Source,
    workplace::Existing,
};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::{
    golden::repository,
    small::{self, Shape},
};

/// A plan of a training with the photographs whose views are written as `fields`.
fn plan(fields: &str) -> Plan {
    changed(fields, &[])
}

/// The same with overrides.
fn changed(fields: &str, overrides: &[&str]) -> Plan {
    let text = format!(
        "Pretrain(
            data: ImageFolder(path: \"photos/train\"),
            backbone: mobilenetv3_small,
            objective: MoCo(queue: 64),
            {fields},
            optimizer: SGD,
            schedule: Cosine,
            epochs: 1,
            batch: 8,
        )"
    );
    let folder = repository().join("experiments");
    let overrides: Vec<_> = overrides.iter().map(|&text| text.to_owned()).collect();
    experiment::parse(Source::new("views.ron", text), &folder, "views", &overrides)
        .unwrap_or_else(|errors| panic!("{}", errors[0]))
}

/// Every recipe of the reference programs, as it is written in an experiment file, and what `check` says of its views.
#[test]
fn published_recipes_can_be_written() {
    let second =
        "ColorJitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1), Grayscale(p: 0.2),
        GaussianBlur, HorizontalFlip";
    for (what, fields, said) in [
        ("MoCo v1", "view: [MoCoV1]".to_owned(), "2 of 224 × 224 pixels"),
        (
            "MoCo v1 written out: grey first, jitter always",
            "view: [RandomResizedCrop, Grayscale(p: 0.2), HorizontalFlip,
                ColorJitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.4, p: 1)]"
                .to_owned(),
            "2 of 224 × 224 pixels",
        ),
        ("MoCo v2", "view: [MoCoV2(size: 96)]".to_owned(), "2 of 96 × 96 pixels"),
        (
            "the paper's strength 1, with hide-and-seek",
            "view: [RandomResizedCrop, ColorJitter, Grayscale, GaussianBlur, HorizontalFlip, HideAndSeek(p: 0.3)]"
                .to_owned(),
            "2 of 224 × 224 pixels",
        ),
        (
            "super-hard",
            format!("joint: IoUPair(low: 1e-4, high: 0.05, tolerance: 2000), view: [{second}]"),
            "2 of 224 × 224 pixels, together from IoUPair(low: 0.0001, high: 0.05, tolerance: 2000, p: 1.0",
        ),
        (
            "mix-hard",
            format!("joint: IoUPair(low: 0.05, high: 0.25, tolerance: 500, p: 0.5), view: [{second}]"),
            "2 of 224 × 224 pixels, together from IoUPair(low: 0.05, high: 0.25, tolerance: 500, p: 0.5",
        ),
        (
            "mask-strong",
            format!("joint: DropOverlap(p: 0.7, size: 160), view: [{second}]"),
            "2 of 160 × 160 pixels, together from DropOverlap(p: 0.7",
        ),
        (
            "one view beside a smaller one",
            "views: [[SwAV], Repeat(1, [SwAVPatch])]".to_owned(),
            "2 of 224 × 224, 96 × 96 pixels",
        ),
        (
            "none together",
            "joint: None, views: [Repeat(2, [SwAV, HideAndSeek])]".to_owned(),
            "2 of 224 × 224 pixels",
        ),
    ] {
        let plan = plan(&fields);
        let facts = preflight::check(&plan).unwrap_or_else(|errors| panic!("{what}: {}", errors[0]));
        let views = facts[0].lines.iter().find(|(heading, _)| *heading == "views");
        let views = &views.unwrap_or_else(|| panic!("{what}: nothing on views")).1;
        assert!(views.starts_with(said), "{what}: {views}");
        let source = Source::new("resolved.ron", plan.resolved.clone());
        let again = experiment::parse(source, Path::new("elsewhere"), "again", &[]);
        let again = again.unwrap_or_else(|errors| panic!("{what}: {}", errors[0]));
        assert_eq!(again.resolved, plan.resolved, "{what}");
    }
}

#[test]
fn repeated_views_are_as_many_and_stay_together_in_the_resolved_file() {
    let plan = plan("views: [Repeat(2, [RandomResizedCrop(size: 96), HorizontalFlip])]");
    let Stage::Pretrain(stage) = &plan.stages[0] else {
        panic!("it is a training");
    };
    let sides: Vec<_> = stage
        .views
        .iter()
        .map(|view| augmentation::side(None, view))
        .collect();
    assert_eq!(sides, [Some(96), Some(96)]);
    assert!(plan.resolved.contains("Repeat(2, ["), "{}", plan.resolved);
}

#[test]
fn overrides_reach_into_joint_and_repeated_views() {
    let fields = "joint: IoUPair(low: 0.1), views: [[MoCoV2], Repeat(1, [MoCoV2(size: 96)])]";
    let plan = changed(
        fields,
        &[
            "pretrain.joint.high=0.5",
            "pretrain.views.0=[MoCoV1(size: 64)]",
            "pretrain.views.1.1.MoCoV2.size=32",
        ],
    );
    let Stage::Pretrain(stage) = &plan.stages[0] else {
        panic!("it is a training");
    };
    let joint = &stage.joint.as_ref().expect("it is there").line;
    assert!(joint.starts_with("IoUPair(low: 0.1, high: 0.5,"), "{joint}");
    let lines: Vec<_> = stage.views.iter().map(|view| &view[0].line[..]).collect();
    assert!(
        lines[0].starts_with("MoCoV1(size: 64") && lines[1].starts_with("MoCoV2(size: 32"),
        "{lines:?}"
    );
    assert!(
        changed(fields, &["pretrain.joint=None"])
            .resolved
            .find("joint")
            .is_none()
    );
}

fn train(folder: &Path, threads: usize, joint: &str) -> Vec<Value> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    let mut plan = small::plan(folder, &Shape::default());
    let context = Context { folder };
    for stage in &mut plan.stages {
        if let Stage::Pretrain(stage) = stage {
            stage.joint = Some(
                registry::parse::<dyn JointAugmentation>(&context, joint)
                    .unwrap_or_else(|errors| panic!("{}", errors[0])),
            );
            stage.views = vec![Vec::new(), Vec::new()];
        }
    }
    let options = RunOptions {
        experiment: "as given".to_owned(),
        existing: Existing::Overwrite,
        ..RunOptions::default()
    };
    pool.install(|| run::run(&plan, &options)).unwrap();
    let log = fs::read_to_string(folder.join("small/log.jsonl")).unwrap();
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What joint augmentations tell of each image arrives in the log, the same for any number of threads.
#[test]
fn figures_of_pairs_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    let pair = "IoUPair(low: 0.05, high: 0.4, tolerance: 2, size: 8)";
    let log = train(folder.path(), 3, pair);
    let epochs: Vec<_> = log.iter().filter(|line| line["event"] == "epoch").collect();
    assert_eq!(epochs.len(), 3);
    let figure = |line: &Value, name: &str| {
        line[name]
            .as_f64()
            .unwrap_or_else(|| panic!("no {name} in {line}"))
    };
    for line in &epochs {
        let (iou, failed) = (figure(line, "iou"), figure(line, "iou_failed"));
        assert!(iou > 0.05 && iou < 0.8, "{line}");
        // Shares of forty images.
        assert!(
            failed > 0.0
                && failed < 100.0
                && (failed * 0.4).fract().min(1.0 - (failed * 0.4).fract()) < 1e-9,
            "{line}"
        );
    }
    assert_ne!(figure(epochs[0], "iou"), figure(epochs[1], "iou"));
    assert_eq!(train(folder.path(), 1, pair), log);
    let impossible = train(folder.path(), 2, "IoUPair(low: 1.9, high: 2.0, size: 8)");
    let last = impossible.iter().rfind(|line| line["event"] == "epoch");
    assert_eq!(figure(last.unwrap(), "iou_failed"), 100.0);
    // Pictures of what the network gets are made of them as of others.
    let samples = fs::read_dir(folder.path().join("small/samples/pretrain")).unwrap();
    assert_eq!(samples.count(), 8 * 3);
}
