//! A third party's program with plugins of its own, outside the workspace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Builds the program offline, with the workspace's versions of everything.
fn build() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tests.join("fixtures/third_party");
    fs::copy(tests.join("../Cargo.lock"), folder.join("Cargo.lock"))
        .expect("the lock file is there");
    let test = std::env::current_exe().expect("a test is a program");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("it lies in target/<profile>/deps");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--offline", "--target-dir"])
        .arg(profile.parent().expect("it lies in target"))
        .current_dir(&folder);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("cargo runs");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{messages}");
    // Its `unused_crate_dependencies` lint would name a plugin crate that is not linked.
    assert!(!messages.contains("third_party"), "{messages}");
    profile.join(format!("third-party{}", std::env::consts::EXE_SUFFIX))
}

fn run(program: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/third_party"))
        .env("NO_COLOR", "1")
        .output()
        .expect("it starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("it writes text");
    (output.status.code(), text)
}

#[test]
fn their_plugins_stand_beside_ours() {
    let program = build();
    let (code, list) = run(&program, &["list"]);
    assert_eq!(code, Some(0), "{list}");
    let line = |name: &str| {
        let mut lines = list.lines().map(str::trim);
        lines
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
    };
    assert!(
        line("Warmup ").ends_with("Rises in a line, then stays [third-party]"),
        "{list}"
    );
    assert!(line("Invert ").ends_with("[third-party]"), "{list}");
    assert!(line("MoCo ").ends_with("[smallfry-objectives]"), "{list}");

    let (code, text) = run(&program, &["check", "experiment.ron"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("schedule   Warmup(epochs: 3)"), "{text}");

    let (code, text) = run(&program, &["check", "experiment.ron", "schedule.epochs=0"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.starts_with("error: `epochs` of Warmup: must be above 0"),
        "{text}"
    );
}
