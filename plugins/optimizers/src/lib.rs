//! The stock optimisers and schedules.

pub mod constant;
pub mod cosine;
pub mod sgd;
pub mod step;

pub use constant::Constant;
pub use cosine::Cosine;
pub use sgd::SGD;
pub use step::Step;
