//! What a stage of views comes to.

use serde::{Deserialize, Serialize};
use smallfry_data::statics::Mode;

use super::ScoreRecord;
use crate::text::grouped;

/// What a stage of views came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Where the files are; below the run folder, unless the experiment says otherwise.
    pub folder: String,
    /// How the views were cropped.
    pub mode: Mode,
    /// Images with all their views.
    pub samples: usize,
    /// Files written.
    pub files: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Pairs of crops that were taken without the wanted overlap.
    pub forced: usize,
    /// Unreadable images that were left out: name and reason.
    pub left_out: Vec<(String, String)>,
}

impl Outcome {
    /// The outcome in numbers.
    pub fn scores(&self) -> Vec<ScoreRecord> {
        let score = |name: &str, value: f64, unit: &str, setting: String| ScoreRecord {
            metric: format!("Views({:?})", self.mode),
            name: name.to_owned(),
            value: Some(value),
            unit: unit.to_owned(),
            higher_is_better: true,
            error: None,
            setting,
            table: Vec::new(),
        };
        let mut setting = format!("{:?}", self.mode);
        if self.forced > 0 {
            setting += &format!(", {} pairs without the wanted overlap", self.forced);
        }
        let files = format!("{} files", grouped(self.files));
        vec![
            score("images with views", self.samples as f64, "images", setting),
            score("size of all files", self.bytes as f64 * 1e-6, "MB", files),
        ]
    }
}
