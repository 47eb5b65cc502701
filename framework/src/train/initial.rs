//! Training that starts from an earlier one: from a file of this program or another, or from a stage before it.
//!
//! A restart takes what fits, as the reference's `--resume` with `--restart` does: tensors of the head go by name and shape
//! one by one, so that a head of other widths may keep a single bias, and queue and pointer of a distillation become
//! those of the contrast. What is looser there is strict here: the backbone must be there whole, since a network that is
//! half random is a mistake. Whatever was dropped, missing or left alone is told, line by line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
    sync::Arc,
};

use smallfry_formats::visible;
use smallfry_nn::{
    Parameters,
    network::{Role, Spec},
};

use super::state::{self, Descents};
use crate::{
    checkpoint::{
        self, Checkpoint, Container, Tensor, Values, fill,
        held::{Held, Reader, Shelf, TENSORS},
        layout, torch,
    },
    convert,
    failure::Failure,
    objective::{Buffer, BufferValues, Learner, Setup},
    plan::{Extent, Initial, Origin, Pretrain},
    workplace::folder::RunFolder,
};

/// Names that a line shows at most.
const SHOWN: usize = 8;

/// A whole state, which a file of PyTorch's has under the reference's names.
const WHOLE: Reader = Reader {
    name: "whole state",
    read: |path| read(path, Extent::Resume),
};

/// How to read a file that a stage starts from to some extent.
fn reader(extent: Extent) -> Reader {
    match extent {
        Extent::Resume => WHOLE,
        Extent::Restart | Extent::Backbone => TENSORS,
    }
}

/// What a stage starts from.
#[derive(Debug)]
pub struct Start {
    /// What the experiment file says.
    pub initial: Initial,
    /// The file of weights; none for a stage.
    pub file: Option<Held>,
}

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Epochs done already: where training goes on.
    pub epochs: usize,
    /// What was taken and what was not, a fact a line.
    pub facts: Vec<String>,
}

impl Taken {
    /// Whether training to the end of epoch `epochs` has anything left to do.
    ///
    /// # Errors
    /// It has not.
    pub fn check(&self, epochs: usize) -> Result<(), Failure> {
        match self.epochs < epochs {
            true => Ok(()),
            false => Err(Failure::mistake(format!(
                "the state to go on from has {} epochs done, and `epochs` is {epochs}",
                self.epochs
            ))
            .help(format!("give more than {} epochs", self.epochs))),
        }
    }
}

impl Start {
    /// The start that `initial` describes.
    ///
    /// # Errors
    /// There is no such file.
    pub fn of(initial: &Initial, files: &Shelf) -> Result<Self, Failure> {
        let file = match &initial.origin {
            Origin::Stage(_) => None,
            Origin::File(path) => Some(files.hold(path, reader(initial.extent))?),
        };
        Ok(Self {
            initial: initial.clone(),
            file,
        })
    }

    /// The earlier state, and what messages call it; stages lie in `folder`.
    ///
    /// # Errors
    /// It is missing, damaged, or not what it was when the run began.
    pub fn load(&self, folder: &RunFolder) -> Result<(Arc<Checkpoint>, String), Failure> {
        match (&self.initial.origin, &self.file) {
            (Origin::File(path), file) => {
                let file = file.as_ref().expect("a start from a file holds it");
                Ok((file.take()?, named(path)))
            }
            (Origin::Stage(name), _) => {
                let store = folder.checkpoints(name);
                let last = store.epochs()?.pop().ok_or_else(|| {
                    Failure::mistake(format!("stage `{name}` has no checkpoint to start from"))
                })?;
                let checkpoint = checkpoint::read(&store.path(last))?;
                Ok((Arc::new(checkpoint), format!("stage `{name}`")))
            }
        }
    }
}

/// What a file is called in messages and logs: its name, wherever it lies.
fn named(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| visible(&name.to_string_lossy()))
}

/// The state in the file at `path`; a whole state of the reference's under this program's names.
///
/// # Errors
/// It is missing, damaged, or holds no tensors by name.
pub fn read(path: &Path, extent: Extent) -> Result<Checkpoint, Failure> {
    if extent != Extent::Resume || checkpoint::container(path)? != Container::Torch {
        return checkpoint::read(path);
    }
    let (checkpoint, _) = convert::from_torch(torch::value(path)?).map_err(|reason| {
        Failure::mistake(format!(
            "{} cannot be gone on from: {reason}",
            path.display()
        ))
        .help("take its weights alone, by `initial: Restart(..)`")
    })?;
    Ok(checkpoint)
}

/// What would be taken of the file at `path` by `stage`, a fact a line.
///
/// # Errors
/// As [`read`] and [`apply`], or the stage would have nothing left to do.
pub fn examine(
    extent: Extent,
    path: &Path,
    stage: &Pretrain,
    setup: &Setup,
    files: &Shelf,
) -> Result<Vec<String>, Failure> {
    let checkpoint = files.read(path, reader(extent))?;
    let objective = &stage.objective;
    let mut learner = objective
        .start(setup, &*stage.backbone.plugin)
        .map_err(|invalid| objective.diagnose(&invalid))?;
    let mut descents = state::descents(&*learner, &*stage.optimizer.plugin);
    let taken = apply(
        extent,
        &checkpoint,
        &path.display().to_string(),
        &stage.backbone.tensors(),
        &mut *learner,
        &mut descents,
    )?;
    taken.check(stage.epochs)?;
    Ok(taken.facts)
}

