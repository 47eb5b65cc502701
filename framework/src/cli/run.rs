//! `run FILE`: trains and evaluates.

use super::{Experiment, Refusal, load, to_json};
use crate::{
    failure::Failure,
    run::{Existing, Progress, RunOptions, Summary},
};

pub(super) fn run(
    experiment: &Experiment,
    existing: Existing,
    allow: Vec<String>,
    threads: Option<u16>,
    json: bool,
) -> Result<String, Refusal> {
    let plan = load(experiment)?;
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(usize::from(threads))
            .build_global()
            .map_err(|error| Failure::fault(format!("cannot start threads: {error}")))?;
    }
    let options = RunOptions {
        experiment: plan.source.original().to_owned(),
        existing,
        progress: Progress::Stderr,
        allow,
    };
    let summary = crate::run::run(&plan, &options)?;
    let output = match json {
        true => to_json(&summary),
        false => told(&summary),
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

/// What a run came to, for a person.
pub(super) fn told(summary: &Summary) -> String {
    let mut text = summary.results.to_string();
    for note in &summary.notes {
        text += &format!("note: {note}\n");
    }
    text + &format!("\n{}\n", summary.folder.display())
}
