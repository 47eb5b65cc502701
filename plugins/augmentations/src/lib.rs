//! The stock augmentations: those of MoCo v2 with the strengths of the small-model papers, hide-and-seek, pairs of crops
//! that overlap as wanted, and whole published recipes.
//!
//! Pixels come out as from torchvision with Pillow, byte for byte; what is drawn at random follows the same
//! distributions, but not the same numbers.

mod center_crop;
mod color_jitter;
mod drop_overlap;
mod gaussian_blur;
mod grayscale;
mod hide_and_seek;
mod horizontal_flip;
mod iou_pair;
mod presets;
mod random_resized_crop;
mod resize;

pub use center_crop::CenterCrop;
pub use color_jitter::ColorJitter;
pub use drop_overlap::DropOverlap;
pub use gaussian_blur::GaussianBlur;
pub use grayscale::Grayscale;
pub use hide_and_seek::HideAndSeek;
pub use horizontal_flip::HorizontalFlip;
pub use iou_pair::IoUPair;
pub use presets::{MoCoV1, MoCoV2, SimCLR, SwAV, SwAVPatch};
pub use random_resized_crop::RandomResizedCrop;
pub use resize::Resize;

use smallfry::Invalid;

/// The largest side of a view, in pixels.
const LARGEST: usize = 4096;

/// Refuses what is no probability.
fn check_probability(field: &'static str, p: f64) -> Result<(), Invalid> {
    match p {
        0.0..=1.0 => Ok(()),
        _ => Err(Invalid::new(field, "must be a probability, from 0 to 1")),
    }
}

/// Refuses a side that no view can have.
fn check_side(field: &'static str, side: usize) -> Result<(), Invalid> {
    match side {
        1..=LARGEST => Ok(()),
        _ => Err(Invalid::new(
            field,
            format!("must be from 1 to {LARGEST} pixels"),
        )),
    }
}

/// Refuses a range that is empty or does not lie above `low` and up to `high`.
fn check_range(
    field: &'static str,
    (from, to): (f64, f64),
    low: f64,
    high: f64,
) -> Result<(), Invalid> {
    if from > low && from <= to && to <= high {
        Ok(())
    } else if high.is_finite() {
        Err(Invalid::new(
            field,
            format!("must be a range (low, high) above {low}, up to {high}"),
        ))
    } else {
        Err(Invalid::new(
            field,
            format!("must be a range (low, high) above {low}"),
        ))
    }
}

#[cfg(test)]
mod tests;
