//! Runs compared: what is shown of their settings, origins and numbers, and what is said of folders that are none.

use std::{collections::BTreeMap, fs, path::PathBuf};

use smallfry::compare::{Row, compare};

const RESOLVED: &str = r#"Experiment(
    name: "a",
    seed: 1,
    folder: "/photos",
    output: "runs",
    stages: [
        Pretrain(
            name: "pretrain",
            data: ImageFolder(
                path: "train",
            ),
            objective: MoCo(
                queue: 64,
                temperature: 0.1,
            ),
            view: [
                RandomResizedCrop(
                    size: 96,
                    scale: (0.2, 1.0),
                ),
                HorizontalFlip(
                    p: 0.5,
                ),
            ],
            schedule: Cosine(),
        ),
        Evaluate(
            name: "trained",
            weights: Stage("pretrain"),
        ),
    ],
)
"#;

const RESULTS: &str = r#"{"format": 1, "experiment": "a", "stages": [
    {"stage": "pretrain", "hash": "0", "kind": "pretrain", "epochs": 2, "steps": 8, "loss": 4.5,
     "measures": [["acc1", 12.5]], "checkpoint": "", "replaced": []},
    {"stage": "trained", "hash": "1", "kind": "evaluate", "backbone": "", "weights": "", "train": null,
     "test": {"data": "", "samples": 9, "left_out": []},
     "scores": [{"metric": "BestNN", "name": "best-NN", "value": 61.25, "unit": "%", "higher_is_better": true,
                 "error": 1.5, "setting": "k = 5", "table": []}]}
]}"#;

const RECEIPT: &str = r#"{"experiment": "a", "version": "0.0.1", "processor": "P", "begin_unix_seconds": 5,
    "stages": [{"stage": "pretrain", "hash": "0", "fingerprint":
    "seed: 1\nobjective: MoCo(\n    queue: 64,\n)\nmanifest: 9 samples, abcd\n"}]}"#;

/// Run folders with the files given, each changed by replacements.
fn runs(changes: &[&[(&str, &str)]]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let root = tempfile::tempdir().unwrap();
    let folders = changes.iter().enumerate().map(|(i, changes)| {
        let folder = root.path().join(format!("run-{i}"));
        fs::create_dir(&folder).unwrap();
        let files = [
            ("resolved.ron", RESOLVED),
            ("results.json", RESULTS),
            ("receipt.json", RECEIPT),
        ];
        for (name, text) in files {
            let changed = changes
                .iter()
                .fold(text.to_owned(), |text, (old, new)| text.replace(old, new));
            fs::write(folder.join(name), changed).unwrap();
        }
        folder
    });
    let folders = folders.collect();
    (root, folders)
}

fn rows(rows: &[Row]) -> BTreeMap<&str, Vec<&str>> {
    rows.iter()
        .map(|row| {
            let values = row
                .values
                .iter()
                .map(|value| value.as_deref().unwrap_or("-"));
            (row.name.as_str(), values.collect())
        })
        .collect()
}

#[test]
fn only_what_differs_is_shown_under_the_path_of_its_override() {
    let (_root, folders) = runs(&[
        &[],
        &[
            ("name: \"a\"", "name: \"b\""),
            ("temperature: 0.1", "temperature: 0.2"),
            ("(0.2, 1.0)", "(0.08,\n    1.0)"),
            (
                "                HorizontalFlip(\n                    p: 0.5,\n                ),\n",
                "",
            ),
            ("Cosine()", "Step(at: [120])"),
            ("9 samples, abcd", "8 samples, ef01"),
            ("0.0.1", "0.0.2"),
        ],
    ]);
    let comparison = compare(&folders).unwrap();
    assert_eq!(
        rows(&comparison.settings),
        BTreeMap::from([
            ("pretrain.objective.temperature", vec!["0.1", "0.2"]),
            (
                "pretrain.view",
                vec!["[RandomResizedCrop, HorizontalFlip]", "[RandomResizedCrop]"]
            ),
            (
                "pretrain.view.RandomResizedCrop.scale",
                vec!["(0.2, 1.0)", "(0.08, 1.0)"]
            ),
            ("pretrain.view.HorizontalFlip.p", vec!["0.5", "-"]),
            ("pretrain.schedule", vec!["Cosine", "Step"]),
            ("pretrain.schedule.at", vec!["-", "(120)"]),
        ])
    );
    assert_eq!(
        rows(&comparison.origins),
        BTreeMap::from([
            ("version", vec!["0.0.1", "0.0.2"]),
            (
                "pretrain: manifest",
                vec!["9 samples, abcd", "8 samples, ef01"]
            ),
        ])
    );
}

