//! An optimiser's state in the form of PyTorch's, and back.
//!
//! PyTorch counts parameters instead of naming them, over all groups in the order in which it was given them, and keeps the
//! rule's constants with each group. This program names what an optimiser keeps of a weight after the weight, and keeps the
//! constants in the configuration of the run. Which rule a state is of shows in what it keeps: SGD a velocity, AdamW two
//! means and, with every parameter, the number of steps, which here stands once; LARS, which PyTorch lacks, a velocity
//! under the name that MoCo v3's program gives it.

use std::collections::BTreeMap;

use smallfry_formats::{Array, torch::Value};

use super::state_dict::array;
use crate::{
    checkpoint::{Checkpoint, Tensor, Values},
    fingerprint::configured,
    source::syntax,
};

/// What an optimiser keeps is called so in checkpoints of this program, and its constants in metadata where no
/// configuration has them.
const PREFIX: &str = "optimizer.";

/// A rule whose state has a form in PyTorch's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Sgd,
    AdamW,
    Lars,
}

impl Rule {
    const ALL: [Self; 3] = [Self::Sgd, Self::AdamW, Self::Lars];

    /// What it keeps of each weight, by the names that both programs have for it.
    fn kept(self) -> &'static [&'static str] {
        match self {
            Self::Sgd => &["momentum_buffer"],
            Self::AdamW => &["exp_avg", "exp_avg_sq"],
            Self::Lars => &["mu"],
        }
    }

    /// Its constants: the name here, and in a group.
    fn constants(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Sgd => &[
                ("lr", "lr"),
                ("momentum", "momentum"),
                ("weight_decay", "weight_decay"),
            ],
            Self::AdamW => &[
                ("lr", "lr"),
                ("betas", "betas"),
                ("epsilon", "eps"),
                ("weight_decay", "weight_decay"),
            ],
            Self::Lars => &[
                ("lr", "lr"),
                ("weight_decay", "weight_decay"),
                ("momentum", "momentum"),
                ("trust", "trust_coefficient"),
            ],
        }
    }

    /// The rule whose state `checkpoint` has; SGD where it has none.
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        let has = |rule: &Self| {
            let prefix = format!("{PREFIX}{}.", rule.kept()[0]);
            checkpoint
                .tensors
                .keys()
                .any(|name| name.starts_with(&prefix))
        };
        Self::ALL.into_iter().find(has).unwrap_or(Self::Sgd)
    }

    /// Takes out of `checkpoint` what the rule keeps of the weight `name` of `encoder`, as PyTorch does; none where that
    /// is nothing.
    pub(super) fn take(
        self,
        checkpoint: &mut Checkpoint,
        encoder: &str,
        name: &str,
    ) -> Option<Value> {
        let steps = match checkpoint.tensors.get(&steps_name(encoder)) {
            Some(Tensor {
                values: Values::Integer(steps),
                ..
            }) => steps.first().copied(),
            _ => None,
        };
        // PyTorch counts in a tensor of single precision.
        let count = |steps: i64| Value::Array(Array::from_f32(&[], &[steps as f32]));
        let steps = steps.map(|steps| ("step", count(steps)));
        let kept = self.kept().iter().filter_map(|kept| {
            let tensor = checkpoint
                .tensors
                .remove(&format!("{PREFIX}{kept}.{encoder}{name}"));
            Some((*kept, array(tensor?)))
        });
        let kept: Vec<_> = kept.collect();
        (!kept.is_empty()).then(|| Value::dict(steps.into_iter().chain(kept)))
    }
}

/// The name of the number of steps of `encoder`, which ends in a point.
pub(super) fn steps_name(encoder: &str) -> String {
    format!("{PREFIX}steps.{}", encoder.trim_end_matches('.'))
}

/// An optimiser's only group.
pub(super) struct Group {
    /// As PyTorch keeps it.
    pub value: Value,
    /// Remarks: on constants that are not known, and on what one group cannot say.
    pub notes: Vec<String>,
}

