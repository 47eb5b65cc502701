//! A backbone as a bare state dict, under anybody's names.

use std::collections::BTreeMap;

use smallfry_formats::{Array, torch::Value};
use smallfry_nn::Parameters;

use crate::{
    Backbone,
    checkpoint::{self, Loaded, Tensor, Values, layout::Naming},
    registry::Built,
};

/// Every tensor in state-dict order, under the names of `naming` or the reference's.
pub(super) fn named(parameters: &Parameters, naming: Option<&Naming>) -> Vec<(String, Tensor)> {
    let stages = naming.map(|naming| naming.stages_of(parameters.specs()));
    checkpoint::tensors(parameters)
        .map(|(name, tensor)| match (naming, &stages) {
            (Some(naming), Some(stages)) => (naming.write(&name, stages), tensor),
            _ => (name, tensor),
        })
        .collect()
}

/// The tensors as an ordered dictionary, as `state_dict()` gives it.
pub(super) fn value(named: Vec<(String, Tensor)>) -> Value {
    Value::ordered_dict(
        named
            .into_iter()
            .map(|(name, tensor)| (name, array(tensor))),
    )
}

/// A tensor as it goes into a file of `torch.save`.
pub(super) fn array(tensor: Tensor) -> Value {
    Value::Array(match tensor.values {
        Values::Float(values) => Array::from_f32(&tensor.shape, &values),
        Values::Integer(values) => Array::from_i64(&tensor.shape, &values),
    })
}

/// What such a file should say of itself.
pub(super) fn metadata(
    backbone: &Built<dyn Backbone>,
    loaded: &Loaded,
) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("backbone".to_owned(), backbone.line.clone()),
    ]);
    if let Some(epoch) = loaded.epoch {
        metadata.insert("epoch".to_owned(), epoch.to_string());
    }
    metadata
}
