//! A field that names images: a data set, or `Stage("name")` for what an earlier stage of views writes.

use super::{Stages, fields::Fields};
use crate::{DataSet, plan::Images, source::syntax::Field};

/// The images in field `name` of stage `i`, which it may lack; none where they are wrong.
pub(super) fn optional(
    fields: &mut Fields<'_>,
    stages: &Stages,
    i: usize,
    name: &'static str,
) -> Option<Option<Images>> {
    match fields.field(name) {
        Some(field) => read(fields, stages, i, name, &field).map(Some),
        None => Some(None),
    }
}

/// The images in field `name` of stage `i`.
pub(super) fn required(
    fields: &mut Fields<'_>,
    stages: &Stages,
    i: usize,
    name: &'static str,
) -> Option<Images> {
    match fields.field(name) {
        Some(field) => read(fields, stages, i, name, &field),
        None => {
            fields.missing_plugin::<dyn DataSet>(name);
            None
        }
    }
}

fn read(
    fields: &mut Fields<'_>,
    stages: &Stages,
    i: usize,
    name: &'static str,
    field: &Field,
) -> Option<Images> {
    let value = fields.reader.value(&field.value);
    let source = &fields.reader.source;
    if value.name.as_ref().map(|name| source.slice(name)) != Some("Stage") {
        return fields.reader.build(&field.value).map(Images::Set);
    }
    let stage = match stage_name(source.slice(&field.value)) {
        Some(stage) => stage,
        None => {
            let wrong = "`Stage` takes the name of a stage of views, as `Stage(\"views\")`";
            fields.reader.error(&field.value, wrong);
            return None;
        }
    };
    let Err(help) = stages.before(i, "Views", &stage) else {
        return Some(Images::Stage(stage));
    };
    let reason = format!("no stage of views before this one is named `{stage}`");
    fields.refuse(name, &reason).help = Some(help);
    None
}

/// The name in `Stage("name")`.
fn stage_name(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    enum Written {
        Stage(String),
    }
    let Written::Stage(name) = crate::source::dialect().from_str(text).ok()?;
    Some(name)
}
