//! The numbers of runs: losses, measures, health and speed of training, scores of evaluations.

use serde::Serialize;
use serde_json::{Map, Value};

use super::Run;
use crate::{
    failure::Failure,
    lines, log,
    results::{Results, StageOutcome},
    workplace::folder::read_results,
};

/// A number of each run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Name of the stage.
    pub stage: String,
    /// What it is, such as `loss` or `best-NN`.
    pub name: String,
    /// Its unit; empty for a pure number.
    pub unit: String,
    /// Whether more is better, where that can be said.
    pub higher_is_better: Option<bool>,
    /// What each run has for it.
    pub readings: Vec<Option<Reading>>,
    /// The readings less that of the first run.
    pub differences: Vec<Option<f64>>,
    /// The differences in standard errors, where both readings have one.
    pub standard_errors: Vec<Option<f64>>,
    /// Mean and standard deviation, of runs that differ in their seeds alone.
    pub over_seeds: Option<(f64, f64)>,
}

/// A number and what is known of its error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// The number.
    pub value: f64,
    /// Its standard error, where it is sampled.
    pub error: Option<f64>,
}

/// What tells a figure from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    stage: String,
    name: String,
    unit: String,
    higher_is_better: Option<bool>,
}

impl Run {
    /// Reads the numbers of `stages`, and notes what is missing of them.
    pub(super) fn outcome(&mut self, stages: &[String], receipt: &Value) -> Result<(), Failure> {
        let path = self.folder.join("results.json");
        let results = match path.exists() {
            true => read_results(&path).map_err(|failure| foreign(failure, receipt))?,
            false => Results::new(""),
        };
        let log: Vec<Map<String, Value>> = lines::read(&self.folder.join("log.jsonl"))?;
        for stage in stages {
            match results.stage(stage) {
                Some(result) => self.stage(stage, &result.outcome, &log),
                None => self.unfinished(stage, &log),
            }
        }
        Ok(())
    }

    fn stage(&mut self, stage: &str, outcome: &StageOutcome, log: &[Map<String, Value>]) {
        match outcome {
            StageOutcome::Pretrain { loss, measures, .. } => {
                self.add(stage, "loss", *loss);
                for (name, value) in measures {
                    self.add(stage, name, *value);
                }
                self.health(stage, log);
                self.speed(stage);
            }
            other => {
                for score in other.scores() {
                    let Some(value) = score.value else { continue };
                    let name = Name {
                        stage: stage.to_owned(),
                        name: score.name.clone(),
                        unit: score.unit.clone(),
                        higher_is_better: Some(score.higher_is_better),
                    };
                    let error = score.error;
                    self.figures.push((name, Reading { value, error }));
                }
            }
        }
    }

    fn add(&mut self, stage: &str, name: &str, value: Option<f64>) {
        let name = Name {
            stage: stage.to_owned(),
            name: name.to_owned(),
            unit: String::new(),
            higher_is_better: None,
        };
        let reading = value.map(|value| (name, Reading { value, error: None }));
        self.figures.extend(reading);
    }

    /// The figures of the last line of `stage` in the log that is neither a step nor an epoch.
    fn health(&mut self, stage: &str, log: &[Map<String, Value>]) {
        let of_stage = |line: &&Map<String, Value>| {
            let event = line.get("event").and_then(Value::as_str);
            event == Some("health") && line.get("stage").and_then(Value::as_str) == Some(stage)
        };
        let Some(line) = log.iter().rfind(of_stage) else {
            return;
        };
        for (name, value) in line {
            if !["epoch", "step"].contains(&name.as_str()) {
                self.add(stage, name, value.as_f64());
            }
        }
    }

    /// Images per second over all epochs that were timed.
    fn speed(&mut self, stage: &str) {
        let timings: Vec<log::Timing> =
            lines::read(&self.folder.join("timings.jsonl")).unwrap_or_default();
        let timings = timings.iter().filter(|timing| timing.stage == stage);
        let (mut images, mut seconds) = (0.0, 0.0);
        for timing in timings {
            images += timing.images_per_second * timing.seconds;
            seconds += timing.seconds;
        }
        self.add(
            stage,
            "images/s",
            (seconds > 0.0).then_some(images / seconds),
        );
    }