/// The group of `parameters` parameters of an optimiser.
///
/// Its constants stand in the configuration of a run, or were in the file of the reference's that the state comes from.
pub(super) fn group(rule: Rule, metadata: &BTreeMap<String, String>, parameters: i64) -> Group {
    let config = metadata.get("config").map_or("", String::as_str);
    let optimizer = configured(config, "optimizer").unwrap_or_default();
    let described = syntax::Value::parse(&optimizer, 0..optimizer.len());
    let configured = |name: &str| -> Option<&str> {
        let mut fields = described.fields().iter();
        let field = fields.find(|field| &optimizer[field.name.clone()] == name)?;
        Some(optimizer[field.value.clone()].trim())
    };
    let text = |own: &str, other: &str| {
        let fact = || {
            metadata
                .get(&format!("{PREFIX}{other}"))
                .map(String::as_str)
        };
        configured(own).or_else(fact)
    };
    let mut notes = Vec::new();
    let mut entries = Vec::new();
    let mut unknown = Vec::new();
    for &(own, other) in rule.constants() {
        let known = text(own, other).and_then(number_or_pair);
        if known.is_none() {
            unknown.push(other);
        }
        let none = match other {
            "betas" => Value::Tuple(vec![Value::Float(0.0); 2]),
            _ => Value::Float(0.0),
        };
        entries.push((other, known.unwrap_or(none)));
    }
    if !unknown.is_empty() {
        notes.push(format!(
            "the optimiser's {} are not known; they are 0 in the file",
            unknown.join(", ")
        ));
    }
    if configured("no_decay").is_some_and(|names| names != "[]") {
        notes.push(
            "tensors without weight decay are in one group with the others there, and will decay"
                .to_owned(),
        );
    }
    let flag = |name: &'static str| (name, Value::Bool(false));
    match rule {
        Rule::Sgd => {
            let dampening = match text("dampening", "dampening").and_then(|text| text.parse().ok())
            {
                Some(dampening) if dampening != 0.0 => Value::Float(dampening),
                _ => Value::Integer(0),
            };
            entries.insert(2, ("dampening", dampening));
            let nesterov = text("nesterov", "nesterov") == Some("true");
            entries.extend([
                ("nesterov", Value::Bool(nesterov)),
                flag("maximize"),
                ("foreach", Value::None),
                flag("differentiable"),
                ("fused", Value::None),
            ]);
        }
        Rule::AdamW => entries.extend([
            flag("amsgrad"),
            flag("maximize"),
            ("foreach", Value::None),
            flag("capturable"),
            flag("differentiable"),
            ("fused", Value::None),
        ]),
        Rule::Lars => notes
            .push("PyTorch has no LARS; the state is in the form of MoCo v3's program".to_owned()),
    }
    let numbers = (0..parameters).map(Value::Integer).collect();
    entries.push(("params", Value::List(numbers)));
    Group {
        value: Value::dict(entries),
        notes,
    }
}

/// `0.9`, or `(0.9, 0.999)`.
fn number_or_pair(text: &str) -> Option<Value> {
    if let Ok(number) = text.parse() {
        return Some(Value::Float(number));
    }
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let numbers = inner
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let numbers: Result<Vec<f64>, _> = numbers.map(str::parse).collect();
    Some(Value::Tuple(
        numbers.ok()?.into_iter().map(Value::Float).collect(),
    ))
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
            Value::Tuple(values) => {
                let numbers: Option<Vec<_>> = values.iter().map(Value::as_float).collect();
                let numbers: Vec<_> = numbers?.iter().map(f64::to_string).collect();
                format!("({})", numbers.join(", "))
            }
            _ => return None,
        };
        Some((format!("{PREFIX}{}", key.as_text()?), text))
    };
    entries
        .unwrap_or_default()
        .iter()
        .filter_map(fact)
        .collect()
}

