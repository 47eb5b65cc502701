//! What a stage of views wrote: how much, and the first images with their views.

use std::{fs, path::Path};

use super::text::{embed, escape};
use crate::{
    results::{Results, StageOutcome, views::Outcome},
    statics,
    text::{grouped, megabytes},
};

/// Images shown.
const SHOWN: usize = 4;

/// The largest file that is embedded, in bytes.
const LIMIT: u64 = 1 << 20;

/// The section of every finished stage of views in the run `folder`.
pub fn sections(results: &Results, folder: &Path) -> Vec<String> {
    let stages = results.stages.iter();
    stages
        .filter_map(|result| match &result.outcome {
            StageOutcome::Views(outcome) => Some(section(&result.stage, outcome, folder)),
            _ => None,
        })
        .collect()
}

fn section(stage: &str, outcome: &Outcome, run: &Path) -> String {
    let facts = [
        ("mode", format!("{:?}", outcome.mode)),
        ("images", grouped(outcome.samples)),
        ("files", grouped(outcome.files)),
        ("size", megabytes(outcome.bytes)),
        ("pairs without the wanted overlap", grouped(outcome.forced)),
        ("images left out", grouped(outcome.left_out.len())),
        ("folder", outcome.folder.clone()),
    ];
    let facts = facts
        .iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(value)));
    let rows: String = statics::first(outcome, run, SHOWN)
        .iter()
        .map(|files| row(files))
        .collect();
    format!(
        "<section><h2>Static views <em>{}</em></h2><dl class=\"facts\">{}</dl>\
         <p class=\"note\">The first images: the image itself, then its files in the order of their numbers.</p>\
         <div class=\"samples\">{rows}</div></section>",
        escape(stage),
        facts.collect::<String>()
    )
}

/// The files of an image side by side; those that are gone or large are left out.
fn row(files: &[std::path::PathBuf]) -> String {
    let pictures = files.iter().enumerate().filter_map(|(number, path)| {
        let about = fs::metadata(path).ok()?;
        let bytes = (about.is_file() && about.len() <= LIMIT).then(|| fs::read(path).ok())??;
        let address = embed("image/jpeg", &bytes);
        let caption = match number {
            0 => "original".to_owned(),
            number => format!("view {number}"),
        };
        Some(format!(
            "<img alt=\"{caption}\" title=\"{caption}\" src=\"{address}\">"
        ))
    });
    format!(
        "<div class=\"sample\">{}</div>",
        pictures.collect::<String>()
    )
}
