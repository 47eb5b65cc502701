//! A run that is stopped, by whatever means, and gone on with equals one that was never stopped, byte for byte.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use smallfry::{
    failure::Failure,
    run::{self, Existing, RunOptions},
};
use smallfry_tests::{
    program::program,
    small::{self, Follow, Shape},
};

fn train(folder: &Path, shape: &Shape, existing: Existing) -> Result<run::Summary, Failure> {
    let options = RunOptions {
        existing,
        ..RunOptions::default()
    };
    run::run(&small::plan(folder, shape), &options)
}

/// The bytes of everything in a run folder that the plan determines.
fn determined(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            // Times and machine; the report shows speed.
            if !["timings.jsonl", "receipt.json", "report.html", ".lock"].contains(&name) {
                files.insert(
                    path.strip_prefix(run).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    files
}

#[track_caller]
fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (determined(a), determined(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{} differs", name.display());
    }
}

/// A run that was never stopped.
fn undisturbed(shape: &Shape) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let summary = train(folder.path(), shape, Existing::Refuse).unwrap();
    (folder, summary.folder)
}

/// Runs the small plan in a process of its own, which dies where `kill` says.
fn die(folder: &Path, kill: u64, existing: &str) {
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--include-ignored", "--nocapture"])
        .env("SMALLFRY_TEST_FOLDER", folder)
        .env("SMALLFRY_TEST_KILL", kill.to_string())
        .env("SMALLFRY_TEST_EXISTING", existing)
        .output()
        .unwrap()
        .status;
    assert!(!status.success());
}

/// Not a test by itself: the process that [`die`] starts.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Some(folder) = env::var_os("SMALLFRY_TEST_FOLDER") else {
        return;
    };
    let text = |name: &str| env::var(name).unwrap();
    let shape = Shape {
        objective: Follow {
            kill: Some(text("SMALLFRY_TEST_KILL").parse().unwrap()),
            diverge: None,
        },
        ..Shape::default()
    };
    let existing = match text("SMALLFRY_TEST_EXISTING").as_str() {
        "resume" => Existing::Resume,
        _ => Existing::Refuse,
    };
    train(Path::new(&folder), &shape, existing).unwrap();
}

#[test]
fn killed_in_any_step_and_gone_on_with() {
    let (_whole, expected) = undisturbed(&Shape::default());
    // 15 steps of 5 an epoch: the first, the last, those at borders and some within.
    for kill in [0, 2, 4, 5, 6, 9, 10, 14] {
        let folder = tempfile::tempdir().unwrap();
        die(folder.path(), kill, "refuse");
        train(folder.path(), &Shape::default(), Existing::Resume).unwrap();
        assert_same(&folder.path().join("small"), &expected);
    }
}

#[test]
fn killed_again_and_again() {
    let (_whole, expected) = undisturbed(&Shape::default());
    let folder = tempfile::tempdir().unwrap();
    die(folder.path(), 3, "refuse");
    for kill in [4, 7, 8, 11, 14] {
        die(folder.path(), kill, "resume");
    }
    train(folder.path(), &Shape::default(), Existing::Resume).unwrap();
    assert_same(&folder.path().join("small"), &expected);
}

#[test]
fn what_a_kill_left_half_written_is_ignored_and_removed() {
    let (_whole, expected) = undisturbed(&Shape::default());
    let folder = tempfile::tempdir().unwrap();
    die(folder.path(), 7, "refuse");
    let run = folder.path().join("small");
    let checkpoints = run.join("checkpoints/pretrain");
    fs::write(checkpoints.join("epoch-0002.safetensors.partial"), "half").unwrap();
    fs::write(run.join("results.json.partial"), "{").unwrap();
    let log = run.join("log.jsonl");
    let mut text = fs::read_to_string(&log).unwrap();
    text.push_str("{\"event\":\"step\",\"stage\":\"pre");
    fs::write(&log, text).unwrap();
    train(folder.path(), &Shape::default(), Existing::Resume).unwrap();
    assert_same(&run, &expected);
}

#[test]
fn going_on_with_a_finished_run_changes_nothing() {
    let (folder, run) = undisturbed(&Shape::default());
    let before = determined(&run);
    let summary = train(folder.path(), &Shape::default(), Existing::Resume).unwrap();
    assert_eq!(
        summary.notes,
        ["every stage of this run is done; there was nothing left to do"]
    );
    assert!(determined(&run) == before);
}

