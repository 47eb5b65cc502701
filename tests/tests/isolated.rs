//! Metrics in processes of their own: whatever foreign code does is a message, and nothing of it is left.
#![cfg(target_os = "linux")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use smallfry::{
    dynamic::isolated,
    metric::Evaluation,
    registry::{Context, parse},
    testing::{self, Set},
};
use smallfry_tests::{
    library::{compile, include, metric, rust_library, sources, value},
    program::{command, program, run},
};

/// Tests that look for processes of this one take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    isolated::serve_by(program());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is room for temporary files")
}

/// What the metric named `name` gives within a second or two.
fn apart(library: &Path, name: &str) -> Result<f64, String> {
    let arguments = format!(", metric: {name:?}, isolated: (seconds: 2, memory_mb: 512)");
    value(&*metric(library, &arguments)?.plugin)
}

/// The numbers of processes that serve a metric to the process `parent`, those that were left behind among them, and of
/// its children that nobody reaped.
fn served_to(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("Linux has it").flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours = |number: &u32| {
        let read = |name: &str| fs::read(format!("/proc/{number}/{name}")).unwrap_or_default();
        let call = format!("\0{}\0{parent}\0", isolated::VERB);
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        // The name in brackets may hold anything; state and parent follow it.
        let after = stat.rsplit(')').next().unwrap_or_default();
        String::from_utf8_lossy(&read("cmdline")).ends_with(&call)
            || (stat.contains("(smallfry)") && after.starts_with(&format!(" Z {parent} ")))
    };
    numbers.filter(ours).collect()
}

/// Waits until no process serves a metric to `parent`.
fn assert_nothing_left(parent: u32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !served_to(parent).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", served_to(parent));
        thread::yield_now();
    }
}

#[test]
fn values_are_those_of_the_library_loaded_here() {
    let _turn = turn();
    let folder = folder();
    for (library, name) in [
        (compile(folder.path(), "good.c"), "MeanNorm"),
        (compile(folder.path(), "good.cpp"), "FirstLabel"),
        (Some(rust_library()), "MeanNorm"),
    ] {
        let Some(library) = library else {
            continue;
        };
        let here = metric(&library, &format!(", metric: {name:?}")).expect("it loads");
        assert_eq!(apart(&library, name), value(&*here.plugin), "{name}");
    }
    let Some(library) = compile(folder.path(), "good.c") else {
        return;
    };
    let one = metric(&library, ", params: {\"scale\": 3}, isolated: ()").expect("it loads");
    assert_eq!(value(&*one.plugin), Ok(22.5));
    assert!(
        one.line
            .ends_with("isolated: Limits(seconds: 60, memory_mb: 2048))"),
        "{}",
        one.line
    );
    assert_eq!(testing::metric_faults(&*one.plugin), Vec::<String>::new());
    let other = metric(&library, ", params: {\"scala\": 3}, isolated: ()").expect("it loads");
    assert_eq!(
        value(&*other.plugin),
        Err("MeanNorm: no parameter is named `scala`".to_owned())
    );
    assert_nothing_left(std::process::id());
}

/// Several pieces of rows, views and names of classes.
#[test]
fn everything_arrives() {
    let _turn = turn();
    let rows = 3000;
    let of = |offset: f32| Set {
        values: (0..3 * rows).map(|i| i as f32 + offset).collect(),
        width: 3,
        labels: None,
    };
    let (test, view) = (of(0.0), of(2.0));
    let evaluation = Evaluation {
        views: &[&view, &test],
        classes: &["a".to_owned(), "bc".to_owned()],
        seed: 5,
        ..Evaluation::of(&test)
    };
    for (name, expected) in [("ViewDistance", 6.0), ("Named", 7.0)] {
        let arguments = format!(", metric: {name:?}, isolated: ()");
        let metric = metric(&rust_library(), &arguments).expect("it loads");
        let scores = metric.plugin.evaluate(&evaluation).expect("it has views");
        assert_eq!(scores[0].value, expected, "{name}");
        assert_eq!(scores[0].higher_is_better, name == "Named");
    }
}

