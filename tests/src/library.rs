//! Metric libraries from the sources in `fixtures/dynamic`, and metrics built from them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use smallfry::{
    Context, Metric,
    metric::Evaluation,
    registry::{Built, parse},
    testing::Set,
};

/// Where the sources lie.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dynamic")
}

/// The folder of the C header.
pub fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../framework/metric-sdk/include")
}

/// Compiles a source of the fixtures, or one with a whole path, into `folder`; none where the system has no compiler for it, which is told.
///
/// # Panics
/// If it does not compile, or not without warnings.
pub fn compile(folder: &Path, source: &str) -> Option<PathBuf> {
    let path = sources().join(source);
    let name = path
        .file_name()
        .expect("a source is a file")
        .to_string_lossy();
    let library = folder.join(format!("lib{}.so", name.replace('.', "_")));
    let (compiler, standard) = match source.ends_with(".cpp") {
        true => ("c++", "-std=c++17"),
        false => ("cc", "-std=c99"),
    };
    let output = Command::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-pedantic"])
        .args(["-shared", "-fPIC", "-I"])
        .arg(include())
        .arg(&path)
        .arg("-o")
        .arg(&library)
        .arg("-lm")
        .output();
    let Ok(output) = output else {
        eprintln!("left out: there is no `{compiler}` to compile {source} with");
        return None;
    };
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{messages}");
    assert!(
        messages.is_empty(),
        "{source} compiles without warnings: {messages}"
    );
    Some(library)
}

/// The library of `fixtures/dynamic/rust.rs`, an example of this package, so `cargo test` has built it.
///
/// # Panics
/// If it has not.
pub fn rust_library() -> PathBuf {
    let program = std::env::current_exe().expect("this test is a program");
    let profile = program
        .parent()
        .and_then(Path::parent)
        .expect("it lies in target/<profile>/deps");
    let library = profile.join("examples/librust_metrics.so");
    assert!(
        library.exists(),
        "{} is missing: run `cargo test` without picking targets, or `cargo build --examples` first",
        library.display()
    );
    library
}

/// The metric `Dynamic` on `library` with further `arguments`, or its one mistake.
///
/// # Errors
/// The message of that mistake.
///
/// # Panics
/// If there are several.
pub fn metric(library: &Path, arguments: &str) -> Result<Built<dyn Metric>, String> {
    let context = Context {
        folder: library.parent().expect("it is a file"),
    };
    let name = library.file_name().expect("it is a file").to_string_lossy();
    let text = format!("Dynamic(library: {name:?}{arguments})");
    parse::<dyn Metric>(&context, &text).map_err(|errors| {
        assert_eq!(errors.len(), 1);
        errors[0].message.clone()
    })
}

/// Two features of length 5 and 10.
pub fn set(labels: Option<Vec<u32>>) -> Set {
    Set {
        values: vec![3.0, 4.0, 6.0, 8.0],
        width: 2,
        labels,
    }
}

/// What `metric` gives for two such features, with labels 7 and 1, after two without.
///
/// # Errors
/// The metric's own.
pub fn value(metric: &dyn Metric) -> Result<f64, String> {
    let (train, test) = (set(None), set(Some(vec![7, 1])));
    let evaluation = Evaluation {
        train: Some(&train),
        ..Evaluation::of(&test)
    };
    Ok(metric.evaluate(&evaluation)?[0].value)
}
