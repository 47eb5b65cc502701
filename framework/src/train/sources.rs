//! Weights that objectives need from elsewhere: found, checked, identified, and handed over.
//!
//! A source is a file, or the last checkpoint of a training stage before this one. Of a stage that has yet to run the
//! check asks its learner as it would start: the names and sizes of its tensors do not change in training.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use super::{Training, state};
use crate::{
    Invalid,
    checkpoint::{
        self, Checkpoint, Weights,
        held::{Held, Shelf, TENSORS},
    },
    diagnostic::Diagnostic,
    failure::Failure,
    fingerprint,
    objective::{Learner, Source},
    plan::{Plan, Pretrain, Stage},
    source::explain::suggest,
    workplace::folder::RunFolder,
};

/// The files among the sources of a stage, by the parameters that name them.
pub type Files = BTreeMap<&'static str, Held>;

/// Checks the sources of all stages of `plan`; `samples` tells the number of images of a stage, where its data could be
/// opened. Gives what would be taken, by stage.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn check(
    plan: &Plan,
    files: &Shelf,
    samples: impl Fn(&Pretrain) -> Option<usize>,
) -> Result<BTreeMap<usize, Vec<String>>, Vec<Diagnostic>> {
    let (mut facts, mut errors) = (BTreeMap::new(), Vec::new());
    for (index, stage) in plan.stages.iter().enumerate() {
        let Stage::Pretrain(stage) = stage else {
            continue;
        };
        let objective = &stage.objective;
        for source in objective.sources() {
            let found = look(plan, files, index, &source, &samples).and_then(|found| {
                let Some((checkpoint, origin)) = found else {
                    return Ok(());
                };
                let fact = objective.check_source(&source, &checkpoint, &origin)?;
                let fact = format!("{} of {origin}: {fact}", source.parameter);
                facts.entry(index).or_insert_with(Vec::new).push(fact);
                Ok(())
            });
            errors.extend(found.err().map(|invalid| objective.diagnose(&invalid)));
        }
    }
    match errors.is_empty() {
        true => Ok(facts),
        false => Err(errors),
    }
}

/// What is known now of a source of stage `index`, and what messages call it; none where there is nothing to be known.
fn look(
    plan: &Plan,
    files: &Shelf,
    index: usize,
    source: &Source,
    samples: &impl Fn(&Pretrain) -> Option<usize>,
) -> Result<Option<(Arc<Checkpoint>, String)>, Invalid> {
    let refuse = |failure: Failure| {
        let invalid = Invalid::new(source.parameter, failure.message);
        match failure.help {
            Some(help) => invalid.help(help),
            None => invalid,
        }
    };
    match &source.weights {
        Weights::Untrained => Ok(None),
        Weights::File(path) => {
            let checkpoint = files.read(path, TENSORS).map_err(refuse)?;
            Ok(Some((checkpoint, path.display().to_string())))
        }
        Weights::Stage(name) => {
            let earlier = earlier(&plan.stages, index, name).map_err(|help| {
                let wrong = format!("no training stage before this one is named `{name}`");
                Invalid::new(source.parameter, wrong).help(help)
            })?;
            let setup = samples(earlier).map(|samples| earlier.setup(plan.seed, samples));
            // What keeps that stage from starting is said of that stage.
            let learner = setup.and_then(|setup| {
                let objective = &earlier.objective;
                objective.check(&setup).ok()?;
                objective.start(&setup, &*earlier.backbone).ok()
            });
            Ok(learner.map(|learner| {
                let start = Arc::new(state::start(&*learner));
                (start, format!("stage `{name}`"))
            }))
        }
    }
}

/// The training stage before stage `index` that is named `name`.
///
/// # Errors
/// What may have been meant.
fn earlier<'a>(stages: &'a [Stage], index: usize, name: &str) -> Result<&'a Pretrain, String> {
    let trainings = |stages: &'a [Stage]| stages.iter().filter_map(Stage::training);
    let before: Vec<_> = trainings(&stages[..index]).collect();
    if let Some(stage) = before.iter().find(|stage| stage.name == name) {
        return Ok(stage);
    }
    let names: Vec<_> = before.iter().map(|stage| stage.name.as_str()).collect();
    let mut later = trainings(&stages[index + 1..]);
    Err(match later.any(|stage| stage.name == name) {
        true => "it comes later in the file; put it before this stage".to_owned(),
        false => suggest(name, &names),
    })
}

/// The files among the sources of `stage`, for as long as it needs them.
///
/// # Errors
/// One cannot be read.
pub(crate) fn files(stage: &Pretrain, files: &Shelf) -> Result<Files, Failure> {
    let mut held = Files::new();
    for source in stage.objective.sources() {
        if let Weights::File(path) = &source.weights {
            held.insert(source.parameter, files.hold(path, TENSORS)?);
        }
    }
    Ok(held)
}

/// The lines of a fingerprint that identify the sources of `stage` by what they hold; `known` gives the fingerprint of a
/// stage before it.
pub(crate) fn identify<'k>(
    stage: &Pretrain,
    files: &Files,
    known: impl Fn(&str) -> Option<&'k str>,
) -> String {
    let mut text = String::new();
    for source in stage.objective.sources() {
        let identity = match &source.weights {
            Weights::Untrained => continue,
            Weights::File(_) => format!("file {}", files[source.parameter].hash()),
            Weights::Stage(name) => {
                let known = known(name).expect("a plan that passed has its sources before it");
                format!("end of {}", fingerprint::hash(known))
            }
        };
        writeln!(text, "source {}: {identity}", source.parameter).expect("a string takes any text");
    }
    text
}

impl Training<'_> {
    /// Hands the learner what its objective needs from elsewhere; stages lie in `folder`.
    ///
    /// # Errors
    /// A source is missing, damaged, or not what it was when the run began.
    pub(crate) fn hand_over(
        &self,
        learner: &mut dyn Learner,
        folder: &RunFolder,
    ) -> Result<(), Failure> {
        for source in self.stage.objective.sources() {
            let (checkpoint, origin) = match &source.weights {
                Weights::Untrained => continue,
                Weights::File(path) => {
                    let held = &self.files[source.parameter];
                    (held.take()?, path.display().to_string())
                }
                Weights::Stage(name) => {
                    let store = folder.checkpoints(name);
                    let last = store.epochs()?.pop().ok_or_else(|| {
                        Failure::mistake(format!("stage `{name}` has no checkpoint"))
                    })?;
                    let checkpoint = checkpoint::read(&store.path(last))?;
                    (Arc::new(checkpoint), format!("stage `{name}`"))
                }
            };
            learner.receive(source.parameter, &checkpoint, &origin)?;
        }
        Ok(())
    }
}
