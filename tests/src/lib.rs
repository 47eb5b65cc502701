//! The harness of the tests that cross crates.

pub mod golden;
pub mod small;
