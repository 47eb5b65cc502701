//! What is kept of a step that gave no number: the state before it, its batches and the moment, in the folder `failure`
//! of the run.
//!
//! Together they are the step: `replay` repeats it to the bit, with neither the images nor the epochs before. The record
//! is written last, so a folder with a record is whole.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use smallfry_data::loader::Cursor;

use super::{
    Training,
    batches::{Batches, ViewBatch},
    machine::{Machine, NotFinite},
    state::{self, Position},
};
use crate::{
    checkpoint::{self, Checkpoint, Tensor, Values, write_atomically},
    encoder::ImageBatch,
    failure::{Failure, disk},
    workplace::folder::RunFolder,
};

/// The folder within a run folder.
pub(super) const FOLDER: &str = "failure";
/// The state before the step.
pub(super) const STATE: &str = "state.safetensors";
/// The views that the step was made on.
pub(super) const BATCHES: &str = "batches.safetensors";
/// The record.
pub(super) const RECORD: &str = "failure.json";

/// Where a step stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Optimiser steps before it, over all epochs.
    pub step: u64,
    /// Its learning rate.
    pub rate: f64,
}

/// What went wrong where. Numbers that must come back to the bit stand as hexadecimal bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Name of the stage.
    pub stage: String,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Step over all epochs, from 1.
    pub step: u64,
    /// Batch within the step, from 1.
    pub batch: usize,
    /// The figure that is no number: `loss` or `gradient norm`.
    pub figure: String,
    /// Its value, for readers.
    pub value: String,
    /// Its value.
    pub value_bits: String,
    /// The learning rate, for readers.
    pub learning_rate: String,
    /// The learning rate.
    pub learning_rate_bits: String,
    /// Hash of all trained encoders' gradients.
    pub gradients: String,
    /// Names of the images of each batch, in the order of its rows.
    pub images: Vec<Vec<String>>,
}

/// The bits of a number.
pub(super) fn bits(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

/// The number of some bits.
pub(super) fn number(bits: &str) -> Option<f64> {
    u64::from_str_radix(bits, 16).ok().map(f64::from_bits)
}

impl Training<'_> {
    /// Ends a run whose step at `place` gave no number: keeps what is needed to repeat the step, and says why.
    pub(super) fn diverged(
        &self,
        machine: &Machine,
        fault: NotFinite,
        place: Place,
        batches: &Batches,
        folder: &RunFolder,
    ) -> Failure {
        let index = place.step as usize % self.steps_per_epoch();
        let mut message = format!(
            "stage `{}` stopped in step {} of epoch {}: the {} is {} at learning rate {}",
            self.stage.name,
            index + 1,
            place.epoch + 1,
            fault.figure.name(),
            fault.value,
            place.rate,
        );
        if place.epoch > 0 {
            message += &format!("; the state after epoch {} is kept", place.epoch);
        }
        let remedy =
            "lower the learning rate, clip gradients, or raise the objective's temperature";
        match self.keep_failure(machine, fault, place, batches, folder) {
            Ok(()) => Failure::fault(message).help(format!(
                "{remedy}; `replay {}` repeats the step and shows where it goes wrong",
                folder.root().display()
            )),
            Err(failure) => {
                message += &format!("; the step could not be kept: {}", failure.message);
                Failure::fault(message).help(remedy)
            }
        }
    }

    fn keep_failure(
        &self,
        machine: &Machine,
        fault: NotFinite,
        place: Place,
        batches: &Batches,
        folder: &RunFolder,
    ) -> Result<(), Failure> {
        let index = place.step as usize % self.steps_per_epoch();
        let begin = Cursor {
            epoch: place.epoch as u64,
            batch: index * self.stage.step.accumulate,
        };
        // Only the batch at fault is still there, and of several processes each has its part of it.
        let whole = fault.batch.samples.len() == self.setup.batch;
        let mut views = match fault.part + usize::from(!whole) {
            0 => Vec::new(),
            lost => batches.again(self.stage, begin, lost)?,
        };
        if whole {
            views.push(fault.batch);
        }
        let name = |sample: &usize| batches.name(*sample);
        let record = Record {
            stage: self.stage.name.clone(),
            epoch: place.epoch + 1,
            step: place.step + 1,
            batch: fault.part + 1,
            figure: fault.figure.name().to_owned(),
            value: fault.value.to_string(),
            value_bits: bits(fault.value),
            learning_rate: place.rate.to_string(),
            learning_rate_bits: bits(place.rate),
            gradients: machine.gradient_hash(),
            images: (views.iter())
                .map(|batch| batch.samples.iter().map(name).collect())
                .collect(),
        };
        let position = Position {
            stage: self.stage.name.clone(),
            epoch: place.epoch,
            within: None,
            step: place.step,
            seed: self.setup.seed,
            config: self.config.clone(),
        };
        let state = state::capture(&*machine.learner, &machine.descents, &position);
        let path = folder.path(FOLDER);
        clear(&path)?;
        fs::create_dir_all(&path).map_err(|error| disk("make", &path, &error))?;
        checkpoint::write(&state, &path.join(STATE))?;
        checkpoint::write(&as_tensors(views), &path.join(BATCHES))?;
        let mut text = serde_json::to_string_pretty(&record).expect("a record is plain data");
        text.push('\n');
        write_atomically(&path.join(RECORD), text.as_bytes())
    }
}

