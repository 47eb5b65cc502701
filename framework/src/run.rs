//! Runs a plan: one stage after the other, in a run folder that a killed run can be resumed from.
//!
//! A run folder holds what was asked (`experiment.ron`, `resolved.ron`), what happened (`log.jsonl`, `timings.jsonl`),
//! what came out (`results.json`, `checkpoints/`) and what a reader wants (`report.html`, `receipt.json`, `samples/`).
//! `log.jsonl` and the checkpoints hold no time and no fact about the machine: the same plan gives the same bytes.
//!
//! Everything that can be checked is checked before the folder is touched: a mistake costs seconds and leaves nothing.

mod assist;
pub mod prepare;
pub mod receipt;
pub mod replay;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use crate::{
    change::Changed,
    checkpoint::{self, Mark},
    distributed::{Communicator, alone},
    evaluate::{self, Given, Source},
    failure::Failure,
    fingerprint,
    plan::Plan,
    report,
    results::{Results, StageOutcome, StageResult},
    train::preview,
    workplace::{
        Existing, Progress, Workplace, folder::RunFolder, interrupt::Interrupt, progress::Display,
    },
};

pub use assist::assist;
use prepare::Prepared;
use receipt::Receipt;

/// Unreadable images of a stage that are named to the user.
const NAMED: usize = 20;

/// How to run a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// The text of the experiment file as given, kept in the run folder.
    pub experiment: String,
    /// What to do with a run folder that exists.
    pub existing: Existing,
    /// Where progress is shown.
    pub progress: Progress,
    /// Paths of parameters that may have changed since the run to be gone on with, such as `pretrain.epochs`.
    pub allow: Vec<String>,
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
    run_with(plan, options, &alone())
}

/// As [`run`], as the first of the processes of `communicator`, which [`assist`] it. They wait for the word to
/// [leave](crate::distributed::command::Command::Leave) then, whatever it comes to.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    plan: &Plan,
    options: &RunOptions,
    communicator: &Arc<dyn Communicator>,
) -> Result<Summary, Failure> {
    let stages = prepare::all(plan)?;
    assist::gather(&stages, &**communicator)?;
    let interrupt = Interrupt::of_process()
        .map_err(|error| Failure::fault(format!("cannot listen for Ctrl-C: {error}")))?;
    let mut display = Display::new(options.progress);
    let root = plan.output.join(&plan.name);
    let (folder, resume) = RunFolder::open(&root, options.existing, |text| display.note(text))?;
    let changes = match resume {
        true => changed(&stages, &folder, &options.allow)?,
        false => Vec::new(),
    };
    let mut results = folder.results(&plan.name)?;
    let mut receipt = Receipt::new(plan, resume);
    receipt.processes = communicator.size();
    receipt.changes = match resume {
        true => receipt::earlier_changes(&folder.path("receipt.json")),
        false => Vec::new(),
    };
    receipt.changes.extend(changes);
    folder.write("experiment.ron", &options.experiment)?;
    folder.write("resolved.ron", &plan.resolved)?;
    let (mut notes, mut worked, mut lent) = (Vec::new(), false, None);
    for (number, stage) in stages.iter().enumerate() {
        let fingerprint = stage.fingerprint();
        receipt.stage(stage.name(), fingerprint);
        write_receipt(&folder, &receipt)?;
        let hash = fingerprint::hash(fingerprint);
        if done(&results, stage, &hash, &folder, &options.allow)? {
            display.note(&format!("stage `{}` is done already", stage.name()));
            stage.release();
            continue;
        }
        worked = true;
        let extractable = stage.extractable();
        let sets = extractable.map_or(Vec::new(), |extractable| extractable.sets);
        let mut workplace = Workplace {
            folder: &folder,
            display: &mut display,
            interrupt: &interrupt,
            resume,
            notes: &mut notes,
            communicator,
            stage: number,
            sets: &sets,
            allow: &options.allow,
        };
        let outcome = work(stage, &stages, &mut lent, &mut workplace)?;
        notes.extend(unreadable(stage.name(), &outcome));
        results.insert(StageResult {
            stage: stage.name().to_owned(),
            hash,
            outcome,
        });
        folder.save_results(&results)?;
        report::write(folder.root())?;
    }
    if !worked {
        notes.push("every stage of this run is done; there was nothing left to do".to_owned());
    }
    // A plan that lost a stage since must not show its result.
    results
        .stages
        .retain(|result| stages.iter().any(|stage| stage.name() == result.stage));
    folder.save_results(&results)?;
    report::write(folder.root())?;
    Ok(Summary {
        folder: folder.root().to_owned(),
        results,
        notes,
    })
}

/// Remarks on the images that a stage could not read.
fn unreadable(stage: &str, outcome: &StageOutcome) -> Vec<String> {
    let (what, images): (_, BTreeSet<_>) = match outcome {
        StageOutcome::Pretrain { replaced, .. } => ("replaced in", replaced.iter().collect()),
        other => ("left out of", other.left_out().into_iter().collect()),
    };
    let mut notes: Vec<_> = images
        .iter()
        .take(NAMED)
        .map(|(name, reason)| format!("{what} `{stage}`: `{name}` {reason}"))
        .collect();
    if images.len() > NAMED {
        notes.push(format!(
            "{what} `{stage}`: {} more, named in results.json",
            images.len() - NAMED
        ));
    }
    notes
}

