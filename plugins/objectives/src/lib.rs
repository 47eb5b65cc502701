//! The stock objectives.

pub mod adversary;
pub mod advice;
pub mod groups;
pub mod head;
pub mod moco;
pub mod queue;
pub mod seed;

pub use moco::MoCo;
pub use seed::SEED;