/// Puts what the optimiser keeps of the trained encoder into `checkpoint` under the names of its parameters, with remarks
/// on what is not taken. `parameters` are the names that the optimiser counts.
pub(super) fn restore(
    optimizer: &Value,
    parameters: &[String],
    trained: &str,
    checkpoint: &mut Checkpoint,
) -> Result<Vec<String>, String> {
    let anew =
        || vec!["the optimiser has no state in it that is known here and starts anew".to_owned()];
    let state = optimizer
        .get("state")
        .and_then(Value::entries)
        .unwrap_or_default();
    let keeps = |rule: &Rule| {
        let mut entries = state.iter();
        entries.any(|(_, entry)| matches!(entry.get(rule.kept()[0]), Some(Value::Array(_))))
    };
    let Some(rule) = Rule::ALL.into_iter().find(keeps) else {
        return Ok(anew());
    };
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
    // What is kept of a parameter, by its name and what it is.
    let mut found = BTreeMap::new();
    let mut steps = None;
    let mut notes = Vec::new();
    let prefix = format!("{trained}.");
    for (key, entry) in state {
        let number = key
            .as_integer()
            .ok_or("its optimiser's state has a key that is no number")?;
        let place = numbers.get(&number).ok_or_else(|| {
            format!("its optimiser has a state for parameter {number}, which is in no group")
        })?;
        let name = parameters[*place].as_str();
        for &kept in rule.kept() {
            if let Some(array) = entry.get(kept).and_then(Value::as_array) {
                let values = array.to_f32().map_err(|error| error.problem().to_owned())?;
                found.insert((name, kept), Tensor::float(array.shape.clone(), values));
            }
        }
        if let (Rule::AdamW, true) = (rule, name.starts_with(&prefix)) {
            let own = counted(entry).ok_or_else(|| {
                format!("its optimiser does not count the steps of parameter {number}")
            })?;
            if *steps.get_or_insert(own) != own {
                return Err(format!(
                    "its optimiser has taken different numbers of steps, such as {own} with `{name}`"
                ));
            }
        }
        if entry.get("max_exp_avg_sq").is_some() && notes.is_empty() {
            notes
                .push("the optimiser was AMSGrad's, whose largest squares are left out".to_owned());
        }
    }
    let mut any = false;
    for name in parameters.iter().filter(|name| name.starts_with(&prefix)) {
        let weight = checkpoint.tensors[name].clone();
        for &kept in rule.kept() {
            let tensor = match found.remove(&(name.as_str(), kept)) {
                Some(tensor) if tensor.shape == weight.shape => {
                    any = true;
                    tensor
                }
                Some(tensor) => {
                    return Err(format!(
                        "`{kept}` of `{name}` is {} where the weight is {}",
                        tensor.describe(),
                        weight.describe()
                    ));
                }
                // Frozen tensors have no state there and one of zeros here.
                None => Tensor::float(
                    weight.shape.clone(),
                    vec![0.0; weight.shape.iter().product()],
                ),
            };
            let full = format!("{PREFIX}{kept}.{name}");
            checkpoint.tensors.insert(full, tensor);
        }
    }
    if let Some(steps) = steps {
        let tensor = Tensor::integer(Vec::new(), vec![steps]);
        checkpoint.tensors.insert(steps_name(trained), tensor);
    }
    Ok(if any { notes } else { anew() })
}

