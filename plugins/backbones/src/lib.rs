//! The stock backbones.
//!
//! One file for each family of networks: its architecture as tables, its parameter names as in the reference state
//! dicts, and how its weights start.

pub mod efficientnet;
pub mod mobilenet_v3;
pub mod resnet;
pub mod simclr;
pub mod swav;
pub mod vit;