#[test]
fn differences_are_weighed_against_their_standard_errors() {
    let (_root, folders) = runs(&[
        &[],
        &[("61.25", "62.25"), ("temperature: 0.1", "temperature: 0.2")],
        &[
            ("61.25", "67.25"),
            ("\"error\": 1.5", "\"error\": 2.0"),
            ("4.5", "4.0"),
        ],
    ]);
    let comparison = compare(&folders).unwrap();
    let names: Vec<_> = comparison
        .figures
        .iter()
        .map(|figure| figure.name.as_str())
        .collect();
    assert_eq!(names, ["loss", "acc1", "best-NN"]);
    let score = &comparison.figures[2];
    assert_eq!(score.differences, [Some(0.0), Some(1.0), Some(6.0)]);
    // Errors add in squares: 6 / √(1.5² + 2²) = 2.4.
    assert_eq!(score.standard_errors[2], Some(2.4));
    assert_eq!(comparison.figures[0].differences[2], Some(-0.5));
    assert_eq!(comparison.figures[0].standard_errors[2], None);
    let text = comparison.to_string();
    for wanted in [
        "made with: no difference\n",
        "pretrain.objective.temperature  0.1    0.2    0.1\n",
        "4.5000 (+0.0000)",
        "4.0000 (-0.5000)\n",
        "62.25 % ± 1.50 (+1.00, within the standard error)",
        "67.25 % ± 2.00 (+6.00, 2.4 standard errors)",
    ] {
        assert!(text.contains(wanted), "{wanted}\nin\n{text}");
    }
}

#[test]
fn runs_of_other_seeds_give_mean_and_deviation() {
    let (_root, folders) = runs(&[
        &[],
        &[("seed: 1", "seed: 2"), ("61.25", "63.25")],
        &[("seed: 1", "seed: 3"), ("61.25", "65.25")],
    ]);
    let comparison = compare(&folders).unwrap();
    assert_eq!(
        rows(&comparison.settings),
        BTreeMap::from([("seed", vec!["1", "2", "3"])])
    );
    assert_eq!(comparison.figures[2].over_seeds, Some((63.25, 2.0)));
    assert!(comparison.to_string().contains("63.25 % ± 2.00\n"));
    // Equal runs are no sample.
    let (_root, folders) = runs(&[&[], &[]]);
    let comparison = compare(&folders).unwrap();
    assert_eq!(comparison.figures[2].over_seeds, None);
    assert!(
        comparison
            .to_string()
            .starts_with("settings: no difference\n")
    );
}

#[test]
fn a_run_that_is_not_over_shows_how_far_it_is() {
    let (_root, folders) = runs(&[&[], &[("9 samples", "7 samples")]]);
    fs::remove_file(folders[1].join("results.json")).unwrap();
    let log = [
        r#"{"event":"start","stage":"pretrain","samples":9,"epochs":200,"steps_per_epoch":4}"#,
        r#"{"event":"epoch","stage":"pretrain","epoch":1,"step":4,"lr":0.1,"loss":6.0,"replaced":[],"acc1":3.0}"#,
        r#"{"event":"health","stage":"pretrain","epoch":1,"step":4,"rank":17.5}"#,
        r#"{"event":"step","stage":"pretrain","epo"#,
    ];
    fs::write(folders[1].join("log.jsonl"), log.join("\n")).unwrap();
    let comparison = compare(&folders).unwrap();
    let place = folders[1].display();
    assert_eq!(
        comparison.notes,
        [
            format!(
                "{place}: stage `pretrain` is not finished: 1 of 200 epochs, whose last is shown"
            ),
            format!("{place}: stage `trained` has not run"),
        ]
    );
    let values: Vec<_> = comparison
        .figures
        .iter()
        .map(|figure| (figure.name.as_str(), figure.differences[1]))
        .collect();
    assert_eq!(
        values,
        [
            ("loss", Some(1.5)),
            ("acc1", Some(-9.5)),
            ("rank", None),
            ("best-NN", None)
        ]
    );
}

#[test]
fn what_is_no_run_is_named() {
    let (root, folders) = runs(&[&[], &[("\"format\": 1", "\"format\": \"?\"")]]);
    let refusal = |second: PathBuf| {
        let failure = compare(&[folders[0].clone(), second]).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        failure.to_string()
    };
    assert!(refusal(root.path().to_owned()).contains("holds no run (no `resolved.ron`)"));
    assert!(refusal(root.path().join("none")).contains("none does not exist"));
    assert!(
        refusal(folders[0].join("resolved.ron")).contains("is a file, not the folder of a run")
    );
    let other = refusal(folders[1].clone());
    assert!(
        other.contains("version 0.0.1 of smallfry wrote it"),
        "{other}"
    );
    assert!(
        compare(&folders[..1])
            .unwrap_err()
            .message
            .contains("at least two")
    );
}
