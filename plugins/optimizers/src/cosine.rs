//! Half a cosine from the optimiser's learning rate towards zero (Loshchilov & Hutter 2017, without restarts).
//!
//! The rate is constant within an epoch, unless it is asked for per step, and the last epoch's is not zero: epoch e of E
//! has ½ (1 + cos(π e / E)).

use std::f64::consts::PI;

use smallfry::{
    Context, Invalid, Schedule, plugin,
    schedule::{Per, Progress},
};

plugin! {
    /// Half a cosine from the optimiser's learning rate towards zero
    pub struct Cosine: Schedule {
        /// How often the rate changes: once per `Epoch`, as in the reference, or every `Step`.
        per: Per = Per::Epoch,
        /// What the factor tends to, from 0 to 1.
        end: f64 = 0.0,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> {
        if !(0.0..=1.0).contains(&self.end) {
            return Err(Invalid::new("end", "must be from 0 to 1"));
        }
        Ok(Box::new(self))
    }
}

impl Cosine {
    fn at(&self, epoch: f64, epochs: usize) -> f64 {
        let half = 0.5 * (1.0 + (PI * epoch / epochs as f64).cos());
        self.end + (1.0 - self.end) * half
    }
}

impl Schedule for Cosine {
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
    fn it_starts_at_one_and_halves_in_the_middle() {
        let cosine = Cosine::default();
        assert_eq!(cosine.factor(0, 10), 1.0);
        assert!((cosine.factor(5, 10) - 0.5).abs() < 1e-15);
        assert!(cosine.factor(9, 10) > 0.0);
    }

    #[test]
    fn it_changes_per_step_where_asked_and_ends_where_asked() {
        let at = |per, epoch, step| {
            let cosine = Cosine { per, end: 0.2 };
            cosine.factor_at(Progress {
                epoch,
                epochs: 2,
                step,
                steps: 4,
            })
        };
        assert_eq!(at(Per::Epoch, 1, 3), at(Per::Epoch, 1, 0));
        assert_eq!(at(Per::Step, 1, 0), at(Per::Epoch, 1, 0));
        // Half-way: 0.2 + 0.8 / 2.
        assert!((at(Per::Step, 1, 0) - 0.6).abs() < 1e-15);
        // 7 of 8: 0.2 + 0.4 (1 + cos(7π/8)).
        assert!((at(Per::Step, 1, 3) - (0.6 + 0.4 * (7.0 * PI / 8.0).cos())).abs() < 1e-15);
    }
}
