//! The stock metrics.

pub mod best_nn;
pub mod nearest;
pub mod ridge;
pub mod space;

pub use best_nn::BestNN;
pub use ridge::RidgeProbe;
