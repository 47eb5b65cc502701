//! What an optimiser and a schedule must do.

use smallfry_nn::{
    Parameters,
    init::Init,
    network::{Role, Spec},
};

use crate::{Optimizer, Schedule, optimizer::Descent, schedule::Progress};

/// Steps of an epoch in the checks of schedules.
const STEPS: usize = 3;

/// What is wrong with `optimizer`: a step must go down along the gradient and leave frozen tensors alone, and its state
/// must be of the right size and all that it goes on from.
pub fn optimizer_faults(optimizer: &dyn Optimizer) -> Vec<String> {
    let mut faults = Vec::new();
    let rate = optimizer.rate();
    if !(rate.is_finite() && rate > 0.0) {
        faults.push(format!("its rate is {rate}"));
    }
    let tensor = |name: &str, role| Spec {
        name: name.to_owned(),
        shape: vec![2, 4],
        role,
        init: Init::Constant(0.0),
    };
    let mut parameters = Parameters::new(vec![
        tensor("weight", Role::Weight),
        tensor("frozen", Role::Frozen),
    ]);
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
    if parameters.weight("frozen") != [0.0; 8] {
        faults.push("a step moves a frozen tensor".to_owned());
    }
    for (i, value) in parameters.weight("weight").iter().enumerate() {
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
    faults.extend(restoring_fault(optimizer, &mut *descent, &parameters));
    faults
}

/// What is wrong if a rule that is started anew and given the state of `descent` steps otherwise than `descent`.
fn restoring_fault(
    optimizer: &dyn Optimizer,
    descent: &mut dyn Descent,
    parameters: &Parameters,
) -> Option<String> {
    let mut other = optimizer.start(parameters);
    for (name, saved) in descent.state() {
        let mut places = other.state_mut();
        let Some((_, place)) = places.iter_mut().find(|place| place.0 == name) else {
            return Some(format!("its state `{name}` cannot be restored"));
        };
        place.copy_from_slice(saved);
    }
    if let Some(steps) = descent.steps() {
        other.set_steps(steps);
    }
    let rate = 0.5 * optimizer.rate();
    let (mut straight, mut resumed) = (parameters.clone(), parameters.clone());
    descent.step(&mut straight, rate);
    other.step(&mut resumed, rate);
    (straight.values() != resumed.values())
        .then(|| "its state is not all that the next step depends on".to_owned())
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
