//! Repeats a step that gave no number, from what `capture` kept of it, and looks for where the numbers end.
//!
//! The step is taken as training took it, so the figure must come out the same to the bit; only then is it worth looking
//! at the parts: the state before the step, the views, the embeddings, the gradients.

use std::{
    fmt::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    Training,
    batches::ViewBatch,
    capture::{self, Record},
    machine::{Machine, NotFinite, Stopped},
    state,
};
use crate::{
    checkpoint::{self, Checkpoint, Values},
    distributed::alone,
    failure::{Failure, disk},
    fingerprint,
    objective::Moment,
    tensor,
};

/// Tensors that are named one by one; more are counted.
const NAMED: usize = 8;

/// What a repeated step came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// Whether figure and gradients came out as they were, to the bit.
    pub same: bool,
    /// What was found, for readers.
    pub text: String,
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A step that ended a run, as it was kept.
pub struct Kept {
    /// The run folder.
    pub root: PathBuf,
    record: Record,
    state: Checkpoint,
    batches: Vec<ViewBatch>,
}

impl Kept {
    /// Reads the step that ended the run in `folder`, which may also be the folder of the step itself.
    ///
    /// # Errors
    /// The run kept no such step, or the files are damaged.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let root = match folder.join(capture::RECORD).exists() {
            true => folder.join(".."),
            false => folder.to_owned(),
        };
        let kept = root.join(capture::FOLDER);
        let record = read_record(&kept, folder)?;
        let state = checkpoint::read(&kept.join(capture::STATE))?;
        let path = kept.join(capture::BATCHES);
        let batches = capture::from_tensors(checkpoint::read(&path)?);
        let batches = batches.filter(|batches| batches.len() == record.batch);
        let batches = batches.ok_or_else(|| {
            Failure::mistake(format!(
                "{} does not hold the step's batches",
                path.display()
            ))
        })?;
        Ok(Self {
            root,
            record,
            state,
            batches,
        })
    }

    /// Name of the stage whose step it is.
    pub fn stage(&self) -> &str {
        &self.record.stage
    }

    /// Repeats the step; `training` is its stage.
    ///
    /// # Errors
    /// The stage is set up otherwise than it was, or cannot be made again.
    pub fn repeat(&self, training: &Training) -> Result<Replay, Failure> {
        let config = self.state.metadata.get("config");
        let config = config.map_or("", String::as_str);
        if config != training.config {
            return Err(Failure::mistake(format!(
                "stage `{}` is set up otherwise than when the step failed:\n{}",
                self.record.stage,
                fingerprint::difference(config, &training.config)
            )));
        }
        let mut repetition = Repetition {
            training,
            record: &self.record,
            state: &self.state,
            batches: &self.batches,
            machine: training.machine(&alone())?,
            text: String::new(),
        };
        let same = repetition.step()?;
        repetition.state_before();
        repetition.views();
        repetition.embeddings()?;
        repetition.gradients()?;
        Ok(Replay {
            same,
            text: repetition.text,
        })
    }
}

fn read_record(kept: &Path, folder: &Path) -> Result<Record, Failure> {
    let path = kept.join(capture::RECORD);
    let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::mistake(format!(
            "{} holds no step to repeat (no `{}/{}`)",
            folder.display(),
            capture::FOLDER,
            capture::RECORD
        ))
        .help(
            "a run keeps a step whose loss or gradient is no number; name the folder of such a run",
        ),
        _ => disk("read", &path, &error),
    })?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::mistake(format!("{} is damaged: {error}", path.display())))
}

/// A step that is being repeated.
struct Repetition<'a> {
    training: &'a Training<'a>,
    record: &'a Record,
    state: &'a Checkpoint,
    batches: &'a [ViewBatch],
    machine: Machine,
    text: String,
}

