//! The stock optimisers and schedules.

pub mod adamw;
pub mod constant;
pub mod cosine;
pub mod lars;
pub mod linear_warmup;
pub mod polynomial;
pub mod sgd;
pub mod step;

pub use adamw::AdamW;
pub use constant::Constant;
pub use cosine::Cosine;
pub use lars::LARS;
pub use linear_warmup::LinearWarmup;
pub use polynomial::Polynomial;
pub use sgd::SGD;
pub use step::Step;
