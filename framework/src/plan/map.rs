//! The plan of a stage that draws a map of features.

use super::{Images, Subject};
use crate::source::Site;

/// A map of features in the plane.
pub struct Map {
    /// Name of the stage, unique in the file.
    pub name: String,
    /// What is judged.
    pub subject: Subject,
    /// The images, with their views where they have some.
    pub data: Images,
    /// Images on the map, the first of the set.
    pub samples: usize,
    /// Images in a batch.
    pub batch: usize,
    /// Where the stage stands in its file.
    pub site: Site,
}