impl Repetition<'_> {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes any text");
    }

    /// Puts the state before the step back.
    fn rewind(&mut self) -> Result<(), Failure> {
        let Machine {
            learner, descents, ..
        } = &mut self.machine;
        learner.undo();
        state::restore(
            self.state,
            "the state before the step",
            &mut **learner,
            descents,
        )
    }

    fn moment(&self) -> Moment {
        (self.training).moment(self.record.epoch - 1, self.record.step - 1)
    }

    /// Takes the step as training took it; whether it failed in the same way.
    fn step(&mut self) -> Result<bool, Failure> {
        self.rewind()?;
        let record = self.record;
        let rate = capture::number(&record.learning_rate_bits)
            .ok_or_else(|| Failure::mistake("the record's learning rate is damaged"))?;
        let (moment, batches) = (self.moment(), self.batches);
        let mut source = |part: usize, _| {
            let batch = batches.get(part).cloned();
            batch.ok_or_else(|| Failure::fault("the step went on beyond its batches"))
        };
        let place = format!(
            "step {} of stage `{}`, in epoch {}, at learning rate {}",
            record.step, record.stage, record.epoch, record.learning_rate
        );
        self.line(format_args!("{place}"));
        let recorded = format!("the {} is {}", record.figure, record.value);
        let fault = match self.machine.step(&mut source, moment, rate) {
            Err(Stopped::NotFinite(fault)) => fault,
            Err(Stopped::Failure(failure)) if record.batch > batches.len() => return Err(failure),
            Ok(_) | Err(Stopped::Failure(_)) => {
                self.line(format_args!(
                    "repeated, it gives numbers, where {recorded} when it was first taken"
                ));
                return Ok(false);
            }
        };
        let same = self.same(&fault);
        let batch = match self.training.stage.step.accumulate {
            1 => String::new(),
            parts => format!(" in batch {} of {parts}", fault.part + 1),
        };
        match same {
            true => self.line(format_args!(
                "repeated to the bit: {recorded}{batch}, as when it was first taken"
            )),
            false => self.line(format_args!(
                "repeated otherwise: the {} is {}{batch}, where {recorded} when it was first taken",
                fault.figure.name(),
                fault.value
            )),
        }
        Ok(same)
    }

    fn same(&self, fault: &NotFinite) -> bool {
        let record = self.record;
        fault.figure.name() == record.figure
            && fault.part + 1 == record.batch
            && capture::bits(fault.value) == record.value_bits
            && self.machine.gradient_hash() == record.gradients
    }

    /// Names the tensors of the state that are not numbers throughout.
    fn state_before(&mut self) {
        let found = self.state.tensors.iter().filter_map(|(name, tensor)| {
            let Values::Float(values) = &tensor.values else {
                return None;
            };
            Some(format!("{name}: {}", not_finite(values, &tensor.shape)?))
        });
        let found = found.collect();
        self.list("state before the step", found);
    }

    /// Tells the range of every view, and where it is no number.
    fn views(&mut self) {
        for (b, batch) in self.batches.iter().enumerate() {
            for (v, view) in batch.views.iter().enumerate() {
                let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
                let (mut low_at, mut high_at) = (0, 0);
                for (i, &value) in view.values.iter().enumerate() {
                    if value < low {
                        (low, low_at) = (value, i);
                    }
                    if value > high {
                        (high, high_at) = (value, i);
                    }
                }
                let pixels = view.height * view.width * 3;
                let image = |at: usize| self.image(b, at / pixels);
                let range = format!(
                    "{low:.3} (`{}`) to {high:.3} (`{}`)",
                    image(low_at),
                    image(high_at)
                );
                let shape = [view.batch, view.height, view.width, 3];
                let wrong = not_finite(&view.values, &shape).map(|wrong| {
                    let first = view.values.iter().position(|value| !value.is_finite());
                    let image = self.image(b, first.unwrap_or(0) / pixels);
                    format!("; {wrong}, of `{image}`")
                });
                let batch = self.batch(b);
                let wrong = wrong.unwrap_or_default();
                self.line(format_args!("{batch}view {}: {range}{wrong}", v + 1));
            }
        }
    }

    fn image(&self, batch: usize, row: usize) -> &str {
        let name = self
            .record
            .images
            .get(batch)
            .and_then(|names| names.get(row));
        name.map_or("?", String::as_str)
    }

    /// How lines about a batch of several begin.
    fn batch(&self, batch: usize) -> String {
        match self.batches.len() {
            1 => String::new(),
            _ => format!("batch {}, ", batch + 1),
        }
    }

    /// Tells which embeddings of the batch at fault are no numbers, encoder by encoder.
    fn embeddings(&mut self) -> Result<(), Failure> {
        self.rewind()?;
        let number = self.batches.len();
        let batch = &self.batches[number - 1];
        let mut lines = Vec::new();
        for (name, encoder) in self.machine.learner.encoders() {
            for (v, view) in batch.views.iter().enumerate() {
                // A network of one size of images takes that of the first view.
                if view.height != batch.views[0].height {
                    continue;
                }
                let rows = encoder.embed(view);
                let (rows, width) = (tensor::values(&rows), encoder.width());
                let worst = rows
                    .iter()
                    .fold(0f32, |worst, value| worst.max(value.abs()));
                let wrong = not_finite(&rows, &[view.batch, width]).map(|wrong| {
                    let first = rows.iter().position(|value| !value.is_finite());
                    let image = self.image(number - 1, first.unwrap_or(0) / width.max(1));
                    format!("; {wrong}, of `{image}`")
                });
                let wrong = wrong.unwrap_or_default();
                lines.push(format!(
                    "embeddings of view {} by `{name}`: at most {worst:.3e} in size{wrong}",
                    v + 1
                ));
            }
        }
        lines
            .iter()
            .for_each(|line| self.line(format_args!("{line}")));
        Ok(())
    }

    /// Names the gradients that are not numbers throughout.
    fn gradients(&mut self) -> Result<(), Failure> {
        self.rewind()?;
        self.machine.clear_gradients();
        let (moment, batches) = (self.moment(), self.batches);
        for (part, batch) in batches.iter().enumerate() {
            self.machine.descend(batch, moment, part);
        }
        let mut found = Vec::new();
        for (encoder, place) in self.machine.learner.encoders() {
            if !self.machine.trains(encoder) {
                continue;
            }
            let parameters = place.parameters();
            for spec in parameters.specs() {
                if spec.role == smallfry_nn::network::Role::Weight {
                    let gradient = parameters.gradient(&spec.name);
                    found.extend(
                        not_finite(gradient, &spec.shape)
                            .map(|wrong| format!("{encoder}.{}: {wrong}", spec.name)),
                    );
                }
            }
        }
        self.list("gradients", found);
        Ok(())
    }

    /// Tells of what is wrong under a heading, at most [`NAMED`] times.
    fn list(&mut self, heading: &str, found: Vec<String>) {
        if found.is_empty() {
            self.line(format_args!("{heading}: numbers throughout"));
            return;
        }
        self.line(format_args!("{heading}:"));
        for wrong in found.iter().take(NAMED) {
            self.line(format_args!("  {wrong}"));
        }
        if found.len() > NAMED {
            self.line(format_args!("  and {} more", found.len() - NAMED));
        }
    }
}

/// How many of `values` are no numbers and where the first of them is; none where all are numbers.
fn not_finite(values: &[f32], shape: &[usize]) -> Option<String> {
    let first = values.iter().position(|value| !value.is_finite())?;
    let count = values.iter().filter(|value| !value.is_finite()).count();
    let mut place = Vec::new();
    let mut rest = first;
    for &size in shape.iter().rev() {
        place.push(rest % size.max(1));
        rest /= size.max(1);
    }
    place.reverse();
    Some(format!(
        "{count} of {} are no numbers, the first ({}) at {place:?}",
        values.len(),
        values[first]
    ))
}
