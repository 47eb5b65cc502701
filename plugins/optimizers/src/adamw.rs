//! Adam with decoupled weight decay (Loshchilov & Hutter 2019), as PyTorch defines it.
//!
//! Weight decay takes its share of the weight itself, scaled by the learning rate, and does not enter the means. The means
//! start as zeros and are scaled up for it, so the rule must know how many steps it has taken; that number is saved with
//! them.

use smallfry::{
    Context, Invalid, Optimizer,
    nn::{Parameters, optimizer},
    optimizer::{Descent, Exempt, Shares},
    plugin,
};

plugin! {
    /// Adam with decoupled weight decay
    pub struct AdamW: Optimizer {
        /// Learning rate, above 0; a schedule scales it.
        lr: f64 = 1e-3,
        /// Shares of the last means of the gradient and of its square that are kept, each from 0 to below 1.
        betas: (f64, f64) = (0.9, 0.999),
        /// Added to the root of the mean square, above 0.
        epsilon: f64 = 1e-8,
        /// Weight decay: a step takes this share of each weight, times the learning rate; at least 0.
        weight_decay: f64 = 1e-2,
        /// Tensors without weight decay: `Biases`, `Norms`, `Named("pos_embed")`.
        no_decay: Vec<Exempt> = Vec::new(),
    }

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, Invalid> {
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return Err(Invalid::new("lr", "must be above 0"));
        }
        let share = 0.0..1.0;
        if !(share.contains(&self.betas.0) && share.contains(&self.betas.1)) {
            return Err(Invalid::new("betas", "must each be at least 0 and below 1"));
        }
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return Err(Invalid::new("epsilon", "must be above 0"));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(Invalid::new("weight_decay", "must be at least 0"));
        }
        Ok(Box::new(self))
    }
}

impl Optimizer for AdamW {
    fn rate(&self) -> f64 {
        self.lr
    }

    fn check(&self, parameters: &Parameters) -> Result<(), Invalid> {
        Shares::check("no_decay", parameters, &self.no_decay)
    }

    fn start(&self, parameters: &Parameters) -> Box<dyn Descent> {
        let zeros = || vec![0.0; parameters.values().len()];
        Box::new(Moments {
            rule: optimizer::AdamW {
                rate: self.lr,
                betas: self.betas,
                epsilon: self.epsilon,
                decay: self.weight_decay,
                steps: 0,
            },
            shares: Shares::of(parameters, &self.no_decay),
            means: zeros(),
            squares: zeros(),
        })
    }
}

/// The rule at work.
struct Moments {
    /// As of the last step.
    rule: optimizer::AdamW,
    shares: Shares,
    means: Vec<f32>,
    squares: Vec<f32>,
}

impl Descent for Moments {
    fn step(&mut self, parameters: &mut Parameters, rate: f64) {
        self.rule.rate = rate;
        self.rule.steps += 1;
        let exempt = optimizer::AdamW {
            decay: 0.0,
            ..self.rule
        };
        for (rule, ranges) in [
            (self.rule, &self.shares.decayed),
            (exempt, &self.shares.exempt),
        ] {
            rule.step(parameters, &mut self.means, &mut self.squares, ranges);
        }
    }

    fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![("exp_avg", &self.means), ("exp_avg_sq", &self.squares)]
    }

    fn state_mut(&mut self) -> Vec<(&'static str, &mut Vec<f32>)> {
        vec![
            ("exp_avg", &mut self.means),
            ("exp_avg_sq", &mut self.squares),
        ]
    }

    fn steps(&self) -> Option<u64> {
        Some(self.rule.steps)
    }

    fn set_steps(&mut self, steps: u64) {
        self.rule.steps = steps;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use smallfry::Plugin;

    use super::*;

    #[test]
    fn impossible_values_are_named() {
        let context = Context {
            folder: Path::new("."),
        };
        let fault = |change: fn(&mut AdamW)| {
            let mut rule = AdamW::default();
            change(&mut rule);
            rule.build(&context).err().map(|invalid| invalid.field())
        };
        assert_eq!(fault(|_| ()), None);
        assert_eq!(fault(|rule| rule.lr = 0.0), Some("lr"));
        assert_eq!(fault(|rule| rule.betas = (0.9, 1.0)), Some("betas"));
        assert_eq!(fault(|rule| rule.betas.0 = f64::NAN), Some("betas"));
        assert_eq!(fault(|rule| rule.epsilon = 0.0), Some("epsilon"));
        assert_eq!(fault(|rule| rule.weight_decay = -1.0), Some("weight_decay"));
    }
}
