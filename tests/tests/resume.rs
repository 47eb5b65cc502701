//! A run that is stopped, by whatever means, and gone on with equals one that was never stopped, byte for byte.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use smallfry::{
    failure::Failure,
    run::{self, RunOptions},
    workplace::Existing,
};
use smallfry_formats::safetensors;
use smallfry_tests::{
    program::program,
    run_folder::determined,
    small::{self, Follow, Shape},
};

fn train(folder: &Path, shape: &Shape, existing: Existing) -> Result<run::Summary, Failure> {
    go_on(folder, shape, existing, &[])
}

fn go_on(
    folder: &Path,
    shape: &Shape,
    existing: Existing,
    allow: &[&str],
) -> Result<run::Summary, Failure> {
    let options = RunOptions {
        existing,
        allow: allow.iter().map(|&path| path.to_owned()).collect(),
        ..RunOptions::default()
    };
    run::run(&small::plan(folder, shape), &options)
}

/// Names of the checkpoints in a run folder.
fn checkpoints(run: &Path) -> Vec<String> {
    let files = fs::read_dir(run.join("checkpoints/pretrain")).unwrap();
    let name = |file: fs::DirEntry| file.file_name().into_string().unwrap();
    let mut names: Vec<_> = files.map(|file| name(file.unwrap())).collect();
    names.sort();
    names
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
    assert!(!killed_in(folder, kill, existing, None).success());
}

