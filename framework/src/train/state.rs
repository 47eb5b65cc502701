//! A run's state into a checkpoint and back, exactly.

use std::collections::{BTreeMap, BTreeSet};

use smallfry_nn::network::{Role, Spec};

use super::meter::Tally;
use crate::{
    Optimizer,
    checkpoint::{Checkpoint, Differences, FORMAT, Tensor, Values, fill, tensors},
    distributed::{
        Communicator,
        collective::{share_integers, share_numbers},
    },
    failure::Failure,
    objective::{Buffer, BufferValues, Learner},
    optimizer::Descent,
};

/// The optimisers of the trained encoders, by the encoders' names.
pub type Descents = Vec<(&'static str, Box<dyn Descent>)>;

/// The optimisers of the encoders that `learner` trains, as they start.
pub fn descents(learner: &dyn Learner, optimizer: &dyn Optimizer) -> Descents {
    let trained = learner.trained();
    let encoders = learner.encoders().into_iter();
    encoders
        .filter(|(name, _)| trained.contains(name))
        .map(|(name, encoder)| (name, optimizer.start(&encoder.parameters())))
        .collect()
}

/// Where a run stands, beside its tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    /// Name of the stage.
    pub stage: String,
    /// Epochs done.
    pub epoch: usize,
    /// What is done of the epoch after them; none at an epoch's end.
    pub within: Option<Within>,
    /// Optimiser steps done, over all epochs.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Everything that training depends on, as text.
    pub config: String,
}

/// Where a run stands within an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Within {
    /// Batches of the epoch that are done: where the loader goes on.
    pub batch: usize,
    /// What they add up to.
    pub tally: Tally,
}

impl Within {
    /// What the metadata of `checkpoint`, which messages call `origin`, says; none at an epoch's end.
    ///
    /// # Errors
    /// It is damaged.
    pub fn of(checkpoint: &Checkpoint, origin: &str) -> Result<Option<Self>, Failure> {
        let Some(batch) = checkpoint.metadata.get("batch") else {
            return Ok(None);
        };
        let tally = checkpoint.metadata.get("tally");
        let tally = tally.and_then(|text| serde_json::from_str(text).ok());
        match (batch.parse(), tally) {
            (Ok(batch), Some(tally)) => Ok(Some(Self { batch, tally })),
            _ => Err(Failure::mistake(format!(
                "{origin} does not say how far its epoch is"
            ))),
        }
    }
}

/// The state of a learner and its optimisers at `position`.
pub fn capture(learner: &dyn Learner, descents: &Descents, position: &Position) -> Checkpoint {
    let mut checkpoint = Checkpoint {
        metadata: metadata(learner, position),
        tensors: BTreeMap::new(),
    };
    let encoders = learner.encoders();
    for (prefix, encoder) in &encoders {
        let parameters = encoder.parameters();
        for (name, tensor) in tensors(&parameters) {
            checkpoint
                .tensors
                .insert(format!("{prefix}.{name}"), tensor);
        }
        for (_, descent) in descents.iter().filter(|(name, _)| name == prefix) {
            if let Some(steps) = descent.steps() {
                let tensor = Tensor::integer(Vec::new(), vec![steps as i64]);
                checkpoint.tensors.insert(steps_name(prefix), tensor);
            }
            for (state, arena) in descent.state() {
                assert_eq!(
                    arena.len(),
                    parameters.values().len(),
                    "an optimiser's state is laid out as the parameters"
                );
                for spec in parameters.specs() {
                    if matches!(spec.role, Role::Weight | Role::Frozen) {
                        let place = parameters.weight_place(&spec.name);
                        let tensor = Tensor::float(spec.shape.clone(), arena[place].to_vec());
                        let name = format!("optimizer.{state}.{prefix}.{}", spec.name);
                        checkpoint.tensors.insert(name, tensor);
                    }
                }
            }
        }
    }
    for buffer in learner.buffers() {
        let values = match buffer.values {
            BufferValues::Float(values) => Values::Float(values),
            BufferValues::Integer(values) => Values::Integer(values),
        };
        let tensor = Tensor {
            shape: buffer.shape,
            values,
        };
        checkpoint.tensors.insert(buffer.name, tensor);
    }
    checkpoint
}

/// What the tensors of [`capture`] take in bytes, found without copying them.
pub fn bytes(learner: &dyn Learner, descents: &Descents) -> u64 {
    let mut bytes = 0;
    for (name, encoder) in learner.encoders() {
        let specs = encoder.specs();
        let floats = |counted: &dyn Fn(Role) -> bool| {
            let counted = specs.iter().filter(|spec| counted(spec.role));
            4 * counted.map(Spec::len).sum::<usize>()
        };
        let counters = specs.iter().filter(|spec| spec.role == Role::Counter);
        bytes += floats(&|role| role != Role::Counter) + 8 * counters.count();
        for (_, descent) in descents.iter().filter(|(own, _)| *own == name) {
            bytes += 8 * usize::from(descent.steps().is_some());
            bytes +=
                descent.state().len() * floats(&|role| matches!(role, Role::Weight | Role::Frozen));
        }
    }
    for buffer in learner.buffers() {
        bytes += match buffer.values {
            BufferValues::Float(values) => 4 * values.len(),
            BufferValues::Integer(values) => 8 * values.len(),
        };
    }
    bytes as u64
}

/// The name of an optimiser's number of steps.
fn steps_name(encoder: &str) -> String {
    format!("optimizer.steps.{encoder}")
}