#[test]
fn going_on_where_nothing_was_begun_begins() {
    let (_whole, expected) = undisturbed(&Shape::default());
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), &Shape::default(), Existing::Resume).unwrap();
    assert_same(&folder.path().join("small"), &expected);
}

#[test]
fn another_configuration_is_shown_and_refused() {
    let (folder, run) = undisturbed(&Shape::default());
    let before = determined(&run);
    let changed = Shape {
        epochs: 5,
        ..Shape::default()
    };
    let failure = train(folder.path(), &changed, Existing::Resume).unwrap_err();
    assert_eq!(failure.exit_code(), 2);
    assert!(
        failure.message.contains("- epochs: 3\n+ epochs: 5"),
        "{failure}"
    );
    assert!(determined(&run) == before);
}

#[test]
fn fewer_kept_checkpoints_are_no_other_configuration() {
    let (folder, run) = undisturbed(&Shape::default());
    let shape = Shape {
        keep: Some(1),
        ..Shape::default()
    };
    train(folder.path(), &shape, Existing::Resume).unwrap();
    let checkpoints = fs::read_dir(run.join("checkpoints/pretrain")).unwrap();
    assert_eq!(checkpoints.count(), 1);
}

#[test]
fn a_lost_result_is_computed_again() {
    let (folder, run) = undisturbed(&Shape::default());
    let before = determined(&run);
    fs::remove_file(run.join("results.json")).unwrap();
    train(folder.path(), &Shape::default(), Existing::Resume).unwrap();
    assert!(determined(&run) == before);
}

