//! What a run leaves.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use smallfry::{experiment, failure::Failure, plan::Plan, run::RunOptions, workplace::Existing};

/// The bytes of everything in the run folder `run` that the plan determines, by path within it.
///
/// # Panics
/// A file cannot be read.
#[must_use]
pub fn determined(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            // The event files have the times of their lines.
            if path.is_dir() {
                if !path.ends_with("events") {
                    folders.push(path);
                }
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            // Times and machine; the report shows speed.
            if !["timings.jsonl", "receipt.json", "report.html", ".lock"].contains(&name) {
                files.insert(
                    path.strip_prefix(run).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    files
}

/// The plan of the experiment `text`, which is written to `file` and runs in the folder `runs` beside it.
///
/// # Panics
/// It has mistakes.
pub fn plan(file: &Path, text: &str) -> Plan {
    fs::write(file, text).expect("a test's folder can be written");
    let loaded = experiment::load(file, &[]);
    let mut plan = loaded.unwrap_or_else(|mistakes| panic!("{}", Failure::from(mistakes)));
    plan.output = file.with_file_name("runs");
    plan
}

/// To run a plan where a run folder that exists is treated so.
pub fn options(existing: Existing) -> RunOptions {
    RunOptions {
        existing,
        ..RunOptions::default()
    }
}
