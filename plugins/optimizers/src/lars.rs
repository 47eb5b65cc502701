//! Layer-wise adaptive rate scaling (You et al. 2017), for large batches.
//!
//! An update is as long as its tensor, times `trust`: it enters the velocity scaled so, and the learning rate multiplies
//! the velocity. That is the form of the self-supervised methods that use it (BYOL, Barlow Twins, MoCo v3); the paper
//! scales the velocity's increment by the rate as well. Biases and norms, whose lengths say little, take plain momentum
//! steps without decay, unless `plain` says otherwise.

use smallfry::{
    Context, Invalid, Optimizer,
    nn::{
        Parameters,
        optimizer::{Lars, Sgd},
    },
    optimizer::{Descent, Exempt, Shares},
    plugin,
};

plugin! {
    /// Momentum descent whose steps are as long as each tensor, for large batches
    pub struct LARS: Optimizer {
        /// Learning rate, above 0; a schedule scales it.
        lr: f64 = 0.3,
        /// Share of the last velocity that is kept, from 0 to below 1.
        momentum: f64 = 0.9,
        /// Weight decay, added to the gradient as this share of the weight; at least 0.
        weight_decay: f64 = 1e-6,
        /// Length of an update as a share of its tensor's, above 0.
        trust: f64 = 1e-3,
        /// Tensors with plain momentum steps and no weight decay: `Biases`, `Norms`, `Named("pos_embed")`.
        plain: Vec<Exempt> = vec![Exempt::Biases, Exempt::Norms],
    }

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, Invalid> {
        for (field, value) in [("lr", self.lr), ("trust", self.trust)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Invalid::new(field, "must be above 0"));
            }
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Invalid::new("momentum", "must be at least 0 and below 1"));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(Invalid::new("weight_decay", "must be at least 0"));
        }
        Ok(Box::new(self))
    }
}

impl Optimizer for LARS {
    fn rate(&self) -> f64 {
        self.lr
    }

    fn check(&self, parameters: &Parameters) -> Result<(), Invalid> {
        Shares::check("plain", parameters, &self.plain)
    }

    fn start(&self, parameters: &Parameters) -> Box<dyn Descent> {
        Box::new(Scaled {
            momentum: self.momentum as f32,
            decay: self.weight_decay as f32,
            trust: self.trust as f32,
            shares: Shares::of(parameters, &self.plain),
            velocity: vec![0.0; parameters.values().len()],
        })
    }
}

/// The rule at work.
struct Scaled {
    momentum: f32,
    decay: f32,
    trust: f32,
    shares: Shares,
    velocity: Vec<f32>,
}

impl Descent for Scaled {
    fn step(&mut self, parameters: &mut Parameters, rate: f64) {
        let (rate, momentum) = (rate as f32, self.momentum);
        let scaled = Lars {
            rate,
            momentum,
            decay: self.decay,
            trust: self.trust,
        };
        scaled.step(parameters, &mut self.velocity, &self.shares.decayed);
        let plain = Sgd {
            rate,
            momentum,
            decay: 0.0,
            nesterov: false,
        };
        plain.step(parameters, &mut self.velocity, &self.shares.exempt);
    }

    fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![("mu", &self.velocity)]
    }

    fn state_mut(&mut self) -> Vec<(&'static str, &mut Vec<f32>)> {
        vec![("mu", &mut self.velocity)]
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use smallfry::{
        Plugin,
        nn::{
            init::Init,
            network::{Role, Spec},
        },
    };

    use super::*;

    #[test]
    fn a_step_by_hand() {
        let tensor = |name: &str, shape: &[usize]| Spec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            role: Role::Weight,
            init: Init::Constant(0.0),
        };
        let specs = vec![tensor("fc.weight", &[2, 1]), tensor("fc.bias", &[2])];
        let mut parameters = Parameters::new(specs);
        let (values, gradients) = parameters.values_and_gradients_mut();
        values.copy_from_slice(&[3.0, 4.0, 1.0, 1.0]);
        gradients.copy_from_slice(&[0.0, 2.0, 0.0, 2.0]);
        let rule = LARS {
            weight_decay: 0.0,
            trust: 0.125,
            ..LARS::default()
        };
        rule.start(&parameters).step(&mut parameters, 0.5);
        // The matrix is 5 long, its gradient 2: q = 0.125 · 5 / 2, w₂ = 4 − 0.5 · q · 2. The bias moves plainly.
        assert_eq!(parameters.values(), [3.0, 3.6875, 1.0, 0.0]);
    }

    #[test]
    fn impossible_values_are_named() {
        let context = Context {
            folder: Path::new("."),
        };
        let fault = |change: fn(&mut LARS)| {
            let mut rule = LARS::default();
            change(&mut rule);
            rule.build(&context).err().map(|invalid| invalid.field())
        };
        assert_eq!(fault(|_| ()), None);
        assert_eq!(fault(|rule| rule.lr = f64::NAN), Some("lr"));
        assert_eq!(fault(|rule| rule.trust = 0.0), Some("trust"));
        assert_eq!(fault(|rule| rule.momentum = 1.0), Some("momentum"));
        assert_eq!(fault(|rule| rule.weight_decay = -1.0), Some("weight_decay"));
    }
}
