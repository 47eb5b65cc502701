//! The stage `Probe(..)`: classifiers on the features of an encoder.

use super::{Stages, fields::Reader, images, layout, subject};
use crate::plan::{Probe, Stage};

/// Images in a batch, as the reference has it (`main_lincls.py`).
const BATCH: usize = 256;

/// Passes over the training images, as the reference has it.
const EPOCHS: usize = 100;

/// Reads stage `i`; gives it with its resolved text.
pub(super) fn read(reader: &mut Reader, stages: &Stages, i: usize) -> Option<(Stage, String)> {
    let mut fields = stages.open(reader, &stages.outlines[i], "Probe");
    let site = fields.site();
    let name = fields.name("probe");
    let subject = subject::read(&mut fields, stages, i);
    let train = images::required(&mut fields, stages, i, "train");
    let test = images::required(&mut fields, stages, i, "test");
    let batch = fields.count("batch", Some(BATCH), "256");
    let epochs = fields.count("epochs", Some(EPOCHS), "100");
    fields.finish();
    let (subject, written) = subject?;
    let stage = Probe {
        name,
        subject,
        train: train?,
        test: test?,
        batch,
        epochs,
        site,
    };
    let mut lines = vec![("name", layout::quoted(&stage.name))];
    lines.extend(written);
    lines.push(("train", stage.train.resolved()));
    lines.push(("test", stage.test.resolved()));
    lines.push(("batch", stage.batch.to_string()));
    lines.push(("epochs", stage.epochs.to_string()));
    Some((Stage::Probe(stage), layout::block("Probe", &lines)))
}
