//! The plan of a stage that writes images and their views.

use std::path::PathBuf;

use smallfry_data::statics::Mode;

use crate::{DataSet, registry::Built, source::Site};

/// A set of images and their views, written once.
pub struct Views {
    /// Name of the stage, unique in the file.
    pub name: String,
    /// The images to make views of.
    pub data: Built<dyn DataSet>,
    /// How the two views of an image are cropped, and with it how many files there are of each.
    pub mode: Mode,
    /// Images taken of each class, the first by name.
    pub per_class: usize,
    /// Where the set is written; `views/<stage>` in the run folder where none.
    pub folder: Option<PathBuf>,
    /// Where the stage stands in its file.
    pub site: Site,
}
