//! The command line: whole outputs and exit codes.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Stdio,
};

use smallfry_tests::program::{Outcome, command, run};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/diagnostics")
}

/// Checks a run that ends well, with its output.
fn good(arguments: &[&str]) -> String {
    let outcome = run(&fixtures(), arguments);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.errors, "");
    outcome.output
}

/// Checks a run that ends with a mistake of the user; gives what it says.
fn mistake(arguments: &[&str]) -> String {
    let outcome = run(&fixtures(), arguments);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert_eq!(outcome.output, "");
    outcome.errors
}

#[test]
fn check_tells_what_would_run() {
    let text = "good with seed 0, into runs/good

pretrain
  data       ImageFolder(path: \"photos\", upright: false, cache: 512): 4 images, 2 classes
  backbone   mobilenetv3_small(width: 1.0, dropout: 0.2)
  objective  MoCo(dim: 128, queue: 8, momentum: 0.999, temperature: 0.1, groups: 1, head: Wide, label_smoothing: 0.0, neighbours: 5, queue_storage: Full, adversary: None)
  views      2 of 64 × 64 pixels
  optimizer  SGD(lr: 0.03, momentum: 0.9, weight_decay: 0.0001, no_decay: [], nesterov: false)
  schedule   Cosine(per: Epoch, end: 0.0)
  training   1 epoch of 2 steps, 2 images a step
";
    // Costs and remarks follow, which depend on the machine.
    let said = good(&["check", "good.ron"]);
    assert!(said.starts_with(text), "{said}");
    assert!(
        said.contains("\nwarning: `groups` of MoCo: 2 images have batch statistics in common"),
        "{said}"
    );
    let other = good(&[
        "check",
        "good.ron",
        "seed=7",
        "--output",
        "elsewhere",
        "epochs=3",
    ]);
    let text = text
        .replace("seed 0, into runs", "seed 7, into elsewhere")
        .replace("1 epoch ", "3 epochs ");
    assert!(other.starts_with(&text), "{other}");
}

#[test]
fn a_resolved_file_checks_and_resolves_to_itself() {
    let resolved = good(&[
        "check",
        "--resolved",
        "good.ron",
        "pretrain.objective.queue=4",
    ]);
    assert!(resolved.contains("queue: 4,"), "{resolved}");
    let folder = tempfile::tempdir().expect("there is room");
    fs::write(folder.path().join("again.ron"), &resolved).expect("the folder is ours");
    let again = run(folder.path(), &["check", "--resolved", "again.ron"]);
    assert_eq!(
        again,
        Outcome {
            code: Some(0),
            output: resolved,
            errors: String::new()
        }
    );
}

#[test]
fn check_as_json() {
    let text = good(&["check", "--json", "good.ron"]);
    let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(value["name"], "good");
    assert_eq!(value["stages"][0]["kind"], "Pretrain");
}

#[test]
fn mistakes_go_to_stderr_with_their_number() {
    assert_eq!(
        mistake(&["check", "good.ron", "batch=two", "epoch=1"]),
        "error: `batch` of Pretrain: expected a whole number
 --> command line:1:7
  |
1 | batch=two
  |       ^^^
  = help: for example, `256`

error: Pretrain has no field `epoch`
 --> command line:1:1
  |
1 | epoch=1
  | ^^^^^
  = help: did you mean `epochs`?

2 mistakes
"
    );
    assert_eq!(
        mistake(&["run", "nothing.ron"]),
        "error: there is no such file\n --> nothing.ron\n"
    );
    assert_eq!(
        mistake(&["check", "photos"]),
        "error: this is a folder, not an experiment file\n --> photos\n"
    );
}

/// Files that are none of the sort: large ones, and data of all kinds in place of text.
#[test]
fn files_that_are_no_text_are_refused() {
    let folder = tempfile::tempdir().expect("there is room");
    let form = "  = help: an experiment file is text in UTF-8 that begins with `Experiment(` or a stage such as `Pretrain(`\n";
    let large =
        "error: the file is larger than 4 MiB and cannot be an experiment file\n --> bad.ron\n";
    let zero = "error: the file is not text (byte 1 is zero)\n --> bad.ron\n";
    let mut weights = 16u64.to_le_bytes().to_vec();
    weights.extend(b"{\"a\":{}}        ");
    let safetensors = "error: the file is not text (byte 2 is zero)\n --> bad.ron\n";
    let jpeg = "error: the file is not text in UTF-8 (byte 1 is the first that does not fit)\n --> bad.ron\n";
    let latin = "error: the file is not text in UTF-8 (byte 12 is the first that does not fit)\n --> bad.ron\n";
    let long = [b"Pretrain(".as_slice(), &vec![b' '; 10 << 20], b")"].concat();
    for (content, message) in [
        (long, large),
        (vec![0; 10 << 20], large),
        (vec![0; 4 << 20], zero),
        (weights, safetensors),
        (vec![0xff, 0xd8, 0xff, 0xe0, 0x10], jpeg),
        (b"// K\xc3\xa4se, H\xe4user".to_vec(), latin),
    ] {
        fs::write(folder.path().join("bad.ron"), content).expect("the folder is ours");
        for verb in ["run", "check", "fmt"] {
            let outcome = run(folder.path(), &[verb, "bad.ron"]);
            assert_eq!((outcome.code, outcome.output.as_str()), (Some(2), ""));
            assert_eq!(outcome.errors, format!("{message}{form}"), "{verb}");
        }
    }
    // A base is read in the same way.
    fs::write(folder.path().join("a.ron"), "Pretrain(base: \"bad.ron\")")
        .expect("the folder is ours");
    fs::write(folder.path().join("bad.ron"), vec![7; 10 << 20]).expect("the folder is ours");
    let outcome = run(folder.path(), &["check", "a.ron"]);
    assert_eq!(outcome.code, Some(2));
    let note = "  = note: it is the base of a.ron\n";
    assert_eq!(outcome.errors, format!("{large}{note}{form}"));
}

#[test]
fn a_run_refuses_before_it_makes_a_folder() {
    let folder = tempfile::tempdir().expect("there is room");
    let file = fixtures().join("queue_no_multiple.ron");
    let outcome = run(folder.path(), &["run", &file.display().to_string()]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(
        outcome.errors.starts_with("error: `queue` of MoCo: "),
        "{outcome:?}"
    );
    let left: Vec<_> = fs::read_dir(folder.path()).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn plugins_are_listed_and_described() {
    let all = good(&["list"]);
    for heading in [
        "data sets:",
        "backbones:",
        "augmentations:",
        "objectives:",
        "optimizers:",
        "schedules:",
        "metrics:",
    ] {
        assert!(all.lines().any(|line| line == heading), "{heading}");
    }
    let one = good(&["list", "Schedules"]);
    assert!(one.starts_with("schedules:\n  Constant "), "{one}");
    assert!(all.contains(&one));
    let verbose = good(&["list", "optimizer", "--verbose"]);
    assert!(
        verbose.contains("\n      SGD(\n          /// Learning rate"),
        "{verbose}"
    );
    let json = good(&["list", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert!(value.as_array().is_some_and(|plugins| plugins.len() > 10));
    let described = good(&["describe", "mobilenetv3_small"]);
    assert!(described.contains("\nfeatures     1,024\n"), "{described}");
    assert!(
        described.contains("\nparameters   1,517,856 (without a head)\n"),
        "{described}"
    );
    assert_eq!(
        mistake(&["describe", "moco2"]),
        "error: no plugin is named `moco2`\n  = help: did you mean `MoCo`?\n"
    );
    assert_eq!(
        mistake(&["list", "metrix"]),
        "error: there is no kind of plugin named `metrix`\n  = help: did you mean `metric`?\n"
    );
}

#[test]
fn usage_is_checked() {
    assert!(mistake(&[]).contains("Usage: smallfry"));
    assert!(mistake(&["rum"]).contains("unrecognized subcommand 'rum'"));
    assert!(mistake(&["run"]).contains("<FILE>"));
    assert!(mistake(&["run", "good.ron", "--threads", "0"]).contains("--threads"));
    assert!(mistake(&["run", "good.ron", "--resume", "--overwrite"]).contains("cannot be used"));
    assert!(good(&["--version"]).starts_with("smallfry "));
    assert!(good(&["--help"]).contains("Check an experiment file"));
}

#[test]
fn the_instruction_set_must_be_there() {
    let output = command(&fixtures(), &["list"])
        .env("SMALLFRY_SIMD", "mmx")
        .output()
        .expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("`SMALLFRY_SIMD` is `mmx`, but this processor has: "),
        "{errors}"
    );
}

#[test]
fn a_report_wants_a_run() {
    assert!(mistake(&["report", "."]).contains("holds no run"));
}

#[test]
fn a_reader_that_stops_is_no_error() {
    let mut child = command(&fixtures(), &["list", "--verbose"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let mut errors = String::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut errors).expect("it is text");
    let status = child.wait().expect("it ends");
    assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
}

#[test]
fn files_are_compared_by_what_they_come_to() {
    let folder = tempfile::tempdir().expect("there is room");
    let text = fs::read_to_string(fixtures().join("good.ron")).expect("it is there");
    let text = text.replace("\"photos\"", &format!("{:?}", fixtures().join("photos")));
    let same = format!(
        "// Other words for the same.\n{}",
        text.replace("SGD", "SGD(lr: 0.03)")
    );
    let other = text
        .replace("MoCo(queue: 8)", "MoCo(queue: 4)")
        .replace("Cosine", "Constant");
    for (name, text) in [("a.ron", &text), ("b.ron", &same), ("c.ron", &other)] {
        fs::write(folder.path().join(name), text).expect("the folder is ours");
    }
    let diff = |arguments: &[&str]| run(folder.path(), &[&["diff"], arguments].concat());
    assert_eq!(diff(&["a.ron", "b.ron"]).code, Some(0));
    assert_eq!(diff(&["a.ron", "b.ron"]).output, "");
    let differing = diff(&["a.ron", "c.ron"]);
    assert_eq!((differing.code, differing.errors.as_str()), (Some(1), ""));
    assert!(
        differing.output.starts_with(
            "- pretrain.objective.queue=8\n+ pretrain.objective.queue=4\n- pretrain.schedule=Cosine\n+ pretrain.schedule=Constant\n"
        ),
        "{differing:?}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&diff(&["--json", "a.ron", "c.ron"]).output).expect("it is JSON");
    assert_eq!(json[0]["path"], "pretrain.objective.queue");
    assert_eq!(diff(&["a.ron", "none.ron"]).code, Some(2));
}

#[test]
fn files_are_laid_out_in_place() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("a.ron");
    let ugly = "Experiment( // why\r\n  seed:1,stages:[ ] )";
    fs::write(&path, ugly).expect("the folder is ours");
    let fmt = |arguments: &[&str]| run(folder.path(), &[&["fmt"], arguments].concat());
    let checked = fmt(&["--check", "a.ron"]);
    assert_eq!(
        (checked.code, checked.output.as_str()),
        (Some(1), "a.ron\n")
    );
    assert_eq!(fs::read_to_string(&path).expect("it is there"), ugly);
    assert_eq!(fmt(&["a.ron"]).output, "a.ron\n");
    let laid_out = "Experiment(\n    // why\n    seed: 1,\n    stages: [],\n)\n";
    assert_eq!(fs::read_to_string(&path).expect("it is there"), laid_out);
    assert_eq!(fmt(&["a.ron"]).output, "");
    assert_eq!(fmt(&["--check", "a.ron"]).code, Some(0));
    fs::write(&path, "Experiment(").expect("the folder is ours");
    let refused = fmt(&["a.ron"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.errors.contains("`(` is never closed"),
        "{refused:?}"
    );
}

#[test]
fn the_command_line_describes_itself() {
    for shell in ["bash", "zsh", "fish"] {
        let script = good(&["completions", shell]);
        for word in ["verify-resume", "resolved", "moco", "seed"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert!(mistake(&["completions", "tcsh"]).contains("possible values"));
    let page = good(&["man"]);
    assert!(
        page.contains(".TH smallfry 1") && page.contains("verify"),
        "{page}"
    );
    let page = good(&["man", "run"]);
    assert!(
        page.contains(".TH smallfry-run 1") && page.contains("allow\\-change"),
        "{page}"
    );
    assert!(mistake(&["man", "rum"]).starts_with("error: there is no verb `rum`"));
}
