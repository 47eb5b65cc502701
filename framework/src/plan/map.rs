//! The plan of a stage that draws a map of features.

use serde::{Deserialize, Serialize};

use super::{Images, Subject};
use crate::{source::Site, tsne::Settings};

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
    /// Views of each image on the map beside it, the first of the set's; fewer where it has fewer.
    pub views: usize,
    /// How points are placed; the seed is the experiment's.
    pub layout: Settings,
    /// Images that the figure of views shows.
    pub pairs: usize,
    /// What the figure of views shows enlarged.
    pub zoom: Zoom,
    /// Side of the square input in pixels; the backbone's own where none.
    pub size: Option<usize>,
    /// Length of the shorter side before the centre crop; the backbone's own share where none.
    pub resize: Option<usize>,
    /// Images in a batch.
    pub batch: usize,
    /// Whether features are kept on disk for the next time.
    pub cache: bool,
    /// Where the stage stands in its file.
    pub site: Site,
}

/// What a figure shows enlarged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Zoom {
    /// Nothing.
    None,
    /// The part of the map that shows the most images together with their views.
    Auto,
    /// This part of the map, whose coordinates a first map tells.
    Window {
        /// From left to right.
        x: (f64, f64),
        /// From the bottom to the top.
        y: (f64, f64),
    },
}
