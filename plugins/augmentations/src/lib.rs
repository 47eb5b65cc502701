//! The stock augmentations.
