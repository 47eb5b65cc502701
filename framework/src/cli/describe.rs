//! `describe NAME`: all about one plugin.

use std::{fmt::Write, path::Path};

use super::Refusal;
use crate::{
    Augmentation, Backbone, Head, Objective, Optimizer,
    failure::Failure,
    preflight::grouped,
    registry::{Context, Entry, Kind, entries, find, for_each_kind, one},
    source::explain::suggest,
};

pub(super) fn describe(name: &str) -> Result<String, Refusal> {
    let texts: Vec<String> = for_each_kind!(text(name)).into_iter().flatten().collect();
    if !texts.is_empty() {
        return Ok(texts.join("\n"));
    }
    let known: Vec<_> = for_each_kind!(names()).into_iter().flatten().collect();
    let failure = Failure::mistake(format!("no plugin is named `{name}`"));
    let help = match suggest(name, &known) {
        near if near.starts_with("did") => near,
        _ => "`list` shows those there are".to_owned(),
    };
    Err(failure.help(help).into())
}

fn names<K: Kind + ?Sized>() -> Vec<&'static str> {
    entries::<K>().iter().map(|entry| entry.name).collect()
}

fn text<K: Kind + ?Sized>(name: &str) -> Option<String> {
    let entry = find::<K>(name)?;
    let mut text = format!(
        "{}: {}\n{} from the crate {}\n",
        entry.name,
        entry.about,
        one(K::LABEL),
        entry.origin
    );
    let facts = facts(name);
    if !facts.is_empty() {
        text.push('\n');
    }
    for (heading, value) in facts {
        let _ = writeln!(text, "{heading:<12} {value}");
    }
    let _ = writeln!(text, "\n{}", (entry.defaults)());
    Some(text)
}

/// What a plugin with default parameters says of itself, by the kind that has the name.
fn facts(name: &str) -> Vec<(&'static str, String)> {
    let backbone = built::<dyn Backbone>(name).map(|backbone| backbone_facts(&*backbone));
    let augmentation = built::<dyn Augmentation>(name).and_then(|augmentation| {
        let size = augmentation.size()?;
        Some(vec![("leaves", format!("{size} × {size} pixels"))])
    });
    let objective = built::<dyn Objective>(name)
        .map(|objective| vec![("views", format!("{} of each image", objective.views()))]);
    let optimizer =
        built::<dyn Optimizer>(name).map(|optimizer| vec![("rate", optimizer.rate().to_string())]);
    [backbone, augmentation, objective, optimizer]
        .into_iter()
        .flatten()
        .flatten()
        .collect()
}

fn built<K: Kind + ?Sized>(name: &str) -> Option<std::sync::Arc<K>> {
    let context = Context {
        folder: Path::new("."),
    };
    let entry: &Entry<K> = find::<K>(name)?;
    Some(entry.build_default(&context).ok()?.plugin)
}

fn backbone_facts(backbone: &dyn Backbone) -> Vec<(&'static str, String)> {
    let look = backbone.preprocessing();
    let filter = match look.bicubic {
        true => "bicubic",
        false => "bilinear",
    };
    let encoder = backbone.encoder(&Head::default(), 0);
    let parameters = encoder.parameters().values().len();
    let three = |values: [f32; 3]| values.map(|value| value.to_string()).join(" ");
    vec![
        ("features", grouped(backbone.width())),
        (
            "parameters",
            format!("{} (without a head)", grouped(parameters)),
        ),
        (
            "input",
            format!(
                "{size} × {size} pixels, cropped from a shorter side of {} ({filter})",
                look.resize,
                size = look.size
            ),
        ),
        ("mean", three(look.mean)),
        ("deviation", three(look.deviation)),
    ]
}
