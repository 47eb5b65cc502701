//! Metrics in shared libraries: in C, C++ and Rust, and the broken ones.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use smallfry::{
    Metric,
    metric::Evaluation,
    registry::{Built, Context, parse},
    testing::Set,
};

/// Where the sources lie.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dynamic")
}

/// Compiles a source of the fixtures into `folder`; nothing where the system has no compiler for it.
fn compile(folder: &Path, source: &str) -> Option<PathBuf> {
    let path = sources().join(source);
    let library = folder.join(format!("lib{}.so", source.replace('.', "_")));
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../framework/metric-sdk/include");
    let (compiler, standard) = match source.ends_with(".cpp") {
        true => ("c++", "-std=c++17"),
        false => ("cc", "-std=c99"),
    };
    let output = Command::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-shared", "-fPIC", "-I"])
        .arg(include)
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

fn build(library: &Path, arguments: &str) -> Result<Built<dyn Metric>, String> {
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
fn set(labels: Option<Vec<u32>>) -> Set {
    Set {
        values: vec![3.0, 4.0, 6.0, 8.0],
        width: 2,
        labels,
    }
}

fn value(metric: &dyn Metric) -> Result<f64, String> {
    let (train, test) = (set(None), set(Some(vec![7, 1])));
    let evaluation = Evaluation {
        train: Some(&train),
        test: &test,
        views: &[],
        classes: &[],
        seed: 0,
    };
    Ok(metric.evaluate(&evaluation)?[0].value)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is room for temporary files")
}

#[test]
fn a_metric_in_c() {
    let folder = folder();
    let Some(library) = compile(folder.path(), "good.c") else {
        return;
    };
    let metric = build(&library, "").expect("it loads");
    assert_eq!(value(&*metric.plugin), Ok(7.5));
    let metric =
        build(&library, ", metric: \"MeanNorm\", params: {\"scale\": 2}").expect("it loads");
    assert_eq!(value(&*metric.plugin), Ok(15.0));
    let metric = build(&library, ", params: {\"scala\": 2}").expect("it loads");
    assert_eq!(
        value(&*metric.plugin),
        Err("MeanNorm: no parameter is named `scala`".to_owned())
    );
    assert_eq!(
        build(&library, ", metric: \"Norm\"").expect_err("there is none of that name"),
        "`metric` of Dynamic: must be one of MeanNorm"
    );
}

#[test]
fn metrics_in_cpp() {
    let folder = folder();
    let Some(library) = compile(folder.path(), "good.cpp") else {
        return;
    };
    assert_eq!(
        build(&library, "").expect_err("there are several"),
        "`metric` of Dynamic: must be one of FirstLabel, Nothing, Silent"
    );
    let of = |name: &str| build(&library, &format!(", metric: {name:?}")).expect("it loads");
    let metric = of("FirstLabel");
    assert_eq!(value(&*metric.plugin), Ok(27.0));
    let test = set(None);
    let alone = Evaluation {
        train: None,
        test: &test,
        views: &[],
        classes: &[],
        seed: 0,
    };
    assert_eq!(
        metric.plugin.evaluate(&alone),
        Err("FirstLabel: needs train and labels".to_owned())
    );
    assert_eq!(
        value(&*of("Nothing").plugin),
        Err("Nothing gave NaN".to_owned())
    );
    assert_eq!(
        value(&*of("Silent").plugin),
        Err("Silent failed with code 3 and no message".to_owned())
    );
}

#[test]
fn entries_of_a_later_version_are_read() {
    let folder = folder();
    let Some(library) = compile(folder.path(), "longer.c") else {
        return;
    };
    let metric = build(&library, ", metric: \"Two\"").expect("it loads");
    assert_eq!(value(&*metric.plugin), Ok(2.0));
}

#[test]
fn broken_libraries_are_refused() {
    let folder = folder();
    for (source, message) in [
        (
            "no_symbol.c",
            "exports no metrics (symbol `smallfry_metrics`)",
        ),
        (
            "wrong_abi.c",
            "is built for metric interface 7, this program has 1",
        ),
        (
            "short_entries.c",
            "has metric entries of 8 bytes, too short for metric interface 1",
        ),
        ("no_function.c", "has a broken metric 0: it has no function"),
        ("no_name.c", "has a broken metric 0: it has no name"),
        ("no_table.c", "has a broken table of 2 metrics"),
        ("undefined.c", "undefined symbol: nowhere"),
    ] {
        let Some(library) = compile(folder.path(), source) else {
            return;
        };
        let error = build(&library, "").expect_err("it is broken");
        assert!(error.starts_with("`library` of Dynamic: "), "{error}");
        assert!(error.ends_with(message), "{error}");
    }
}

#[test]
fn other_files_are_refused() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("text"), "hello").expect("the folder is ours");
    fs::write(path("empty"), "").expect("the folder is ours");
    fs::create_dir(path("folder")).expect("the folder is ours");
    for name in ["text", "empty", "folder"] {
        let error = build(&path(name), "").expect_err("it is no library");
        assert!(error.contains("is no loadable library"), "{error}");
    }
    let error = build(&path("missing"), "").expect_err("it is missing");
    assert!(error.contains("cannot be opened: No such file"), "{error}");
    let context = Context {
        folder: folder.path(),
    };
    let errors = parse::<dyn Metric>(&context, "Dynamic").expect_err("the library must be given");
    assert_eq!(errors[0].message, "`library` of Dynamic: must be given");
}

/// The library of `fixtures/dynamic/rust.rs`, an example of this package, so `cargo test` has built it.
fn rust_library() -> PathBuf {
    let program = std::env::current_exe().expect("this test is a program");
    let profile = program
        .parent()
        .and_then(Path::parent)
        .expect("it lies in target/<profile>/deps");
    profile.join("examples/librust_metrics.so")
}

#[test]
fn metrics_in_rust() {
    let library = rust_library();
    if !library.exists() {
        panic!(
            "{} is missing: run `cargo test` without picking targets, or `cargo build --examples` first",
            library.display()
        );
    }
    let of = |name: &str| build(&library, &format!(", metric: {name:?}")).expect("it loads");
    assert_eq!(value(&*of("MeanNorm").plugin), Ok(7.5));
    let error = value(&*of("OutOfBounds").plugin).expect_err("it panics");
    assert_eq!(
        error,
        "OutOfBounds: panicked: index out of bounds: the len is 4 but the index is 4"
    );
    let error = value(&*of("Verbose").plugin).expect_err("it fails");
    assert_eq!(error, format!("Verbose: {}", "é".repeat(255)));
}
