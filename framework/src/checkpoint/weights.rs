//! Weights into and out of networks.
//!
//! Nothing is left at random in silence: a backbone is filled whole, or the message lists each tensor that the file
//! lacks, has in another shape or has too many. Only the head is passed over, because features are wanted without it.

use std::path::Path;

use smallfry_nn::{
    Parameters,
    network::{Role, Spec},
    parameter,
};

use super::{Checkpoint, Tensor, Values, read, read::visible};
use crate::{encoder::Encoder, failure::Failure};

/// Where backbones lie in files of smallfry and of others, most wanted first.
const PREFIXES: [&str; 6] = [
    "encoder_q.",
    "module.encoder_q.",
    "",
    "module.",
    "student.",
    "module.student.",
];

/// Names within an encoder that belong to its head, whatever the reference calls it.
const HEADS: [&str; 3] = ["fc", "classifier", "head"];

/// Names that a list in a message shows of each kind.
const SHOWN: usize = 20;

/// What was taken from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What stood before the names of the backbone, such as `encoder_q.`.
    pub prefix: String,
    /// Tensors taken.
    pub taken: usize,
    /// Tensors of the head, passed over.
    pub head: usize,
    /// Epochs trained, where the file says so.
    pub epoch: Option<u64>,
}

/// Fills a backbone without head from the file at `path`.
///
/// # Errors
/// As [`read`](super::read) and [`take_backbone`].
pub fn load_backbone(path: &Path, encoder: &dyn Encoder) -> Result<Loaded, Failure> {
    let checkpoint = read(path)?;
    take_backbone(
        &checkpoint,
        &path.display().to_string(),
        &mut encoder.parameters(),
    )
}

/// Fills a backbone without head from `checkpoint`, which messages call `origin`.
///
/// # Errors
/// The tensors are not those of this backbone; each one that is missing, left over or of another shape is named, and
/// the backbone may be partly filled.
pub fn take_backbone(
    checkpoint: &Checkpoint,
    origin: &str,
    parameters: &mut Parameters,
) -> Result<Loaded, Failure> {
    let specs = parameters.specs().to_vec();
    let evaluated = checkpoint
        .metadata
        .get("evaluated")
        .map(|e| format!("{e}."));
    let matches = |prefix: &str| {
        let found = |spec: &&Spec| {
            checkpoint
                .tensors
                .contains_key(&(prefix.to_owned() + &spec.name))
        };
        specs.iter().filter(found).count()
    };
    let candidates = evaluated.as_deref().into_iter().chain(PREFIXES);
    // `max_by_key` would give the last of equals; the first is the most wanted.
    let prefix = candidates
        .map(|prefix| (matches(prefix), prefix))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .filter(|best| best.0 > 0)
        .map(|best| best.1.to_owned())
        .ok_or_else(|| unrelated(checkpoint, origin, &specs))?;

    let mut differences = Differences::default();
    let mut taken = 0;
    for (i, spec) in specs.iter().enumerate() {
        let name = prefix.clone() + &spec.name;
        match checkpoint.tensors.get(&name) {
            Some(tensor) => match fill(parameters, i, tensor) {
                Ok(()) => taken += 1,
                Err(reason) => differences.reshaped.push(format!("{name}: {reason}")),
            },
            // Checkpoints of before PyTorch 0.4.1 have no counters, and features do not depend on them.
            None if spec.role == Role::Counter => {}
            None => differences.missing.push(name),
        }
    }
    let mut head = 0;
    for name in checkpoint.tensors.keys() {
        let Some(inner) = name.strip_prefix(&prefix) else {
            continue;
        };
        let first = inner.split('.').next().unwrap_or_default();
        if parameters.position(inner).is_some() || (prefix.is_empty() && is_state(name)) {
            continue;
        }
        if HEADS.contains(&first) {
            head += 1;
        } else {
            differences.unexpected.push(visible(name));
        }
    }
    differences
        .check(origin, "this backbone")
        .map_err(|failure| {
            failure
                .help("name the backbone, with its parameters, that the weights were trained with")
        })?;
    Ok(Loaded {
        prefix,
        taken,
        head,
        epoch: checkpoint.number("epoch"),
    })
}

