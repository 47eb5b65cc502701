//! The stock optimisers and schedules.

pub mod adamw;
pub mod constant;
pub mod cosine;
pub mod lars;
pub mod sgd;
pub mod step;

pub use adamw::AdamW;
pub use constant::Constant;
pub use cosine::Cosine;
pub use lars::LARS;
pub use sgd::SGD;
pub use step::Step;
