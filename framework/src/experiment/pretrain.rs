//! The stage `Pretrain(..)`: training without labels.

use std::path::PathBuf;

use serde::Deserialize;

use super::{
    Stages,
    fields::{Fields, Reader},
    health, layout, views,
};
use crate::{
    checkpoint::cadence::{Keep, Save},
    plan::{Extent, Initial, Origin, Pretrain, Stage, StepRule},
    registry::Context,
    source::quoted,
};

/// Reads stage `i`; gives it with its resolved text.
pub(super) fn read(reader: &mut Reader, stages: &Stages, i: usize) -> Option<(Stage, String)> {
    let mut fields = stages.open(reader, &stages.outlines[i], "Pretrain");
    let site = fields.site();
    let name = fields.name("pretrain");
    let data = fields.plugin("data");
    let backbone = fields.plugin("backbone");
    let objective = fields.plugin::<dyn crate::Objective>("objective");
    let count = objective.as_ref().map(|objective| objective.views());
    let joint = views::joint(&mut fields, count);
    let views = views::views(&mut fields, count);
    let optimizer = fields.plugin("optimizer");
    let schedule = fields.plugin("schedule");
    let initial = initial(&mut fields, stages, i);
    let epochs = fields.count("epochs", None, "200");
    let batch = fields.count("batch", None, "256");
    let step = step_rule(&mut fields);
    let save = fields
        .optional::<Save>("save", "Save(minutes: 10)")
        .unwrap_or_default();
    if let Err(reason) = save.check() {
        fields.refuse("save", reason);
    }
    let keep = keep(&mut fields);
    let health = health::read(&mut fields);
    fields.finish();
    let ((views, written), joint) = (views?, joint?);
    let (health, written_health) = health?;
    let stage = Pretrain {
        name,
        data: data?,
        backbone: backbone?,
        objective: objective?,
        joint,
        views,
        optimizer: optimizer?,
        schedule: schedule?,
        initial: initial.as_ref().map(|initial| initial.0.clone()),
        epochs,
        batch,
        step,
        save,
        keep,
        health,
        site,
    };
    let clip = (step.clip).map_or("None".to_owned(), |clip| format!("{clip:?}"));
    let mut lines = vec![
        ("name", quoted(&stage.name)),
        ("data", stage.data.resolved.clone()),
        ("backbone", stage.backbone.resolved.clone()),
        ("objective", stage.objective.resolved.clone()),
    ];
    lines.extend((stage.joint.as_ref()).map(|joint| ("joint", joint.resolved.clone())));
    lines.extend([
        written,
        ("optimizer", stage.optimizer.resolved.clone()),
        ("schedule", stage.schedule.resolved.clone()),
    ]);
    lines.extend(initial.map(|(_, written)| ("initial", written)));
    lines.extend([
        ("epochs", stage.epochs.to_string()),
        ("batch", stage.batch.to_string()),
        ("accumulate", step.accumulate.to_string()),
        ("clip", clip),
        ("save", written_save(&stage.save)),
        ("keep", stage.keep.to_string()),
        ("health", written_health),
    ]);
    Some((Stage::Pretrain(stage), layout::block("Pretrain", &lines)))
}

/// What training starts from, as it is written.
#[derive(Deserialize)]
#[serde(rename = "initial")]
enum Written {
    Backbone(WrittenOrigin),
    Restart(WrittenOrigin),
    Resume(WrittenOrigin),
}

#[derive(Deserialize)]
#[serde(rename = "initial")]
enum WrittenOrigin {
    Stage(String),
    File(PathBuf),
}

/// What stage `i` starts from, and how it is written; none for random weights.
fn initial(fields: &mut Fields<'_>, stages: &Stages, i: usize) -> Option<(Initial, String)> {
    let example = "Restart(File(\"a.pth.tar\"))";
    let place = fields.field("initial").map(|field| field.value);
    let (word, extent, origin) = match fields
        .optional::<Option<Written>>("initial", example)
        .flatten()?
    {
        Written::Backbone(origin) => ("Backbone", Extent::Backbone, origin),
        Written::Restart(origin) => ("Restart", Extent::Restart, origin),
        Written::Resume(origin) => ("Resume", Extent::Resume, origin),
    };
    let (written, origin) = match origin {
        WrittenOrigin::File(path) => {
            let path = fields.reader.path(&path, &place.unwrap_or_default());
            let context = Context {
                folder: &fields.reader.folder,
            };
            let written = format!("File({})", quoted(&path.to_string_lossy()));
            (written, Origin::File(context.path(path)))
        }
        WrittenOrigin::Stage(name) => {
            if let Err(help) = stages.before(i, "Pretrain", &name) {
                let reason = format!("no training stage before this one is named `{name}`");
                fields.refuse("initial", &reason).help = Some(help);
                return None;
            }
            let written = format!("Stage({})", quoted(&name));
            (written, Origin::Stage(name))
        }
    };
    Some((Initial { extent, origin }, format!("{word}({written})")))
}

/// What a step of the optimiser is made of.
fn step_rule(fields: &mut Fields<'_>) -> StepRule {
    let accumulate = fields.count("accumulate", Some(1), "4");
    let clip = fields.optional::<Option<f64>>("clip", "1.0").flatten();
    if clip.is_some_and(|clip| !(clip > 0.0 && clip.is_finite())) {
        fields.refuse("clip", "must be above 0").help =
            Some("`None` leaves every gradient as it is".to_owned());
    }
    StepRule { accumulate, clip }
}

/// The checkpoints that stay: `keep: 2`, `keep: None`, or `keep: Keep(..)`.
fn keep(fields: &mut Fields<'_>) -> Keep {
    let Some(field) = fields.field("keep") else {
        return Keep::default();
    };
    let value = fields.reader.value(&field.value);
    let named = value
        .name
        .is_some_and(|name| fields.reader.source.slice(&name) == "Keep");
    let keep = match named {
        true => fields.optional("keep", "Keep(last: 2, every: 50)"),
        false => fields
            .optional::<Option<usize>>("keep", "2")
            .map(Keep::last),
    };
    let keep = keep.unwrap_or_default();
    if let Err(reason) = keep.check() {
        fields.refuse("keep", reason).help = Some("`None` keeps every checkpoint".to_owned());
    }
    keep
}

/// How `save` is written.
pub(super) fn written_save(save: &Save) -> String {
    let steps = save
        .steps
        .map_or("None".to_owned(), |steps| steps.to_string());
    let minutes = save
        .minutes
        .map_or("None".to_owned(), |minutes| format!("{minutes:?}"));
    layout::block("Save", &[("steps", steps), ("minutes", minutes)])
}
