//! The `smallfry` program under test.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Path of the program, built in the profile of the running test: Cargo gives tests of one package no path to the programs of
/// another.
///
/// # Panics
/// If it cannot be built.
pub fn program() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(build)
}

/// A call of the program.
pub fn smallfry() -> Command {
    Command::new(program())
}

/// What a call of the program came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub output: String,
    /// What it wrote to stderr.
    pub errors: String,
}

/// A call in `folder`, with nothing of the user's own settings.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = smallfry();
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUST_BACKTRACE")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// Calls the program in `folder` and waits for its end.
///
/// # Panics
/// If it cannot be started or writes something else than text.
pub fn run(folder: &Path, arguments: &[&str]) -> Outcome {
    let output = command(folder, arguments).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    Outcome {
        code: output.status.code(),
        output: text(output.stdout),
        errors: text(output.stderr),
    }
}

fn build() -> PathBuf {
    // `target/<profile>/deps/<test>` is where a test runs.
    let test = env::current_exe().expect("a running test has a path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("a test lies in a profile's folder");
    let target = profile
        .parent()
        .expect("a profile's folder lies in the target folder");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--quiet",
            "--package",
            "smallfry-experiments",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command
        .status()
        .expect("Cargo runs the tests, so it can be run");
    assert!(status.success(), "the program does not build");
    profile.join(format!("smallfry{}", env::consts::EXE_SUFFIX))
}
