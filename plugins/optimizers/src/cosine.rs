//! Half a cosine from the optimiser's learning rate towards zero (Loshchilov & Hutter 2017, without restarts).
//!
//! The rate is constant within an epoch and the last epoch's is not zero: epoch e of E has ½ (1 + cos(π e / E)).

use std::f64::consts::PI;

use smallfry::{Context, Invalid, Schedule, plugin};

plugin! {
    /// Half a cosine from the optimiser's learning rate towards zero, set once per epoch
    pub struct Cosine: Schedule {}

    fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> {
        Ok(Box::new(self))
    }
}

impl Schedule for Cosine {
    fn factor(&self, epoch: usize, epochs: usize) -> f64 {
        0.5 * (1.0 + (PI * epoch as f64 / epochs as f64).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_one_and_halves_in_the_middle() {
        assert_eq!(Cosine {}.factor(0, 10), 1.0);
        assert!((Cosine {}.factor(5, 10) - 0.5).abs() < 1e-15);
        assert!(Cosine {}.factor(9, 10) > 0.0);
    }
}
