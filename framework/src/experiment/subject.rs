//! The fields `weights`, `backbone` and `encoder` of a stage that judges a network, or of the experiment for all such stages
//! that name no weights themselves.

use std::{ops::Range, path::PathBuf};

use serde::Deserialize;

use super::{Stages, fields::Fields};
use crate::{
    Backbone,
    checkpoint::Weights,
    plan::Subject,
    registry::{Built, Context},
    source::{quoted, syntax::Field},
};

/// The weights as they are written.
#[derive(Deserialize)]
#[serde(rename = "weights")]
enum Written {
    Untrained,
    Stage(String),
    File(PathBuf),
}

const FIELDS: [&str; 3] = ["weights", "backbone", "encoder"];

/// What an experiment says of the network that its stages judge.
pub(super) fn shared(fields: &mut Fields<'_>) -> Vec<Field> {
    let [weights, others @ ..] = FIELDS.map(|name| fields.field(name).map(|field| (name, field)));
    let others = others.into_iter().flatten();
    let Some((_, weights)) = weights else {
        for (name, _) in others {
            let reason = "goes with `weights` for all stages that judge a network";
            fields.refuse(name, reason).help =
                Some("give `weights` beside it, or give it to the stage that needs it".to_owned());
        }
        return Vec::new();
    };
    std::iter::once(weights)
        .chain(others.map(|(_, field)| field))
        .collect()
}

/// Reads the subject of stage `i`; gives it with its resolved fields.
pub(super) fn read(
    fields: &mut Fields<'_>,
    stages: &Stages,
    i: usize,
) -> Option<(Subject, Vec<(&'static str, String)>)> {
    if fields.field("weights").is_none() {
        fields.inherit(&stages.shared);
    }
    let weights = weights(fields, stages, i);
    let encoder = fields
        .optional::<Option<String>>("encoder", "\"teacher\"")
        .flatten();
    if encoder.is_some() && matches!(weights, Some((Weights::Untrained, _))) {
        fields.refuse(
            "encoder",
            "is for weights of several encoders, not for untrained ones",
        );
    }
    let backbone = backbone(fields, stages, weights.as_ref().map(|weights| &weights.0));
    let (weights, written) = weights?;
    let subject = Subject {
        backbone: backbone?,
        weights,
        encoder,
        site: fields.site(),
    };
    let mut lines = vec![("weights", written)];
    if let Some(encoder) = &subject.encoder {
        lines.push(("encoder", quoted(encoder)));
    }
    lines.push(("backbone", subject.backbone.resolved.clone()));
    Some((subject, lines))
}

/// The weights, and how they are written.
fn weights(fields: &mut Fields<'_>, stages: &Stages, i: usize) -> Option<(Weights, String)> {
    let example = "Stage(\"pretrain\")`, `File(\"a.safetensors\")` or `Untrained";
    let place = fields.field("weights").map(|field| field.value);
    match fields.required("weights", example)? {
        Written::Untrained => Some((Weights::Untrained, "Untrained".to_owned())),
        Written::File(path) => {
            let path = fields.reader.path(&path, &place.unwrap_or_default());
            let written = format!("File({})", quoted(&path.to_string_lossy()));
            let context = Context {
                folder: &fields.reader.folder,
            };
            Some((Weights::File(context.path(path)), written))
        }
        Written::Stage(name) => {
            let Err(help) = stages.before(i, "Pretrain", &name) else {
                let written = format!("Stage({})", quoted(&name));
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
