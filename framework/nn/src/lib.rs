//! Network descriptions and the CPU executor that trains and runs them.
//!
//! A backbone *describes* its network as a list of blocks ([`network`]); [`Parameters`] holds every tensor of it under
//! its reference name in one arena; an [`Executor`] plans the blocks for a batch shape and runs them forward and
//! backward. Nothing here knows image files, dfdx or experiments.

pub mod executor;
pub mod init;
pub mod kernel;
pub mod layer;
pub mod memory;
pub mod network;
pub mod optimizer;
pub mod parameter;
mod random;

pub use executor::{Executor, Images, Mode};
pub use network::Network;
pub use parameter::Parameters;
