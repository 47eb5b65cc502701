//! The harness of the tests that cross crates.

pub mod bench;
pub mod collectives;
pub mod golden;
pub mod library;
pub mod outside;
pub mod plugin;
pub mod program;
pub mod run_folder;
pub mod small;
