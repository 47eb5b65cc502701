//! The part `health: Health(..)` of a training stage.

use super::{
    fields::{Fields, example},
    layout,
};
use crate::{
    Metric,
    plan::{Health, Labelled, Reaction},
};

/// How the health of a stage is watched (`None` where it is not), and how that is written. None after a mistake.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<(Option<Health>, String)> {
    let Some(field) = fields.field("health") else {
        let health = Health::default();
        let written = written(&health);
        return Some((Some(health), written));
    };
    if fields.reader.source.slice(&field.value) == "None" {
        return Some((None, "None".to_owned()));
    }
    let value = fields.reader.value(&field.value);
    let named = value.name.as_ref();
    if named.is_some_and(|name| fields.reader.source.slice(name) != "Health") {
        fields.refuse("health", "expected `Health(..)` or `None`");
        return None;
    }
    let mut inner = Fields::open(fields.reader, &value, "Health");
    let default = Health::default();
    let every = inner.optional::<Option<usize>>("every", "5").flatten();
    if every == Some(0) {
        inner.refuse("every", "must be above 0").help =
            Some("`None` chooses epochs so that measuring costs little".to_owned());
    }
    let images = inner.count("images", Some(default.images), "512");
    let held_out = inner.optional_plugin("held_out");
    let labelled = labelled(&mut inner);
    let on_collapse = inner
        .optional::<Reaction>("on_collapse", "Warn")
        .unwrap_or_default();
    let patience = inner.optional("patience", "5").unwrap_or(default.patience);
    inner.finish();
    let health = Health {
        every,
        images,
        held_out,
        labelled: labelled?,
        on_collapse,
        patience,
    };
    let written = written(&health);
    Some((Some(health), written))
}

/// Metrics and the sets they take. None after a mistake.
fn labelled(fields: &mut Fields<'_>) -> Option<Option<Labelled>> {
    let (train, test) = (fields.field("train"), fields.field("test"));
    let Some(list) = fields.field("metrics") else {
        for name in ["train", "test"] {
            let given = if name == "train" { &train } else { &test };
            if given.is_some() {
                fields
                    .refuse(name, "is for metrics, of which none is given")
                    .help = Some(format!("add `metrics: {}`", example::<dyn Metric>()));
            }
        }
        return Some(None);
    };
    let items = fields.items(&list, "metrics")?;
    let metrics: Vec<_> = items.iter().map(|item| fields.reader.build(item)).collect();
    let metrics = metrics.into_iter().collect::<Option<Vec<_>>>()?;
    let sets =
        match (train, test) {
            (None, None) => None,
            (Some(train), Some(test)) => {
                let (train, test) = (
                    fields.reader.build(&train.value),
                    fields.reader.build(&test.value),
                );
                Some((train?, test?))
            }
            (Some(_), None) | (None, Some(_)) => {
                fields.refuse("metrics", "take both `train` and `test`, or neither").help = Some(
                "without them, parts of the training's own images are taken, if these have classes"
                    .to_owned(),
            );
                return None;
            }
        };
    Some((!metrics.is_empty()).then_some(Labelled { sets, metrics }))
}

fn written(health: &Health) -> String {
    let every = health.every.map_or("None".to_owned(), |n| n.to_string());
    let mut lines = vec![("every", every), ("images", health.images.to_string())];
    lines.extend((health.held_out.as_ref()).map(|set| ("held_out", set.resolved.clone())));
    if let Some(Labelled { sets, metrics }) = &health.labelled {
        if let Some((train, test)) = sets {
            lines.push(("train", train.resolved.clone()));
            lines.push(("test", test.resolved.clone()));
        }
        let metrics = metrics.iter().map(|metric| metric.resolved.as_str());
        lines.push(("metrics", layout::list(metrics)));
    }
    lines.push(("on_collapse", health.on_collapse.word().to_owned()));
    lines.push(("patience", health.patience.to_string()));
    layout::block("Health", &lines)
}
