//! An optimiser's state in the form of PyTorch's, and back.
//!
//! PyTorch counts parameters instead of naming them, over all groups in the order in which it was given them, and keeps the
//! rule's constants with each group. This program names momenta after their weights, and keeps the constants in the
//! configuration of the run.

use std::collections::BTreeMap;

use smallfry_formats::torch::Value;

use crate::{
    checkpoint::{Checkpoint, Tensor, Values},
    run::fingerprint::configured,
};

/// State of the optimiser in checkpoints of this program.
pub(super) const MOMENTUM: &str = "optimizer.momentum_buffer.";
/// Metadata that keep an optimiser's constants, where no configuration does.
const CONSTANT: &str = "optimizer.";
/// Those that every optimiser of the reference's has.
const CONSTANTS: [&str; 3] = ["lr", "momentum", "weight_decay"];
/// The optimiser's only group of `parameters` parameters; tells also whether its constants are known.
///
/// They stand in the configuration of a run, or were in the file of the reference's that the state comes from.
pub(super) fn group(metadata: &BTreeMap<String, String>, parameters: i64) -> (Value, bool) {
    let config = metadata.get("config").map_or("", String::as_str);
    let optimizer = configured(config, "optimizer").unwrap_or_default();
    let text = |name: &str| -> Option<&str> {
        let mut parts = optimizer.split(['\n', ',', '(', ')']);
        let own = parts.find_map(|part| part.trim().strip_prefix(name)?.strip_prefix(':'));
        own.or_else(|| {
            metadata
                .get(&format!("{CONSTANT}{name}"))
                .map(String::as_str)
        })
    };
    let number = |name: &str| text(name)?.trim().parse::<f64>().ok();
    let known = CONSTANTS.iter().all(|name| number(name).is_some());
    let float = |name| Value::Float(number(name).unwrap_or(0.0));
    let dampening = match number("dampening") {
        Some(dampening) if dampening != 0.0 => Value::Float(dampening),
        _ => Value::Integer(0),
    };
    let [lr, momentum, weight_decay] = CONSTANTS.map(float);
    let group = Value::dict([
        ("lr", lr),
        ("momentum", momentum),
        ("dampening", dampening),
        ("weight_decay", weight_decay),
        ("nesterov", Value::Bool(text("nesterov") == Some("true"))),
        ("maximize", Value::Bool(false)),
        ("foreach", Value::None),
        ("differentiable", Value::Bool(false)),
        ("fused", Value::None),
        (
            "params",
            Value::List((0..parameters).map(Value::Integer).collect()),
        ),
    ]);
    (group, known)
}

/// The constants of the first group of an optimiser, as metadata.
pub(super) fn constants(optimizer: &Value) -> Vec<(String, String)> {
    let groups = optimizer.get("param_groups").and_then(Value::elements);
    let entries = groups.unwrap_or_default().first().and_then(Value::entries);
    let fact = |(key, value): &(Value, Value)| {
        let text = match value {
            Value::Float(number) => number.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => return None,
        };
        Some((format!("{CONSTANT}{}", key.as_text()?), text))
    };
    entries
        .unwrap_or_default()
        .iter()
        .filter_map(fact)
        .collect()
}

/// Puts the momenta of the trained encoder into `checkpoint` under the names of its parameters; tells whether there
/// were any. `parameters` are the names that the optimiser counts.
pub(super) fn momenta(
    optimizer: &Value,
    parameters: &[String],
    trained: &str,
    checkpoint: &mut Checkpoint,
) -> Result<bool, String> {
    let state = optimizer
        .get("state")
        .and_then(Value::entries)
        .unwrap_or_default();
    if state.is_empty() {
        return Ok(false);
    }
    // The numbers in the groups stand in the order of the parameters.
    let groups = optimizer
        .get("param_groups")
        .and_then(Value::elements)
        .unwrap_or_default();
    let numbers: BTreeMap<i64, usize> = groups
        .iter()
        .flat_map(|group| {
            group
                .get("params")
                .and_then(Value::elements)
                .unwrap_or_default()
        })
        .filter_map(Value::as_integer)
        .enumerate()
        .map(|(place, number)| (number, place))
        .collect();
    if numbers.len() != parameters.len() {
        return Err(format!(
            "its optimiser has {} parameters, its networks have {}",
            numbers.len(),
            parameters.len()
        ));
    }
    let mut found = BTreeMap::new();
    for (key, entry) in state {
        let number = key
            .as_integer()
            .ok_or("its optimiser's state has a key that is no number")?;
        let place = numbers.get(&number).ok_or_else(|| {
            format!("its optimiser has a state for parameter {number}, which is in no group")
        })?;
        if let Some(array) = entry.get("momentum_buffer").and_then(Value::as_array) {
            let values = array.to_f32().map_err(|error| error.problem().to_owned())?;
            found.insert(
                parameters[*place].as_str(),
                Tensor::float(array.shape.clone(), values),
            );
        }
    }
    let prefix = format!("{trained}.");
    let mut any = false;
    for name in parameters.iter().filter(|name| name.starts_with(&prefix)) {
        let weight = &checkpoint.tensors[name];
        let momentum = match found.remove(name.as_str()) {
            Some(momentum) if momentum.shape == weight.shape => {
                any = true;
                momentum
            }
            Some(momentum) => {
                return Err(format!(
                    "the momentum of `{name}` is {} where the weight is {}",
                    momentum.describe(),
                    weight.describe()
                ));
            }
            // Frozen tensors have no momentum there and a momentum of zero here.
            None => Tensor {
                values: Values::Float(vec![0.0; weight.shape.iter().product()]),
                ..weight.clone()
            },
        };
        checkpoint
            .tensors
            .insert(format!("{MOMENTUM}{name}"), momentum);
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_found_where_they_are_kept() {
        let lines = "seed: 1\noptimizer: SGD(\n    lr: 0.06,\n    momentum: 0.9,\n    weight_decay: 1e-4,\n)\nschedule: Cosine\n";
        let metadata = |key: &str, text: &str| BTreeMap::from([(key.to_owned(), text.to_owned())]);
        let line = "optimizer: SGD(lr: 0.06, momentum: 0.9, weight_decay: 1e-4)";
        for config in [lines, line] {
            let (group, known) = group(&metadata("config", config), 2);
            assert!(known);
            for (name, value) in [("lr", 0.06), ("momentum", 0.9), ("weight_decay", 1e-4)] {
                assert_eq!(
                    group.get(name).and_then(Value::as_float),
                    Some(value),
                    "{name}"
                );
            }
            assert_eq!(
                group
                    .get("params")
                    .and_then(Value::elements)
                    .map(<[_]>::len),
                Some(2)
            );
        }
        let (group, known) = group(&metadata("optimizer.momentum", "0.5"), 0);
        assert!(!known);
        assert_eq!(group.get("momentum").and_then(Value::as_float), Some(0.5));
    }
}