/// The number of steps that `entry` counts, as a tensor or as an integer.
fn counted(entry: &Value) -> Option<i64> {
    let number = match entry.get("step")? {
        Value::Array(array) => match array.to_f32().ok()?[..] {
            [steps] => f64::from(steps),
            _ => return None,
        },
        other => other.as_float()?,
    };
    (number >= 0.0 && number.fract() == 0.0 && number < 9e15).then_some(number as i64)
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
            let Group { value, notes } = group(Rule::Sgd, &metadata("config", config), 2);
            assert!(notes.is_empty(), "{notes:?}");
            for (name, number) in [("lr", 0.06), ("momentum", 0.9), ("weight_decay", 1e-4)] {
                assert_eq!(
                    value.get(name).and_then(Value::as_float),
                    Some(number),
                    "{name}"
                );
            }
            let numbers = value.get("params").and_then(Value::elements);
            assert_eq!(numbers.map(<[_]>::len), Some(2));
        }
        let Group { value, notes } = group(Rule::Sgd, &metadata("optimizer.momentum", "0.5"), 0);
        assert!(
            notes[0].contains("lr, weight_decay are not known"),
            "{notes:?}"
        );
        assert_eq!(value.get("momentum").and_then(Value::as_float), Some(0.5));
        let line = "optimizer: AdamW(lr: 0.001, betas: (0.8, 0.99), epsilon: 1e-7, weight_decay: 0.05, no_decay: [Biases])";
        let Group { value, notes } = group(Rule::AdamW, &metadata("config", line), 1);
        assert!(
            notes.len() == 1 && notes[0].contains("will decay"),
            "{notes:?}"
        );
        let betas = Value::Tuple(vec![Value::Float(0.8), Value::Float(0.99)]);
        assert_eq!(value.get("betas"), Some(&betas));
        assert_eq!(value.get("eps"), Some(&Value::Float(1e-7)));
    }

    /// A state of two weights, of which the second is frozen.
    fn trained(state: &[(&str, f32)]) -> Checkpoint {
        let tensor = |value: f32| Tensor::float(vec![2], vec![value, 2.0 * value]);
        let mut checkpoint = Checkpoint::default();
        for name in ["q.a", "q.b"] {
            checkpoint.tensors.insert(name.into(), tensor(9.0));
            for (kept, value) in state {
                let value = if name == "q.a" { *value } else { 0.0 };
                let full = format!("{PREFIX}{kept}.{name}");
                checkpoint.tensors.insert(full, tensor(value));
            }
        }
        checkpoint
    }

    #[test]
    fn every_rule_goes_there_and_back() {
        let names = ["q.a", "q.b"].map(str::to_owned);
        for (rule, state) in [
            (Rule::Sgd, &[("momentum_buffer", 0.5)][..]),
            (Rule::AdamW, &[("exp_avg", 0.5), ("exp_avg_sq", 0.25)]),
            (Rule::Lars, &[("mu", -0.5)]),
        ] {
            let mut own = trained(state);
            if rule == Rule::AdamW {
                let steps = Tensor::integer(Vec::new(), vec![70_000]);
                own.tensors.insert("optimizer.steps.q".into(), steps);
            }
            assert_eq!(Rule::of(&own), rule);
            let mut rest = own.clone();
            let entry = rule.take(&mut rest, "q.", "a").expect("there is a state");
            assert_eq!(entry.get("step").is_some(), rule == Rule::AdamW);
            let optimizer = Value::dict([
                ("state", Value::Dict(vec![(Value::Integer(0), entry)])),
                (
                    "param_groups",
                    Value::List(vec![group(rule, &BTreeMap::new(), 2).value]),
                ),
            ]);
            let mut back = trained(&[]);
            assert_eq!(restore(&optimizer, &names, "q", &mut back), Ok(Vec::new()));
            assert_eq!(back, own);
        }
    }

    #[test]
    fn a_state_that_cannot_go_on_is_refused_or_told() {
        let names = ["q.a", "q.b"].map(str::to_owned);
        let array = |values: &[f32]| Value::Array(Array::from_f32(&[values.len()], values));
        let run = |entries: [Vec<(&str, Value)>; 2]| {
            let state = entries.into_iter().enumerate();
            let state = state.map(|(i, entry)| (Value::Integer(i as i64), Value::dict(entry)));
            let groups = vec![group(Rule::AdamW, &BTreeMap::new(), 2).value];
            let optimizer = Value::dict([
                ("state", Value::Dict(state.collect())),
                ("param_groups", Value::List(groups)),
            ]);
            restore(&optimizer, &names, "q", &mut trained(&[]))
        };
        let adam = |step: Value| {
            let means = array(&[1.0, 2.0]);
            vec![
                ("step", step),
                ("exp_avg", means.clone()),
                ("exp_avg_sq", means),
            ]
        };
        let three = || adam(Value::Integer(3));
        assert_eq!(run([three(), three()]), Ok(Vec::new()));
        let refusal = run([three(), adam(Value::Float(4.0))]).unwrap_err();
        assert!(refusal.contains("different numbers of steps"), "{refusal}");
        let refusal = run([three(), three()[1..].to_vec()]).unwrap_err();
        assert!(refusal.contains("does not count the steps"), "{refusal}");
        let mut ams = three();
        ams.push(("max_exp_avg_sq", array(&[1.0, 2.0])));
        assert!(run([ams, three()]).unwrap()[0].contains("AMSGrad"));
        let short = vec![("momentum_buffer", array(&[1.0]))];
        let refusal = run([short, Vec::new()]).unwrap_err();
        assert!(refusal.contains("`momentum_buffer` of `q.a`"), "{refusal}");
        let strange = || vec![("square_avg", array(&[1.0, 2.0]))];
        assert!(run([strange(), strange()]).unwrap()[0].contains("starts anew"));
    }
}
