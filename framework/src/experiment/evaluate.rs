//! The stage `Evaluate(..)`: metrics on the features of an encoder.

use std::{ops::Range, path::PathBuf};

use serde::Deserialize;

use super::{
    Stages,
    fields::{Fields, Reader, example},
    layout,
};
use crate::{
    Backbone, Metric,
    plan::{Evaluate, Stage, Weights},
    registry::{Built, Context},
};

/// Images in a batch unless the file says otherwise; it changes speed and memory, no result.
const BATCH: usize = 64;

/// The weights as they are written.
#[derive(Deserialize)]
#[serde(rename = "weights")]
enum Written {
    Untrained,
    Stage(String),
    File(PathBuf),
}

/// Reads stage `i`; gives it with its resolved text.
pub(super) fn read(reader: &mut Reader, stages: &Stages, i: usize) -> Option<(Stage, String)> {
    let mut fields = stages.open(reader, &stages.outlines[i], "Evaluate");
    let site = fields.site();
    let name = fields.name("evaluate");
    let weights = weights(&mut fields, stages, i);
    let encoder = fields
        .optional::<Option<String>>("encoder", "\"teacher\"")
        .flatten();
    if encoder.is_some() && matches!(weights, Some((Weights::Untrained, _))) {
        fields.refuse(
            "encoder",
            "is for weights of several encoders, not for untrained ones",
        );
    }
    let backbone = backbone(
        &mut fields,
        stages,
        weights.as_ref().map(|weights| &weights.0),
    );
    let train = fields.optional_plugin("train");
    let test = fields.plugin("test");
    let size = optional_count(&mut fields, "size", "224");
    let resize = optional_count(&mut fields, "resize", "256");
    let batch = fields.count("batch", Some(BATCH), "64");
    let metrics = metrics(&mut fields);
    fields.finish();
    let (weights, written) = weights?;
    let stage = Evaluate {
        name,
        backbone: backbone?,
        weights,
        encoder,
        train,
        test: test?,
        size,
        resize,
        batch,
        metrics: metrics?,
        site,
    };
    let mut lines = vec![("name", layout::quoted(&stage.name)), ("weights", written)];
    if let Some(encoder) = &stage.encoder {
        lines.push(("encoder", layout::quoted(encoder)));
    }
    lines.push(("backbone", stage.backbone.resolved.clone()));
    if let Some(train) = &stage.train {
        lines.push(("train", train.resolved.clone()));
    }
    lines.push(("test", stage.test.resolved.clone()));
    for (name, value) in [("size", stage.size), ("resize", stage.resize)] {
        lines.extend(value.map(|value| (name, value.to_string())));
    }
    lines.push(("batch", stage.batch.to_string()));
    let metrics = stage.metrics.iter().map(|metric| metric.resolved.as_str());
    lines.push(("metrics", layout::list(metrics)));
    Some((Stage::Evaluate(stage), layout::block("Evaluate", &lines)))
}

/// A whole number above 0, or none.
fn optional_count(fields: &mut Fields<'_>, name: &'static str, example: &str) -> Option<usize> {
    let value = fields.optional::<Option<usize>>(name, example).flatten();
    if value == Some(0) {
        fields.refuse(name, "must be above 0");
    }
    value
}

/// The weights, and how they are written.
fn weights(fields: &mut Fields<'_>, stages: &Stages, i: usize) -> Option<(Weights, String)> {
    let example = "Stage(\"pretrain\")`, `File(\"a.safetensors\")` or `Untrained";
    match fields.required("weights", example)? {
        Written::Untrained => Some((Weights::Untrained, "Untrained".to_owned())),
        Written::File(path) => {
            let written = format!("File({})", layout::quoted(&path.to_string_lossy()));
            let context = Context {
                folder: &fields.reader.folder,
            };
            Some((Weights::File(context.path(path)), written))
        }
        Written::Stage(name) => {
            let Err(help) = stages.trained_before(i, &name) else {
                let written = format!("Stage({})", layout::quoted(&name));
                return Some((Weights::Stage(name), written));
            };
            let reason = format!("no training stage before this one is named `{name}`");
            fields.refuse("weights", &reason).help = Some(help);
            None
        }
    }
}

/// The backbone: as given, or that of the training stage that the weights come from, or that of the only training stage.
fn backbone(
    fields: &mut Fields<'_>,
    stages: &Stages,
    weights: Option<&Weights>,
) -> Option<Built<dyn Backbone>> {
    if let Some(field) = fields.field("backbone") {
        return fields.reader.build(&field.value);
    }
    let training: Vec<_> = stages
        .outlines
        .iter()
        .filter(|outline| outline.kind == Some("Pretrain"))
        .collect();
    let source: Option<&Range<usize>> = match weights {
        // What is wrong with the weights was said already.
        None => return None,
        Some(Weights::File(_)) => None,
        Some(Weights::Untrained) => match training.as_slice() {
            [only] => Some(only.backbone.as_ref()?),
            _ => None,
        },
        Some(Weights::Stage(name)) => {
            let stage = training.iter().find(|outline| outline.name == *name)?;
            Some(stage.backbone.as_ref()?)
        }
    };
    match source {
        Some(range) => fields.reader.build(range),
        None => {
            fields.missing_plugin::<dyn Backbone>("backbone");
            None
        }
    }
}

fn metrics(fields: &mut Fields<'_>) -> Option<Vec<Built<dyn Metric>>> {
    let Some(field) = fields.field("metrics") else {
        fields.missing("metrics", &example::<dyn Metric>());
        return None;
    };
    let items = fields.items(&field, "metrics")?;
    if items.is_empty() {
        fields.refuse("metrics", "needs at least one metric");
    }
    let built: Vec<_> = items.iter().map(|item| fields.reader.build(item)).collect();
    built.into_iter().collect()
}
