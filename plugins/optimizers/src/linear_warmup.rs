//! A learning rate that rises in a line before another schedule takes over.
//!
//! SEED's is `LinearWarmup(epochs: 5, start: 1.0, peak: M, then: Cosine)`, where M is its batch divided by 256: the rate
//! goes from the optimiser's to M times it, and the cosine counts its epochs from the start of the run, so that it has
//! fallen a little where it takes over. Where M is 1, nothing rises.

use std::sync::Arc;

use smallfry::{
    Context, Invalid, Schedule, plugin,
    registry::{Built, Nested},
    schedule::{Per, Progress},
};

plugin! {
    /// Rises in a line for some epochs, then follows another schedule
    pub struct LinearWarmup: Schedule {
        /// Epochs until the full rate.
        epochs: usize = 5,
        /// The factor that it starts from, at least 0.
        start: f64 = 0.0,
        /// The factor that it rises to, above 0; it also multiplies the schedule that follows.
        peak: f64 = 1.0,
        /// How often the rate changes in the rise: once per `Epoch`, or every `Step`.
        per: Per = Per::Epoch,
        /// Whether the schedule that follows starts when the rise ends; it goes by the epochs of the whole run if not.
        shift: bool = false,
        /// The schedule that follows.
        then: Nested<dyn Schedule> = Nested::of("Cosine"),
    }

    fn build(self, context: &Context) -> Result<Box<dyn Schedule>, Invalid> {
        if !(self.start >= 0.0 && self.start.is_finite()) {
            return Err(Invalid::new("start", "must be at least 0"));
        }
        if !(self.peak > 0.0 && self.peak.is_finite()) {
            return Err(Invalid::new("peak", "must be above 0"));
        }
        Ok(Box::new(Rise {
            then: self.then.build("then", context)?,
            rule: self,
        }))
    }
}

/// The schedule with the one that follows.
struct Rise {
    rule: LinearWarmup,
    then: Arc<Built<dyn Schedule>>,
}

impl Rise {
    /// The factor after `done` epochs of the rise.
    fn rising(&self, done: f64) -> f64 {
        let LinearWarmup { start, peak, .. } = self.rule;
        start + (peak - start) / self.rule.epochs as f64 * done
    }

    /// How many epochs the schedule that follows does not see.
    fn hidden(&self) -> usize {
        match self.rule.shift {
            true => self.rule.epochs,
            false => 0,
        }
    }
}

impl Schedule for Rise {
    fn factor(&self, epoch: usize, epochs: usize) -> f64 {
        if epoch < self.rule.epochs {
            return self.rising(epoch as f64);
        }
        let hidden = self.hidden();
        self.rule.peak * self.then.plugin.factor(epoch - hidden, epochs - hidden)
    }

    fn factor_at(&self, progress: Progress) -> f64 {
        if progress.epoch < self.rule.epochs {
            return self.rising(progress.done(self.rule.per));
        }
        let hidden = self.hidden();
        let after = Progress {
            epoch: progress.epoch - hidden,
            epochs: progress.epochs - hidden,
            ..progress
        };
        self.rule.peak * self.then.plugin.factor_at(after)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use smallfry::Plugin;

    use super::*;

    fn built(change: impl Fn(&mut LinearWarmup)) -> Result<Box<dyn Schedule>, Invalid> {
        let context = Context {
            folder: Path::new("."),
        };
        let mut rule = LinearWarmup {
            epochs: 4,
            ..LinearWarmup::default()
        };
        change(&mut rule);
        rule.build(&context)
    }

    #[test]
    fn it_rises_and_hands_over() {
        let factors = |shift| -> Vec<f64> {
            let schedule = built(|rule| {
                rule.peak = 2.0;
                rule.shift = shift;
                rule.then = Nested::of("Step(milestones: [5], factor: 0.5)");
            });
            let schedule = schedule.expect("it can be built");
            (0..10).map(|epoch| schedule.factor(epoch, 10)).collect()
        };
        assert_eq!(
            factors(false),
            [0.0, 0.5, 1.0, 1.5, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
        );
        assert_eq!(
            factors(true),
            [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0]
        );
    }

    #[test]
    fn steps_lie_between_epochs() {
        let schedule = built(|rule| {
            rule.per = Per::Step;
            rule.then = Nested::of("Cosine(per: Step)");
        });
        let schedule = schedule.expect("it can be built");
        let at = |epoch, step| {
            schedule.factor_at(Progress {
                epoch,
                epochs: 10,
                step,
                steps: 8,
            })
        };
        assert_eq!(at(0, 4), 0.125);
        assert_eq!(at(3, 0), 0.75);
        assert_eq!(at(5, 0), schedule.factor(5, 10));
        assert!(at(5, 4) < at(5, 0) && at(5, 4) > at(6, 0));
    }

    #[test]
    fn a_run_that_ends_within_the_rise_is_none_of_the_second_schedule() {
        let schedule = built(|rule| rule.shift = true).expect("it can be built");
        assert_eq!(schedule.factor(1, 2), 0.25);
    }

    #[test]
    fn impossible_values_are_named() {
        let fault = |change: fn(&mut LinearWarmup)| {
            let built = built(change);
            built.err().map(|invalid| invalid.field())
        };
        assert_eq!(fault(|_| ()), None);
        assert_eq!(fault(|rule| rule.start = -0.1), Some("start"));
        assert_eq!(fault(|rule| rule.peak = 0.0), Some("peak"));
        assert_eq!(
            fault(|rule| rule.then = Nested::of("Cosinus")),
            Some("then")
        );
    }
}
