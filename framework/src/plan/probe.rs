//! The plan of a stage that trains classifiers on features.

use super::{Images, Subject};
use crate::source::Site;

/// Classifiers on the features of an encoder.
pub struct Probe {
    /// Name of the stage, unique in the file.
    pub name: String,
    /// What is judged.
    pub subject: Subject,
    /// The labelled images that the classifiers learn from.
    pub train: Images,
    /// The labelled images that they are tested on.
    pub test: Images,
    /// Images in a batch.
    pub batch: usize,
    /// Passes over the training images.
    pub epochs: usize,
    /// Where the stage stands in its file.
    pub site: Site,
}
