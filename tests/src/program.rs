//! The `smallfry` program under test.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The program, built in the profile of the running test: Cargo gives tests of one package no path to the programs of
/// another.
///
/// # Panics
/// If it cannot be built.
pub fn smallfry() -> Command {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    Command::new(PATH.get_or_init(build))
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
