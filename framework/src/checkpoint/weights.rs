//! Weights into and out of networks.
//!
//! Nothing is left at random in silence: a backbone is filled whole, or the message lists each tensor that the file
//! lacks, has in another shape or has too many. Only the head is passed over, because features are wanted without it.

use std::path::Path;

use smallfry_formats::visible;
use smallfry_nn::{
    Parameters,
    network::{Role, Spec},
};

use super::{
    Checkpoint, Differences, fill,
    layout::{self, Found},
    read,
};
use crate::failure::Failure;

/// First parts of names that belong to a head, whatever its program calls it.
const HEADS: [&str; 13] = [
    "fc",
    "_fc",
    "classifier",
    "head",
    "heads",
    "mlp",
    "projector",
    "predictor",
    "projection_head",
    "prediction_head",
    "prototypes",
    "last_layer",
    "online_linear",
];

/// First parts of names that belong to a run rather than to a network.
const STATE: [&str; 16] = [
    "queue",
    "queue_ptr",
    "queue2",
    "small_queue",
    "optimizer",
    "optimizer_states",
    "lr_schedulers",
    "loops",
    "callbacks",
    "encoder_q",
    "encoder_k",
    "student",
    "teacher",
    "momentum_encoder",
    "momentum_backbone",
    "module",
];

/// What was taken from a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The program that wrote the file, such as `SEED`; empty for a bare state dict.
    pub program: String,
    /// Which of its encoders this is, such as `teacher`; empty where there is only one.
    pub encoder: String,
    /// Whose names the tensors have, such as `timm`; empty for the reference's.
    pub naming: String,
    /// What stood before the names of the backbone, such as `encoder_q.`.
    pub prefix: String,
    /// Tensors taken.
    pub taken: usize,
    /// Tensors of the head, passed over.
    pub head: usize,
    /// Tensors of other encoders and of the run's state, not looked at.
    pub others: usize,
    /// Epochs trained, where the file says so.
    pub epoch: Option<u64>,
    /// What the user should know of such files.
    pub remark: Option<String>,
    /// The file's names of the tensors taken.
    pub names: Vec<String>,
}

impl Loaded {
    /// Whether the tensors stand in an encoder of a file of this program, whose name says it all.
    fn own(&self) -> bool {
        self.prefix == format!("{}.", self.encoder)
    }

    /// What was taken, and from where in the file.
    pub fn source(&self) -> String {
        let mut text = format!("{} tensors", self.taken);
        if !self.prefix.is_empty() {
            text += &format!(" of `{}`", self.prefix.trim_end_matches('.'));
        }
        let named = match self.naming.as_str() {
            "" => None,
            naming => Some(format!("{naming} names")),
        };
        let program = Some(self.program.clone());
        let program = program.filter(|program| !program.is_empty() && !self.own());
        let origin: Vec<_> = program.into_iter().chain(named).collect();
        if !origin.is_empty() {
            text += &format!(" ({})", origin.join(", "));
        }
        text
    }

    /// What was taken and what was not, in a line.
    pub fn summary(&self) -> String {
        let mut text = self.source();
        if let Some(epoch) = self.epoch {
            text += &format!(", epoch {epoch}");
        }
        if self.head > 0 {
            text += &format!(", {} of the head left off", self.head);
        }
        if self.others > 0 && !self.own() {
            let others = if self.others == 1 { "other" } else { "others" };
            text += &format!(", {} {others} not needed", self.others);
        }
        text
    }
}

/// Fills a backbone without head from the file at `path`: the encoder called `wanted`, or the one that the file's
/// program evaluates.
///
/// # Errors
/// As [`read`](super::read()) and [`take_backbone`].
pub fn load_backbone(
    path: &Path,
    wanted: Option<&str>,
    parameters: &mut Parameters,
) -> Result<Loaded, Failure> {
    let checkpoint = read(path)?;
    take_backbone(&checkpoint, &path.display().to_string(), wanted, parameters)
}

/// Fills a backbone without head from `checkpoint`, which messages call `origin`: the encoder called `wanted`, or the
/// one that the file's program evaluates.
///
/// # Errors
/// The tensors are not those of this backbone; each one that is missing, left over or of another shape is named, and
/// the backbone may be partly filled.
pub fn take_backbone(
    checkpoint: &Checkpoint,
    origin: &str,
    wanted: Option<&str>,
    parameters: &mut Parameters,
) -> Result<Loaded, Failure> {
    take(checkpoint, origin, wanted, parameters, "this backbone")
}

/// Fills a backbone with its head from `checkpoint`, which messages call `origin`: the encoder called `wanted`, or the
/// one that the file's program evaluates. Only parts of a head that the encoder has not at all may be left over, such as
/// SwAV's prototypes.
///
/// # Errors
/// As [`take_backbone`], with the tensors of the head.
pub fn take_encoder(
    checkpoint: &Checkpoint,
    origin: &str,
    wanted: Option<&str>,
    parameters: &mut Parameters,
) -> Result<Loaded, Failure> {
    take(checkpoint, origin, wanted, parameters, "this encoder")
}

