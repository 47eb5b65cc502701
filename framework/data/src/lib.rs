//! Data sets, image decoding, Pillow-exact image operations and deterministic loading.
//!
//! This is the only part of smallfry that knows image files; it knows no tensor, only pixels and normalised floats.

pub mod dataset;
pub mod image;
pub mod random;
pub mod view;

pub use crate::dataset::Dataset;
pub use crate::image::Image;
