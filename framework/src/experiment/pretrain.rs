//! The stage `Pretrain(..)`: training without labels.

use std::ops::Range;

use super::{
    Outline, Stages,
    fields::{Fields, Reader, example},
    layout,
};
use crate::{
    Augmentation,
    plan::{Pretrain, Stage},
    registry::Built,
    source::syntax::Field,
};

/// Checkpoints that are kept unless the file says otherwise.
const KEEP: usize = 2;

/// Reads the stage of `outline`; gives it with its resolved text.
pub(super) fn read(
    reader: &mut Reader,
    stages: &Stages,
    outline: &Outline,
) -> Option<(Stage, String)> {
    let mut fields = stages.open(reader, outline, "Pretrain");
    let site = fields.site();
    let name = fields.name("pretrain");
    let data = fields.plugin("data");
    let backbone = fields.plugin("backbone");
    let objective = fields.plugin::<dyn crate::Objective>("objective");
    let count = objective.as_ref().map(|objective| objective.views());
    let views = views(&mut fields, count);
    let optimizer = fields.plugin("optimizer");
    let schedule = fields.plugin("schedule");
    let epochs = fields.count("epochs", None, "200");
    let batch = fields.count("batch", None, "256");
    let keep = match fields.field("keep") {
        None => Some(KEEP),
        Some(_) => fields
            .optional::<Option<usize>>("keep", "2")
            .unwrap_or(Some(KEEP)),
    };
    if keep == Some(0) {
        fields.refuse("keep", "must be above 0").help =
            Some("`None` keeps every checkpoint".to_owned());
    }
    fields.finish();
    let (views, written) = views?;
    let stage = Pretrain {
        name,
        data: data?,
        backbone: backbone?,
        objective: objective?,
        views,
        optimizer: optimizer?,
        schedule: schedule?,
        epochs,
        batch,
        keep,
        site,
    };
    let keep = stage
        .keep
        .map_or("None".to_owned(), |keep| keep.to_string());
    let resolved = layout::block(
        "Pretrain",
        &[
            ("name", layout::quoted(&stage.name)),
            ("data", stage.data.resolved.clone()),
            ("backbone", stage.backbone.resolved.clone()),
            ("objective", stage.objective.resolved.clone()),
            written,
            ("optimizer", stage.optimizer.resolved.clone()),
            ("schedule", stage.schedule.resolved.clone()),
            ("epochs", stage.epochs.to_string()),
            ("batch", stage.batch.to_string()),
            ("keep", keep),
        ],
    );
    Some((Stage::Pretrain(stage), resolved))
}

type View = Vec<Built<dyn Augmentation>>;

/// The augmentations of each of `count` views (none if the objective is not known), and how they are written:
/// `view: [..]` for all alike, `views: [[..], [..]]` for each its own.
fn views(
    fields: &mut Fields<'_>,
    count: Option<usize>,
) -> Option<(Vec<View>, (&'static str, String))> {
    let (alike, each) = (fields.field("view"), fields.field("views"));
    match (alike, each) {
        (None, None) => {
            fields.missing("view", &example::<dyn Augmentation>());
            None
        }
        (Some(_), Some(each)) => {
            fields
                .reader
                .error(&each.name, "Pretrain has both `view` and `views`")
                .help = Some(
                "`view: [..]` is one list for all views, `views: [[..], [..]]` one for each"
                    .to_owned(),
            );
            None
        }
        (Some(alike), None) => {
            let items = fields.items(&alike, "augmentations")?;
            let views: Option<Vec<_>> = (0..count.unwrap_or(1).max(1))
                .map(|_| view(fields.reader, &items))
                .collect();
            let views = views?;
            let written = layout::list(views[0].iter().map(|built| built.resolved.as_str()));
            Some((views, ("view", written)))
        }
        (None, Some(each)) => {
            let lists = fields.items(&each, "lists of augmentations")?;
            let mut views = Vec::new();
            for list in &lists {
                let field = Field {
                    name: each.name.clone(),
                    value: list.clone(),
                };
                let items = fields.items(&field, "augmentations");
                views.push(items.and_then(|items| view(fields.reader, &items)));
            }
            if let Some(count) = count
                && count != lists.len()
            {
                let reason = format!(
                    "the objective takes {count} views, augmentations of {} are given",
                    lists.len()
                );
                fields.refuse("views", &reason);
            }
            let views: Vec<View> = views.into_iter().collect::<Option<_>>()?;
            let lists: Vec<_> = views
                .iter()
                .map(|view| layout::list(view.iter().map(|built| built.resolved.as_str())))
                .collect();
            let written = layout::list(lists.iter().map(String::as_str));
            Some((views, ("views", written)))
        }
    }
}

/// Builds one list of augmentations, noting the mistakes of all of them.
fn view(reader: &mut Reader, items: &[Range<usize>]) -> Option<View> {
    let built: Vec<_> = items.iter().map(|item| reader.build(item)).collect();
    built.into_iter().collect()
}
