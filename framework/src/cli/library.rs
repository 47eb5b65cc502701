//! `list --library FILE`: the metrics of a shared library, and what an experiment file writes to use them.

use std::{fmt::Write, path::Path};

use serde::Serialize;
use smallfry_metric_sdk::raw;

use super::{Refusal, to_json};
use crate::{
    dynamic::{Description, Limits, hash, inspect},
    failure::{Failure, disk},
    source::quoted,
};

/// A library as it is listed.
#[derive(Serialize)]
struct Listed {
    library: String,
    hash: String,
    interface: u32,
    metrics: Vec<Description>,
}

pub(super) fn list(path: &Path, json: bool) -> Result<String, Refusal> {
    let hash = hash(path).map_err(|error| disk("read", path, &error))?;
    let metrics = inspect(path, &Limits::default())
        .map_err(|invalid| Failure::mistake(format!("{} {}", path.display(), invalid.reason())))?;
    let listed = Listed {
        library: path.display().to_string(),
        hash,
        interface: raw::ABI,
        metrics,
    };
    if json {
        return Ok(to_json(&listed));
    }
    Ok(listed.text())
}

impl Listed {
    fn text(&self) -> String {
        let library = quoted(&self.library);
        let mut text = format!(
            "metrics of {} (interface {}, blake3 {}):\n",
            self.library, self.interface, self.hash
        );
        for metric in &self.metrics {
            let better = match metric.higher_is_better {
                true => "more is better",
                false => "less is better",
            };
            let unit = match metric.unit.as_str() {
                "" => "a number".to_owned(),
                unit => format!("in {unit}"),
            };
            let Description { name, about, .. } = metric;
            let _ = writeln!(text, "  {name:<18} {about} ({unit}, {better})");
            let name = quoted(name);
            let _ = writeln!(text, "      Dynamic(library: {library}, metric: {name})");
        }
        text
    }
}
