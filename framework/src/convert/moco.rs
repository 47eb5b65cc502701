//! A training state in the layout of the reference's `main_moco_final.py`, and back.
//!
//! That layout is a dictionary of `epoch`, `arch`, `state_dict` (all names behind `module.`) and `optimizer`, which counts
//! parameters instead of naming them: those of the query encoder, then those of the key encoder, each in state-dict
//! order. Only parameters that had a gradient have a state there. What this program knows beside that goes into an entry of
//! its own, which the reference's programs do not look at, so that the way back gives the same file again.

use std::{cmp::Ordering, collections::BTreeSet};

use smallfry_formats::torch::Value;
use smallfry_nn::network::{Role, Spec};

use super::{
    optimizer::{Group, Rule, constants, group, restore, steps_name},
    state_dict::array,
};
use crate::{
    Backbone,
    checkpoint::{Checkpoint, torch},
    failure::Failure,
    registry::Built,
};

/// The entry with the metadata of this program.
const OWN: &str = "smallfry";
/// State of the run beside the encoders, first in the reference's order.
const BUFFERS: [&str; 3] = ["queue", "queue_ptr", "small_queue"];

/// `checkpoint`, which messages call `origin`, as MoCo's `.pth.tar`, with what was taken and what was not.
///
/// A checkpoint of SEED becomes one of MoCo, as its pupil is meant to go on.
///
/// # Errors
/// It has no query encoder and no pupil, or they are not of the backbone.
pub(super) fn to_torch(
    mut checkpoint: Checkpoint,
    origin: &str,
    backbone: &Built<dyn Backbone>,
) -> Result<(Value, String, Vec<String>), Failure> {
    let mut notes = Vec::new();
    if !has_encoder(&checkpoint, "encoder_q.") && has_encoder(&checkpoint, "student.") {
        rename_pupil(&mut checkpoint);
        notes.push(
            "the pupil became the query encoder; the teacher and the optimiser were left out"
                .to_owned(),
        );
    }
    if !has_encoder(&checkpoint, "encoder_q.") {
        return Err(Failure::mistake(format!("{origin} has no query encoder and no pupil"))
            .help("give a checkpoint of a training by MoCo or SEED; `--to backbone` takes any encoder"));
    }
    let encoders = [
        ("encoder_q.", backbone.tensors()),
        ("encoder_k.", backbone.tensors()),
    ];
    let (value, summary, more) = state(checkpoint, origin, backbone, encoders)?;
    notes.extend(more);
    Ok((value, summary, notes))
}

/// `checkpoint`, which messages call `origin`, as SEED's `.pth.tar`, with what was taken and what was not. Where the
/// teacher's backbone is not known its tensors are in the order of their names.
///
/// # Errors
/// It has no student, or that is not of the backbone.
pub(super) fn to_seed(
    checkpoint: Checkpoint,
    origin: &str,
    student: &Built<dyn Backbone>,
    teacher: Option<&Built<dyn Backbone>>,
) -> Result<(Value, String, Vec<String>), Failure> {
    if !has_encoder(&checkpoint, "student.") {
        return Err(Failure::mistake(format!("{origin} has no student"))
            .help("give a checkpoint of a training by SEED"));
    }
    let encoders = [
        ("student.", student.tensors()),
        (
            "teacher.",
            teacher.map_or_else(Vec::new, |teacher| teacher.tensors()),
        ),
    ];
    state(checkpoint, origin, student, encoders)
}

