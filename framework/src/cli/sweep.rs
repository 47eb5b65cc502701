//! `run FILE --sweep path=a,b`: runs every combination, one after the other.
//!
//! All of them are checked before the first starts. A combination that fails, as one does whose loss becomes no number,
//! does not keep the others from running; it is told at the end.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{
    Experiment, Refusal, load,
    run::{Format, Options, original},
    to_json,
};
use crate::{
    checkpoint::write_atomically,
    experiment,
    failure::{Cause, Failure, disk},
    plan::Plan,
    preflight,
    run::RunOptions,
    sweep::{self, Axis, Point, Reading},
    workplace::{Existing, Progress},
};

/// What tells the folder of a sweep.
const FILE: &str = "sweep.json";

pub(super) fn sweep(
    experiment: &Experiment,
    swept: &[String],
    options: Options,
) -> Result<String, Refusal> {
    let axes = sweep::axes(swept)?;
    let points = sweep::points(&axes);
    let plans = plans(experiment, &axes, &points)?;
    let (folder, name) = place(experiment, &axes)?;
    if options.existing == Existing::Refuse && folder.join(FILE).exists() {
        let failure = Failure::mistake(format!("sweep folder {} exists", folder.display()));
        let help = "go on with it by --resume, which also runs values that were added, or start it again by --overwrite";
        return Err(failure.help(help).into());
    }
    std::fs::create_dir_all(&folder).map_err(|error| disk("make", &folder, &error))?;
    let mut record = Record {
        folder,
        name,
        axes,
        runs: points
            .into_iter()
            .map(|point| (point, Vec::new()))
            .collect(),
        states: vec![State::Waiting; plans.len()],
    };
    record.save()?;
    let mut printed = String::new();
    for (i, plan) in plans.iter().enumerate() {
        let told = record.runs[i].0.overrides.join(", ");
        eprintln!("[{}/{}] {told}", i + 1, plans.len());
        let run = RunOptions {
            experiment: plan.source.original().to_owned(),
            existing: options.existing,
            progress: Progress::Stderr,
            allow: options.allow.clone(),
        };
        match crate::run::run(plan, &run) {
            Ok(summary) => {
                printed += &format!("{told}\n{}", original(&summary));
                record.runs[i].1 = Reading::all(&summary.results);
                record.states[i] = State::Done;
            }
            Err(failure) if failure.cause == Cause::Interrupt => {
                record.save()?;
                return Err(failure.into());
            }
            Err(failure) => {
                eprintln!("{told}: {failure}");
                record.states[i] = State::Failed(failure.message);
            }
        }
        record.save()?;
    }
    let text = match options.format {
        Format::Json => to_json(&record.json()),
        Format::Table => record.told(),
        Format::Reference => printed,
    };
    match record.states.iter().all(|state| *state == State::Done) {
        true => Ok(text),
        false => Err(Refusal::Verdict(text)),
    }
}

/// The runs of the sweep in `folder`; none where it holds no sweep.
pub(super) fn runs(folder: &Path) -> Result<Option<Vec<PathBuf>>, Failure> {
    let path = folder.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(|error| disk("read", &path, &error))?;
    let damaged = || Failure::mistake(format!("{} is damaged", path.display()));
    let value: Value = serde_json::from_str(&text).map_err(|_| damaged())?;
    let runs = value["runs"].as_array().ok_or_else(damaged)?;
    let names = runs.iter().filter_map(|run| run["folder"].as_str());
    let folders = names.map(|name| folder.join(name));
    Ok(Some(
        folders
            .filter(|run| run.join("resolved.ron").is_file())
            .collect(),
    ))
}

/// Where the sweep's runs are made, and what the experiment is called.
fn place(experiment: &Experiment, axes: &[Axis]) -> Result<(PathBuf, String), Refusal> {
    let plan = load(experiment)?;
    let folder = format!("{}-by-{}", plan.name, sweep::keys(axes).join("+"));
    Ok((plan.output.join(folder), plan.name))
}

/// The plans of all combinations, each checked.
fn plans(experiment: &Experiment, axes: &[Axis], points: &[Point]) -> Result<Vec<Plan>, Refusal> {
    let (folder, _) = place(experiment, axes)?;
    let (mut plans, mut mistakes) = (Vec::new(), Vec::new());
    for point in points {
        let overrides = [experiment.overrides.clone(), point.overrides.clone()].concat();
        let plan = experiment::load(&experiment.file, &overrides).map(|mut plan| {
            plan.output.clone_from(&folder);
            experiment::rename(&mut plan, &point.name);
            plan
        });
        match plan.and_then(|plan| preflight::check(&plan).map(|_| plan)) {
            Ok(plan) => plans.push(plan),
            Err(errors) => mistakes.extend(errors.into_iter().map(|error| {
                let place = format!("in the combination {}", point.overrides.join(", "));
                match error.note {
                    Some(_) => error,
                    None => error.note(place),
                }
            })),
        }
    }
    // A mistake that has nothing to do with the combination is told once.
    let mut told: Vec<crate::diagnostic::Diagnostic> = Vec::new();
    for mistake in mistakes {
        let same = |other: &crate::diagnostic::Diagnostic| {
            (&other.message, &other.excerpt) == (&mistake.message, &mistake.excerpt)
        };
        if !told.iter().any(same) {
            told.push(mistake);
        }
    }
    match told.is_empty() {
        true => Ok(plans),
        false => Err(told.into()),
    }
}

/// How far a combination is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Done,
    Failed(String),
}

/// What `sweep.json` holds.
struct Record {
    folder: PathBuf,
    name: String,
    axes: Vec<Axis>,
    runs: Vec<(Point, Vec<Reading>)>,
    states: Vec<State>,
}

impl Record {
    fn save(&self) -> Result<(), Failure> {
        write_atomically(&self.folder.join(FILE), to_json(&self.json()).as_bytes())
    }

    fn json(&self) -> Value {
        let runs = self.runs.iter().zip(&self.states);
        let runs = runs.map(|((point, readings), state)| {
            let (state, failure) = match state {
                State::Waiting => ("waiting", None),
                State::Done => ("done", None),
                State::Failed(reason) => ("failed", Some(reason)),
            };
            json!({
                "folder": point.name,
                "values": point.values,
                "state": state,
                "failure": failure,
                "figures": readings,
            })
        });
        json!({
            "format": 1,
            "experiment": self.name,
            "axes": self.axes,
            "runs": runs.collect::<Vec<_>>(),
            "rows": sweep::rows(&self.axes, &self.runs),
        })
    }

    fn told(&self) -> String {
        let mut text = sweep::text(&self.axes, &sweep::rows(&self.axes, &self.runs));
        text.push('\n');
        for ((point, _), state) in self.runs.iter().zip(&self.states) {
            if let State::Failed(reason) = state {
                text += &format!("failed: {}: {reason}\n", point.overrides.join(", "));
            }
        }
        text + &format!("{}\n", self.folder.display())
    }
}
