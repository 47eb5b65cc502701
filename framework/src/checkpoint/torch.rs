//! What was saved by `torch.save`, as a checkpoint.
//!
//! Such a file holds whatever Python value its program liked. Dictionaries in dictionaries become dotted names; that of
//! the weights itself (`state_dict`, `model`) is left out of them, since the names in it are those that everybody knows.
//! Numbers and texts beside the tensors become metadata.

use std::path::Path;

use smallfry_formats::{
    torch::{self, Limits, Value},
    visible,
};

use super::{
    Checkpoint,
    read::{refused, tensor},
};
use crate::failure::Failure;

/// Keys under which programs keep the weights, the most telling first.
const WEIGHTS: [&str; 5] = ["state_dict", "model_state_dict", "model", "network", "net"];

/// Facts that are kept of a file at most.
const FACTS: usize = 1000;
/// Characters that are kept of a fact at most.
const FACT_LENGTH: usize = 200;

/// Reads the file at `path`.
///
/// # Errors
/// It is missing, damaged, names code, or holds no tensors by name.
pub(crate) fn read(path: &Path) -> Result<Checkpoint, Failure> {
    checkpoint(value(path)?).map_err(|reason| {
        Failure::mistake(format!("{} is no checkpoint: {reason}", path.display()))
            .help("give a file that holds tensors by name, such as a state dict")
    })
}

/// The value in the file at `path`.
///
/// # Errors
/// It is missing, damaged, or names code.
pub(crate) fn value(path: &Path) -> Result<Value, Failure> {
    torch::read(path, &Limits::default()).map_err(|error| refused(path, &error))
}

/// The tensors and facts in `value`.
///
/// # Errors
/// It holds no tensor, two of one name, or one of an element type that weights do not have.
pub(crate) fn checkpoint(value: Value) -> Result<Checkpoint, String> {
    let mut checkpoint = Checkpoint::default();
    let weights = WEIGHTS
        .into_iter()
        .find(|key| value.get(key).is_some_and(holds_tensors));
    match value {
        Value::Dict(entries) | Value::OrderedDict(entries) => {
            for (key, value) in entries {
                let key = key_text(&key)?;
                let name = if Some(key.as_str()) == weights {
                    ""
                } else {
                    &key
                };
                flatten(name, value, &mut checkpoint)?;
            }
        }
        _ => return Err("it holds no dictionary".to_owned()),
    }
    match checkpoint.tensors.is_empty() {
        true => Err("it holds no tensors".to_owned()),
        false => Ok(checkpoint),
    }
}

/// Whether `value` is a dictionary of tensors, among other things.
fn holds_tensors(value: &Value) -> bool {
    let mut entries = value.entries().unwrap_or_default().iter();
    entries.any(|(key, value)| key.as_text().is_some() && value.as_array().is_some())
}

fn flatten(name: &str, value: Value, checkpoint: &mut Checkpoint) -> Result<(), String> {
    let inner = |key: &str| match name {
        "" => key.to_owned(),
        name => format!("{name}.{key}"),
    };
    match value {
        Value::Dict(entries) | Value::OrderedDict(entries) => {
            for (key, value) in entries {
                flatten(&inner(&key_text(&key)?), value, checkpoint)?;
            }
        }
        Value::List(elements) | Value::Tuple(elements) | Value::Set(elements) => {
            // Plain lists, such as the numbers of an optimiser's parameters, are no facts worth keeping.
            let nested = elements.into_iter().enumerate().filter(|(_, value)| {
                value.entries().is_some()
                    || value.elements().is_some()
                    || value.as_array().is_some()
            });
            for (i, value) in nested {
                flatten(&inner(&i.to_string()), value, checkpoint)?;
            }
        }
        Value::Array(array) => {
            let tensor =
                tensor(array).map_err(|reason| format!("tensor `{}` {reason}", visible(name)))?;
            if checkpoint.tensors.insert(name.to_owned(), tensor).is_some() {
                return Err(format!("two tensors are named `{}`", visible(name)));
            }
        }
        other => {
            if let Some(fact) = fact(&other)
                && checkpoint.metadata.len() < FACTS
            {
                checkpoint.metadata.insert(name.to_owned(), fact);
            }
        }
    }
    Ok(())
}

/// A key as part of a name.
fn key_text(key: &Value) -> Result<String, String> {
    match key {
        Value::Text(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        _ => Err("it has a key that is neither a text nor an integer".to_owned()),
    }
}

/// A number or text, as text.
fn fact(value: &Value) -> Option<String> {
    Some(match value {
        Value::Bool(true) => "true".to_owned(),
        Value::Bool(false) => "false".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Text(text) => text.chars().take(FACT_LENGTH).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use smallfry_formats::Array;

    use super::*;

    fn ones(shape: &[usize]) -> Value {
        Value::Array(Array::from_f32(shape, &vec![1.0; shape.iter().product()]))
    }

    #[test]
    fn dictionaries_become_dotted_names() {
        let value = Value::dict([
            ("epoch", Value::Integer(3)),
            ("arch", Value::text("resnet18")),
            (
                "state_dict",
                Value::ordered_dict([("conv.weight", ones(&[2]))]),
            ),
            (
                "optimizer",
                Value::dict([
                    (
                        "state",
                        Value::Dict(vec![(
                            Value::Integer(0),
                            Value::dict([("momentum_buffer", ones(&[2]))]),
                        )]),
                    ),
                    (
                        "param_groups",
                        Value::List(vec![Value::dict([("lr", Value::Float(0.5))])]),
                    ),
                ]),
            ),
        ]);
        let checkpoint = checkpoint(value).unwrap();
        let names: Vec<_> = checkpoint.tensors.keys().map(String::as_str).collect();
        assert_eq!(names, ["conv.weight", "optimizer.state.0.momentum_buffer"]);
        assert_eq!(checkpoint.number("epoch"), Some(3));
        assert_eq!(checkpoint.metadata["arch"], "resnet18");
        assert_eq!(checkpoint.metadata["optimizer.param_groups.0.lr"], "0.5");
    }

    #[test]
    fn only_weights_lose_their_key() {
        let value = Value::dict([
            ("teacher", Value::dict([("a", ones(&[1]))])),
            ("student", Value::dict([("a", ones(&[1]))])),
        ]);
        let names: Vec<_> = checkpoint(value).unwrap().tensors.into_keys().collect();
        assert_eq!(names, ["student.a", "teacher.a"]);
    }

    #[test]
    fn what_holds_no_tensors_is_no_checkpoint() {
        for value in [
            Value::None,
            ones(&[1]),
            Value::dict([("epoch", Value::Integer(1))]),
            Value::Dict(vec![(Value::None, ones(&[1]))]),
        ] {
            assert!(checkpoint(value).is_err());
        }
        let twice = Value::dict([
            ("a", ones(&[1])),
            ("state_dict", Value::dict([("a", ones(&[1]))])),
        ]);
        assert!(checkpoint(twice).unwrap_err().contains("two tensors"));
    }
}