/// The whole state of two encoders, each with its prefix and the tensors of its backbone, of which `backbone` names the
/// first.
fn state(
    mut checkpoint: Checkpoint,
    origin: &str,
    backbone: &Built<dyn Backbone>,
    encoders: [(&str, Vec<Spec>); 2],
) -> Result<(Value, String, Vec<String>), Failure> {
    let mut notes = Vec::new();
    let mut state = Vec::new();
    let rule = Rule::of(&checkpoint);
    let mut kept = Vec::new();
    let mut parameters = 0;
    for name in BUFFERS {
        if let Some(tensor) = checkpoint.tensors.remove(name) {
            state.push((format!("module.{name}"), array(tensor)));
        }
    }
    for (encoder, specs) in encoders {
        let names = ordered(&checkpoint, encoder, &specs, origin)?;
        for (name, role) in names {
            let full = format!("{encoder}{name}");
            let tensor = checkpoint.tensors.remove(&full);
            let tensor = tensor.expect("the name is from the checkpoint");
            state.push((format!("module.{full}"), array(tensor)));
            let entry = rule.take(&mut checkpoint, encoder, &name);
            if let (Some(entry), Role::Weight) = (entry, role) {
                kept.push((Value::Integer(parameters), entry));
            }
            if matches!(role, Role::Weight | Role::Frozen) {
                parameters += 1;
            }
        }
        checkpoint.tensors.remove(&steps_name(encoder));
    }
    let others: Vec<_> = checkpoint.tensors.keys().take(3).cloned().collect();
    if !others.is_empty() {
        notes.push(format!(
            "{} tensors have no place in that layout, such as `{}`",
            checkpoint.tensors.len(),
            others.join("`, `")
        ));
    }
    let summary = format!(
        "{} tensors, the optimiser's state of {}",
        state.len(),
        kept.len()
    );
    let metadata = &checkpoint.metadata;
    let Group {
        value: group,
        notes: more,
    } = group(rule, metadata, parameters);
    notes.extend(more);
    let epoch = checkpoint.number("epoch").unwrap_or(0);
    let texts = metadata
        .iter()
        .map(|(key, value)| (key.clone(), Value::text(value.clone())));
    let value = Value::dict([
        (
            "epoch",
            Value::Integer(i64::try_from(epoch).unwrap_or(i64::MAX)),
        ),
        ("arch", Value::text(backbone.name)),
        ("state_dict", Value::ordered_dict(state)),
        (
            "optimizer",
            Value::dict([
                ("state", Value::Dict(kept)),
                ("param_groups", Value::List(vec![group])),
            ]),
        ),
        (OWN, Value::dict(texts)),
    ]);
    Ok((value, summary, notes))
}

fn has_encoder(checkpoint: &Checkpoint, prefix: &str) -> bool {
    checkpoint
        .tensors
        .keys()
        .any(|name| name.starts_with(prefix))
}

fn rename_pupil(checkpoint: &mut Checkpoint) {
    let tensors = std::mem::take(&mut checkpoint.tensors);
    checkpoint.tensors = tensors
        .into_iter()
        .filter(|(name, _)| !name.starts_with("teacher.") && !name.starts_with("optimizer."))
        .map(|(name, tensor)| match name.strip_prefix("student.") {
            Some(rest) => (format!("encoder_q.{rest}"), tensor),
            None => (name, tensor),
        })
        .collect();
    // A state that nothing can go on from exactly: the encoder has another name now.
    checkpoint
        .metadata
        .insert("evaluated".to_owned(), "encoder_q".to_owned());
}

/// The tensors of an encoder with their roles, in state-dict order: the backbone's as `specs` has them, then the head's.
fn ordered(
    checkpoint: &Checkpoint,
    encoder: &str,
    specs: &[Spec],
    origin: &str,
) -> Result<Vec<(String, Role)>, Failure> {
    let mut rest: BTreeSet<&str> = checkpoint
        .tensors
        .keys()
        .filter_map(|name| name.strip_prefix(encoder))
        .collect();
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for spec in specs {
        if rest.remove(spec.name.as_str()) {
            names.push((spec.name.clone(), spec.role));
        } else if spec.role != Role::Counter {
            return Err(Failure::mistake(format!(
                "{origin} has no tensor `{encoder}{}` and so is not of this backbone",
                spec.name
            ))
            .help("name the backbone, with its parameters, that the weights were trained with"));
        }
    }
    let mut head: Vec<_> = rest.into_iter().collect();
    head.sort_by(|a, b| in_module_order(a, b));
    names.extend(head.into_iter().map(|name| (name.to_owned(), role(name))));
    Ok(names)
}