/// Removes the step of stage `stage` that an earlier attempt kept in the run folder: training went beyond it.
///
/// # Errors
/// The folder cannot be removed.
pub(super) fn forget(stage: &str, folder: &RunFolder) -> Result<(), Failure> {
    let path = folder.path(FOLDER);
    let text = fs::read_to_string(path.join(RECORD));
    let record = text.map(|text| serde_json::from_str::<Record>(&text));
    match record {
        Ok(Ok(record)) if record.stage == stage => clear(&path),
        _ => Ok(()),
    }
}

/// Removes the failure that an earlier attempt left in `folder`.
fn clear(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(disk("remove", folder, &error))
        }
        _ => Ok(()),
    }
}

/// The batches of a step as tensors `batch.1.view.1`, `[batch, height, width, 3]`, and `batch.1.samples`.
fn as_tensors(batches: Vec<ViewBatch>) -> Checkpoint {
    let mut tensors = BTreeMap::new();
    for (b, batch) in batches.into_iter().enumerate() {
        let samples: Vec<_> = batch.samples.iter().map(|&sample| sample as i64).collect();
        let samples = Tensor::integer(vec![samples.len()], samples);
        tensors.insert(format!("batch.{}.samples", b + 1), samples);
        for (v, view) in batch.views.into_iter().enumerate() {
            let shape = vec![view.batch, view.height, view.width, 3];
            let values = Arc::unwrap_or_clone(view).values;
            let name = format!("batch.{}.view.{}", b + 1, v + 1);
            tensors.insert(name, Tensor::float(shape, values));
        }
    }
    Checkpoint {
        metadata: BTreeMap::from([("format".to_owned(), "smallfry-batches-1".to_owned())]),
        tensors,
    }
}

/// The batches that [`as_tensors`] wrote; none where tensors are missing or of another kind.
pub(super) fn from_tensors(mut file: Checkpoint) -> Option<Vec<ViewBatch>> {
    let mut batches = Vec::new();
    while let Some(samples) = file
        .tensors
        .remove(&format!("batch.{}.samples", batches.len() + 1))
    {
        let Values::Integer(samples) = samples.values else {
            return None;
        };
        let mut views = Vec::new();
        while let Some(view) = file.tensors.remove(&format!(
            "batch.{}.view.{}",
            batches.len() + 1,
            views.len() + 1
        )) {
            let ([batch, height, width, 3], Values::Float(values)) = (&view.shape[..], view.values)
            else {
                return None;
            };
            views.push(Arc::new(ImageBatch {
                batch: *batch,
                height: *height,
                width: *width,
                values,
            }));
        }
        batches.push(ViewBatch {
            measures: Vec::new(),
            samples: samples.iter().map(|&sample| sample as usize).collect(),
            views,
            replaced: Vec::new(),
        });
    }
    (!batches.is_empty() && file.tensors.is_empty()).then_some(batches)
}
