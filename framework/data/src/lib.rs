//! Data sets, image decoding, Pillow-exact image operations and deterministic loading.
//!
//! This is the only part of smallfry that knows image files; it knows no tensor, only pixels and normalised floats.
//! Everything random takes a [`random::Random`] keyed by what it is for, so that the bytes of a batch depend on the
//! seed and never on threads or on what was loaded before.

pub mod base64;
mod buffer;
pub mod dataset;
pub mod decode;
pub mod encode;
pub mod image;
pub mod kernel;
pub mod loader;
pub mod normalize;
pub mod operation;
pub mod random;
pub mod statics;
pub mod view;

pub use crate::dataset::{Dataset, LoadError};
pub use crate::image::Image;
pub use crate::view::View;