/// Fills `parameters`, which messages call `needed`.
fn take(
    checkpoint: &Checkpoint,
    origin: &str,
    wanted: Option<&str>,
    parameters: &mut Parameters,
    needed: &str,
) -> Result<Loaded, Failure> {
    let specs = parameters.specs().to_vec();
    let own = |part: &str| {
        specs
            .iter()
            .any(|spec| spec.name.split('.').next() == Some(part))
    };
    let found = locate(checkpoint, origin, wanted, &specs)?;
    let mut differences = Differences::default();
    let mut names = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        let name = found.file_name(&spec.name);
        match checkpoint.tensors.get(&name) {
            Some(tensor) => match fill(parameters, i, tensor) {
                Ok(()) => names.push(name),
                Err(reason) => {
                    let name = visible(&name);
                    differences.reshaped.push(format!("{name}: {reason}"));
                }
            },
            // Checkpoints of before PyTorch 0.4.1 have no counters, and features do not depend on them.
            None if spec.role == Role::Counter => {}
            None => differences.missing.push(name),
        }
    }
    let (mut head, mut others) = (0, 0);
    for name in checkpoint.tensors.keys() {
        let Some(inner) = name.strip_prefix(&found.prefix) else {
            others += 1;
            continue;
        };
        let first = inner.split('.').next().unwrap_or_default();
        if parameters.position(&found.reference_name(inner)).is_some() {
            continue;
        }
        if found.encoder.is_empty() && STATE.contains(&first) {
            others += 1;
        } else if HEADS.contains(&first) && !own(first) {
            head += 1;
        } else {
            differences.unexpected.push(visible(name));
        }
    }
    differences
        .check(origin, needed)
        .map_err(|failure| explain(failure, checkpoint, origin, wanted, &specs))?;
    Ok(Loaded {
        program: found.program,
        encoder: found.encoder,
        naming: found.naming.name.to_owned(),
        prefix: found.prefix,
        taken: names.len(),
        head,
        others,
        epoch: checkpoint.number("epoch"),
        remark: found.naming.remark.map(str::to_owned),
        names,
    })
}

/// Where the network with the tensors `specs` stands in `checkpoint`.
fn locate(
    checkpoint: &Checkpoint,
    origin: &str,
    wanted: Option<&str>,
    specs: &[Spec],
) -> Result<Found, Failure> {
    let evaluated = checkpoint.metadata.get("evaluated").map(String::as_str);
    layout::find(&checkpoint.tensors, specs, wanted, evaluated).ok_or_else(|| {
        let failure = unrelated(checkpoint, origin, wanted, specs);
        explain(failure, checkpoint, origin, wanted, specs)
    })
}

/// `failure` with what would put it right, as far as the file tells.
fn explain(
    failure: Failure,
    checkpoint: &Checkpoint,
    origin: &str,
    wanted: Option<&str>,
    specs: &[Spec],
) -> Failure {
    if let Some(stranger) = layout::stranger(&checkpoint.tensors, specs) {
        let library = stranger.library.name();
        return Failure::mistake(format!(
            "{origin} has weights of {library}, whose network of this kind {}",
            stranger.differs
        ))
        .help("take weights of the reference's network; these would load but give other features");
    }
    let others = layout::alternatives(&checkpoint.tensors, specs);
    match others.iter().find(|other| wanted != Some(other)) {
        Some(other) => failure.help(format!(
            "the file has such a network as `{other}`; ask for it with `encoder: \"{other}\"`"
        )),
        None => failure
            .help("name the backbone, with its parameters, that the weights were trained with"),
    }
}

fn unrelated(
    checkpoint: &Checkpoint,
    origin: &str,
    wanted: Option<&str>,
    specs: &[Spec],
) -> Failure {
    let held: Vec<_> = checkpoint
        .tensors
        .keys()
        .take(3)
        .map(|n| format!("`{}`", visible(n)))
        .collect();
    let held = if held.is_empty() {
        "no tensor at all".to_owned()
    } else {
        format!("tensors such as {}", held.join(", "))
    };
    let needed: Vec<_> = specs
        .iter()
        .take(3)
        .map(|s| format!("`{}`", s.name))
        .collect();
    let what = match wanted {
        Some(wanted) => format!("of an encoder `{}`", visible(wanted)),
        None => "of this backbone".to_owned(),
    };
    Failure::mistake(format!(
        "{origin} holds no weights {what}: it has {held}, the backbone needs {}",
        needed.join(", ")
    ))
}

#[cfg(test)]
mod tests;
