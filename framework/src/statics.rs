//! Writes images and their views as files, once, so that every network is judged on the same ones.

use std::{path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use smallfry_data::Dataset;

use crate::{
    diagnostic::Diagnostic,
    failure::Failure,
    plan::Views,
    run::{fingerprint, folder::RunFolder, results::ScoreRecord},
    train::Workplace,
};

/// A stage of views that is ready to run.
pub struct Prepared<'a> {
    /// The stage.
    pub stage: &'a Views,
    /// Everything that the files depend on, as text.
    pub config: String,
    data: Arc<dyn Dataset>,
}

/// What a stage of views came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Where the files are.
    pub folder: String,
    /// Images with all their views.
    pub samples: usize,
    /// Files written.
    pub files: usize,
    /// Unreadable images that were left out: name and reason.
    pub left_out: Vec<(String, String)>,
}

/// The set that `stage` will write of `data`; `root` is the run folder.
///
/// # Errors
/// Two images would have the same name.
pub fn planned(
    stage: &Views,
    _data: &dyn Dataset,
    _root: &Path,
) -> Result<Arc<dyn Dataset>, Diagnostic> {
    Err(stage.site.error("data", "cannot be listed"))
}

impl<'a> Prepared<'a> {
    /// Readies `stage`, whose images are `data`.
    ///
    /// # Errors
    /// None so far.
    pub fn new(stage: &'a Views, seed: u64, data: Arc<dyn Dataset>) -> Result<Self, Failure> {
        let mut config = String::new();
        fingerprint::field(&mut config, "seed", &seed.to_string());
        fingerprint::field(&mut config, "data", &stage.data.resolved);
        fingerprint::field(&mut config, "manifest", &fingerprint::manifest(&*data));
        fingerprint::field(&mut config, "per_class", &stage.per_class.to_string());
        Ok(Self {
            stage,
            config,
            data,
        })
    }

    /// Whether all files are there.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn is_whole(&self, _folder: &RunFolder) -> Result<bool, Failure> {
        Ok(false)
    }

    /// Writes the files.
    ///
    /// # Errors
    /// The disk fails, or the user stops.
    pub fn run(&self, _workplace: &mut Workplace) -> Result<Outcome, Failure> {
        let samples = self.data.len();
        Err(Failure::fault(format!(
            "{samples} images cannot be written"
        )))
    }
}

impl Outcome {
    /// The outcome in numbers.
    pub fn scores(&self) -> Vec<ScoreRecord> {
        Vec::new()
    }
}
