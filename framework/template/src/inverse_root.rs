//! The schedule of the first Transformers (Vaswani et al. 2017, equation 3).
//!
//! The factor rises in a line to 1 and then falls with one over the square root of the epochs, slower than a cosine: there
//! is no end that it must know.

use smallfry::{Context, Invalid, Schedule, plugin};

plugin! {
    /// Rises in a line, then falls with one over the square root
    pub struct InverseRoot: Schedule {
        /// Epochs until the full rate, at least 1.
        warmup: usize = 5,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> {
        if self.warmup == 0 {
            return Err(Invalid::new("warmup", "must be above 0"));
        }
        Ok(Box::new(self))
    }
}

impl Schedule for InverseRoot {
    fn factor(&self, epoch: usize, _: usize) -> f64 {
        let share = (epoch + 1) as f64 / self.warmup as f64;
        share.min(share.sqrt().recip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_and_falls() {
        let schedule = InverseRoot { warmup: 4 };
        let factors: Vec<_> = (0..16).map(|epoch| schedule.factor(epoch, 16)).collect();
        assert_eq!(factors[..4], [0.25, 0.5, 0.75, 1.0]);
        assert_eq!(factors[15], 0.5);
    }
}