/// Makes sure that the checkpoints in the folder are those of these very trainings, but for what `allowed` names,
/// before anything is done. Gives what changed.
fn changed(
    stages: &[Prepared],
    folder: &RunFolder,
    allowed: &[String],
) -> Result<Vec<Changed>, Failure> {
    let mut changed = Vec::new();
    for stage in stages {
        if let Prepared::Pretrain { training, .. } = stage {
            let store = folder.checkpoints(&training.stage.name);
            let earlier = training.newest(&store, allowed)?;
            changed.extend(earlier.and_then(|earlier| training.changed(&earlier)));
        }
    }
    Ok(changed)
}

/// Whether a stage's result is there and of the same fingerprint.
fn done(
    results: &Results,
    stage: &Prepared,
    hash: &str,
    folder: &RunFolder,
    allowed: &[String],
) -> Result<bool, Failure> {
    if results
        .stage(stage.name())
        .is_none_or(|result| result.hash != hash)
    {
        return Ok(false);
    }
    match stage {
        Prepared::Evaluate { .. } | Prepared::Probe(_) => Ok(true),
        Prepared::Map(stage) => Ok(stage.is_whole(results, folder)),
        Prepared::Views(stage) => stage.is_whole(folder),
        Prepared::Pretrain { training, .. } => {
            let store = folder.checkpoints(stage.name());
            let newest = training.newest(&store, allowed)?;
            let end = Mark::end(training.stage.epochs);
            if newest.is_some_and(|newest| newest.mark == end && newest.damaged.is_empty()) {
                store.prepare()?;
                store.prune(&training.stage.keep, training.best(folder)?)?;
                return Ok(true);
            }
            Ok(false)
        }
    }
}

fn work(
    stage: &Prepared,
    stages: &[Prepared],
    lent: &mut Option<Lent>,
    workplace: &mut Workplace,
) -> Result<StageOutcome, Failure> {
    let mut given = |source: &Source, workplace: &Workplace| {
        let of = lender(source);
        let given = match lent.take() {
            Some(last) if of == Some(last.of) => last.given,
            _ => given(source, stages, workplace.folder)?,
        };
        *lent = of.map(|of| Lent {
            of,
            given: given.clone(),
        });
        Ok::<_, Failure>(given)
    };
    match stage {
        Prepared::Pretrain { training, data, .. } => {
            *lent = None;
            preview::write(training, data, workplace)?;
            training.run(data, workplace)
        }
        Prepared::Evaluate {
            stage,
            seed,
            sets,
            source,
            ..
        } => {
            let given = given(source, workplace)?;
            evaluate::evaluate(stage, *seed, &given, sets, workplace)
        }
        Prepared::Views(stage) => stage.run(workplace).map(StageOutcome::Views),
        Prepared::Probe(stage) => {
            let given = given(&stage.source, workplace)?;
            stage.run(&given, workplace).map(StageOutcome::Probe)
        }
        Prepared::Map(stage) => {
            let given = given(&stage.source, workplace)?;
            stage.run(&given, workplace).map(StageOutcome::Map)
        }
    }
}

/// The weights of an earlier stage, for the next stage to judge them as well.
struct Lent {
    /// The [`lender`].
    of: (usize, bool),
    given: Given,
}

/// The stage whose weights `source` takes, and whether they are those of its end; none where they are of no stage.
fn lender(source: &Source) -> Option<(usize, bool)> {
    match source {
        Source::Seed(_) | Source::File(_) => None,
        Source::Start(index) => Some((*index, false)),
        Source::End(index) => Some((*index, true)),
    }
}

/// The weights to evaluate, now that the stages before are done.
fn given(source: &Source, stages: &[Prepared], folder: &RunFolder) -> Result<Given, Failure> {
    match source {
        Source::Seed(seed) => Ok(Given::Seed(*seed)),
        Source::File(file) => Ok(Given::State {
            origin: file.path().display().to_string(),
            checkpoint: file.take()?,
        }),
        Source::Start(index) => match &stages[*index] {
            Prepared::Pretrain { training, .. } => {
                let learner = training.learner()?;
                Ok(Given::State {
                    origin: format!("start of stage `{}`", training.stage.name),
                    checkpoint: Arc::new(crate::train::state::start(&*learner)),
                })
            }
            _ => unreachable!("`prepare` finds training stages only"),
        },
        Source::End(index) => {
            let stage = stages[*index].name();
            let store = folder.checkpoints(stage);
            let epoch = store.epochs()?.pop().unwrap_or(0);
            let path = store.path(epoch);
            Ok(Given::State {
                origin: format!("stage `{stage}`"),
                checkpoint: Arc::new(checkpoint::read(&path)?),
            })
        }
    }
}

fn write_receipt(folder: &RunFolder, receipt: &Receipt) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(receipt).expect("a receipt is plain data");
    text.push('\n');
    folder.write("receipt.json", &text)
}
