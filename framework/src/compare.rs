//! Runs side by side: what was asked of them first, then what they were made with, then what came out.
//!
//! Numbers mean nothing before it is known what differs, so settings lead. Everything is read from the run folders, of
//! runs that are over, stopped or still going; nothing of them is changed. Differences are those to the first run.

mod outcome;
mod settings;
mod table;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::Value;

use crate::failure::{Failure, disk};

pub use outcome::{Figure, Reading};

/// Facts of a receipt that tell nothing about the numbers.
const BESIDE_THE_POINT: [&str; 7] = [
    "experiment",
    "seed",
    "resolved_hash",
    "stages",
    "begin_unix_seconds",
    "resumed",
    "plugins",
];

/// Several runs, compared with the first of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Their folders.
    pub runs: Vec<PathBuf>,
    /// Settings that are not the same in all, by the paths that overrides use.
    pub settings: Vec<Row>,
    /// What else is not the same: data, weights, version of the program, machine.
    pub origins: Vec<Row>,
    /// The numbers.
    pub figures: Vec<Figure>,
    /// What stands in the way of comparing, such as stages that are not finished.
    pub notes: Vec<String>,
}

/// Something that is not the same in all runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is, such as `pretrain.objective.temperature`.
    pub name: String,
    /// Its value in each run; none where the run has no such thing.
    pub values: Vec<Option<String>>,
}

/// What the folder of a run says.
struct Run {
    folder: PathBuf,
    settings: Vec<(String, String)>,
    origins: Vec<(String, String)>,
    figures: Vec<(outcome::Name, Reading)>,
    notes: Vec<String>,
}

/// Compares the runs in `folders`.
///
/// # Errors
/// There are less than two, one is no run folder, or its files cannot be read or were written by another program.
pub fn compare(folders: &[PathBuf]) -> Result<Comparison, Failure> {
    if folders.len() < 2 {
        return Err(Failure::mistake("a comparison needs at least two runs"));
    }
    let runs: Vec<Run> = folders
        .iter()
        .map(|folder| Run::read(folder))
        .collect::<Result<_, _>>()?;
    let settings = differing(&runs, |run| &run.settings);
    let only_seeds = !settings.is_empty() && settings.iter().all(|row| row.name == "seed");
    Ok(Comparison {
        origins: differing(&runs, |run| &run.origins),
        figures: outcome::side_by_side(&runs, only_seeds),
        notes: runs.iter().flat_map(|run| run.notes.clone()).collect(),
        settings,
        runs: folders.to_owned(),
    })
}

/// The settings that a resolved experiment file holds, each with the path that an override of it would have.
///
/// # Errors
/// The text is no RON.
pub fn settings(resolved: &str) -> Result<Vec<(String, String)>, Failure> {
    let settings = settings::flatten(Path::new("resolved.ron"), resolved.to_owned())?;
    Ok(settings.fields)
}

impl Run {
    fn read(folder: &Path) -> Result<Self, Failure> {
        let resolved = folder.join("resolved.ron");
        if !resolved.is_file() {
            let what = match (folder.is_dir(), folder.exists()) {
                (true, _) => "holds no run (no `resolved.ron`)",
                (false, true) => "is a file, not the folder of a run",
                (false, false) => "does not exist",
            };
            return Err(Failure::mistake(format!("{} {what}", folder.display()))
                .help("give folders that `smallfry run` made, such as `runs/quickstart`"));
        }
        let text =
            fs::read_to_string(&resolved).map_err(|error| disk("read", &resolved, &error))?;
        let settings = settings::flatten(&resolved, text)?;
        let receipt = receipt(folder)?;
        let mut run = Self {
            folder: folder.to_owned(),
            settings: settings.fields,
            origins: origins(&receipt),
            figures: Vec::new(),
            notes: Vec::new(),
        };
        run.outcome(&settings.stages, &receipt)?;
        Ok(run)
    }

    fn note(&mut self, text: String) {
        self.notes
            .push(format!("{}: {text}", self.folder.display()));
    }
}

/// `receipt.json`; null where a run got no receipt.
fn receipt(folder: &Path) -> Result<Value, Failure> {
    let path = folder.join("receipt.json");
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        text => {
            let text = text.map_err(|error| disk("read", &path, &error))?;
            serde_json::from_str(&text).map_err(|error| {
                Failure::mistake(format!("{} is damaged: {error}", path.display()))
                    .help("remove it to compare without it")
            })
        }
    }
}

/// What a run was made with, as its receipt tells it.
fn origins(receipt: &Value) -> Vec<(String, String)> {
    let mut origins = Vec::new();
    for (name, value) in receipt.as_object().into_iter().flatten() {
        if !BESIDE_THE_POINT.contains(&name.as_str()) {
            origins.push((name.clone(), plain(value)));
        }
    }
    let plugins = receipt["plugins"].as_array().into_iter().flatten();
    for (name, version) in plugins.filter_map(|plugin| {
        let text = |name: &str| plugin[name].as_str();
        Some((format!("crate {}", text("crate")?), text("version")?))
    }) {
        if !origins.iter().any(|(known, _)| *known == name) {
            origins.push((name, version.to_owned()));
        }
    }
    for stage in receipt["stages"].as_array().into_iter().flatten() {
        let text = |name: &str| stage[name].as_str().unwrap_or_default();
        for (field, value) in settings::beside_the_file(text("fingerprint")) {
            origins.push((format!("{}: {field}", text("stage")), value));
        }
    }
    origins
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The entries that are not the same in all runs, in the order in which they first come up.
fn differing(runs: &[Run], entries: fn(&Run) -> &Vec<(String, String)>) -> Vec<Row> {
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in runs.iter().flat_map(entries) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let rows = names.into_iter().map(|name| Row {
        name: name.clone(),
        values: runs
            .iter()
            .map(|run| {
                let mut entries = entries(run).iter();
                let found = entries.find(|(own, _)| own == name)?;
                Some(found.1.clone())
            })
            .collect(),
    });
    rows.filter(|row| row.values.iter().any(|value| *value != row.values[0]))
        .collect()
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&table::text(self))
    }
}
