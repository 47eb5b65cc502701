//! smallfry: contrastive self-supervised learning of small vision models.
//!
//! The framework defines what plugins implement (backbones, augmentations, objectives, metrics, data sets, optimisers,
//! schedules), collects them in registries, combines them as an experiment file says, and trains and evaluates. It
//! names no plugin itself; a program links the plugins it wants and calls [`cli::main`].

extern crate self as smallfry;

pub mod advice;
pub mod augmentation;
pub mod backbone;
pub mod change;
pub mod checkpoint;
pub mod cli;
mod collapse;
pub mod compare;
pub mod convert;
pub mod dataset;
pub mod diagnostic;
pub mod distributed;
pub mod doctor;
pub mod dynamic;
pub mod encoder;
pub mod evaluate;
pub mod events;
pub mod executed;
pub mod experiment;
pub mod failure;
pub mod fingerprint;
mod lines;
pub mod log;
pub mod map;
pub mod measure;
pub mod metric;
pub mod objective;
pub mod operation;
pub mod optimizer;
pub mod overrides;
pub mod plan;
pub mod plugin;
pub mod preflight;
pub mod probe;
mod protobuf;
pub mod registry;
pub mod report;
pub mod results;
pub mod run;
pub mod schedule;
pub mod source;
pub mod statics;
pub mod sweep;
pub mod tensor;
pub mod testing;
mod text;
pub mod train;
pub mod tsne;
pub mod workplace;

pub use augmentation::{Augmentation, JointAugmentation};
pub use backbone::{Backbone, Head};
pub use dataset::DataSet;
pub use encoder::Encoder;
pub use metric::Metric;
pub use objective::Objective;
pub use optimizer::Optimizer;
pub use registry::{Context, Invalid, Plugin};
pub use schedule::Schedule;

// For the expansion of `plugin!` and for plugin authors, so that a plugin crate needs one dependency.
pub use dfdx;
pub use inventory;
pub use serde;
pub use smallfry_data as data;
pub use smallfry_nn as nn;
