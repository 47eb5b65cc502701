//! The report of a run: one page, whole, with everything escaped, made from the run folder alone.

use std::{fs, path::Path};

use smallfry::{
    report,
    run::{self, RunOptions, Summary},
};
use smallfry_tests::small::{self, Shape};

fn train(folder: &Path, shape: &Shape) -> Summary {
    let options = RunOptions {
        experiment: String::new(),
        ..RunOptions::default()
    };
    run::run(&small::plan(folder, shape), &options).unwrap()
}

/// Makes sure that every element that must be closed is, in order.
#[track_caller]
fn assert_well_formed(page: &str) {
    let mut open: Vec<String> = Vec::new();
    let style = page.find("<style>").unwrap()..page.find("</style>").unwrap();
    let page = page.replace(&page[style], "<style>");
    let mut rest = page.strip_prefix("<!doctype html>").unwrap();
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag is closed");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
        } else {
            let name = tag.split([' ', '\n']).next().unwrap();
            if !tag.ends_with('/') && !["meta", "img"].contains(&name) {
                open.push(name.to_owned());
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_page_shows_the_run_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape {
        bad: vec![5],
        ..Shape::default()
    };
    let summary = train(folder.path(), &shape);
    let page = fs::read_to_string(summary.folder.join("report.html")).unwrap();
    assert_well_formed(&page);
    for expected in [
        "<h1>small</h1>",
        "chance 0.25",
        ">Loss<",
        ">Learning rate<",
        ">Speed<",
        "3 of 3",
        "<th>untrained",
        "<th>trained",
        "start of stage `pretrain`",
        "5.png",
        "is damaged",
        "src=\"data:image/jpeg;base64,/9j/",
        "prefers-color-scheme:dark",
        "default-src 'none'",
        "resolved Shape",
        "processor",
    ] {
        assert!(page.contains(expected), "no {expected:?}");
    }
    assert_eq!(page.matches("<img ").count(), 8 * 3);
    // Nothing is fetched and nothing is run.
    for forbidden in ["http://", "https://", "<script", "url(", "@import", "<link"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    // The metric's setting is `40 labels <&>`.
    assert!(page.contains("39 labels &lt;&amp;&gt;") && !page.contains("<&>"));
}

#[test]
fn the_page_can_be_made_again_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), &Shape::default()).folder;
    let before = fs::read(run.join("report.html")).unwrap();
    fs::remove_file(run.join("report.html")).unwrap();
    assert_eq!(report::report(&run).unwrap(), run.join("report.html"));
    assert_eq!(fs::read(run.join("report.html")).unwrap(), before);
    // Also of a run that got no further than its beginning, and with lines that cannot be read.
    fs::remove_file(run.join("results.json")).unwrap();
    fs::remove_file(run.join("timings.jsonl")).unwrap();
    fs::remove_dir_all(run.join("samples")).unwrap();
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let start = log.lines().next().unwrap();
    fs::write(
        run.join("log.jsonl"),
        format!("{start}\nno JSON\n{{\"event\":\"st"),
    )
    .unwrap();
    report::report(&run).unwrap();
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert_well_formed(&page);
    assert!(page.contains("0 of 3") && page.contains("No evaluation is done yet"));
}

#[test]
fn what_is_no_run_gets_no_page() {
    let folder = tempfile::tempdir().unwrap();
    let failure = report::report(folder.path()).unwrap_err();
    assert_eq!(failure.exit_code(), 2);
    assert!(failure.message.contains("holds no run"), "{failure}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
