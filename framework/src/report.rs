//! `report.html`: a run on one page that needs no network and no program but a browser.
//!
//! Every number on it comes from the files of the run folder, so it can be made again at any time, also of a run that
//! is still going or was stopped. Everything that comes from a file is escaped, and the page forbids itself scripts and
//! outside resources.

mod chart;
mod curves;
mod health;
mod map;
mod page;
mod pictures;
mod probe;
mod scores;
pub(crate) mod text;
mod views;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    checkpoint::write_atomically,
    failure::{Failure, disk},
    lines,
    log::{Entry, Timing},
    results::{Results, StageOutcome},
    workplace::folder::read_results,
};

use pictures::Row;

/// What the folder of a run holds for its report.
struct Material {
    name: String,
    results: Results,
    log: Vec<Entry>,
    timings: Vec<Timing>,
    /// Sample pictures of each training stage.
    samples: Vec<(String, Vec<Row>)>,
    /// Figures of each stage of a map: what they show, and where they are.
    maps: Vec<(String, Vec<(&'static str, String)>)>,
    /// Sections of the stages of views.
    views: Vec<String>,
    configuration: String,
    receipt: String,
}

/// Makes the report of the run in `folder` again, and tells where it is.
///
/// # Errors
/// The folder holds no run, or cannot be read or written.
pub fn report(folder: &Path) -> Result<PathBuf, Failure> {
    if !folder.join("resolved.ron").is_file() {
        return Err(Failure::mistake(format!(
            "{} holds no run (no `resolved.ron`)",
            folder.display()
        ))
        .help("give the folder that `smallfry run` made, such as `runs/quickstart`"));
    }
    write(folder)?;
    Ok(folder.join("report.html"))
}

/// Writes `report.html` into the run folder `folder`.
///
/// # Errors
/// The folder cannot be read or written.
pub fn write(folder: &Path) -> Result<(), Failure> {
    let page = Material::read(folder)?.page();
    write_atomically(&folder.join("report.html"), page.as_bytes())
}

impl Material {
    fn read(folder: &Path) -> Result<Self, Failure> {
        let results = folder.join("results.json");
        let results = if results.exists() {
            read_results(&results)?
        } else {
            let name = folder.file_name().unwrap_or(folder.as_os_str());
            Results::new(&name.to_string_lossy())
        };
        let log: Vec<Entry> = lines::read(&folder.join("log.jsonl"))?;
        let mut samples = Vec::new();
        for entry in &log {
            if let Entry::Start { stage, .. } = entry {
                let rows = pictures::read(&folder.join("samples").join(stage))?;
                samples.push((stage.clone(), rows));
            }
        }
        let mut maps = Vec::new();
        for result in &results.stages {
            if let StageOutcome::Map(_) = result.outcome {
                maps.push((result.stage.clone(), map::read(folder, &result.stage)?));
            }
        }
        let views = views::sections(&results, folder);
        Ok(Self {
            views,
            name: results.experiment.clone(),
            results,
            log,
            timings: lines::read(&folder.join("timings.jsonl"))?,
            samples,
            maps,
            configuration: read_if_there(&folder.join("resolved.ron"))?,
            receipt: read_if_there(&folder.join("receipt.json"))?,
        })
    }

    fn page(&self) -> String {
        let mut sections = vec![scores::section(&self.results)];
        for entry in &self.log {
            if let Entry::Start { stage, .. } = entry {
                sections.push(curves::section(entry, &self.log, &self.timings));
                let rows = self.samples.iter().find(|(name, _)| name == stage);
                sections
                    .push(rows.map_or(String::new(), |(_, rows)| pictures::section(stage, rows)));
            }
            if let Entry::Classifiers { stage, .. } = entry {
                let result = self.results.stage(stage);
                let outcome = result.and_then(|result| match &result.outcome {
                    StageOutcome::Probe(outcome) => Some(outcome),
                    _ => None,
                });
                sections.push(probe::section(entry, &self.log, outcome));
            }
        }
        for (stage, figures) in &self.maps {
            if let Some(StageOutcome::Map(outcome)) =
                self.results.stage(stage).map(|result| &result.outcome)
            {
                sections.push(map::section(stage, outcome, figures));
            }
        }
        sections.extend(self.views.iter().cloned());
        sections.push(page::unreadable(&self.unreadable()));
        sections.push(page::files(&self.configuration, &self.receipt));
        page::page(&self.name, &sections.concat())
    }

    /// Stage, name and reason of every unreadable image, each once.
    fn unreadable(&self) -> Vec<(String, String, String)> {
        let mut rows = Vec::new();
        let mut add = |stage: &str, images: &[(String, String)]| {
            for (name, reason) in images {
                rows.push((stage.to_owned(), name.clone(), reason.clone()));
            }
        };
        for entry in &self.log {
            if let Entry::Epoch {
                stage, replaced, ..
            }
            | Entry::Probe {
                stage, replaced, ..
            } = entry
            {
                add(stage, replaced);
            }
        }
        for result in &self.results.stages {
            for image in result.outcome.left_out() {
                add(&result.stage, std::slice::from_ref(image));
            }
        }
        rows.sort();
        rows.dedup();
        rows
    }
}

fn read_if_there(path: &Path) -> Result<String, Failure> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        bytes => {
            let bytes = bytes.map_err(|error| disk("read", path, &error))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
    }
}