#[test]
fn a_damaged_checkpoint_is_named_and_nothing_is_lost() {
    let (folder, run) = undisturbed(&Shape::default());
    let path = run.join("checkpoints/pretrain/epoch-0003.safetensors");
    let bytes = fs::read(&path).unwrap();
    for damaged in [
        &bytes[..bytes.len() - 1],
        &bytes[..100],
        &bytes[..4],
        b"".as_slice(),
    ] {
        fs::write(&path, damaged).unwrap();
        let failure = train(folder.path(), &Shape::default(), Existing::Resume).unwrap_err();
        assert_eq!(failure.exit_code(), 2, "{failure}");
        assert!(
            failure.message.contains("epoch-0003.safetensors"),
            "{failure}"
        );
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    // The remedy that the message names.
    fs::remove_file(&path).unwrap();
    train(folder.path(), &Shape::default(), Existing::Resume).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_log_without_the_epoch_of_its_checkpoint_is_not_made_up() {
    let (folder, run) = undisturbed(&Shape::default());
    let log = run.join("log.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let cut = text
        .find("\"event\":\"epoch\",\"stage\":\"pretrain\",\"epoch\":2")
        .unwrap();
    fs::write(&log, &text[..cut]).unwrap();
    fs::remove_file(run.join("results.json")).unwrap();
    let failure = train(folder.path(), &Shape::default(), Existing::Resume).unwrap_err();
    assert_eq!(failure.exit_code(), 2, "{failure}");
    assert!(
        failure.message.contains("has no line for epoch 3"),
        "{failure}"
    );
}

/// An experiment of the real plugins on generated images, small enough for a test.
fn experiment(folder: &Path) -> PathBuf {
    let images = folder.join("images");
    for class in ["a", "b", "c"] {
        fs::create_dir_all(images.join(class)).unwrap();
        for index in 0..8u32 {
            // A binary PPM would do, but the set takes photographs' formats: JPEG.
            let shade = u32::from(class.as_bytes()[0] - b'a') * 80;
            let pixels = (0..48 * 40 * 3).map(|i| ((shade + i * (index + 3) / 7) % 256) as u8);
            let image = smallfry::data::Image {
                width: 48,
                height: 40,
                pixels: pixels.collect(),
            };
            let path = images.join(class).join(format!("{index}.jpg"));
            fs::write(path, smallfry::data::encode::jpeg(&image)).unwrap();
        }
    }
    fs::write(images.join("b/broken.jpg"), "no picture").unwrap();
    let text = r#"Experiment(
    seed: 3,
    stages: [
        Pretrain(
            name: "train",
            data: ImageFolder(path: "images"),
            backbone: mobilenetv3_small,
            objective: MoCo(queue: 16, dim: 16),
            view: [RandomResizedCrop(size: 32), HorizontalFlip, ColorJitter],
            optimizer: SGD,
            schedule: Cosine,
            epochs: 3,
            batch: 8,
        ),
        Evaluate(
            name: "score",
            backbone: mobilenetv3_small,
            weights: Stage("train"),
            train: ImageFolder(path: "images"),
            test: ImageFolder(path: "images"),
            size: 32,
            batch: 8,
            metrics: [BestNN(k: 5)],
        ),
    ],
)
"#;
    let path = folder.join("whole.ron");
    fs::write(&path, text).unwrap();
    path
}

#[track_caller]
fn whole_run(experiment: &Path, output: &str, arguments: &[&str]) -> std::process::Output {
    let folder = experiment.parent().unwrap();
    Command::new(program())
        .arg("run")
        .arg(experiment)
        .arg(format!("output={:?}", folder.join(output)))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn the_whole_program_gives_the_same_bytes_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(folder.path());
    for threads in ["1", "2", "4"] {
        let output = whole_run(&experiment, threads, &["--threads", threads]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    for threads in ["2", "4"] {
        let run = |threads: &str| folder.path().join(threads).join("whole");
        let (mut a, mut b) = (determined(&run("1")), determined(&run(threads)));
        // It names the output folder.
        let resolved = Path::new("resolved.ron");
        assert!(a.remove(resolved).is_some() && b.remove(resolved).is_some());
        assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
        for (name, bytes) in &a {
            assert!(
                bytes == &b[name],
                "{} differs for {threads} threads",
                name.display()
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn the_whole_program_killed_between_epochs_and_resumed_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(folder.path());
    let whole = whole_run(&experiment, "runs", &[]);
    assert!(
        whole.status.success(),
        "{}",
        String::from_utf8_lossy(&whole.stderr)
    );
    let run = folder.path().join("runs/whole");
    let expected = determined(&run);

    for epoch in [1, 2] {
        let again = whole_run(&experiment, "runs", &["--overwrite"]);
        assert!(again.status.success());
        fs::remove_dir_all(&run).unwrap();
        let mut child = Command::new(program())
            .arg("run")
            .arg(&experiment)
            .arg(format!("output={:?}", folder.path().join("runs")))
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // SIGKILL as soon as the epoch's checkpoint is there; a run that was faster is as good.
        let checkpoint = run.join(format!("checkpoints/train/epoch-{epoch:04}.safetensors"));
        while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let resumed = whole_run(&experiment, "runs", &["--resume"]);
        assert!(
            resumed.status.success(),
            "{}",
            String::from_utf8_lossy(&resumed.stderr)
        );
        assert!(determined(&run) == expected);
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_after_a_step_and_says_how_to_go_on() {
    use std::os::unix::process::ExitStatusExt;

    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(folder.path());
    let whole = whole_run(&experiment, "whole", &[]);
    assert!(
        whole.status.success(),
        "{}",
        String::from_utf8_lossy(&whole.stderr)
    );
    let child = Command::new(program())
        .arg("run")
        .arg(&experiment)
        .arg(format!("output={:?}", folder.path().join("stopped")))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let run = folder.path().join("stopped/whole");
    while !run.join("log.jsonl").exists() {
        std::thread::yield_now();
    }
    let status = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    // A machine so fast that the run was over is no failure.
    if !output.status.success() {
        assert_eq!(
            (output.status.code(), output.status.signal()),
            (Some(130), None),
            "{message}"
        );
        assert!(
            message.contains("stopped") && message.contains("--resume"),
            "{message}"
        );
    }
    let resumed = whole_run(&experiment, "stopped", &["--resume"]);
    assert!(
        resumed.status.success(),
        "{}",
        String::from_utf8_lossy(&resumed.stderr)
    );
    let (a, b) = (
        determined(&run),
        determined(&folder.path().join("whole/whole")),
    );
    let different: Vec<_> = a
        .keys()
        .filter(|name| b.get(*name) != a.get(*name))
        .collect();
    assert!(
        different
            .iter()
            .all(|name| name.as_os_str() == "resolved.ron"),
        "{different:?}"
    );
    assert_eq!(a.len(), b.len());
}
