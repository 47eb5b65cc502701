//! The views of a training stage: `view: [..]` for all alike, `views: [[..], Repeat(6, [..])]` for each its own, and
//! `joint: ..` for what all views of an image get together before that.

use std::ops::Range;

use super::{
    fields::{Fields, Reader, example},
    layout,
};
use crate::{
    Augmentation, JointAugmentation,
    registry::Built,
    source::syntax::{Body, Field},
};

/// The augmentations of one view.
pub(super) type View = Vec<Built<dyn Augmentation>>;

/// Views that a file can describe; no objective takes nearly as many.
const MOST: usize = 64;

/// The word for several views with augmentations alike.
const REPEAT: &str = "Repeat";

/// The augmentation of all views together, where there is one; `count` is the number of views, if known. None after a
/// mistake.
pub(super) fn joint(
    fields: &mut Fields<'_>,
    count: Option<usize>,
) -> Option<Option<Built<dyn JointAugmentation>>> {
    let Some(field) = fields.field("joint") else {
        return Some(None);
    };
    if fields.reader.source.slice(&field.value) == "None" {
        return Some(None);
    }
    let built = fields.reader.build::<dyn JointAugmentation>(&field.value)?;
    if let (Some(count), Some(takes)) = (count, built.views())
        && count != takes
    {
        let reason = format!(
            "{} makes {takes} views, the objective takes {count}",
            built.name
        );
        fields.refuse("joint", &reason);
        return None;
    }
    Some(Some(built))
}

/// The augmentations of each of `count` views (none if the objective is not known), and how they are written.
pub(super) fn views(
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
            let views = repeated(fields.reader, &items, count.unwrap_or(1).max(1))?;
            let written = list(&views[0]);
            Some((views, ("view", written)))
        }
        (None, Some(each)) => {
            let groups: Vec<_> = fields
                .items(&each, "lists of augmentations")?
                .into_iter()
                .map(|item| group(fields, &each, item))
                .collect();
            let groups = groups.into_iter().collect::<Option<Vec<_>>>()?;
            let given: usize = groups.iter().map(Vec::len).sum();
            if let Some(count) = count
                && count != given
            {
                let reason = format!(
                    "the objective takes {count} views, augmentations of {given} are given"
                );
                fields.refuse("views", &reason);
            }
            let written: Vec<_> = groups.iter().map(|group| write_group(group)).collect();
            let written = layout::list(written.iter().map(String::as_str));
            Some((groups.into_iter().flatten().collect(), ("views", written)))
        }
    }
}

/// The views of an item of `views`: one of a list, several of `Repeat(6, [..])`.
fn group(fields: &mut Fields<'_>, each: &Field, item: Range<usize>) -> Option<Vec<View>> {
    let value = fields.reader.value(&item);
    let named = value.name.as_ref();
    let (times, list) = match named.map(|name| fields.reader.source.slice(name)) {
        Some(REPEAT) => match value.body {
            Body::Items(items) if items.len() == 2 => (times(fields, &items[0])?, items[1].clone()),
            _ => {
                let message = "`Repeat` takes a number of views and a list of augmentations";
                fields.reader.error(&item, message).help =
                    Some("for example, `Repeat(6, [RandomResizedCrop(size: 96)])`".to_owned());
                return None;
            }
        },
        _ => (1, item),
    };
    let field = Field {
        name: each.name.clone(),
        value: list,
    };
    let items = fields.items(&field, "augmentations")?;
    repeated(fields.reader, &items, times)
}

/// The number in front of a repeated list.
fn times(fields: &mut Fields<'_>, place: &Range<usize>) -> Option<usize> {
    match fields.reader.source.parse::<usize>(place) {
        Ok(times @ 1..=MOST) => Some(times),
        _ => {
            let message = format!("`Repeat` of views: expected a number from 1 to {MOST}");
            fields.reader.error(place, message);
            None
        }
    }
}

/// Builds a list of augmentations for each of several views, noting the mistakes of all of them.
fn repeated(reader: &mut Reader, items: &[Range<usize>], times: usize) -> Option<Vec<View>> {
    let view = |reader: &mut Reader| {
        let built: Vec<_> = items.iter().map(|item| reader.build(item)).collect();
        built.into_iter().collect::<Option<View>>()
    };
    let first = view(reader)?;
    let others = (1..times).map(|_| view(reader));
    std::iter::once(Some(first)).chain(others).collect()
}

fn list(view: &[Built<dyn Augmentation>]) -> String {
    layout::list(view.iter().map(|built| built.resolved.as_str()))
}

fn write_group(group: &[View]) -> String {
    match group {
        [one] => list(one),
        several => format!("{REPEAT}({}, {})", several.len(), list(&several[0])),
    }
}
