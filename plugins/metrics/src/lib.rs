//! The stock metrics.

pub mod best_nn;
pub mod nearest;
pub mod space;

pub use best_nn::BestNN;
