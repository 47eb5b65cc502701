//! The stock backbones.