/// The same where the state is saved after every `save` steps; how it ended.
fn killed_in(
    folder: &Path,
    kill: u64,
    existing: &str,
    save: Option<u64>,
) -> std::process::ExitStatus {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--include-ignored", "--nocapture"])
        .env("SMALLFRY_TEST_FOLDER", folder)
        .env("SMALLFRY_TEST_KILL", kill.to_string())
        .env("SMALLFRY_TEST_EXISTING", existing)
        .env("SMALLFRY_TEST_SAVE", save.unwrap_or(0).to_string())
        .output()
        .unwrap()
        .status
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
        save: Some(text("SMALLFRY_TEST_SAVE").parse().unwrap()).filter(|&steps| steps > 0),
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
fn killed_in_any_step_between_states_within_epochs() {
    let (_whole, expected) = undisturbed(&Shape::default());
    for save in [1, 2, 3] {
        for kill in [1, 3, 4, 5, 8, 12, 14] {
            let folder = tempfile::tempdir().unwrap();
            assert!(!killed_in(folder.path(), kill, "refuse", Some(save)).success());
            train(folder.path(), &Shape::default(), Existing::Resume).unwrap();
            assert_same(&folder.path().join("small"), &expected);
        }
    }
}

#[test]
fn no_step_is_taken_twice_where_its_state_was_saved() {
    let (_whole, expected) = undisturbed(&Shape::default());
    for kill in [3, 7, 14] {
        let folder = tempfile::tempdir().unwrap();
        assert!(!killed_in(folder.path(), kill, "refuse", Some(1)).success());
        // It would die in any step before.
        for earlier in [kill - 1, 0] {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(folder.path(), copy.path());
            assert!(killed_in(copy.path(), earlier, "resume", Some(1)).success());
            // It is done; only the file with all defaults is of another plan.
            train(copy.path(), &Shape::default(), Existing::Resume).unwrap();
            assert_same(&copy.path().join("small"), &expected);
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn states_within_an_epoch_are_gone_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!killed_in(folder.path(), 8, "refuse", Some(1)).success());
    let run = folder.path().join("small");
    assert_eq!(
        checkpoints(&run),
        [
            "epoch-0001-batch-000002.safetensors",
            "epoch-0001-batch-000003.safetensors",
            "epoch-0001.safetensors",
        ]
    );
    train(folder.path(), &Shape::default(), Existing::Resume).unwrap();
    let ends = [1, 2, 3].map(|epoch| format!("epoch-000{epoch}.safetensors"));
    assert_eq!(checkpoints(&run), ends);
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
    for allow in [&[][..], &["pretrain.batch"], &["epochs"]] {
        let failure = go_on(folder.path(), &changed, Existing::Resume, allow).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        let text = failure.to_string();
        assert!(text.contains("- epochs: 3\n+ epochs: 5"), "{text}");
        assert!(text.contains("--allow-change pretrain.epochs"), "{text}");
        assert!(determined(&run) == before);
    }
}

#[test]
fn a_change_that_cannot_work_is_refused_whatever_is_allowed() {
    let (folder, run) = undisturbed(&Shape::default());
    let before = determined(&run);
    for (changed, reason) in [
        (
            Shape {
                seed: 8,
                ..Shape::default()
            },
            "pretrain.seed: 7 became 8: every image order and random number follows from it",
        ),
        (
            Shape {
                epochs: 2,
                ..Shape::default()
            },
            "pretrain.epochs: 3 became 2: epoch 3 has begun",
        ),
        (
            Shape {
                samples: 48,
                ..Shape::default()
            },
            "other images",
        ),
    ] {
        let failure = go_on(folder.path(), &changed, Existing::Resume, &["pretrain"]).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.message.contains(reason), "{failure}");
        assert!(determined(&run) == before);
    }
}

#[test]
fn a_change_that_is_allowed_by_name_is_made_and_noted() {
    let longer = Shape {
        epochs: 5,
        ..Shape::default()
    };
    let (_whole, expected) = undisturbed(&longer);
    let (folder, run) = undisturbed(&Shape::default());
    let allow = ["pretrain.epochs"];
    let summary = go_on(folder.path(), &longer, Existing::Resume, &allow).unwrap();
    assert!(
        summary
            .notes
            .contains(&"pretrain.epochs: 3 became 5, from step 15 on".to_owned()),
        "{:?}",
        summary.notes
    );
    let line = concat!(
        r#"{"event":"change","stage":"pretrain","step":15,"#,
        r#""changes":[{"path":"pretrain.epochs","before":"3","after":"5"}]}"#
    );
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    assert_eq!(log.matches(line).count(), 1, "{log}");
    let receipt = fs::read_to_string(run.join("receipt.json")).unwrap();
    assert!(receipt.contains("pretrain.epochs"), "{receipt}");
    // The halving rate does not know how many epochs there are: the weights are those of five epochs from the start.
    let last = "checkpoints/pretrain/epoch-0005.safetensors";
    assert!(fs::read(run.join(last)).unwrap() == fs::read(expected.join(last)).unwrap());
    // Made once, it is no change any more, and stays noted.
    let again = train(folder.path(), &longer, Existing::Resume).unwrap();
    assert_eq!(
        again.notes,
        ["every stage of this run is done; there was nothing left to do"]
    );
    let receipt = fs::read_to_string(run.join("receipt.json")).unwrap();
    assert!(receipt.contains("pretrain.epochs"), "{receipt}");
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
fn a_damaged_checkpoint_is_put_aside_and_the_one_before_it_gone_on_from() {
    let (folder, run) = undisturbed(&Shape::default());
    let expected = determined(&run);
    let path = run.join("checkpoints/pretrain/epoch-0003.safetensors");
    let aside = run.join("checkpoints/pretrain/epoch-0003.safetensors.damaged");
    let bytes = fs::read(&path).unwrap();
    // A bit in the midst of a tensor, and one of the number of steps in the header.
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    };
    let number = b"\"step\":\"";
    let within = bytes
        .windows(number.len())
        .position(|bytes| bytes == number);
    for damaged in [
        &bytes[..bytes.len() - 1],
        &bytes[..100],
        &bytes[..4],
        b"".as_slice(),
        &flipped(bytes.len() * 3 / 4),
        &flipped(within.unwrap() + number.len()),
    ] {
        fs::write(&path, damaged).unwrap();
        let summary = train(folder.path(), &Shape::default(), Existing::Resume).unwrap();
        assert!(
            summary.notes[0].contains("epoch-0003.safetensors")
                && summary.notes[0].contains("goes on from the checkpoint before it"),
            "{:?}",
            summary.notes
        );
        assert_eq!(fs::read(&aside).unwrap(), damaged);
        fs::remove_file(&aside).unwrap();
        assert!(determined(&run) == expected);
    }
}

#[test]
fn checkpoints_of_before_there_was_a_checksum_are_gone_on_from() {
    let (folder, run) = undisturbed(&Shape::default());
    let expected = determined(&run);
    let old = run.join("checkpoints/pretrain/epoch-0002.safetensors");
    let mut file = safetensors::read(&old).unwrap();
    assert!(file.metadata.remove("checksum").is_some());
    let mut bytes = Vec::new();
    safetensors::write(&file, &mut bytes).unwrap();
    fs::write(&old, bytes).unwrap();
    fs::remove_file(run.join("checkpoints/pretrain/epoch-0003.safetensors")).unwrap();
    fs::remove_file(run.join("results.json")).unwrap();
    let summary = train(folder.path(), &Shape::default(), Existing::Resume).unwrap();
    assert_eq!(summary.notes, Vec::<String>::new());
    let found = determined(&run);
    let differing: Vec<_> = (expected.iter())
        .filter(|(name, bytes)| found.get(*name) != Some(bytes))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(differing, [&old.strip_prefix(&run).unwrap().to_owned()]);
}

#[test]
fn where_every_checkpoint_is_damaged_nothing_is_begun_anew() {
    let (folder, run) = undisturbed(&Shape {
        keep: Some(1),
        ..Shape::default()
    });
    let path = run.join("checkpoints/pretrain/epoch-0003.safetensors");
    fs::write(&path, "no checkpoint").unwrap();
    let before = determined(&run);
    let failure = train(folder.path(), &Shape::default(), Existing::Resume).unwrap_err();
    assert_eq!(failure.exit_code(), 2, "{failure}");
    assert!(
        failure.message.contains("epoch-0003.safetensors")
            && failure.message.contains("no other checkpoint"),
        "{failure}"
    );
    assert!(determined(&run) == before);
}

#[test]
fn what_stays_can_be_chosen() {
    use smallfry::{
        checkpoint::cadence::{Best, Keep},
        plan::Stage,
    };

    // `acc1` is the mean number of the step: the last epoch is the highest, the first the lowest.
    for (every, best, stay) in [
        (None, None, &[5][..]),
        (Some(2), None, &[2, 4, 5]),
        (None, Some(Best::Lowest("acc1".to_owned())), &[1, 5]),
        (Some(3), Some(Best::Highest("acc1".to_owned())), &[3, 5]),
        (None, Some(Best::Highest("knn".to_owned())), &[5]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape {
            epochs: 5,
            ..Shape::default()
        };
        let mut plan = small::plan(folder.path(), &shape);
        let missing = best.as_ref().is_some_and(|best| best.figure() == "knn");
        for stage in &mut plan.stages {
            if let Stage::Pretrain(stage) = stage {
                stage.keep = Keep {
                    last: Some(1),
                    every,
                    best: best.clone(),
                };
            }
        }
        let summary = run::run(&plan, &RunOptions::default()).unwrap();
        let names: Vec<_> = stay
            .iter()
            .map(|epoch| format!("epoch-000{epoch}.safetensors"))
            .collect();
        assert_eq!(checkpoints(&summary.folder), names, "{every:?} {best:?}");
        let told = summary
            .notes
            .iter()
            .any(|note| note.contains("no figure `knn`"));
        assert_eq!(told, missing, "{:?}", summary.notes);
    }
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
        failure.message.contains("has no line for step 15"),
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
            objective: MoCo(queue: 16, dim: 16, adversary: Adversary(steps: 2)),
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
    a_signal_ends_after_a_step("-INT");
}

/// What the system sends before it is shut down, and a queue of jobs before it kills one.
#[cfg(unix)]
#[test]
fn a_request_to_end_is_followed_as_ctrl_c_is() {
    a_signal_ends_after_a_step("-TERM");
}

#[cfg(unix)]
fn a_signal_ends_after_a_step(signal: &str) {
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
        .args([signal, &child.id().to_string()])
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

/// A process that was killed may hold its lock for a moment still.
#[test]
fn going_on_waits_for_the_run_before_to_end() {
    use std::io::{BufRead, BufReader};

    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(folder.path());
    let whole = whole_run(&experiment, "runs", &[]);
    assert!(whole.status.success());
    let run = folder.path().join("runs/whole");
    let lock = fs::File::options()
        .write(true)
        .open(run.join(".lock"))
        .unwrap();
    lock.lock().unwrap();
    let mut child = Command::new(program())
        .arg("run")
        .arg(&experiment)
        .arg(format!("output={:?}", folder.path().join("runs")))
        .arg("--resume")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = lines.next().unwrap().unwrap();
    assert!(
        told.contains("another run is at work") && told.contains("waiting"),
        "{told}"
    );
    drop(lock);
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
}

/// Runs the experiment so that no file can grow beyond `blocks` of 512 bytes, as if the disk were full there.
#[cfg(unix)]
fn run_in_little_room(experiment: &Path, blocks: u32) -> std::process::Output {
    let folder = experiment.parent().unwrap();
    Command::new("sh")
        .arg("-c")
        // Without the trap the system would end the process instead of refusing to write.
        .arg(format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""
        ))
        .arg(program())
        .arg("run")
        .arg(experiment)
        .arg(format!("output={:?}", folder.join("runs")))
        .arg("--resume")
        .current_dir(folder)
        .output()
        .unwrap()
}

#[cfg(unix)]
#[test]
fn a_save_that_fails_leaves_the_older_state_and_says_so() {
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
    let remove = |name: &str| fs::remove_file(run.join(name)).unwrap();
    for (removed, kept) in [
        (&["epoch-0003"][..], "the state after epoch 2 is kept in"),
        (&["epoch-0003", "epoch-0002"], "there is no checkpoint in"),
    ] {
        for name in removed {
            remove(&format!("checkpoints/train/{name}.safetensors"));
        }
        remove("results.json");
        let before = checkpoint_bytes(&run);
        // Room for the logs, not for a checkpoint.
        let full = run_in_little_room(&experiment, 2000);
        let message = String::from_utf8_lossy(&full.stderr);
        assert_eq!(full.status.code(), Some(1), "{message}");
        assert!(
            message.contains("cannot write") && message.contains(kept),
            "{message}"
        );
        assert!(checkpoint_bytes(&run) == before);
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
fn checkpoint_bytes(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = determined(run);
    files.retain(|name, _| name.starts_with("checkpoints"));
    files
}

#[cfg(unix)]
#[test]
fn a_folder_that_goes_away_ends_the_run_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(folder.path());
    let child = Command::new(program())
        .arg("run")
        .arg(&experiment)
        .arg("train.epochs=1000")
        .arg(format!("output={:?}", folder.path().join("runs")))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let run = folder.path().join("runs/whole");
    while !run
        .join("checkpoints/train/epoch-0001.safetensors")
        .exists()
    {
        std::thread::yield_now();
    }
    fs::rename(&run, folder.path().join("elsewhere")).unwrap();
    // Another run may be at work in a folder of the name by then.
    fs::create_dir_all(&run).unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && output.status.code().is_some(),
        "{message}"
    );
    assert!(
        message.contains("removed while this run worked in it") || message.contains("cannot"),
        "{message}"
    );
    assert_eq!(fs::read_dir(&run).unwrap().count(), 0, "{message}");
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_ten_times_comes_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(folder.path());
    let output = Command::new(program())
        .arg("verify-resume")
        .arg(&experiment)
        .args(["--kills", "10", "--seed", "1", "--output"])
        .arg(folder.path().join("runs"))
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.starts_with("10 kills, ") && text.contains(": 0 bytes differ in "),
        "{text}"
    );
    assert!(!folder.path().join("runs/whole-verify-resume").exists());
}

#[test]
fn when_to_save_and_what_to_keep_stand_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(folder.path());
    let check = |overrides: &[&str]| {
        let output = Command::new(program())
            .args(["check", "--resolved"])
            .arg(&experiment)
            .args(overrides)
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        (output.status.code(), text)
    };
    for (overrides, expected) in [
        (
            &[][..],
            "save: Save( steps: None, minutes: 10.0, ), keep: 2,",
        ),
        (
            &[
                "train.save=Save(steps: 5, minutes: None)",
                "train.keep=None",
            ],
            "save: Save( steps: 5, minutes: None, ), keep: None,",
        ),
        (
            &[
                "train.save=Save(minutes: 0.5)",
                "train.keep=Keep(every: 50)",
            ],
            "save: Save( steps: None, minutes: 0.5, ), keep: Keep( last: 2, every: 50, best: None, ),",
        ),
        (
            &[r#"train.keep=Keep(last: 1, best: Highest("knn"))"#],
            r#"keep: Keep( last: 1, every: None, best: Highest("knn"), ),"#,
        ),
    ] {
        let (code, text) = check(overrides);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    for (wrong, expected) in [
        ("train.save=Save(steps: 0)", "`steps` must be above 0"),
        (
            "train.save=Save(minutes: -1)",
            "`minutes` must be a number above 0",
        ),
        ("train.save=Save(hours: 1)", "hours"),
        ("train.keep=0", "must be above 0"),
        ("train.keep=Keep(last: None, every: 2)", "keeps all"),
        ("train.keep=Keep(best: Most(\"loss\"))", "Most"),
    ] {
        let (code, text) = check(&[wrong]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}