/// Puts `checkpoint`, which messages call `origin`, into a learner and its optimisers, to the extent asked for;
/// `backbone` lists the tensors of the backbone without head.
///
/// # Errors
/// The backbone does not fit or, going on with a whole state, anything else does not; each tensor at fault is named.
pub fn apply(
    extent: Extent,
    checkpoint: &Checkpoint,
    origin: &str,
    backbone: &[Spec],
    learner: &mut dyn Learner,
    descents: &mut Descents,
) -> Result<Taken, Failure> {
    match extent {
        Extent::Resume => resume(checkpoint, origin, learner, descents),
        Extent::Restart | Extent::Backbone => {
            let mut restart = Restart {
                checkpoint,
                origin,
                facts: Vec::new(),
                used: BTreeSet::new(),
                prefixes: BTreeSet::new(),
            };
            for name in learner.trained() {
                restart.encoder(name, backbone, extent, learner)?;
            }
            for (follower, followed) in learner.followers() {
                restart.follow(follower, followed, learner);
            }
            if extent == Extent::Restart {
                restart.buffers(learner);
            }
            restart.rest();
            Ok(Taken {
                epochs: 0,
                facts: restart.facts,
            })
        }
    }
}

fn resume(
    checkpoint: &Checkpoint,
    origin: &str,
    learner: &mut dyn Learner,
    descents: &mut Descents,
) -> Result<Taken, Failure> {
    let help = "`Resume(..)` takes the whole state of a training of the same method, head and queue; \
                `Restart(..)` takes what fits";
    if checkpoint
        .number("batch")
        .is_some_and(|batches| batches > 0)
    {
        return Err(Failure::mistake(format!(
            "{origin} is a state within an epoch, which only its own run goes on from"
        ))
        .help("give a checkpoint of an epoch's end, or take its weights alone by `Restart(..)`"));
    }
    let epochs = checkpoint.number("epoch").ok_or_else(|| {
        Failure::mistake(format!(
            "{origin} does not say how many epochs were trained"
        ))
        .help(help)
    })?;
    state::restore(checkpoint, origin, learner, descents).map_err(|failure| failure.help(help))?;
    Ok(Taken {
        epochs: usize::try_from(epochs).unwrap_or(usize::MAX),
        facts: vec![format!("{origin}: the whole state, epoch {epochs}")],
    })
}

/// A restart at work.
struct Restart<'a> {
    checkpoint: &'a Checkpoint,
    origin: &'a str,
    facts: Vec<String>,
    /// Tensors of the checkpoint that were spoken of.
    used: BTreeSet<String>,
    /// What stood before the names of networks that were taken.
    prefixes: BTreeSet<String>,
}

