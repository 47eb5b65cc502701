//! Weights from one form to another: what the verb `convert` does.
//!
//! A whole training state goes into the layout that the reference programs write and resume from, and back; a backbone
//! goes into the names of a library, or into an ONNX model. What a target cannot take is named in the report, never
//! dropped in silence, and a network that a library knows only under other arithmetic is refused.

mod classifier;
mod moco;
pub mod onnx;
mod optimizer;
mod seed;
mod state_dict;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Serialize;
use smallfry_formats::torch::Value;

pub(crate) use moco::from_torch;

use crate::{
    Backbone, Context, Encoder, Head,
    checkpoint::{
        self, Checkpoint, Container, Loaded, Partial,
        layout::{Library, naming_of},
        torch,
    },
    failure::{Failure, disk},
    fingerprint::configured,
    registry::{Built, find, parse},
    source::syntax,
};

/// What a file is converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// MoCo's `.pth.tar`; a pupil of SEED becomes the query encoder as by the reference's script, its old names kept.
    Moco,
    /// The same with the pupil's old names left out.
    MocoClean,
    /// SEED's `.pth.tar`, with student and teacher.
    Seed,
    /// A linear classifier or a finetuned network, as the reference's programs write it.
    Classifier,
    /// The backbone under the reference's names.
    Backbone,
    /// The backbone under torchvision's names.
    Torchvision,
    /// The backbone under timm's names.
    Timm,
    /// An ONNX model of the backbone, with a check of its numbers.
    Onnx,
    /// A checkpoint of this program: everything, under this program's names.
    Safetensors,
}

impl Target {
    /// All targets under their words.
    pub const ALL: [(&'static str, Self); 9] = [
        ("moco", Self::Moco),
        ("moco-clean", Self::MocoClean),
        ("seed", Self::Seed),
        ("classifier", Self::Classifier),
        ("backbone", Self::Backbone),
        ("torchvision", Self::Torchvision),
        ("timm", Self::Timm),
        ("onnx", Self::Onnx),
        ("safetensors", Self::Safetensors),
    ];

    /// The endings that a file of this form may have.
    fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Moco | Self::MocoClean | Self::Seed | Self::Classifier => &TORCH,
            Self::Backbone | Self::Torchvision | Self::Timm => &EITHER,
            Self::Onnx => &["onnx"],
            Self::Safetensors => &["safetensors"],
        }
    }
}

/// Endings of files of `torch.save`.
const TORCH: [&str; 5] = ["tar", "pth", "pt", "ckpt", "bin"];
/// Endings of files of weights.
const EITHER: [&str; 6] = ["safetensors", "tar", "pth", "pt", "ckpt", "bin"];

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = Self::ALL.iter().find(|(_, target)| target == self);
        f.write_str(own.expect("all targets are in the table").0)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, _)| *known == word);
        known.map(|(_, target)| *target).ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|(known, _)| *known).collect();
            format!("the targets are {}", words.join(", "))
        })
    }
}

/// What to convert.
#[derive(Clone, Debug)]
pub struct Request {
    /// The file to read.
    pub input: PathBuf,
    /// The file to write.
    pub output: PathBuf,
    /// What it becomes.
    pub target: Target,
    /// The backbone, as in experiment files; what the file says of it where none.
    pub backbone: Option<String>,
    /// The encoder to take, such as `teacher`; the one that the file's program evaluates where none.
    pub encoder: Option<String>,
    /// Whether files that exist may be replaced.
    pub overwrite: bool,
}

/// What was converted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The files that were written.
    pub files: Vec<PathBuf>,
    /// What they are.
    pub target: String,
    /// What was taken of the input.
    pub weights: String,
    /// Remarks, such as what the target cannot take.
    pub notes: Vec<String>,
}

/// Does what `request` says.
///
/// # Errors
/// The input is no checkpoint or not of the backbone, the target cannot take it, or the output exists or cannot be
/// written.
pub fn convert(request: &Request) -> Result<Report, Failure> {
    let files = files(request);
    check_output(request, &files)?;
    let (weights, notes) = match request.target {
        Target::Moco | Target::MocoClean => to_moco(request)?,
        Target::Seed => to_seed(request)?,
        Target::Classifier => to_classifier(request)?,
        Target::Safetensors => to_safetensors(request)?,
        Target::Backbone | Target::Torchvision | Target::Timm => to_state_dict(request)?,
        Target::Onnx => to_onnx(request)?,
    };
    Ok(Report {
        files,
        target: request.target.to_string(),
        weights,
        notes,
    })
}

/// The files that `request` will write.
fn files(request: &Request) -> Vec<PathBuf> {
    match request.target {
        Target::Onnx => onnx::Export::files(&request.output).to_vec(),
        _ => vec![request.output.clone()],
    }
}

