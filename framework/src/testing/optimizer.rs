//! What an optimiser and a schedule must do.

use smallfry_nn::{
    Parameters,
    init::Init,
    network::{Role, Spec},
};

use crate::{Optimizer, Schedule, schedule::Progress};

/// Steps of an epoch in the checks of schedules.
const STEPS: usize = 3;

/// What is wrong with `optimizer`: a step must go down along the gradient, and its state must be of the right size.
pub fn optimizer_faults(optimizer: &dyn Optimizer) -> Vec<String> {
    let mut faults = Vec::new();
    let rate = optimizer.rate();
    if !(rate.is_finite() && rate > 0.0) {
        faults.push(format!("its rate is {rate}"));
    }
    let mut parameters = Parameters::new(vec![Spec {
        name: "weight".to_owned(),
        shape: vec![8],
        role: Role::Weight,
        init: Init::Constant(0.0),
    }]);
    let mut descent = optimizer.start(&parameters);
    for (name, state) in descent.state() {
        if state.len() != parameters.values().len() {
            faults.push(format!("its state `{name}` is not laid out as the weights"));
        }
    }
    let (_, gradients) = parameters.values_and_gradients_mut();
    for (i, gradient) in gradients.iter_mut().enumerate() {
        *gradient = if i % 2 == 0 { 1.0 } else { -1.0 };
    }
    descent.step(&mut parameters, rate);
    for (i, value) in parameters.values().iter().enumerate() {
        if !(if i % 2 == 0 {
            *value < 0.0
        } else {
            *value > 0.0
        }) {
            faults.push(format!(
                "a step against gradient {} gives {value}",
                parameters.gradients()[i]
            ));
        }
    }
    faults
}

/// What is wrong with `schedule`: factors must be numbers, not negative, and the same when asked again.
pub fn schedule_faults(schedule: &dyn Schedule) -> Vec<String> {
    let mut faults = Vec::new();
    for epochs in [1, 2, 200] {
        for epoch in 0..epochs {
            let factor = schedule.factor(epoch, epochs);
            if !(factor.is_finite() && factor >= 0.0) {
                faults.push(format!(
                    "its factor in epoch {epoch} of {epochs} is {factor}"
                ));
            }
            if factor.to_bits() != schedule.factor(epoch, epochs).to_bits() {
                faults.push(format!("its factor in epoch {epoch} of {epochs} changes"));
            }
            for step in 0..STEPS {
                let progress = Progress {
                    epoch,
                    epochs,
                    step,
                    steps: STEPS,
                };
                let within = schedule.factor_at(progress);
                if !(within.is_finite() && within >= 0.0) {
                    faults.push(format!("its factor at {progress:?} is {within}"));
                }
                if step == 0 && within.to_bits() != factor.to_bits() {
                    faults.push(format!(
                        "its factor is {factor} in epoch {epoch} of {epochs}, but {within} at the epoch's first step"
                    ));
                }
            }
        }
    }
    faults
}
