//! Stochastic gradient descent with momentum, as PyTorch defines it.
//!
//! v ← μ v + (g + λ w), then w ← w − η v. The learning rate multiplies the velocity and is not part of it, so a change
//! of the rate acts at once. Weight decay acts on every trained tensor, scales and biases of batch norms included, unless
//! `no_decay` lists them; frozen tensors are left alone.

use smallfry::{
    Context, Invalid, Optimizer,
    nn::{Parameters, optimizer::Sgd},
    optimizer::{Descent, Exempt, Shares},
    plugin,
};

plugin! {
    /// Stochastic gradient descent with momentum and weight decay
    pub struct SGD: Optimizer {
        /// Learning rate, above 0; a schedule scales it.
        lr: f64 = 0.03,
        /// Share of the last velocity that is kept, from 0 to below 1.
        momentum: f64 = 0.9,
        /// Weight decay, added to the gradient as this share of the weight; at least 0.
        weight_decay: f64 = 1e-4,
        /// Tensors without weight decay: `Biases`, `Norms`, `Named("pos_embed")`.
        no_decay: Vec<Exempt> = Vec::new(),
        /// Whether the gradient is taken where the velocity leads (Nesterov).
        nesterov: bool = false,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, Invalid> {
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return Err(Invalid::new("lr", "must be above 0"));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Invalid::new("momentum", "must be at least 0 and below 1"));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(Invalid::new("weight_decay", "must be at least 0"));
        }
        if self.nesterov && self.momentum == 0.0 {
            return Err(Invalid::new("nesterov", "needs a momentum above 0"));
        }
        Ok(Box::new(self))
    }
}

impl Optimizer for SGD {
    fn rate(&self) -> f64 {
        self.lr
    }

    /// That of MoCo (He et al. 2020); the small models' recipe, 0.06 at 512 images, is the same in proportion.
    fn reference_rate(&self) -> Option<(f64, usize)> {
        Some((0.03, 256))
    }

    fn check(&self, parameters: &Parameters) -> Result<(), Invalid> {
        Shares::check("no_decay", parameters, &self.no_decay)
    }

    fn start(&self, parameters: &Parameters) -> Box<dyn Descent> {
        Box::new(Velocity {
            rule: Sgd {
                rate: 0.0,
                momentum: self.momentum as f32,
                decay: self.weight_decay as f32,
                nesterov: self.nesterov,
            },
            shares: Shares::of(parameters, &self.no_decay),
            velocity: vec![0.0; parameters.values().len()],
        })
    }
}

/// The rule at work.
struct Velocity {
    /// At no rate yet.
    rule: Sgd,
    shares: Shares,
    velocity: Vec<f32>,
}

impl Descent for Velocity {
    fn step(&mut self, parameters: &mut Parameters, rate: f64) {
        let decaying = Sgd {
            rate: rate as f32,
            ..self.rule
        };
        decaying.step(parameters, &mut self.velocity, &self.shares.decayed);
        let exempt = Sgd {
            decay: 0.0,
            ..decaying
        };
        exempt.step(parameters, &mut self.velocity, &self.shares.exempt);
    }

    fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![("momentum_buffer", &self.velocity)]
    }

    fn state_mut(&mut self) -> Vec<(&'static str, &mut Vec<f32>)> {
        vec![("momentum_buffer", &mut self.velocity)]
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

    fn parameters(roles: &[Role]) -> Parameters {
        let specs = roles.iter().enumerate().map(|(i, &role)| Spec {
            name: format!("tensor{i}"),
            shape: vec![2],
            role,
            init: Init::Constant(0.0),
        });
        let mut parameters = Parameters::new(specs.collect());
        parameters.values_mut().fill(1.0);
        parameters.values_and_gradients_mut().1.fill(0.5);
        parameters
    }

    #[test]
    fn two_steps_by_hand() {
        let rule = SGD {
            lr: 0.5,
            momentum: 0.5,
            weight_decay: 0.25,
            ..SGD::default()
        };
        let mut parameters = parameters(&[Role::Weight]);
        let mut descent = rule.start(&parameters);
        descent.step(&mut parameters, rule.rate());
        // v = 0.5 + 0.25 · 1, w = 1 − 0.5 · v.
        assert_eq!(parameters.values(), [0.625, 0.625]);
        descent.step(&mut parameters, rule.rate());
        // v = 0.5 · 0.75 + (0.5 + 0.25 · 0.625).
        assert_eq!(descent.state()[0].1, [1.03125, 1.03125]);
        assert_eq!(parameters.values(), [0.109375, 0.109375]);
    }

    #[test]
    fn exempt_tensors_do_not_decay() {
        let rule = SGD {
            no_decay: vec![Exempt::Named("tensor1".to_owned())],
            weight_decay: 0.25,
            ..SGD::default()
        };
        let mut parameters = parameters(&[Role::Weight, Role::Weight]);
        rule.start(&parameters).step(&mut parameters, 0.5);
        assert_eq!(parameters.values(), [0.625, 0.625, 0.75, 0.75]);
    }

    #[test]
    fn frozen_tensors_and_statistics_do_not_move() {
        let mut parameters = parameters(&[Role::Weight, Role::Frozen, Role::Weight]);
        let rule = SGD::default();
        rule.start(&parameters).step(&mut parameters, 0.1);
        assert_ne!(parameters.weight("tensor0"), [1.0, 1.0]);
        assert_eq!(parameters.weight("tensor1"), [1.0, 1.0]);
        assert_eq!(parameters.weight("tensor2"), parameters.weight("tensor0"));
    }

    #[test]
    fn a_restored_state_goes_on_as_if_never_stopped() {
        let rule = SGD::default();
        let mut straight = parameters(&[Role::Weight]);
        let mut descent = rule.start(&straight);
        descent.step(&mut straight, 0.1);
        let mut resumed = straight.clone();
        let mut restored = rule.start(&resumed);
        for ((name, saved), (other, place)) in descent.state().iter().zip(restored.state_mut()) {
            assert_eq!(*name, other);
            place.copy_from_slice(saved);
        }
        descent.step(&mut straight, 0.01);
        restored.step(&mut resumed, 0.01);
        assert_eq!(straight.values(), resumed.values());
    }

    #[test]
    fn impossible_values_are_named() {
        let context = Context {
            folder: Path::new("."),
        };
        let fault = |lr, momentum, weight_decay| {
            let rule = SGD {
                lr,
                momentum,
                weight_decay,
                ..SGD::default()
            };
            rule.build(&context).err().map(|invalid| invalid.field())
        };
        assert_eq!(fault(30.0, 0.0, 0.0), None);
        assert_eq!(fault(0.0, 0.9, 0.0), Some("lr"));
        assert_eq!(fault(f64::INFINITY, 0.9, 0.0), Some("lr"));
        assert_eq!(fault(0.1, 1.0, 0.0), Some("momentum"));
        assert_eq!(fault(0.1, 0.9, -1e-4), Some("weight_decay"));
        assert_eq!(fault(0.1, 0.9, f64::NAN), Some("weight_decay"));
    }
}