impl Restart<'_> {
    /// Fills the trained encoder `name`, from that of this name in the checkpoint or else from the one that its program
    /// evaluates.
    fn encoder(
        &mut self,
        name: &str,
        backbone: &[Spec],
        extent: Extent,
        learner: &dyn Learner,
    ) -> Result<(), Failure> {
        let tensors = &self.checkpoint.tensors;
        let own = layout::wrapper(tensors, &format!("{name}.")).map(|_| name);
        let mut whole = Parameters::new(backbone.to_vec());
        let loaded = checkpoint::take_backbone(self.checkpoint, self.origin, own, &mut whole)?;
        let epoch = match loaded.epoch {
            Some(epoch) => format!(", epoch {epoch}"),
            None => String::new(),
        };
        self.facts.push(format!(
            "{}: {}{epoch}, for the backbone of `{name}`",
            self.origin,
            loaded.source()
        ));
        self.facts.extend(loaded.remark);
        let encoders = learner.encoders();
        let mut parameters = find(&encoders, name).parameters();
        let specs = parameters.specs().to_vec();
        let (mut taken, mut dropped, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        for (i, spec) in specs.iter().enumerate() {
            if let Some(place) = whole.position(&spec.name) {
                copy(&whole, place, &mut parameters, i);
                continue;
            }
            let file_name = format!("{}{}", loaded.prefix, spec.name);
            match tensors.get(&file_name) {
                Some(tensor) if extent == Extent::Restart => {
                    match fill(&mut parameters, i, tensor) {
                        Ok(()) => taken.push(spec.name.clone()),
                        Err(reason) => dropped.push(format!("{} ({reason})", spec.name)),
                    }
                }
                _ => absent.push(spec.name.clone()),
            }
            self.used.insert(file_name);
        }
        self.used.extend(loaded.names);
        self.prefixes.insert(loaded.prefix);
        self.list(&format!("taken into the head of `{name}`"), &taken);
        self.list(&format!("dropped, of another shape, in `{name}`"), &dropped);
        self.list(&format!("as initialised in `{name}`"), &absent);
        Ok(())
    }

    /// Makes `follower` equal to the encoder it follows; its running statistics are its own in the checkpoint, where
    /// that has any.
    fn follow(&mut self, follower: &str, followed: &str, learner: &dyn Learner) {
        let encoders = learner.encoders();
        let weights = find(&encoders, followed).parameters().values().to_vec();
        let mut parameters = find(&encoders, follower).parameters();
        parameters.values_mut().copy_from_slice(&weights);
        let prefix = format!("{follower}.");
        let tensors = &self.checkpoint.tensors;
        let wrapper = layout::wrapper(tensors, &prefix);
        let (mut taken, mut missing) = (0, Vec::new());
        for (i, spec) in parameters.specs().to_vec().iter().enumerate() {
            if !matches!(spec.role, Role::Statistic | Role::Counter) {
                continue;
            }
            let name = format!("{}{prefix}{}", wrapper.unwrap_or_default(), spec.name);
            let filled = tensors.get(&name).map(|t| fill(&mut parameters, i, t));
            match filled {
                Some(Ok(())) => taken += 1,
                _ => missing.push(spec.name.clone()),
            }
        }
        if let Some(wrapper) = wrapper {
            let prefix = format!("{wrapper}{prefix}");
            let own = tensors.keys().filter(|name| name.starts_with(&prefix));
            self.used.extend(own.cloned());
        }
        self.facts.push(match (taken, missing.is_empty()) {
            (0, false) => format!(
                "`{follower}` has the weights of `{followed}`, and its running statistics as initialised"
            ),
            (0, true) => format!("`{follower}` has the weights of `{followed}`"),
            _ => format!(
                "`{follower}` has the weights of `{followed}`, and its own running statistics of the file"
            ),
        });
        if taken > 0 {
            self.list(&format!("as initialised in `{follower}`"), &missing);
        }
    }

    /// Takes the buffers that fit.
    fn buffers(&mut self, learner: &mut dyn Learner) {
        let (mut taken, mut dropped, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        for Buffer { name, shape, .. } in learner.buffers() {
            let Some(wrapper) = layout::wrapper(&self.checkpoint.tensors, &name) else {
                absent.push(name);
                continue;
            };
            let file_name = format!("{wrapper}{name}");
            let tensor = &self.checkpoint.tensors[&file_name];
            let fits = match tensor.shape == shape {
                true => learner.restore(buffer(&name, tensor)),
                false => Err(format!("{} instead of {shape:?}", tensor.describe())),
            };
            match fits {
                Ok(()) => taken.push(name),
                Err(reason) => dropped.push(format!("{name} ({reason})")),
            }
            self.used.insert(file_name);
        }
        self.list("taken beside the networks", &taken);
        self.list("dropped", &dropped);
        self.list("as initialised", &absent);
    }

    /// Tells what nothing was made of.
    fn rest(&mut self) {
        let mut parts: BTreeMap<String, usize> = BTreeMap::new();
        let names = self.checkpoint.tensors.keys();
        for name in names.filter(|name| !self.used.contains(*name)) {
            let mut prefixes = self.prefixes.iter();
            let prefix = prefixes.find(|prefix| name.starts_with(*prefix));
            let prefix = prefix.map_or("", String::as_str);
            let inner = name[prefix.len()..].split('.').next().unwrap_or_default();
            let part = match prefix {
                "" => layout::bare(name).split('.').next().unwrap_or_default(),
                prefix => &name[..prefix.len() + inner.len()],
            };
            *parts.entry(visible(part)).or_default() += 1;
        }
        let parts: Vec<_> = parts
            .into_iter()
            .map(|(part, count)| match count {
                1 => part,
                count => format!("{count} of {part}"),
            })
            .collect();
        self.list("not needed", &parts);
    }

    fn list(&mut self, what: &str, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let mut line = format!("{what}: {}", names[..names.len().min(SHOWN)].join(", "));
        if names.len() > SHOWN {
            let _ = write!(line, " and {} more", names.len() - SHOWN);
        }
        self.facts.push(line);
    }
}

fn find<'a>(
    encoders: &[(&'static str, &'a dyn crate::Encoder)],
    name: &str,
) -> &'a dyn crate::Encoder {
    let found = encoders.iter().find(|(known, _)| *known == name);
    found.expect("a learner's names are of its encoders").1
}

/// A tensor of a checkpoint as a buffer.
pub(super) fn buffer(name: &str, tensor: &Tensor) -> Buffer {
    Buffer {
        name: name.to_owned(),
        shape: tensor.shape.clone(),
        values: match &tensor.values {
            Values::Float(values) => BufferValues::Float(values.clone()),
            Values::Integer(values) => BufferValues::Integer(values.clone()),
        },
    }
}

/// Copies tensor `place` of `from` to tensor `i` of `to`, which is the same one.
fn copy(from: &Parameters, place: usize, to: &mut Parameters, i: usize) {
    match from.get(place) {
        smallfry_nn::parameter::Values::Float(values) => {
            to.floats_mut(i).copy_from_slice(values);
        }
        smallfry_nn::parameter::Values::Integer(value) => to.set_counter(i, value),
    }
}
