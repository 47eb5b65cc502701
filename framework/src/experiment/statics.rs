//! The stage `Views(..)`: a set of images and their views, written once.

use std::path::PathBuf;

use serde::Deserialize;
use smallfry_data::statics::Mode;

use super::{
    Stages,
    fields::{Fields, Reader},
    layout,
};
use crate::{
    plan::{Stage, Views},
    source::quoted,
};

/// Images of each class that the reference takes unless told otherwise (`sample-augs`, `--images-per-class`).
const PER_CLASS: usize = 50;

/// Reads stage `i`; gives it with its resolved text.
pub(super) fn read(reader: &mut Reader, stages: &Stages, i: usize) -> Option<(Stage, String)> {
    let mut fields = stages.open(reader, &stages.outlines[i], "Views");
    let site = fields.site();
    let name = fields.name("views");
    let data = fields.plugin("data");
    let mode = mode(&mut fields);
    let per_class = fields.count("per_class", Some(PER_CLASS), "50");
    let place = fields.field("folder").map(|field| field.value);
    let folder = fields
        .optional::<Option<PathBuf>>("folder", "\"views\"")
        .flatten()
        .map(|folder| fields.reader.path(&folder, &place.unwrap_or_default()));
    fields.finish();
    let stage = Views {
        name,
        data: data?,
        mode,
        per_class,
        folder: folder.as_ref().map(|folder| reader.folder.join(folder)),
        site,
    };
    let mut lines = vec![
        ("name", quoted(&stage.name)),
        ("data", stage.data.resolved.clone()),
        ("mode", format!("{:?}", stage.mode)),
        ("per_class", stage.per_class.to_string()),
    ];
    if let Some(folder) = &folder {
        lines.push(("folder", quoted(&folder.to_string_lossy())));
    }
    Some((Stage::Views(stage), layout::block("Views", &lines)))
}

/// The mode; that of MoCo v2 where none is given, as in the reference.
fn mode(fields: &mut Fields<'_>) -> Mode {
    /// The modes as they are written.
    #[derive(Deserialize)]
    #[serde(rename = "mode")]
    enum Written {
        MoCo,
        NoInter,
        SuperHard,
        Hard,
        Easy,
        Contain,
    }

    match fields.optional("mode", "MoCo") {
        None | Some(Written::MoCo) => Mode::MoCo,
        Some(Written::NoInter) => Mode::NoInter,
        Some(Written::SuperHard) => Mode::SuperHard,
        Some(Written::Hard) => Mode::Hard,
        Some(Written::Easy) => Mode::Easy,
        Some(Written::Contain) => {
            let reason = "the reference names `contain`, but says nowhere what it is";
            fields.refuse("mode", reason).help =
                Some("give `MoCo`, `NoInter`, `SuperHard`, `Hard` or `Easy`".to_owned());
            Mode::MoCo
        }
    }
}