#[test]
fn whatever_a_metric_does_is_a_message() {
    let _turn = turn();
    let folder = folder();
    let (Some(c), Some(cpp)) = (
        compile(folder.path(), "hostile.c"),
        compile(folder.path(), "throwing.cpp"),
    ) else {
        return;
    };
    for (library, name, messages) in [
        (&c, "Segfault", &["crashed: ", "(segmentation fault)"][..]),
        (&c, "Aborting", &["it aborted", "it wrote: [31mthe reason"]),
        (&c, "Endless", &["took more than its 2 seconds"]),
        (&c, "Greedy", &["no memory"]),
        (
            &c,
            "Careless",
            &["(segmentation fault)", "512 MB of memory"],
        ),
        (&c, "Overflow", &["crashed: "]),
        (&c, "Leaving", &["ended its process with exit code 0"]),
        (&c, "ForkingCrash", &["(segmentation fault)"]),
        (&c, "Closing", &["took more than its 2 seconds"]),
        (&c, "Babbling", &["ended its process"]),
        (&c, "Dividing", &["crashed: "]),
        (&c, "EndlessWords", &["failed with code 1 and no message"]),
        (&c, "Infinite", &["gave inf"]),
        (&c, "Stubborn", &["took more than its 2 seconds"]),
        (
            &cpp,
            "Throwing",
            &["it aborted", "runtime_error", "what():  the reason"],
        ),
        (&cpp, "Greedy", &["it aborted", "std::bad_alloc"]),
        (
            &rust_library(),
            "OutOfBounds",
            &["panicked: index out of bounds"],
        ),
    ] {
        let error = apart(library, name).expect_err("it does what it must not");
        assert!(error.starts_with(name), "{error}");
        for message in messages {
            assert!(error.contains(message), "{name}: {error}");
        }
        assert_nothing_left(std::process::id());
    }
    for (name, expected) in [("Leak", 1.0), ("Chatty", 2.0), ("Forking", 3.0)] {
        assert_eq!(apart(&c, name), Ok(expected), "{name}");
        assert_nothing_left(std::process::id());
    }
    let cores = fs::read_dir(folder.path()).expect("it is ours").flatten();
    assert_eq!(cores.count(), 2, "no core is left beside the libraries");
}

/// A metric is called a hundred times over a run: what it leaks goes with its process.
#[test]
fn leaks_do_not_add_up() {
    let _turn = turn();
    let folder = folder();
    let Some(library) = compile(folder.path(), "hostile.c") else {
        return;
    };
    let arguments = ", metric: \"Leak\", isolated: (memory_mb: 160)";
    let metric = metric(&library, arguments).expect("it loads");
    for _ in 0..8 {
        assert_eq!(value(&*metric.plugin), Ok(1.0));
    }
}

#[test]
fn a_panic_that_aborts_is_a_message() {
    let _turn = turn();
    let folder = folder();
    let Some(library) = aborting_rust(folder.path()) else {
        return;
    };
    assert_eq!(apart(&library, "MeanNorm"), Ok(7.5));
    let error = apart(&library, "OutOfBounds").expect_err("it panics");
    assert!(error.contains("it aborted"), "{error}");
    assert!(error.contains("the len is 4 but the index is 4"), "{error}");
}

/// The metrics in Rust with panics that end the program.
fn aborting_rust(folder: &Path) -> Option<PathBuf> {
    let rustc = |name: &str, kind: &str, source: PathBuf, more: &[&str]| {
        let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(compiler)
            .args([
                "--edition",
                "2024",
                "--crate-name",
                name,
                "--crate-type",
                kind,
            ])
            .args(["-C", "panic=abort", "--out-dir"])
            .arg(folder)
            .arg("-L")
            .arg(folder)
            .args(more)
            .arg(source)
            .output();
        let Ok(output) = output else {
            eprintln!("left out: there is no `rustc` to compile {name} with");
            return None;
        };
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{messages}");
        Some(())
    };
    let sdk = include().join("../src/lib.rs");
    rustc("smallfry_metric_sdk", "rlib", sdk, &[])?;
    let with_sdk = ["--extern", "smallfry_metric_sdk"];
    rustc("aborting", "cdylib", sources().join("rust.rs"), &with_sdk)?;
    Some(folder.join("libaborting.so"))
}