/// Refuses an output before any work is done for it.
fn check_output(request: &Request, files: &[PathBuf]) -> Result<(), Failure> {
    let (output, target) = (&request.output, request.target);
    let ending = output.extension().unwrap_or_default().to_string_lossy();
    let endings = target.endings();
    if !endings.iter().any(|known| *known == ending) {
        let known: Vec<_> = endings.iter().map(|known| format!("`.{known}`")).collect();
        return Err(Failure::mistake(format!(
            "{} has not the ending of a file of target `{target}`",
            output.display()
        ))
        .help(format!("give a name that ends in {}", known.join(", "))));
    }
    for path in files {
        match fs::symlink_metadata(path) {
            Ok(about) if about.is_dir() => {
                return Err(Failure::mistake(format!("{} is a folder", path.display())));
            }
            Ok(_) if !request.overwrite => {
                return Err(Failure::mistake(format!("{} exists", path.display()))
                    .help("give another name, or replace it by --overwrite"));
            }
            _ => {}
        }
    }
    match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(
            Failure::mistake(format!("there is no folder {}", folder.display()))
                .help("make it first"),
        ),
        _ => Ok(()),
    }
}

/// What was taken, and remarks.
type Outcome = Result<(String, Vec<String>), Failure>;

fn to_moco(request: &Request) -> Outcome {
    let origin = request.input.display().to_string();
    let (value, weights, notes) = match checkpoint::container(&request.input)? {
        Container::Torch => {
            let value = torch::value(&request.input)?;
            let clean = request.target == Target::MocoClean;
            let converted = seed::to_moco(value, clean).map_err(|reason| {
                Failure::mistake(format!(
                    "{origin} is no checkpoint of MoCo or SEED: {reason}"
                ))
                .help("such files hold `module.encoder_q.` or `module.student.` in `state_dict`")
            })?;
            (converted.value, converted.summary, Vec::new())
        }
        Container::Safetensors => {
            let checkpoint = checkpoint::read(&request.input)?;
            let backbone = backbone(request, &checkpoint)?;
            moco::to_torch(checkpoint, &origin, &backbone)?
        }
    };
    write_torch(&value, &request.output)?;
    Ok((weights, notes))
}

fn to_seed(request: &Request) -> Outcome {
    let origin = request.input.display().to_string();
    let checkpoint = match checkpoint::container(&request.input)? {
        Container::Safetensors => checkpoint::read(&request.input)?,
        Container::Torch => {
            return Err(
                Failure::mistake(format!("{origin} is a file of PyTorch's already"))
                    .help("target `seed` is for checkpoints of this program"),
            );
        }
    };
    let student = backbone(request, &checkpoint)?;
    let teacher = taught_by(&checkpoint)?;
    let (value, weights, notes) = moco::to_seed(checkpoint, &origin, &student, teacher.as_ref())?;
    write_torch(&value, &request.output)?;
    Ok((weights, notes))
}

fn to_classifier(request: &Request) -> Outcome {
    let origin = request.input.display().to_string();
    let checkpoint = checkpoint::read(&request.input)?;
    let backbone = backbone(request, &checkpoint)?;
    let (value, weights, notes) = classifier::to_torch(checkpoint, &origin, &backbone)?;
    write_torch(&value, &request.output)?;
    Ok((weights, notes))
}

/// The teacher's backbone, as the parameter `teacher` of the run's objective describes it; none where the file does not
/// say.
fn taught_by(checkpoint: &Checkpoint) -> Result<Option<Built<dyn Backbone>>, Failure> {
    let config = checkpoint.metadata.get("config").map_or("", String::as_str);
    let objective = configured(config, "objective").unwrap_or_default();
    let value = syntax::Value::parse(&objective, 0..objective.len());
    let mut fields = value.fields().iter();
    let Some(field) = fields.find(|field| &objective[field.name.clone()] == "teacher") else {
        return Ok(None);
    };
    let context = Context {
        folder: Path::new("."),
    };
    Ok(Some(parse(&context, &objective[field.value.clone()])?))
}

fn to_safetensors(request: &Request) -> Outcome {
    let (checkpoint, notes) = match checkpoint::container(&request.input)? {
        Container::Safetensors => (checkpoint::read(&request.input)?, Vec::new()),
        Container::Torch => {
            let value = torch::value(&request.input)?;
            moco::from_torch(value).map_err(|reason| {
                Failure::mistake(format!(
                    "{} cannot be converted: {reason}",
                    request.input.display()
                ))
                .help("give a file that holds tensors by name, such as a state dict")
            })?
        }
    };
    checkpoint::write(&checkpoint, &request.output)?;
    let epoch = match checkpoint.number("epoch") {
        Some(epoch) => format!(", epoch {epoch}"),
        None => String::new(),
    };
    Ok((
        format!("{} tensors{epoch}", checkpoint.tensors.len()),
        notes,
    ))
}

