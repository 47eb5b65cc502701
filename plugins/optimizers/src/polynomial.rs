//! A learning rate that falls as a power of what is left of the run.

use smallfry::{
    Context, Invalid, Schedule, plugin,
    schedule::{Per, Progress},
};

plugin! {
    /// A power of the share of the run that is left: a line for power 1
    pub struct Polynomial: Schedule {
        /// The power, above 0.
        power: f64 = 1.0,
        /// How often the rate changes: once per `Epoch`, or every `Step`.
        per: Per = Per::Epoch,
        /// What the factor tends to, from 0 to 1.
        end: f64 = 0.0,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> {
        if !(self.power > 0.0 && self.power.is_finite()) {
            return Err(Invalid::new("power", "must be above 0"));
        }
        if !(0.0..=1.0).contains(&self.end) {
            return Err(Invalid::new("end", "must be from 0 to 1"));
        }
        Ok(Box::new(self))
    }
}

impl Polynomial {
    fn at(&self, epoch: f64, epochs: usize) -> f64 {
        let left = (1.0 - epoch / epochs as f64).max(0.0);
        self.end + (1.0 - self.end) * left.powf(self.power)
    }
}

impl Schedule for Polynomial {
    fn factor(&self, epoch: usize, epochs: usize) -> f64 {
        self.at(epoch as f64, epochs)
    }

    fn factor_at(&self, progress: Progress) -> f64 {
        self.at(progress.done(self.per), progress.epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_falls_from_one_to_its_end() {
        let square = Polynomial {
            power: 2.0,
            end: 0.5,
            ..Polynomial::default()
        };
        assert_eq!(square.factor(0, 4), 1.0);
        assert_eq!(square.factor(2, 4), 0.625);
        let line = Polynomial {
            per: Per::Step,
            ..Polynomial::default()
        };
        let progress = Progress {
            epoch: 1,
            epochs: 2,
            step: 1,
            steps: 4,
        };
        assert_eq!(line.factor_at(progress), 0.375);
    }
}