/// Whether a name belongs to a run rather than to a network.
fn is_state(name: &str) -> bool {
    name == "queue"
        || name == "queue_ptr"
        || ["optimizer.", "encoder_k.", "module."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn unrelated(checkpoint: &Checkpoint, origin: &str, specs: &[Spec]) -> Failure {
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
    let wanted: Vec<_> = specs
        .iter()
        .take(3)
        .map(|s| format!("`{}`", s.name))
        .collect();
    Failure::mistake(format!(
        "{origin} holds no weights of this backbone: it has {held}, the backbone needs {}",
        wanted.join(", ")
    ))
    .help("name the backbone, with its parameters, that the weights were trained with")
}

/// How the tensors of a file differ from those that are needed.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// Needed and not in the file.
    pub missing: Vec<String>,
    /// In the file and not needed.
    pub unexpected: Vec<String>,
    /// In the file with another shape or element type.
    pub reshaped: Vec<String>,
}

impl Differences {
    /// Nothing, or a message that lists all differences between `origin` and `needed`.
    pub(crate) fn check(&self, origin: &str, needed: &str) -> Result<(), Failure> {
        let mut message = format!("{origin} does not fit {needed}");
        let mut fits = true;
        for (names, what) in [
            (&self.missing, "missing"),
            (&self.reshaped, "of another shape"),
            (&self.unexpected, "left over"),
        ] {
            if names.is_empty() {
                continue;
            }
            fits = false;
            message.push_str(&format!("\n  {} {what}:", names.len()));
            for name in names.iter().take(SHOWN) {
                message.push_str(&format!("\n    {name}"));
            }
            if names.len() > SHOWN {
                message.push_str(&format!("\n    and {} more", names.len() - SHOWN));
            }
        }
        if fits {
            Ok(())
        } else {
            Err(Failure::mistake(message))
        }
    }
}

/// Puts `tensor` into entry `i`, or says how it differs from what the entry is.
pub(crate) fn fill(parameters: &mut Parameters, i: usize, tensor: &Tensor) -> Result<(), String> {
    let spec = &parameters.specs()[i];
    let wanted = match spec.role {
        Role::Counter => "I64",
        _ => "F32",
    };
    // PyTorch writes a counter with no sizes, some converters with one of 1.
    let same = match spec.role {
        Role::Counter => tensor.shape.iter().product::<usize>() == 1,
        _ => tensor.shape == spec.shape,
    };
    let differs = format!("{} instead of {wanted} {:?}", tensor.describe(), spec.shape);
    if !same {
        return Err(differs);
    }
    match (&tensor.values, spec.role) {
        (Values::Integer(values), Role::Counter) => {
            let value = u64::try_from(values[0]).map_err(|_| "a negative counter".to_owned())?;
            parameters.set_counter(i, value);
        }
        (Values::Float(values), Role::Weight | Role::Frozen | Role::Statistic) => {
            parameters.floats_mut(i).copy_from_slice(values);
        }
        _ => return Err(differs),
    }
    Ok(())
}

/// Every tensor of `parameters` under its name, in state-dict order.
pub(crate) fn tensors(parameters: &Parameters) -> impl Iterator<Item = (String, Tensor)> + '_ {
    parameters.specs().iter().enumerate().map(|(i, spec)| {
        let tensor = match parameters.get(i) {
            parameter::Values::Float(values) => Tensor::float(spec.shape.clone(), values.to_vec()),
            parameter::Values::Integer(value) => {
                // A count of batches stays far below 2⁶³.
                Tensor::integer(spec.shape.clone(), vec![value as i64])
            }
        };
        (spec.name.clone(), tensor)
    })
}

#[cfg(test)]
mod tests {
    use smallfry_nn::init::Init;

