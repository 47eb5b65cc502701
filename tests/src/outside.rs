//! Crates outside the workspace, as those of third parties are: built offline, with the workspace's versions of everything.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What Cargo came to.
pub struct Built {
    /// Whether it did what it was asked.
    pub success: bool,
    /// What it said.
    pub messages: String,
}

/// Calls Cargo in the crate at `folder`; compiled dependencies are shared with the workspace and among such crates.
///
/// # Panics
/// If Cargo cannot be run.
pub fn cargo(folder: &Path, arguments: &[&str]) -> Built {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::copy(workspace.join("Cargo.lock"), folder.join("Cargo.lock"))
        .expect("the lock file is there");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(arguments)
        .args(["--quiet", "--offline", "--target-dir"])
        .arg(profile().parent().expect("it lies in target"))
        .current_dir(folder);
    if profile().ends_with("release") {
        cargo.arg("--release");
    }
    // Their own build of the framework need not be fast: it is the dependencies that compute here.
    for package in [
        "smallfry",
        "smallfry-nn",
        "smallfry-data",
        "smallfry-formats",
    ] {
        cargo.arg(format!(
            "--config=profile.dev.package.{package}.opt-level=0"
        ));
    }
    let output = cargo.output().expect("cargo runs");
    Built {
        success: output.status.success(),
        messages: [output.stdout, output.stderr]
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .concat(),
    }
}

/// Builds the crate at `folder` and gives its program `name`.
///
/// # Panics
/// If it does not build, or the compiler has something to say of it.
pub fn program(folder: &Path, name: &str) -> PathBuf {
    let built = cargo(folder, &["build"]);
    assert!(built.success, "{}", built.messages);
    // The lint `unused_crate_dependencies` would name a plugin crate that is not linked.
    let about = [name.to_owned(), name.replace('-', "_")];
    for about in about {
        assert!(!built.messages.contains(&about), "{}", built.messages);
    }
    profile().join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// What a call of `program` in `folder` came to: its exit code, and all that it wrote.
///
/// # Panics
/// If it cannot be started or writes something else than text.
pub fn run(program: &Path, folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()
        .expect("it starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("it writes text");
    (output.status.code(), text)
}

/// The line of `list` that begins with `name`.
pub fn line<'a>(list: &'a str, name: &str) -> &'a str {
    let mut lines = list.lines().map(str::trim);
    let wanted = format!("{name} ");
    lines
        .find(|line| line.starts_with(&wanted))
        .unwrap_or_default()
}

/// The folder of the profile that this test was built in.
fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a program");
    let profile = test.parent().and_then(Path::parent);
    profile
        .expect("it lies in target/<profile>/deps")
        .to_owned()
}
