//! A learning rate that does not change.

use smallfry::{Context, Invalid, Schedule, plugin};

plugin! {
    /// The optimiser's learning rate in every epoch
    pub struct Constant: Schedule {}

    fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> {
        Ok(Box::new(self))
    }
}

impl Schedule for Constant {
    fn factor(&self, _epoch: usize, _epochs: usize) -> f64 {
        1.0
    }
}
