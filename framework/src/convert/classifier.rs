//! The best of a single classifier in the layout that the reference's `main_lincls.py` and `main_transfer.py` write and
//! resume from.
//!
//! Only the trained tensors are the optimiser's: the layer `fc` of a linear classifier, everything that is not frozen of a
//! whole network. `best.safetensors` keeps no velocity, so momentum begins anew in whoever goes on from the file.

use smallfry_formats::torch::Value;
use smallfry_nn::network::Role;

use super::state_dict::array;
use crate::{
    Backbone,
    checkpoint::Checkpoint,
    failure::Failure,
    fingerprint::configured,
    probe::{linear::layer, state::Fortune},
    registry::Built,
};

/// `checkpoint`, which messages call `origin`, as such a `.pth.tar`, with what was taken and remarks.
///
/// # Errors
/// It is not the best of a single classifier, or not of the backbone.
pub(super) fn to_torch(
    mut checkpoint: Checkpoint,
    origin: &str,
    backbone: &Built<dyn Backbone>,
) -> Result<(Value, String, Vec<String>), Failure> {
    let told = checkpoint.metadata.get("classifiers");
    let told = told.and_then(|text| serde_json::from_str::<Vec<Fortune>>(text).ok());
    let layer = told
        .as_ref()
        .and_then(|told| Some(layer(told.first()?.unit_length)));
    let (Some(told), Some(layer)) = (told, layer) else {
        return Err(
            Failure::mistake(format!("{origin} is of no stage of classifiers"))
                .help("give the `best.safetensors` of a stage `Probe`"),
        );
    };
    let names = ["weight", "bias"].map(|last| format!("{layer}.{last}"));
    let [fortune] = told.as_slice() else {
        return Err(one_only(origin, told.len()));
    };
    if !checkpoint.tensors.contains_key(&names[0]) {
        return Err(one_only(origin, 1));
    }
    let config = checkpoint.metadata.get("config").map_or("", String::as_str);
    let whole = configured(config, "mode").is_some_and(|mode| mode.starts_with("Finetune"));
    let constant = |name: &str| configured(config, name).and_then(|text| text.parse().ok());
    let [momentum, decay] = ["momentum", "weight_decay"].map(|name| constant(name).unwrap_or(0.0));
    let (mut state, mut trained) = (Vec::new(), 0);
    let specs = backbone.tensors().into_iter();
    let specs = specs.map(|spec| (spec.name, whole && spec.role == Role::Weight));
    for (name, learns) in specs.chain(names.map(|name| (name, true))) {
        let tensor = checkpoint.tensors.remove(&name).ok_or_else(|| {
            Failure::mistake(format!(
                "{origin} has no tensor `{name}` and so is not of this backbone"
            ))
            .help("name the backbone, with its parameters, that the weights are of")
        })?;
        trained += i64::from(learns);
        state.push((format!("module.{name}"), array(tensor)));
    }
    let group = Value::dict([
        ("lr", Value::Float(fortune.rate)),
        ("momentum", Value::Float(momentum)),
        ("dampening", Value::Integer(0)),
        ("weight_decay", Value::Float(decay)),
        ("nesterov", Value::Bool(false)),
        ("maximize", Value::Bool(false)),
        ("foreach", Value::None),
        ("differentiable", Value::Bool(false)),
        ("fused", Value::None),
        (
            "params",
            Value::List((0..trained).map(Value::Integer).collect()),
        ),
    ]);
    let summary = format!("{} tensors, epoch {}", state.len(), fortune.best_epoch);
    let value = Value::dict([
        ("epoch", Value::Integer(fortune.best_epoch as i64)),
        ("arch", Value::text(backbone.name)),
        ("state_dict", Value::ordered_dict(state)),
        ("best_acc1", Value::Float(fortune.accuracy())),
        (
            "optimizer",
            Value::dict([
                ("state", Value::Dict(Vec::new())),
                ("param_groups", Value::List(vec![group])),
            ]),
        ),
    ]);
    let note = "the file of the best keeps no velocity; momentum begins anew";
    Ok((value, summary, vec![note.to_owned()]))
}

fn one_only(origin: &str, classifiers: usize) -> Failure {
    let what = match classifiers {
        1 => "has no classifier under its plain name".to_owned(),
        more => format!("holds {more} classifiers, and that layout one"),
    };
    Failure::mistake(format!("{origin} {what}"))
        .help("give the `best.safetensors` of a stage `Probe` of one learning rate and one seed")
}
