//! Sweeps by the whole program: folders, table, resuming, and what is refused before anything runs.

use std::{fs, path::Path};

use smallfry_tests::program::run;

/// A file whose every run takes a moment, and the folder for its runs.
fn prepared() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("there is room");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments/photos");
    let text = format!(
        "Experiment(
    folder: {:?},
    stages: [
        Evaluate(
            weights: Untrained,
            backbone: mobilenetv3_small,
            train: ImageFolder(path: \"val\"),
            test: ImageFolder(path: \"val\"),
            size: 32,
            resize: 36,
            metrics: [BestNN(k: 1)],
        ),
    ],
)
",
        fixtures.display().to_string()
    );
    fs::write(root.path().join("small.ron"), text).expect("the folder is ours");
    root
}

#[test]
fn every_combination_is_run_once() {
    let root = prepared();
    let sweep = |more: &[&str]| {
        let command = [
            "run",
            "small.ron",
            "--sweep",
            "evaluate.resize=36,40",
            "--sweep",
        ];
        run(root.path(), &[&command[..], more].concat())
    };
    let first = sweep(&["seed=1,2"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let folder = root.path().join("runs/small-by-resize+seed");
    let names = [
        "resize-36+seed-1",
        "resize-36+seed-2",
        "resize-40+seed-1",
        "resize-40+seed-2",
    ];
    for name in names {
        assert!(folder.join(name).join("results.json").is_file(), "{name}");
    }
    let lines: Vec<_> = first.output.lines().collect();
    assert!(
        lines[0].starts_with("resize  evaluate best-NN (%)"),
        "{first:?}"
    );
    assert!(
        lines[1].starts_with("36") && lines[1].contains(" ± "),
        "{first:?}"
    );
    assert!(lines[2].starts_with("40"), "{first:?}");
    assert_eq!(lines[4], "runs/small-by-resize+seed");

    // Once more only by word; then what is done is left alone, and a value that is added is run.
    let refused = sweep(&["seed=1,2"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.errors.contains("go on with it by --resume"),
        "{refused:?}"
    );
    let results = folder.join(names[0]).join("results.json");
    let before = fs::metadata(&results)
        .and_then(|of| of.modified())
        .expect("it is there");
    let more = sweep(&["seed=1,2,3", "--resume", "--json"]);
    assert_eq!(more.code, Some(0), "{more:?}");
    assert!(folder.join("resize-40+seed-3/results.json").is_file());
    let told: serde_json::Value = serde_json::from_str(&more.output).expect("it is JSON");
    let kept = fs::read_to_string(folder.join("sweep.json")).expect("it is there");
    assert_eq!(kept, more.output);
    assert_eq!(told["runs"].as_array().map(Vec::len), Some(6));
    assert_eq!(told["rows"][0]["figures"][0]["runs"], 3);
    assert!(
        before
            <= fs::metadata(&results)
                .and_then(|of| of.modified())
                .expect("it is there")
    );

    // The runs of a sweep are compared by its folder, and a run resolves to itself.
    let compared = run(root.path(), &["compare", "runs/small-by-resize+seed"]);
    assert_eq!(compared.code, Some(0), "{compared:?}");
    assert!(compared.output.contains("resize-40+seed-3"), "{compared:?}");
    let resolved = folder
        .join(names[0])
        .join("resolved.ron")
        .display()
        .to_string();
    let again = run(root.path(), &["check", "--resolved", &resolved]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(
        again
            .output
            .starts_with("Experiment(\n    name: \"resize-36+seed-1\","),
        "{again:?}"
    );
}

#[test]
fn nothing_starts_if_a_combination_is_wrong() {
    let root = prepared();
    let refused = run(
        root.path(),
        &[
            "run",
            "small.ron",
            "--sweep",
            "evaluate.resize=36,0",
            "--sweep",
            "evaluate.metrics.0.k=1,x",
        ],
    );
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(!root.path().join("runs").exists());
    assert!(
        refused
            .errors
            .contains("`resize` of Evaluate: must be above 0"),
        "{refused:?}"
    );
    assert!(refused.errors.contains("`k` of BestNN"), "{refused:?}");
    assert!(
        refused
            .errors
            .contains("note: in the combination evaluate.resize=36, evaluate.metrics.0.k=x"),
        "{refused:?}"
    );
    assert!(refused.errors.ends_with("2 mistakes\n"), "{refused:?}");
}
