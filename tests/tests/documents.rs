//! The documents are true: their commands exist and read their files, and the list of plugins is that of the program.
//!
//! `SMALLFRY_BLESS=1 cargo test -p smallfry-tests --test documents` writes the list of plugins anew.

use std::{collections::BTreeSet, fs};

use smallfry_tests::{golden::repository, program::run};

/// What stands around the part of `docs/experiment-files.md` that is made from the program.
const MARKS: [&str; 2] = [
    "<!-- what `smallfry list --verbose` says -->\n",
    "<!-- end -->\n",
];

fn document(name: &str) -> String {
    fs::read_to_string(repository().join(name)).expect("it is there")
}

/// The calls of the program in a document, in code and in blocks of it, without comments.
fn calls(text: &str) -> Vec<String> {
    let (mut calls, mut block) = (Vec::new(), false);
    for line in text.lines() {
        block ^= line.starts_with("```");
        let starts = ["smallfry ", "cargo run --release -- "];
        let call = starts.iter().find_map(|start| line.strip_prefix(start));
        if let (true, Some(rest)) = (block, call) {
            calls.push(
                rest.split(" #")
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
            );
            continue;
        }
        for (i, span) in line.split('`').enumerate() {
            if let (1, Some(rest)) = (i % 2, span.strip_prefix("smallfry ")) {
                calls.push(rest.trim().to_owned());
            }
        }
    }
    calls
}

#[test]
fn commands_of_the_documents_exist() {
    let help = run(repository(), &["--help"]).output;
    let verbs: BTreeSet<_> = (help.lines())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    let (mut told, mut checked) = (0, 0);
    for name in ["README.md", "docs/experiment-files.md"] {
        for call in calls(&document(name)) {
            let words: Vec<_> = call.split_whitespace().collect();
            let Some((&verb, rest)) = words.split_first() else {
                continue;
            };
            assert!(verbs.contains(verb), "{name}: `smallfry {call}`");
            told += 1;
            // A whole command: its file is read, which takes seconds where running it may take days.
            let whole = !call.contains(['[', '|', '…']) && !call.contains("..");
            let file = rest.first().filter(|file| file.ends_with(".ron"));
            if let (true, Some(file), "run" | "check") = (whole, file, verb) {
                let changes = rest[1..]
                    .iter()
                    .filter(|word| word.contains('=') && !word.contains(','));
                let changes = changes.map(|word| word.trim_matches('\''));
                let arguments: Vec<_> = ["check", "--resolved", file]
                    .into_iter()
                    .chain(changes)
                    .collect();
                let outcome = run(repository(), &arguments);
                assert_eq!(
                    outcome.code,
                    Some(0),
                    "{name}: `smallfry {call}`\n{outcome:?}"
                );
                checked += 1;
            }
        }
    }
    assert!(
        told > 15 && checked > 2,
        "the documents hold commands: {told}, {checked}"
    );
}

#[test]
fn the_list_of_plugins_is_that_of_the_program() {
    let path = "docs/experiment-files.md";
    let text = document(path);
    let (before, rest) = text.split_once(MARKS[0]).expect("the list begins");
    let (list, after) = rest.split_once(MARKS[1]).expect("the list ends");
    let listed = run(repository(), &["list", "--verbose"]).output;
    let wanted = format!("\n```\n{listed}```\n\n");
    if std::env::var_os("SMALLFRY_BLESS").is_some() {
        let text = [before, MARKS[0], &wanted, MARKS[1], after].concat();
        fs::write(repository().join(path), text).expect("it can be written");
        return;
    }
    assert_eq!(list, wanted, "{path}: bless it");
}
