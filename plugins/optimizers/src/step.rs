//! A learning rate that drops at given epochs.

use smallfry::{Context, Invalid, Schedule, plugin};

plugin! {
    /// Multiplies the learning rate by a factor at each milestone
    pub struct Step: Schedule {
        /// Epochs, counted from 0, from which on the rate is multiplied once more; ascending.
        milestones: Vec<usize> = vec![120, 160],
        /// What it is multiplied by, above 0.
        factor: f64 = 0.1,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> {
        if !(self.factor > 0.0 && self.factor.is_finite()) {
            return Err(Invalid::new("factor", "must be above 0"));
        }
        if !self.milestones.is_sorted() {
            return Err(Invalid::new("milestones", "must be in ascending order"));
        }
        Ok(Box::new(self))
    }
}

impl Schedule for Step {
    fn factor(&self, epoch: usize, _epochs: usize) -> f64 {
        let passed = self.milestones.iter().filter(|&&at| at <= epoch);
        passed.fold(1.0, |rate, _| rate * self.factor)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use smallfry::Plugin;

    use super::*;

    #[test]
    fn it_drops_from_each_milestone_on() {
        let step = Step {
            milestones: vec![2, 4],
            factor: 0.5,
        };
        let rates: Vec<f64> = (0..6).map(|epoch| step.factor(epoch, 6)).collect();
        assert_eq!(rates, [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
    }

    #[test]
    fn impossible_values_are_named() {
        let context = Context {
            folder: Path::new("."),
        };
        let fault = |milestones: &[usize], factor| {
            let step = Step {
                milestones: milestones.to_vec(),
                factor,
            };
            step.build(&context).err().map(|invalid| invalid.field())
        };
        assert_eq!(fault(&[1, 2], 0.1), None);
        assert_eq!(fault(&[2, 1], 0.1), Some("milestones"));
        assert_eq!(fault(&[], 0.0), Some("factor"));
        assert_eq!(fault(&[], f64::NAN), Some("factor"));
    }
}
