//! The stage `Map(..)`: a map of features in the plane.

use super::{Stages, fields::Reader, images, layout, subject};
use crate::plan::{Map, Stage};

/// Images on the map, as in the paper.
const SAMPLES: usize = 1000;

/// Images in a batch unless the file says otherwise; it changes speed and memory, no result.
const BATCH: usize = 64;

/// Reads stage `i`; gives it with its resolved text.
pub(super) fn read(reader: &mut Reader, stages: &Stages, i: usize) -> Option<(Stage, String)> {
    let mut fields = stages.open(reader, &stages.outlines[i], "Map");
    let site = fields.site();
    let name = fields.name("map");
    let subject = subject::read(&mut fields, stages, i);
    let data = images::required(&mut fields, stages, i, "data");
    let samples = fields.count("samples", Some(SAMPLES), "1000");
    let batch = fields.count("batch", Some(BATCH), "64");
    fields.finish();
    let (subject, written) = subject?;
    let stage = Map {
        name,
        subject,
        data: data?,
        samples,
        batch,
        site,
    };
    let mut lines = vec![("name", layout::quoted(&stage.name))];
    lines.extend(written);
    lines.push(("data", stage.data.resolved()));
    lines.push(("samples", stage.samples.to_string()));
    lines.push(("batch", stage.batch.to_string()));
    Some((Stage::Map(stage), layout::block("Map", &lines)))
}
