//! Static views: a set of images with views of each, made once, so that every network is judged on the same pixels.
//!
//! Five published modes say how the two views of an image are cropped; their colours are always those of MoCo v2, whatever
//! a judged network was trained with. Where the mode asks for an overlap, eight more pictures show what it is worth: each
//! view with the overlap painted over, and with a patch of the same size painted elsewhere for comparison. A
//! [`Recipe`] is drawn first and fixes every byte of what is made of it, so that a file can be told from its record.

mod listing;
mod picture;
mod recipe;

use serde::{Deserialize, Serialize};

pub use self::{
    listing::{Listing, Sample},
    picture::{Pictures, paint},
    recipe::{Change, Crop, Fill, Jitter, Pair, Patch, Recipe},
};

/// Side of a view in pixels.
pub const SIDE: usize = 224;

/// How the two views of an image are cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Each from anywhere in the image, as MoCo v2 does.
    MoCo,
    /// From two different quarters of the image.
    NoInter,
    /// With an IoU from 1e-4 to 0.05.
    SuperHard,
    /// With an IoU from 0.05 to 0.25.
    Hard,
    /// With an IoU from 0.25 to 1.
    Easy,
}

/// What is asked of two crops of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overlap {
    /// The least IoU.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// Draws that may miss; the next one is taken as it is.
    pub tolerance: usize,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 5] = [
        Self::MoCo,
        Self::NoInter,
        Self::SuperHard,
        Self::Hard,
        Self::Easy,
    ];

    /// Files of an image: the image itself and its pictures.
    pub fn files(self) -> usize {
        match self.overlap() {
            None => 3,
            Some(_) => 11,
        }
    }

    /// What is asked of the two crops, where the mode asks for an overlap.
    pub fn overlap(self) -> Option<Overlap> {
        let (low, high, tolerance) = match self {
            Self::MoCo | Self::NoInter => return None,
            Self::SuperHard => (1e-4, 0.05, 2000),
            Self::Hard => (0.05, 0.25, 1000),
            Self::Easy => (0.25, 1.0, 1000),
        };
        Some(Overlap {
            low,
            high,
            tolerance,
        })
    }
}

#[cfg(test)]
mod tests;
