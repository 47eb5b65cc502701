//! The stock objectives.

pub mod groups;
pub mod head;
pub mod moco;
pub mod queue;

pub use moco::MoCo;