    fn unfinished(&mut self, stage: &str, log: &[Map<String, Value>]) {
        let text = |line: &Map<String, Value>, name: &str| {
            line.get(name).and_then(Value::as_str).map(str::to_owned)
        };
        let of_stage = |line: &&Map<String, Value>| text(line, "stage").as_deref() == Some(stage);
        let event = |name: &'static str| {
            let mut lines = log.iter().filter(of_stage).rev();
            lines.find(move |line| text(line, "event").as_deref() == Some(name))
        };
        let number = |line: Option<&Map<String, Value>>, name: &str| {
            line.and_then(|line| line.get(name)).and_then(Value::as_u64)
        };
        let epochs = number(event("start"), "epochs");
        let epoch = event("epoch");
        match (number(epoch, "epoch"), epochs) {
            (Some(done), Some(epochs)) => {
                self.note(format!(
                    "stage `{stage}` is not finished: {done} of {epochs} epochs, whose last is shown"
                ));
                let places = ["epoch", "step", "lr"];
                for (name, value) in epoch.into_iter().flatten() {
                    if !places.contains(&name.as_str()) {
                        self.add(stage, name, value.as_f64());
                    }
                }
                self.health(stage, log);
                self.speed(stage);
            }
            (None, Some(epochs)) => {
                self.note(format!(
                    "stage `{stage}` is not finished: no epoch of {epochs}"
                ));
            }
            _ => self.note(format!("stage `{stage}` has not run")),
        }
    }
}

/// Says that another version of the program wrote what this one cannot read, where that is so.
fn foreign(failure: Failure, receipt: &Value) -> Failure {
    match receipt["version"].as_str() {
        Some(version) if version != env!("CARGO_PKG_VERSION") => Failure::mistake(failure.message)
            .help(format!(
                "version {version} of smallfry wrote it, this is {}: compare with that version",
                env!("CARGO_PKG_VERSION")
            )),
        _ => failure,
    }
}

/// The figures of all runs beside one another, in the order in which they first come up.
pub(super) fn side_by_side(runs: &[Run], only_seeds: bool) -> Vec<Figure> {
    let mut names: Vec<&Name> = Vec::new();
    for (name, _) in runs.iter().flat_map(|run| &run.figures) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // Stages stay together though a later run has a figure that the first lacks.
    let stages: Vec<&str> = names.iter().map(|name| name.stage.as_str()).collect();
    let place = |stage: &str| stages.iter().position(|other| *other == stage);
    names.sort_by_key(|name| place(&name.stage));
    let figure = |name: &Name| {
        let reading = |run: &Run| {
            let mut figures = run.figures.iter();
            figures
                .find(|(own, _)| own == name)
                .map(|(_, reading)| *reading)
        };
        figure(name, runs.iter().map(reading).collect(), only_seeds)
    };
    names.into_iter().map(figure).collect()
}

fn figure(name: &Name, readings: Vec<Option<Reading>>, only_seeds: bool) -> Figure {
    let first = readings[0];
    let against_first = |reading: &Option<Reading>| Some((first?, (*reading)?));
    let difference = |pair: (Reading, Reading)| pair.1.value - pair.0.value;
    let differences = readings
        .iter()
        .map(|reading| against_first(reading).map(difference))
        .collect();
    let in_errors = |reading: &Option<Reading>| {
        let pair = against_first(reading)?;
        let error = pair.0.error?.hypot(pair.1.error?);
        (error > 0.0).then(|| difference(pair).abs() / error)
    };
    let standard_errors = readings.iter().map(in_errors).collect();
    let values: Option<Vec<f64>> = readings
        .iter()
        .map(|reading| Some((*reading)?.value))
        .collect();
    Figure {
        stage: name.stage.clone(),
        name: name.name.clone(),
        unit: name.unit.clone(),
        higher_is_better: name.higher_is_better,
        differences,
        standard_errors,
        over_seeds: values.filter(|_| only_seeds).map(|values| spread(&values)),
        readings,
    }
}

/// Mean and standard deviation of a sample of at least two.
fn spread(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0)).sqrt())
}