    use super::*;
    use crate::failure::Cause;

    fn specs() -> Vec<Spec> {
        let spec = |name: &str, shape: &[usize], role| Spec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            role,
            init: Init::Constant(0.0),
        };
        vec![
            spec("conv.weight", &[2, 1], Role::Weight),
            spec("bn.running_mean", &[2], Role::Statistic),
            spec("bn.num_batches_tracked", &[], Role::Counter),
        ]
    }

    fn filled(prefix: &str) -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        let mut insert = |name: &str, tensor| {
            checkpoint.tensors.insert(format!("{prefix}{name}"), tensor);
        };
        insert("conv.weight", Tensor::float(vec![2, 1], vec![1.0, 2.0]));
        insert("bn.running_mean", Tensor::float(vec![2], vec![3.0, 4.0]));
        insert("bn.num_batches_tracked", Tensor::integer(vec![], vec![5]));
        insert("fc.0.weight", Tensor::float(vec![1, 2], vec![0.0; 2]));
        checkpoint
    }

    #[test]
    fn the_query_encoder_is_found_by_itself() {
        for prefix in PREFIXES {
            let mut checkpoint = filled(prefix);
            checkpoint.tensors.extend(filled("encoder_k.").tensors);
            checkpoint
                .tensors
                .insert("queue".to_owned(), Tensor::float(vec![1], vec![0.0]));
            let mut parameters = Parameters::new(specs());
            let loaded = take_backbone(&checkpoint, "a", &mut parameters).unwrap();
            assert_eq!(
                (loaded.prefix.as_str(), loaded.taken, loaded.head),
                (prefix, 3, 1)
            );
            assert_eq!(parameters.weight("conv.weight"), [1.0, 2.0]);
            assert_eq!(parameters.statistics(), [3.0, 4.0]);
            assert_eq!(parameters.get(2), parameter::Values::Integer(5));
        }
    }

    #[test]
    fn the_file_may_say_which_encoder_counts() {
        let mut checkpoint = filled("pupil.");
        checkpoint.tensors.extend(filled("encoder_q.").tensors);
        checkpoint
            .metadata
            .insert("evaluated".to_owned(), "pupil".to_owned());
        let loaded = take_backbone(&checkpoint, "a", &mut Parameters::new(specs())).unwrap();
        assert_eq!(loaded.prefix, "pupil.");
    }

    #[test]
    fn every_difference_is_named() {
        let mut checkpoint = filled("encoder_q.");
        let tensors = &mut checkpoint.tensors;
        tensors.remove("encoder_q.bn.running_mean");
        tensors.insert(
            "encoder_q.conv.weight".to_owned(),
            Tensor::float(vec![1, 2], vec![0.0; 2]),
        );
        tensors.insert(
            "encoder_q.bn2.weight".to_owned(),
            Tensor::float(vec![1], vec![0.0]),
        );
        let failure =
            take_backbone(&checkpoint, "x.safetensors", &mut Parameters::new(specs())).unwrap_err();
        assert_eq!(failure.cause, Cause::Mistake);
        assert_eq!(
            failure.message,
            "x.safetensors does not fit this backbone\
             \n  1 missing:\n    encoder_q.bn.running_mean\
             \n  1 of another shape:\n    encoder_q.conv.weight: F32 [1, 2] instead of F32 [2, 1]\
             \n  1 left over:\n    encoder_q.bn2.weight"
        );
    }

    #[test]
    fn a_foreign_file_is_told_from_a_damaged_one() {
        let mut checkpoint = Checkpoint::default();
        checkpoint
            .tensors
            .insert("wte".to_owned(), Tensor::float(vec![1], vec![0.0]));
        let failure = take_backbone(
            &checkpoint,
            "gpt.safetensors",
            &mut Parameters::new(specs()),
        )
        .unwrap_err();
        assert!(
            failure.message.starts_with(
                "gpt.safetensors holds no weights of this backbone: it has tensors such as `wte`"
            ),
            "{failure}"
        );
    }
}
