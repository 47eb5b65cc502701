//! The stage `Evaluate(..)`: metrics on the features of an encoder.

use super::{
    Stages,
    fields::{Fields, Reader, example},
    images, layout, subject,
};
use crate::{
    Metric,
    plan::{Evaluate, Stage},
    registry::Built,
    source::quoted,
};

/// Images in a batch unless the file says otherwise; it changes speed and memory, and no more of a result than
/// roundings of dense convolutions, whose method depends on it.
const BATCH: usize = 64;

/// Reads stage `i`; gives it with its resolved text.
pub(super) fn read(reader: &mut Reader, stages: &Stages, i: usize) -> Option<(Stage, String)> {
    let mut fields = stages.open(reader, &stages.outlines[i], "Evaluate");
    let site = fields.site();
    let name = fields.name("evaluate");
    let subject = subject::read(&mut fields, stages, i);
    let train = images::optional(&mut fields, stages, i, "train");
    let test = images::required(&mut fields, stages, i, "test");
    let size = fields.optional_count("size", "224");
    let resize = fields.optional_count("resize", "256");
    let batch = fields.count("batch", Some(BATCH), "64");
    let cache = fields.optional::<bool>("cache", "false").unwrap_or(true);
    let metrics = metrics(&mut fields);
    fields.finish();
    let (subject, written) = subject?;
    let stage = Evaluate {
        name,
        subject,
        train: train?,
        test: test?,
        size,
        resize,
        batch,
        cache,
        metrics: metrics?,
        site,
    };
    let mut lines = vec![("name", quoted(&stage.name))];
    lines.extend(written);
    if let Some(train) = &stage.train {
        lines.push(("train", train.resolved()));
    }
    lines.push(("test", stage.test.resolved()));
    for (name, value) in [("size", stage.size), ("resize", stage.resize)] {
        lines.extend(value.map(|value| (name, value.to_string())));
    }
    lines.push(("batch", stage.batch.to_string()));
    if !stage.cache {
        lines.push(("cache", "false".to_owned()));
    }
    let metrics = stage.metrics.iter().map(|metric| metric.resolved.as_str());
    lines.push(("metrics", layout::list(metrics)));
    Some((Stage::Evaluate(stage), layout::block("Evaluate", &lines)))
}

fn metrics(fields: &mut Fields<'_>) -> Option<Vec<Built<dyn Metric>>> {
    let Some(field) = fields.field("metrics") else {
        fields.missing("metrics", &example::<dyn Metric>());
        return None;
    };
    let items = fields.items(&field, "metrics")?;
    if items.is_empty() {
        fields.refuse("metrics", "needs at least one metric");
    }
    let built: Vec<_> = items.iter().map(|item| fields.reader.build(item)).collect();
    built.into_iter().collect()
}
