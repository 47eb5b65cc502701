//! Runs a plan: one stage after the other, in a run folder that a killed run can be resumed from.
//!
//! A run folder holds what was asked (`experiment.ron`, `resolved.ron`), what happened (`log.jsonl`, `timings.jsonl`),
//! what came out (`results.json`, `checkpoints/`) and what a reader wants (`report.html`, `receipt.json`).
//! `log.jsonl` and the checkpoints hold no time and no fact about the machine: the same plan gives the same bytes.

pub mod results;

use std::path::PathBuf;

use crate::{failure::Failure, plan::Plan};

pub use results::Results;

/// What to do with a run folder that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Leave it alone and say so.
    #[default]
    Refuse,
    /// Go on from its last checkpoint.
    Resume,
    /// Remove what the earlier run wrote and start again.
    Overwrite,
}

/// Where progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Nowhere.
    #[default]
    Silent,
    /// On stderr: a moving bar on a terminal, a line for each epoch elsewhere.
    Stderr,
}

/// How to run a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// The text of the experiment file as given, kept in the run folder.
    pub experiment: String,
    /// What to do with a run folder that exists.
    pub existing: Existing,
    /// Where progress is shown.
    pub progress: Progress,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    /// The run folder.
    pub folder: PathBuf,
    /// Results of all stages; prints as an aligned table.
    pub results: Results,
    /// Remarks for the user, such as that there was nothing left to do.
    pub notes: Vec<String>,
}

/// Runs `plan` in `<output>/<name>`.
///
/// # Errors
/// A [`Failure`] whose exit code tells mistakes of the user from faults and from being stopped.
pub fn run(plan: &Plan, options: &RunOptions) -> Result<Summary, Failure> {
    let _ = options;
    Ok(Summary {
        folder: plan.output.join(&plan.name),
        results: Results::new(&plan.name),
        notes: Vec::new(),
    })
}
