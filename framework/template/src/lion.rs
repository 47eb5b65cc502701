//! Lion, an optimizer of signs (Chen et al. 2023, "Symbolic discovery of optimization algorithms", program 1).
//!
//! Every weight moves by the same amount, so the rate is about a tenth of what Adam takes. The momentum that decides the
//! sign is not the one that is kept: two factors, not one.

use smallfry::{Context, Invalid, Optimizer, nn::Parameters, optimizer::Descent, plugin};

plugin! {
    /// Steps of equal size along the signs of a momentum
    pub struct Lion: Optimizer {
        /// Learning rate, above 0; a schedule scales it.
        lr: f64 = 1e-4,
        /// Share of the momentum in what decides the signs, from 0 to below 1.
        inner: f64 = 0.9,
        /// Share of the last momentum that is kept, from 0 to below 1.
        outer: f64 = 0.99,
        /// Weight decay, a share of the weight times the rate; at least 0.
        weight_decay: f64 = 0.0,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, Invalid> {
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return Err(Invalid::new("lr", "must be above 0"));
        }
        for (name, share) in [("inner", self.inner), ("outer", self.outer)] {
            if !(0.0..1.0).contains(&share) {
                return Err(Invalid::new(name, "must be at least 0 and below 1"));
            }
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(Invalid::new("weight_decay", "must be at least 0"));
        }
        Ok(Box::new(self))
    }
}

impl Optimizer for Lion {
    fn rate(&self) -> f64 {
        self.lr
    }

    fn start(&self, parameters: &Parameters) -> Box<dyn Descent> {
        Box::new(Signs {
            inner: self.inner as f32,
            outer: self.outer as f32,
            decay: self.weight_decay as f32,
            momentum: vec![0.0; parameters.values().len()],
        })
    }
}

/// The rule at work.
struct Signs {
    inner: f32,
    outer: f32,
    decay: f32,
    /// Laid out as the weights, as all state must be.
    momentum: Vec<f32>,
}

impl Descent for Signs {
    fn step(&mut self, parameters: &mut Parameters, rate: f64) {
        let rate = rate as f32;
        // Frozen tensors lie in the same arena and stay as they are.
        for range in parameters.trained_ranges() {
            let (values, gradients) = parameters.values_and_gradients_mut();
            let gradients = &gradients[range.clone()];
            let momentum = &mut self.momentum[range.clone()];
            for ((value, gradient), momentum) in
                values[range].iter_mut().zip(gradients).zip(momentum)
            {
                let mixed = self.inner * *momentum + (1.0 - self.inner) * gradient;
                // `signum` of 0 is 1.
                let sign = if mixed == 0.0 { 0.0 } else { mixed.signum() };
                *value -= rate * (sign + self.decay * *value);
                *momentum = self.outer * *momentum + (1.0 - self.outer) * gradient;
            }
        }
    }

    fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![("momentum", &self.momentum)]
    }

    fn state_mut(&mut self) -> Vec<(&'static str, &mut Vec<f32>)> {
        vec![("momentum", &mut self.momentum)]
    }
}

#[cfg(test)]
mod tests {
    use smallfry::nn::{
        init::Init,
        network::{Role, Spec},
    };

    use super::*;

    #[test]
    fn two_steps_by_hand() {
        let spec = Spec {
            name: "weight".to_owned(),
            shape: vec![2],
            role: Role::Weight,
            init: Init::Constant(0.0),
        };
        let mut parameters = Parameters::new(vec![spec]);
        parameters.values_mut().fill(1.0);
        let rule = Lion {
            lr: 0.5,
            inner: 0.5,
            outer: 0.5,
            weight_decay: 0.25,
        };
        let mut descent = rule.start(&parameters);
        parameters
            .values_and_gradients_mut()
            .1
            .copy_from_slice(&[4.0, 0.0]);
        descent.step(&mut parameters, rule.rate());
        // w - 0.5 · (1 + 0.25 w), and the decay alone where there is no gradient.
        assert_eq!(parameters.values(), [0.375, 0.875]);
        assert_eq!(descent.state()[0].1, [2.0, 0.0]);
        parameters
            .values_and_gradients_mut()
            .1
            .copy_from_slice(&[-1.0, 0.0]);
        descent.step(&mut parameters, rule.rate());
        // The momentum outweighs the gradient.
        assert_eq!(parameters.values()[0], 0.375 - 0.5 * (1.0 + 0.25 * 0.375));
    }
}
