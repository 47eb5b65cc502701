//! Bad experiment files and exactly what is said about them: `fixtures/diagnostics/*.ron` and the `.txt` beside each.
//!
//! A line `// with: path=value` in a file is an override. `SMALLFRY_BLESS=1 cargo test -p smallfry-tests --test
//! diagnostics` writes the texts anew; read what it changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use smallfry::{diagnostic::Diagnostic, experiment, plan::Plan, preflight, source::Source};
use smallfry_plugins as _; // links the stock plugins

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/diagnostics")
}

fn plan(name: &str, text: &str) -> Result<Plan, Vec<Diagnostic>> {
    let overrides: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("// with: "))
        .map(str::to_owned)
        .collect();
    let source = Source::new(format!("{name}.ron"), text);
    experiment::parse(source, &folder(), name, &overrides)
}

/// Everything that is said about a file, without the place of this folder.
fn said(name: &str, text: &str) -> String {
    let errors = plan(name, text).and_then(|plan| preflight::check(&plan).map(drop));
    let text: String = match errors {
        Ok(()) => "good\n".to_owned(),
        Err(errors) => errors.iter().map(|error| format!("{error}\n\n")).collect(),
    };
    let canonical = fs::canonicalize(folder()).expect("the folder is there");
    text.replace(&canonical.display().to_string(), "FOLDER")
        .replace(&folder().display().to_string(), "FOLDER")
}

#[test]
fn every_bad_file_gets_its_message() {
    let mut files: Vec<_> = fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ron"))
        .collect();
    files.sort();
    assert!(files.len() > 15, "the fixtures are there");
    let bless = std::env::var_os("SMALLFRY_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in files {
        let name = path
            .file_stem()
            .expect("it has a name")
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path).expect("it is text");
        let said = said(&name, &text);
        let expected = path.with_extension("txt");
        if bless {
            fs::write(&expected, &said).expect("it can be written");
        } else if fs::read_to_string(&expected).ok().as_deref() != Some(said.as_str()) {
            wrong.push(format!("--- {name}\n{said}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "other messages than expected:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_resolved_file_gives_itself_again() {
    let good = fs::read_to_string(folder().join("good.ron")).expect("it is there");
    let first = plan("good", &good).unwrap_or_else(|errors| panic!("{}", errors[0]));
    let second = plan("other", &first.resolved).unwrap_or_else(|errors| panic!("{}", errors[0]));
    assert_eq!(first.resolved, second.resolved);
    assert_eq!((second.name.as_str(), second.seed), ("good", 0));
    // From another folder, too: the text says where its paths start.
    let source = Source::new("resolved.ron", first.resolved.clone());
    let third = experiment::parse(source, Path::new("/"), "third", &[]);
    let third = third.unwrap_or_else(|errors| panic!("{}", errors[0]));
    assert_eq!(first.resolved, third.resolved);
    assert_eq!(first.essence, third.essence);
    preflight::check(&third).unwrap_or_else(|errors| panic!("{}", errors[0]));
}

#[test]
fn overrides_change_the_plan() {
    let text = fs::read_to_string(folder().join("good.ron")).expect("it is there");
    let with = |changes: &str| plan("good", &format!("{changes}\n{text}")).map(|plan| plan.essence);
    let plain = with("").unwrap_or_else(|errors| panic!("{}", errors[0]));
    let changed = with("// with: pretrain.objective.momentum=0.5\n// with: seed=3");
    let changed = changed.unwrap_or_else(|errors| panic!("{}", errors[0]));
    assert_eq!(
        changed,
        plain
            .replace("momentum: 0.999", "momentum: 0.5")
            .replace("seed: 0", "seed: 3")
    );
}

#[test]
fn any_change_of_one_letter_is_survived() {
    let good = fs::read_to_string(folder().join("good.ron")).expect("it is there");
    for at in 0..good.len() {
        for replacement in ["", "(", ")", "\"", "é", "/*", ":", "9", "\\", "\0"] {
            let text = format!("{}{replacement}{}", &good[..at], &good[at + 1..]);
            if let Err(errors) = plan("good", &text) {
                assert!(!errors.is_empty());
                for error in errors {
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
}