/// The order of a state dict: modules by number, and within a module as PyTorch registers them.
fn in_module_order(a: &str, b: &str) -> Ordering {
    let key = |name: &str| -> Vec<(u64, String)> {
        let parts = name.split('.');
        parts
            .map(|part| match part.parse() {
                Ok(number) => (number, String::new()),
                Err(_) => (register(part), part.to_owned()),
            })
            .collect()
    };
    key(a).cmp(&key(b))
}

fn register(last: &str) -> u64 {
    const ORDER: [&str; 5] = [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ];
    ORDER.iter().position(|name| *name == last).unwrap_or(0) as u64
}

/// What a tensor is for, from its name.
fn role(name: &str) -> Role {
    match name.rsplit('.').next() {
        Some("running_mean" | "running_var") => Role::Statistic,
        Some("num_batches_tracked") => Role::Counter,
        _ => Role::Weight,
    }
}

/// The state in `value` as a checkpoint of this program, and remarks.
///
/// Of MoCo's and SEED's layouts the prefix goes and the optimiser's numbers become names; of any other file the
/// tensors are taken as they are called.
///
/// # Errors
/// It holds no tensors by name, or an optimiser's state that does not fit them.
pub(crate) fn from_torch(mut value: Value) -> Result<(Checkpoint, Vec<String>), String> {
    let names: Vec<String> = {
        let entries = value.get("state_dict").and_then(Value::entries);
        let keys = entries.unwrap_or_default().iter();
        keys.filter_map(|(key, _)| key.as_text().map(str::to_owned))
            .collect()
    };
    let bare = |name: &str| name.strip_prefix("module.").unwrap_or(name).to_owned();
    let trained = |name: &String| {
        let name = bare(name);
        name.starts_with("encoder_q.") || name.starts_with("student.")
    };
    let Some(first) = names.iter().find(|name| trained(name)) else {
        return Ok((torch::checkpoint(value)?, Vec::new()));
    };
    let evaluated = bare(first).split('.').next().unwrap_or_default().to_owned();
    let optimizer = remove(&mut value, "optimizer");
    let own = remove(&mut value, OWN);
    let mut checkpoint = torch::checkpoint(value)?;
    let tensors = std::mem::take(&mut checkpoint.tensors);
    checkpoint.tensors = tensors
        .into_iter()
        .map(|(name, tensor)| (bare(&name), tensor))
        .collect();
    let mut notes = Vec::new();
    if let Some(optimizer) = optimizer {
        checkpoint.metadata.extend(constants(&optimizer));
        let parameters: Vec<String> = names
            .iter()
            .map(|name| bare(name))
            .filter(|name| !BUFFERS.contains(&name.as_str()) && role(name) == Role::Weight)
            .collect();
        notes.extend(restore(
            &optimizer,
            &parameters,
            &evaluated,
            &mut checkpoint,
        )?);
    }
    match own.as_ref().and_then(Value::entries) {
        Some(texts) => {
            let texts = texts.iter().filter_map(|(key, value)| {
                Some((key.as_text()?.to_owned(), value.as_text()?.to_owned()))
            });
            checkpoint.metadata = texts.collect();
        }
        None => {
            checkpoint
                .metadata
                .insert("evaluated".to_owned(), evaluated);
        }
    }
    Ok((checkpoint, notes))
}

fn remove(value: &mut Value, key: &str) -> Option<Value> {
    let (Value::Dict(entries) | Value::OrderedDict(entries)) = value else {
        return None;
    };
    let place = entries
        .iter()
        .position(|(known, _)| known.as_text() == Some(key))?;
    Some(entries.remove(place).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_in_module_order() {
        let mut names = vec![
            "fc.10.weight",
            "fc.2.bias",
            "fc.1.num_batches_tracked",
            "fc.1.running_mean",
            "fc.2.weight",
            "fc.1.weight",
            "fc.0.bias",
            "fc.0.weight",
        ];
        names.sort_by(|a, b| in_module_order(a, b));
        assert_eq!(
            names,
            [
                "fc.0.weight",
                "fc.0.bias",
                "fc.1.weight",
                "fc.1.running_mean",
                "fc.1.num_batches_tracked",
                "fc.2.weight",
                "fc.2.bias",
                "fc.10.weight"
            ]
        );
    }
}