fn to_state_dict(request: &Request) -> Outcome {
    let Filled {
        backbone,
        encoder,
        loaded,
    } = filled(request)?;
    let library = match request.target {
        Target::Torchvision => Some(Library::Torchvision),
        Target::Timm => Some(Library::Timm),
        _ => None,
    };
    let parameters = encoder.parameters();
    let naming = library
        .map(|library| {
            naming_of(library, parameters.specs()).map_err(|reason| {
                Failure::mistake(format!("backbone `{}`: {reason}", backbone.name))
                    .help("`--to backbone` writes it under the reference's names")
            })
        })
        .transpose()?;
    let named = state_dict::named(&parameters, naming);
    match request.output.extension() {
        Some(ending) if ending == "safetensors" => {
            let checkpoint = Checkpoint {
                metadata: state_dict::metadata(&backbone, &loaded),
                tensors: named.into_iter().collect(),
            };
            checkpoint::write(&checkpoint, &request.output)?;
        }
        _ => write_torch(&state_dict::value(named), &request.output)?,
    }
    let summary = loaded.summary();
    let remark = naming.and_then(|naming| naming.remark).map(str::to_owned);
    Ok((summary, loaded.remark.or(remark).into_iter().collect()))
}

fn to_onnx(request: &Request) -> Outcome {
    let Filled {
        backbone,
        mut encoder,
        loaded,
    } = filled(request)?;
    let Some(network) = backbone.network(&Head::default()) else {
        return Err(Failure::mistake(format!(
            "backbone `{}` does not say what it is made of and cannot be written as ONNX",
            backbone.name
        )));
    };
    let export = onnx::Export {
        network: &network,
        encoder: &mut *encoder,
        preprocessing: backbone.preprocessing(),
        facts: state_dict::metadata(&backbone, &loaded)
            .into_iter()
            .collect(),
    };
    export.write(&request.output)?;
    let script = &files(request)[2];
    let note = format!(
        "`python {}` compares the model in ONNX Runtime with this program",
        script.display()
    );
    let summary = loaded.summary();
    Ok((summary, loaded.remark.into_iter().chain([note]).collect()))
}

/// A backbone with weights.
struct Filled {
    backbone: Built<dyn Backbone>,
    encoder: Box<dyn Encoder>,
    loaded: Loaded,
}

/// The backbone of the input, filled with its weights.
fn filled(request: &Request) -> Result<Filled, Failure> {
    let checkpoint = checkpoint::read(&request.input)?;
    let backbone = backbone(request, &checkpoint)?;
    let encoder = backbone.encoder(&Head::default(), 0);
    let loaded = checkpoint::take_backbone(
        &checkpoint,
        &request.input.display().to_string(),
        request.encoder.as_deref(),
        &mut encoder.parameters(),
    )?;
    Ok(Filled {
        backbone,
        encoder,
        loaded,
    })
}

/// The backbone that the command line names, or else the file.
fn backbone(request: &Request, checkpoint: &Checkpoint) -> Result<Built<dyn Backbone>, Failure> {
    let context = Context {
        folder: Path::new("."),
    };
    if let Some(text) = &request.backbone {
        return Ok(parse(&context, text)?);
    }
    let fact = |key: &str| checkpoint.metadata.get(key).map(String::as_str);
    let described = fact("config")
        .and_then(|config| configured(config, "backbone"))
        .or_else(|| fact("backbone").map(str::to_owned))
        .or_else(|| {
            let arch = fact("arch")?;
            find::<dyn Backbone>(arch).map(|entry| entry.name.to_owned())
        });
    match described {
        Some(text) => Ok(parse(&context, &text)?),
        None => Err(Failure::mistake(format!(
            "{} does not say which backbone its weights are of",
            request.input.display()
        ))
        .help("name it, such as `--backbone resnet18`; `smallfry list backbone` shows all")),
    }
}

/// Writes `value` to `path` as `torch.save` would, whole or not at all.
fn write_torch(value: &Value, path: &Path) -> Result<(), Failure> {
    // PyTorch names the folder within the container after the file, up to its last ending.
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut partial = Partial::create(path)?;
    smallfry_formats::torch::write(value, &stem, &mut partial)
        .map_err(|error| disk("write", path, &error))?;
    partial.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_their_words() {
        for (word, target) in Target::ALL {
            assert_eq!(word.parse(), Ok(target));
            assert_eq!(target.to_string(), word);
        }
        let refusal = "pickle".parse::<Target>().unwrap_err();
        assert!(refusal.contains("moco-clean") && refusal.contains("onnx"));
    }
}