/// The encoders of a learner that has not trained yet, as a checkpoint without position.
pub fn start(learner: &dyn Learner) -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    let evaluated = learner.evaluated().to_owned();
    checkpoint
        .metadata
        .insert("evaluated".to_owned(), evaluated);
    for (prefix, encoder) in learner.encoders() {
        let parameters = encoder.parameters();
        let tensors =
            tensors(&parameters).map(|(name, tensor)| (format!("{prefix}.{name}"), tensor));
        checkpoint.tensors.extend(tensors);
    }
    checkpoint
}

/// Makes the state of every process that of the first.
///
/// # Errors
/// They are set up otherwise, which a comparison of their fingerprints should have shown.
pub fn share(
    learner: &mut dyn Learner,
    descents: &mut Descents,
    communicator: &dyn Communicator,
) -> Result<(), Failure> {
    if communicator.size() == 1 {
        return Ok(());
    }
    let mut checkpoint = capture(learner, descents, &Position::default());
    for tensor in checkpoint.tensors.values_mut() {
        match &mut tensor.values {
            Values::Float(values) => share_numbers(communicator, values),
            Values::Integer(values) => share_integers(communicator, values),
        }
    }
    match communicator.rank() {
        0 => Ok(()),
        _ => restore(&checkpoint, "the first process", learner, descents),
    }
}

fn metadata(learner: &dyn Learner, position: &Position) -> BTreeMap<String, String> {
    let entry = |key: &str, value: String| (key.to_owned(), value);
    let mut metadata = BTreeMap::from([
        entry("format", FORMAT.to_owned()),
        entry("stage", position.stage.clone()),
        entry("epoch", position.epoch.to_string()),
        entry("step", position.step.to_string()),
        entry("seed", position.seed.to_string()),
        entry("config", position.config.clone()),
        entry("config_hash", crate::fingerprint::hash(&position.config)),
        entry("evaluated", learner.evaluated().to_owned()),
    ]);
    if let Some(within) = &position.within {
        let tally = serde_json::to_string(&within.tally).expect("a tally is plain data");
        metadata.extend([
            entry("batch", within.batch.to_string()),
            entry("tally", tally),
        ]);
    }
    metadata
}

/// Puts `checkpoint`, which messages call `origin`, into a learner and its optimisers.
///
/// # Errors
/// Its tensors are not those of this run; each that is missing, left over or of another shape is named.
pub fn restore(
    checkpoint: &Checkpoint,
    origin: &str,
    learner: &mut dyn Learner,
    descents: &mut Descents,
) -> Result<(), Failure> {
    let mut differences = Differences::default();
    let mut used = BTreeSet::new();
    let tensors = &checkpoint.tensors;
    for (prefix, encoder) in learner.encoders() {
        let mut parameters = encoder.parameters();
        for i in 0..parameters.specs().len() {
            let name = format!("{prefix}.{}", parameters.specs()[i].name);
            match tensors
                .get(&name)
                .map(|tensor| fill(&mut parameters, i, tensor))
            {
                None => differences.missing.push(name.clone()),
                Some(Err(reason)) => differences.reshaped.push(format!("{name}: {reason}")),
                Some(Ok(())) => {}
            }
            used.insert(name);
        }
        for (_, descent) in descents.iter_mut().filter(|(name, _)| *name == prefix) {
            if descent.steps().is_some() {
                let name = steps_name(prefix);
                match tensors.get(&name).map(|tensor| &tensor.values) {
                    Some(Values::Integer(steps)) if steps.len() == 1 && steps[0] >= 0 => {
                        descent.set_steps(steps[0] as u64);
                    }
                    Some(_) => differences.reshaped.push(format!("{name}: not a count")),
                    None => differences.missing.push(name.clone()),
                }
                used.insert(name);
            }
            for (state, arena) in descent.state_mut() {
                for spec in parameters.specs() {
                    if !matches!(spec.role, Role::Weight | Role::Frozen) {
                        continue;
                    }
                    let name = format!("optimizer.{state}.{prefix}.{}", spec.name);
                    let slot = &mut arena[parameters.weight_place(&spec.name)];
                    match tensors.get(&name) {
                        None => differences.missing.push(name.clone()),
                        Some(Tensor {
                            shape,
                            values: Values::Float(values),
                        }) if *shape == spec.shape => {
                            slot.copy_from_slice(values);
                        }
                        Some(tensor) => differences.reshaped.push(format!(
                            "{name}: {} instead of F32 {:?}",
                            tensor.describe(),
                            spec.shape
                        )),
                    }
                    used.insert(name);
                }
            }
        }
    }
    for buffer in learner.buffers() {
        let name = buffer.name;
        match tensors.get(&name) {
            None => differences.missing.push(name.clone()),
            Some(tensor) => {
                let values = match &tensor.values {
                    Values::Float(values) => BufferValues::Float(values.clone()),
                    Values::Integer(values) => BufferValues::Integer(values.clone()),
                };
                let saved = Buffer {
                    name: name.clone(),
                    shape: tensor.shape.clone(),
                    values,
                };
                if let Err(reason) = learner.restore(saved) {
                    differences.reshaped.push(format!("{name}: {reason}"));
                }
            }
        }
        used.insert(name);
    }
    let extra = tensors.keys().filter(|name| !used.contains(*name));
    differences.unexpected = extra.cloned().collect();
    differences.check(origin, "this run")
}
