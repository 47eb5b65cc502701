//! The stage `Views(..)`: a set of images and their views, written once.

use std::path::PathBuf;

use super::{Stages, fields::Reader, layout};
use crate::plan::{Stage, Views};

/// Images of each class that the reference takes unless told otherwise (`sample-augs`, `--images-per-class`).
const PER_CLASS: usize = 50;

/// Reads stage `i`; gives it with its resolved text.
pub(super) fn read(reader: &mut Reader, stages: &Stages, i: usize) -> Option<(Stage, String)> {
    let mut fields = stages.open(reader, &stages.outlines[i], "Views");
    let site = fields.site();
    let name = fields.name("views");
    let data = fields.plugin("data");
    let per_class = fields.count("per_class", Some(PER_CLASS), "50");
    let folder = fields
        .optional::<Option<PathBuf>>("folder", "\"views\"")
        .flatten();
    fields.finish();
    let stage = Views {
        name,
        data: data?,
        per_class,
        folder: folder.map(|folder| reader.folder.join(folder)),
        site,
    };
    let mut lines = vec![
        ("name", layout::quoted(&stage.name)),
        ("data", stage.data.resolved.clone()),
        ("per_class", stage.per_class.to_string()),
    ];
    if let Some(folder) = &stage.folder {
        lines.push(("folder", layout::quoted(&folder.to_string_lossy())));
    }
    Some((Stage::Views(stage), layout::block("Views", &lines)))
}