#[test]
fn loading_that_goes_wrong_is_a_message() {
    let _turn = turn();
    let folder = folder();
    for (source, message) in [
        ("aborting_initialiser.c", "it aborted"),
        ("endless_initialiser.c", "took more than its second"),
        (
            "wrong_abi.c",
            "is built for metric interface 7, this program has 1",
        ),
        ("undefined.c", "undefined symbol: nowhere"),
        (
            "no_symbol.c",
            "exports no metrics (symbol `smallfry_metrics`)",
        ),
        ("short_entries.c", "has metric entries of 8 bytes"),
        ("no_table.c", "has a broken table of 2 metrics"),
    ] {
        let Some(library) = compile(folder.path(), source) else {
            return;
        };
        let error = metric(&library, ", isolated: (seconds: 1)").expect_err("it is broken");
        assert!(error.starts_with("`library` of Dynamic: "), "{error}");
        assert!(error.contains(message), "{source}: {error}");
        assert_nothing_left(std::process::id());
    }
    let path = |name: &str| folder.path().join(name);
    fs::write(path("text"), "hello").expect("the folder is ours");
    fs::create_dir(path("folder")).expect("the folder is ours");
    for (name, message) in [
        ("text", "is no loadable library"),
        ("folder", "is no loadable library"),
        ("missing", "cannot be opened"),
    ] {
        let error = metric(&path(name), ", isolated: ()").expect_err("it is no library");
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn limits_that_cannot_be_are_refused() {
    let _turn = turn();
    let library = rust_library();
    for (limits, message) in [
        ("(seconds: 0)", "`seconds` must be from 1 to 604800"),
        ("(memory_mb: 1)", "`memory_mb` must be from 16 to 67108864"),
    ] {
        let error = metric(&library, &format!(", isolated: {limits}")).expect_err("it cannot be");
        assert_eq!(error, format!("`isolated` of Dynamic: {message}"));
    }
    let context = Context {
        folder: library.parent().expect("it is a file"),
    };
    let text = "Dynamic(library: \"librust_metrics.so\", isolated: (second: 1))";
    assert!(parse::<dyn smallfry::Metric>(&context, text).is_err());
}

#[test]
fn a_library_that_changes_under_a_run_is_refused() {
    let _turn = turn();
    let folder = folder();
    let Some(library) = compile(folder.path(), "good.c") else {
        return;
    };
    let metric = metric(&library, ", isolated: ()").expect("it loads");
    fs::copy(rust_library(), &library).expect("the folder is ours");
    assert_eq!(
        value(&*metric.plugin),
        Err("MeanNorm: the library has changed since the run began".to_owned())
    );
}

/// An experiment with one metric of `library` on two small images.
fn experiment(folder: &Path, library: &Path, name: &str) {
    for class in ["cat", "dog"] {
        let folder = folder.join("images").join(class);
        fs::create_dir_all(&folder).expect("the folder is ours");
        let image = sources().join("../images/jpeg/grey.jpg");
        fs::copy(image, folder.join("1.jpg")).expect("the fixture is there");
    }
    let text = format!(
        "Evaluate(weights: Untrained, backbone: mobilenetv3_small, size: 32, \
         test: ImageFolder(path: \"images\"), metrics: [Dynamic(library: {library:?}, \
         metric: {name:?}, isolated: (seconds: 300))])"
    );
    fs::write(folder.join("experiment.ron"), text).expect("the folder is ours");
}

#[test]
fn a_run_goes_on_or_ends_in_words() {
    let _turn = turn();
    let folder = folder();
    let Some(library) = compile(folder.path(), "hostile.c") else {
        return;
    };
    experiment(folder.path(), &library, "Chatty");
    let outcome = run(folder.path(), &["run", "experiment.ron"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    assert!(outcome.output.contains("Chatty"), "{}", outcome.output);
    assert!(
        !outcome.output.contains("not a result"),
        "{}",
        outcome.output
    );
    let receipt = fs::read_to_string(folder.path().join("runs/experiment/receipt.json"))
        .expect("the run has one");
    let hash = blake3::hash(&fs::read(&library).expect("it is there"));
    assert!(
        receipt.contains(&format!("by: library {hash}")),
        "{receipt}"
    );

    experiment(folder.path(), &library, "Segfault");
    let outcome = run(folder.path(), &["run", "experiment.ron", "--overwrite"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.errors);
    assert!(
        outcome.errors.contains("Segfault: crashed: "),
        "{}",
        outcome.errors
    );
}

#[test]
fn the_process_ends_with_a_run_that_is_killed() {
    let _turn = turn();
    let folder = folder();
    let Some(library) = compile(folder.path(), "hostile.c") else {
        return;
    };
    experiment(folder.path(), &library, "Endless");
    let mut child = command(folder.path(), &["run", "experiment.ron"])
        .spawn()
        .expect("it starts");
    let parent = child.id();
    // The library is first looked at; the process of that is gone again by the time the run's folder is there.
    let folder = folder.path().join("runs/experiment");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !folder.exists() || served_to(parent).is_empty() {
        assert!(Instant::now() < deadline, "the metric is never called");
        assert_eq!(child.try_wait().ok().flatten(), None, "the run has ended");
        thread::yield_now();
    }
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
    assert_nothing_left(parent);
}

#[test]
fn libraries_are_listed() {
    let _turn = turn();
    let folder = folder();
    let Some(library) = compile(folder.path(), "good.cpp") else {
        return;
    };
    let outcome = run(folder.path(), &["list", "--library", "libgood_cpp.so"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    let hash = blake3::hash(&fs::read(&library).expect("it is there"));
    let head = format!("metrics of libgood_cpp.so (interface 1, blake3 {hash}):\n");
    assert!(outcome.output.starts_with(&head), "{}", outcome.output);
    for line in [
        "  FirstLabel         The first label and ten times the rows (in points, less is better)\n",
        "      Dynamic(library: \"libgood_cpp.so\", metric: \"FirstLabel\")\n",
        "  Nothing            Sets nothing (a number, more is better)\n",
    ] {
        assert!(outcome.output.contains(line), "{}", outcome.output);
    }
    let outcome = run(
        folder.path(),
        &["list", "--library", "libgood_cpp.so", "--json"],
    );
    let listed: serde_json::Value = serde_json::from_str(&outcome.output).expect("it is JSON");
    assert_eq!(listed["metrics"][4]["name"], "Silent");
    assert_eq!(listed["hash"], hash.to_string());

    let Some(_) = compile(folder.path(), "aborting_initialiser.c") else {
        return;
    };
    for (file, message) in [
        (
            "libaborting_initialiser_c.so",
            "libaborting_initialiser_c.so crashed: it aborted",
        ),
        ("missing.so", "cannot read missing.so: "),
    ] {
        let outcome = run(folder.path(), &["list", "--library", file]);
        assert_eq!(outcome.code, Some(2), "{}", outcome.errors);
        assert!(outcome.errors.contains(message), "{}", outcome.errors);
    }
}

#[test]
fn the_process_serves_nobody_else() {
    let outcome = run(Path::new("."), &[isolated::VERB, "1"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.errors);
    assert!(
        outcome.errors.contains("the process that asked has ended"),
        "{}",
        outcome.errors
    );
    let help = run(Path::new("."), &["--help"]);
    assert!(!help.output.contains(isolated::VERB), "{}", help.output);
}
