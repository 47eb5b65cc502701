//! TensorBoard's event files: every figure of the log as a curve, in `events/<stage>/` of the run folder.
//!
//! The log is the truth and these files follow it: each line of a stage becomes one event as it is written, and a stage
//! that starts or goes on writes the events of all lines that are kept into a fresh file, which then takes the place of
//! the old one. So a resumed run shows no point twice and none that was rewound. TensorBoard wants the time of every
//! point; only these times differ between equal runs, and a fresh file keeps those of the old one.

mod record;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

use crate::{
    failure::{Failure, disk},
    lines,
};

pub use record::{Point, points};

/// The folder of all event files in a run folder.
pub const FOLDER: &str = "events";

/// What TensorBoard knows an event file by.
const MARK: &str = "tfevents";

/// Fields of a line that say where it belongs, and are no figures.
const PLACES: [&str; 4] = ["event", "stage", "epoch", "step"];

/// The event file of a stage, open for appending; clones write into the same file.
#[derive(Clone, Debug)]
pub struct Events(Arc<Mutex<Writer>>);

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: File,
    /// Step of the last line that had one.
    step: u64,
}

impl Events {
    /// The events of `stage` of the run in `root`, those of the lines in its log and timings written anew.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn open(root: &Path, stage: &str) -> Result<Self, Failure> {
        let folder = root.join(FOLDER).join(stage);
        fs::create_dir_all(&folder).map_err(|error| disk("make", &folder, &error))?;
        let old = files(&folder)?;
        let mut times = Times::read(&old)?;
        let mut bytes = record::head(times.first());
        let mut step = 0;
        for line in lines(root, stage)? {
            let point = point(&line, &mut step);
            if !point.values.is_empty() {
                bytes.extend(record::scalars(times.of(&point), &point));
            }
        }
        // A reader takes files in the order of their names.
        let path = folder.join(name(&old));
        let fresh = folder.join(".fresh");
        fs::write(&fresh, bytes).map_err(|error| disk("write", &fresh, &error))?;
        fs::rename(&fresh, &path).map_err(|error| disk("write", &path, &error))?;
        for path in old {
            fs::remove_file(&path).map_err(|error| disk("remove", &path, &error))?;
        }
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|error| disk("write", &path, &error))?;
        Ok(Self(Arc::new(Mutex::new(Writer { path, file, step }))))
    }

    /// Appends the figures of a line that has just been written to a log; a line without any appends nothing.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn append(&self, line: &Value) -> Result<(), Failure> {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = line.as_object() else {
            return Ok(());
        };
        let mut step = writer.step;
        let point = point(line, &mut step);
        writer.step = step;
        if point.values.is_empty() {
            return Ok(());
        }
        let Writer { path, file, .. } = &mut *writer;
        file.write_all(&record::scalars(now(), &point))
            .map_err(|error| disk("write", path, &error))
    }
}

/// The lines of `stage`, each epoch's timing behind the epoch.
fn lines(root: &Path, stage: &str) -> Result<Vec<Map<String, Value>>, Failure> {
    let of_stage = |line: &Map<String, Value>| line.get("stage") == Some(&Value::from(stage));
    let mut timings: Vec<Map<String, Value>> = lines::read(&root.join("timings.jsonl"))?;
    timings.retain(of_stage);
    let mut all = Vec::new();
    let log: Vec<Map<String, Value>> = lines::read(&root.join("log.jsonl"))?;
    for line in log.into_iter().filter(of_stage) {
        let epoch = match line.get("event").and_then(Value::as_str) {
            Some("epoch") => line.get("epoch").cloned(),
            _ => None,
        };
        all.push(line);
        if let Some(epoch) = epoch {
            let of_epoch = timings
                .iter()
                .filter(|line| line.get("epoch") == Some(&epoch));
            all.extend(of_epoch.cloned());
        }
    }
    Ok(all)
}

/// The figures of a line; `step` is that of the last line before, and is brought forward.
fn point(line: &Map<String, Value>, step: &mut u64) -> Point {
    if let Some(at) = line.get("step").and_then(Value::as_u64) {
        *step = at;
    }
    let group = match line.get("event").and_then(Value::as_str) {
        None => "speed",
        Some("step" | "start") => "train",
        Some(event) => event,
    };
    let start = line.get("event").is_some_and(|event| event == "start");
    let mut values = Vec::new();
    for (name, value) in line {
        // Of the line that a stage starts with, only the loss of chance belongs on a curve.
        if !PLACES.contains(&name.as_str()) && (!start || name == "chance_loss") {
            figures(&format!("{group}/{name}"), value, &mut values);
        }
    }
    Point {
        step: *step,
        values,
    }
}

/// The numbers in `value` by their paths; texts and lists are no curves.
fn figures(path: &str, value: &Value, found: &mut Vec<(String, f32)>) {
    match value {
        Value::Number(number) => {
            found.extend(
                number
                    .as_f64()
                    .map(|number| (path.to_owned(), number as f32)),
            );
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                figures(&format!("{path}/{name}"), value, found);
            }
        }
        _ => {}
    }
}

/// The event files in `folder`, in order.
///
/// # Errors
/// The folder cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error| disk("read", folder, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().to_string_lossy().contains(MARK) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// A name that comes after those of `old`, with the time where the usual one has it.
fn name(old: &[PathBuf]) -> String {
    let seconds = |path: &PathBuf| -> Option<u64> {
        let name = path.file_name()?.to_str()?;
        let (_, rest) = name.split_once(MARK)?;
        rest.trim_start_matches('.').split('.').next()?.parse().ok()
    };
    let last = old.iter().filter_map(seconds).max();
    let begin = (now() as u64).max(last.map_or(0, |last| last.saturating_add(1)));
    format!("events.out.{MARK}.{begin:010}.smallfry")
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}

/// When the points of earlier files were made.
#[derive(Default)]
struct Times {
    known: BTreeMap<(u64, String), f64>,
    last: Option<f64>,
}

impl Times {
    fn read(files: &[PathBuf]) -> Result<Self, Failure> {
        let mut times = Self::default();
        for path in files {
            let bytes = fs::read(path).map_err(|error| disk("read", path, &error))?;
            for (time, point) in points(&bytes) {
                if let Some((tag, _)) = point.values.into_iter().next() {
                    times.known.insert((point.step, tag), time);
                }
            }
        }
        Ok(times)
    }

    fn first(&self) -> f64 {
        self.known
            .values()
            .copied()
            .reduce(f64::min)
            .unwrap_or_else(now)
    }

    /// The time of a point; where it has none, that of the point before.
    fn of(&mut self, point: &Point) -> f64 {
        let tag = point.values.first().map(|(tag, _)| tag.clone());
        let known = tag.and_then(|tag| self.known.get(&(point.step, tag)).copied());
        let time = known.or(self.last).unwrap_or_else(now);
        self.last = Some(time);
        time
    }
}

#[cfg(test)]
mod tests;
