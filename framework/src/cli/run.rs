//! `run FILE`: trains and evaluates.

use std::sync::Arc;

use super::{Experiment, Refusal, complain, load, sweep, to_json};
use crate::{
    distributed::{self, Communicator, command::Command},
    failure::Failure,
    run::{RunOptions, Summary, assist},
    workplace::{Existing, Progress},
};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// An aligned table
    Table,
    /// JSON, for other programs
    Json,
    /// The lines that the reference's programs print
    Reference,
}

/// How to run it.
pub(super) struct Options {
    pub existing: Existing,
    pub allow: Vec<String>,
    pub threads: Option<u16>,
    pub format: Format,
}

pub(super) fn run(
    experiment: &Experiment,
    swept: &[String],
    options: Options,
) -> Result<String, Refusal> {
    if let Some(threads) = options.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(usize::from(threads))
            .build_global()
            .map_err(|error| Failure::fault(format!("cannot start threads: {error}")))?;
    }
    let world = distributed::open()?;
    let communicator = &world.communicator;
    if communicator.rank() > 0 {
        return follow(experiment, communicator);
    }
    let outcome = lead(experiment, swept, options, communicator);
    // The others wait for a word, whatever happened.
    Command::Leave.give(&**communicator);
    outcome
}

/// Assists the run of another process.
fn follow(
    experiment: &Experiment,
    communicator: &Arc<dyn Communicator>,
) -> Result<String, Refusal> {
    let load = || {
        load(experiment).map_err(|mistakes| {
            let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            mistakes.join("\n")
        })
    };
    match assist(load, communicator) {
        Ok(()) => Ok(String::new()),
        Err(failure) => {
            complain(&format!(
                "process {} of {}: {failure}",
                communicator.rank(),
                communicator.size()
            ));
            communicator.abort(i32::from(failure.exit_code()))
        }
    }
}

/// Runs the experiment, alone or as the first of several processes.
fn lead(
    experiment: &Experiment,
    swept: &[String],
    options: Options,
    communicator: &Arc<dyn Communicator>,
) -> Result<String, Refusal> {
    if !swept.is_empty() {
        if communicator.size() > 1 {
            let message = "a sweep is for one process";
            let help = "start it alone, or each of its runs by several";
            return Err(Failure::mistake(message).help(help).into());
        }
        return sweep::sweep(experiment, swept, options);
    }
    let plan = load(experiment)?;
    let run = RunOptions {
        experiment: plan.source.original().to_owned(),
        existing: options.existing,
        progress: Progress::Stderr,
        allow: options.allow,
    };
    let summary = crate::run::run_with(&plan, &run, communicator)?;
    let output = match options.format {
        Format::Table => told(&summary),
        Format::Json => to_json(&summary),
        Format::Reference => original(&summary),
    };
    ended(&summary, output)
}

/// The end of a run: its output, and that it is not whole where metrics could not be computed.
pub(super) fn ended(summary: &Summary, output: String) -> Result<String, Refusal> {
    match summary.results.refusal() {
        Some(failure) => Err(Refusal::Partly { output, failure }),
        None => Ok(output),
    }
}

/// What the reference's programs would have printed of a run.
pub(super) fn original(summary: &Summary) -> String {
    let stages = summary.results.stages.iter();
    let lines = stages.flat_map(|stage| stage.outcome.original());
    lines.map(|line| line + "\n").collect()
}

/// What a run came to, for a person.
pub(super) fn told(summary: &Summary) -> String {
    let mut text = summary.results.to_string();
    for note in &summary.notes {
        text += &format!("note: {note}\n");
    }
    text + &format!("\n{}\n", summary.folder.display())
}
