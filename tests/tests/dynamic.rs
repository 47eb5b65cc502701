//! Metrics in shared libraries: in C, C++ and Rust, and the broken ones.

use std::{fs, path::Path};

use smallfry::{
    Metric,
    dynamic::MetricLibrary,
    metric::Evaluation,
    registry::{Context, parse},
    testing,
};
use smallfry_tests::library::{compile, metric as build, rust_library, set, value};

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
        "`metric` of Dynamic: must be one of FirstLabel, Views, Number, Nothing, Silent"
    );
    let of = |name: &str| build(&library, &format!(", metric: {name:?}")).expect("it loads");
    let metric = of("FirstLabel");
    assert_eq!(value(&*metric.plugin), Ok(27.0));
    let test = set(None);
    let alone = Evaluation::of(&test);
    assert_eq!(
        metric.plugin.evaluate(&alone),
        Err("FirstLabel: needs train and labels".to_owned())
    );
    // Exceptions, cut where the room for a message ends.
    let long = value(&*of("Views").plugin).expect_err("it throws");
    assert!(long.starts_with("Views: 0 views are too few..."), "{long}");
    assert_eq!(long.len(), "Views: ".len() + 511);
    assert_eq!(
        value(&*of("Number").plugin),
        Err("Number: threw something that is no std::exception".to_owned())
    );
    assert_eq!(
        value(&*of("Nothing").plugin),
        Err("Nothing gave NaN".to_owned())
    );
    assert_eq!(
        value(&*of("Silent").plugin),
        Err("Silent: failed with code 3 and no message".to_owned())
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
fn entries_of_the_first_layout_are_read() {
    let folder = folder();
    let Some(library) = compile(folder.path(), "first.c") else {
        return;
    };
    for name in ["Seven", "Again"] {
        let metric = build(&library, &format!(", metric: {name:?}")).expect("it loads");
        assert_eq!(value(&*metric.plugin), Ok(7.0));
    }
}

/// What a metric gives for two features, their views, and two classes.
fn with_views(metric: &dyn Metric) -> Result<f64, String> {
    let (test, mut near, mut far) = (set(Some(vec![0, 1])), set(None), set(None));
    near.values[0] += 1.0;
    far.values[3] -= 3.0;
    let evaluation = Evaluation {
        views: &[&near, &far],
        classes: &["cat".to_owned(), "horse".to_owned()],
        seed: 40,
        ..Evaluation::of(&test)
    };
    Ok(metric.evaluate(&evaluation)?[0].value)
}

#[test]
fn views_classes_and_seed_are_there_for_those_who_want_them() {
    let folder = folder();
    let Some(library) = compile(folder.path(), "views.c") else {
        return;
    };
    // Squares of 1 and 3 over two views of two images; the seed and the length of `horse`.
    for (name, expected) in [("ViewDistance", 2.5), ("Named", 45.0)] {
        for library in [&library, &rust_library()] {
            let metric = build(library, &format!(", metric: {name:?}")).expect("it loads");
            assert_eq!(with_views(&*metric.plugin), Ok(expected), "{name}");
        }
    }
    let metric = build(&library, ", metric: \"ViewDistance\"").expect("it loads");
    assert_eq!(
        value(&*metric.plugin),
        Err("ViewDistance: needs views of the images".to_owned())
    );
}

/// As a library of several files includes it.
#[test]
fn the_header_is_clean_in_both_languages() {
    let folder = folder();
    for name in ["header.c", "header.cpp"] {
        let source = folder.path().join(name);
        let text =
            "#include \"smallfry_metric.h\"\n#include \"smallfry_metric.h\"\nint something;\n";
        fs::write(&source, text).expect("the folder is ours");
        compile(folder.path(), &source.to_string_lossy());
    }
}

#[test]
fn metrics_do_what_metrics_must() {
    let folder = folder();
    let Some(library) = compile(folder.path(), "good.c") else {
        return;
    };
    let metric = build(&library, "").expect("it loads");
    assert_eq!(
        testing::metric_faults(&*metric.plugin),
        Vec::<String>::new()
    );
    let metric = build(&rust_library(), ", metric: \"MeanNorm\"").expect("it loads");
    assert_eq!(
        testing::metric_faults(&*metric.plugin),
        Vec::<String>::new()
    );
}

#[test]
fn a_library_stays_loaded() {
    let folder = folder();
    let Some(path) = compile(folder.path(), "good.c") else {
        return;
    };
    let library = MetricLibrary::open(&path).expect("it loads");
    let name = library.metrics()[0].name;
    drop(library);
    fs::remove_file(&path).expect("the folder is ours");
    assert_eq!(name, "MeanNorm");
}

#[test]
fn a_library_is_part_of_what_identifies_a_run() {
    let folder = folder();
    let Some(library) = compile(folder.path(), "good.c") else {
        return;
    };
    let identity = |path: &Path| build(path, "").expect("it loads").identity();
    let first = identity(&library).expect("it has one");
    let hash = blake3::hash(&fs::read(&library).expect("it is there"));
    assert_eq!(first, format!("library {hash}"));
    let other = folder.path().join("libother.so");
    let mut bytes = fs::read(&library).expect("it is there");
    bytes.extend(b"more");
    fs::write(&other, bytes).expect("the folder is ours");
    assert_ne!(identity(&other), Some(first));
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
    fs::copy("/bin/ls", path("program")).expect("every Unix has it");
    let error = build(&path("program"), "").expect_err("it is a program");
    assert!(error.contains("is no loadable library"), "{error}");
    let error = build(&path("missing"), "").expect_err("it is missing");
    assert!(error.contains("cannot be opened: No such file"), "{error}");
    let context = Context {
        folder: folder.path(),
    };
    let errors = parse::<dyn Metric>(&context, "Dynamic").expect_err("the library must be given");
    assert_eq!(errors[0].message, "`library` of Dynamic: must be given");
}

/// Every length is tried at which something else is missing: within the header, the table of segments, the segments.
#[test]
fn a_library_that_is_cut_short_is_refused() {
    let folder = folder();
    let Some(library) = compile(folder.path(), "good.c") else {
        return;
    };
    let bytes = fs::read(&library).expect("it is there");
    let cut = folder.path().join("libcut.so");
    for part in 0..16 {
        fs::write(&cut, &bytes[..bytes.len() * part / 32]).expect("the folder is ours");
        let error = build(&cut, "").expect_err("its end is missing");
        assert!(error.contains("is no loadable library"), "{part}: {error}");
    }
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("the folder is ours");
    let error = build(&cut, "").expect_err("its end is missing");
    assert!(error.contains("it is cut short"), "{error}");
}

#[test]
fn metrics_in_rust() {
    let library = rust_library();
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
