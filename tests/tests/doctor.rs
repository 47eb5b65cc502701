//! What `check` remarks on experiments that can run: nothing on good ones, the right thing on doubtful ones.

use std::{
    fs,
    path::{Path, PathBuf},
};

use smallfry::{advice::Severity, diagnostic::Diagnostic, doctor, experiment, source::Source};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::program;

fn experiments() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments")
}

/// The remarks on the quick start with changes: severity, and message.
fn remarks(changes: &[&str]) -> Vec<(Severity, Diagnostic)> {
    let path = experiments().join("quickstart.ron");
    let text = fs::read_to_string(path).expect("it is there");
    let changes: Vec<_> = changes.iter().map(|change| (*change).to_owned()).collect();
    let source = Source::new("quickstart.ron", text);
    let plan = experiment::parse(source, &experiments(), "quickstart", &changes);
    let plan = plan.unwrap_or_else(|errors| panic!("{}", errors[0]));
    let report = doctor::examine(&plan, 0).unwrap_or_else(|failure| panic!("{failure}"));
    let findings = report.findings.into_iter();
    findings
        .map(|finding| (finding.severity, finding.remark))
        .collect()
}

/// The remarks that a change adds to those on the quick start as it is.
fn added(changes: &[&str]) -> Vec<(Severity, Diagnostic)> {
    let before = remarks(&[]);
    let after = remarks(changes).into_iter();
    after.filter(|remark| !before.contains(remark)).collect()
}

#[test]
fn the_quick_start_shares_its_batch_statistics_and_is_fine_otherwise() {
    let remarks = remarks(&[]);
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    let (severity, remark) = &remarks[0];
    assert_eq!(*severity, Severity::Note);
    assert!(
        remark
            .message
            .starts_with("`groups` of MoCo: a whole batch has its batch statistics in common")
    );
    assert_eq!(remark.place().map(|place| place.line), Some(22));
    // Groups, or a network without batch norm, and there is nothing left to say.
    assert!(self::remarks(&["pretrain.objective.groups=4"]).is_empty());
    assert!(self::remarks(&["pretrain.backbone=vit_tiny(image: 96)"]).is_empty());
}

#[test]
fn doubtful_changes_are_remarked_on() {
    for (changes, severity, text) in [
        (
            vec!["pretrain.objective.queue=512"],
            Severity::Warning,
            "`queue` of MoCo: 512 keys reach back",
        ),
        (
            vec!["pretrain.objective.queue=160"],
            Severity::Note,
            "20 % of the queries meet an earlier key",
        ),
        (
            vec!["pretrain.objective.queue=65536"],
            Severity::Warning,
            "random vectors stay in it to the end",
        ),
        (
            vec!["pretrain.objective.momentum=0.9999"],
            Severity::Note,
            "over 700 steps leaves 93 % of its start",
        ),
        (
            vec!["pretrain.optimizer.lr=0.3"],
            Severity::Warning,
            "`lr` of SGD: 0.3 is 80 times above what suits a step of 32 images",
        ),
        (
            vec!["pretrain.optimizer.lr=0.0005"],
            Severity::Note,
            "0.0005 is 8 times below",
        ),
        (
            vec![
                "pretrain.batch=96",
                "pretrain.objective.queue=96",
                "pretrain.optimizer.lr=0.01",
            ],
            Severity::Note,
            "leaves out 58 of 250 images",
        ),
        (
            vec!["pretrain.batch=2", "pretrain.optimizer.lr=0.0003"],
            Severity::Warning,
            "2 images have batch statistics in common",
        ),
    ] {
        let added = added(&changes);
        let found = added
            .iter()
            .find(|(_, remark)| remark.message.contains(text));
        let Some((found, remark)) = found else {
            panic!("{changes:?}: {text:?} is not in {added:#?}");
        };
        assert_eq!(*found, severity, "{changes:?}");
        assert!(
            remark.help.is_some() && remark.place().is_some(),
            "{remark:?}"
        );
    }
}

#[test]
fn a_remark_stands_in_the_override_that_it_is_about() {
    let added = added(&["pretrain.objective.queue=512"]);
    assert_eq!(
        added[0].1.to_string(),
        "`queue` of MoCo: 512 keys reach back into the epoch before: 100 % of the queries meet an earlier key of their \
         own image among the negatives
 --> command line:1:26
  |
1 | pretrain.objective.queue=512
  |                          ^^^
  = help: with 250 images, at most 96 keys keep that below 10 %"
    );
}

#[test]
fn views_are_measured_against_their_sources_and_scores_against_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let photos = experiments().join("photos/val");
    let text = format!(
        "Experiment(stages: [
            Pretrain(data: ImageFolder(path: {photos:?}), backbone: resnet18, objective: MoCo(queue: 10, momentum: 0.9),
                     view: [RandomResizedCrop(size: 1024)], optimizer: SGD(lr: 0.001), schedule: Cosine, epochs: 9,
                     batch: 10),
            Evaluate(weights: Stage(\"pretrain\"), train: ImageFolder(path: {photos:?}),
                     test: ImageFolder(path: {photos:?}), metrics: [BestNN(k: 3)]),
        ])"
    );
    fs::write(folder.path().join("a.ron"), text).unwrap();
    let plan = experiment::load(&folder.path().join("a.ron"), &[]);
    let plan = plan.unwrap_or_else(|errors| panic!("{}", errors[0]));
    let report = doctor::examine(&plan, 0);
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    let messages: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.remark.message.as_str())
        .collect();
    assert!(
        messages
            .iter()
            .any(|text| text.starts_with("views of 1024 × 1024 pixels are cut from")),
        "{messages:?}"
    );
    assert!(
        messages.contains(&"nothing says how good the network was before training"),
        "{messages:?}"
    );
}

#[test]
fn a_dry_run_measures_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = experiments().join("quickstart.ron");
    let file = file.to_str().unwrap();
    let outcome = program::run(folder.path(), &["check", file, "--dry-run", "2", "--json"]);
    assert_eq!((outcome.code, outcome.errors.as_str()), (Some(0), ""));
    let report: serde_json::Value = serde_json::from_str(&outcome.output).unwrap();
    let lines = report["stages"][1]["lines"].as_array().unwrap();
    let line = |name: &str| {
        let found = lines.iter().find(|line| line[0] == name);
        found.unwrap_or_else(|| panic!("no {name} in {lines:?}"))[1]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(line("chance"), "a loss of 4.1744 tells nothing apart");
    assert!(line("step").contains("images/s") && line("step").ends_with("(2 tried)"));
    assert!(line("time").starts_with("about ") && line("time").ends_with(" for 700 steps"));
    assert!(line("memory").contains("B at most so far"));
    // Two encoders with heads and one momentum: 3 × 3.9 million numbers of 4 bytes, and a small queue.
    assert!(
        line("checkpoint").starts_with("46.7 MB, 2 kept"),
        "{}",
        line("checkpoint")
    );
    assert_eq!(report["findings"][0]["severity"], "note");
    assert_eq!(report["findings"][0]["remark"]["line"], 22);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
