//! What an objective must do.

use dfdx::tensor_ops::Backward;
use smallfry_nn::network::Role;

use super::{backbone, finite};
use crate::{
    Backbone, Objective,
    objective::{BufferValues, Learner, Moment, Setup},
    tensor::scalar,
};

/// Images in a batch of the checks; a divisor of every sensible queue.
const BATCH: usize = 8;

/// What is wrong with `objective` on `backbone`: its loss, its gradients, what it says of itself, and that its buffers
/// can be put back.
pub fn objective_faults(objective: &dyn Objective, network: &dyn Backbone) -> Vec<String> {
    let mut faults = Vec::new();
    let setup = Setup {
        seed: 1,
        batch: BATCH,
        samples: 1 << 20,
        epochs: 2,
    };
    if objective.views() == 0 {
        faults.push("takes no views".to_owned());
    }
    if let Err(invalid) = objective.check(&setup) {
        faults.push(format!(
            "refuses a batch of {BATCH} with its defaults: {invalid}"
        ));
        return faults;
    }
    let mut learner = match objective.start(&setup, network) {
        Ok(learner) => learner,
        Err(invalid) => {
            faults.push(format!(
                "does not start although its check passes: {invalid}"
            ));
            return faults;
        }
    };
    let moment = Moment {
        seed: 1,
        epoch: 0,
        step: 0,
    };
    let views: Vec<_> = (0..objective.views())
        .map(|view| backbone::images(view as u64 + 1, BATCH))
        .collect();
    let before = trained_values(&*learner);
    let marked = learner.mark().then(|| learner.buffers());
    let outcome = learner.loss(&views, moment);
    if trained_values(&*learner) != before {
        faults.push("its loss changes weights that the optimiser trains".to_owned());
    }
    let loss = scalar(&outcome.loss);
    if !loss.is_finite() {
        faults.push(format!("its first loss is {loss}"));
    }
    for (name, value) in &outcome.measures {
        if !value.is_finite() {
            faults.push(format!("its figure `{name}` is {value}"));
        }
    }
    drop(outcome.loss.backward());
    let encoders = learner.encoders();
    for name in learner.trained() {
        let Some((_, encoder)) = encoders.iter().find(|encoder| encoder.0 == *name) else {
            faults.push(format!("trains `{name}`, which is none of its encoders"));
            continue;
        };
        let parameters = encoder.parameters();
        for spec in parameters.specs() {
            if spec.role != Role::Weight {
                continue;
            }
            let gradient = parameters.gradient(&spec.name);
            if !finite(gradient) {
                faults.push(format!(
                    "the gradient of `{name}.{}` is no number",
                    spec.name
                ));
            }
        }
        let reached = parameters.gradients().iter().any(|value| *value != 0.0);
        if !reached {
            faults.push(format!("`{name}` gets no gradient"));
        }
    }
    let evaluated = learner.evaluated();
    if !encoders.iter().any(|encoder| encoder.0 == evaluated) {
        faults.push(format!(
            "evaluates `{evaluated}`, which is none of its encoders"
        ));
    }
    drop(encoders);
    if let Some(marked) = marked {
        learner.undo();
        if learner.buffers() != marked {
            faults.push("does not undo what its loss did to its buffers".to_owned());
        }
        drop(learner.loss(&views, moment));
    }
    learner.after_step();
    for buffer in learner.buffers() {
        let length = match &buffer.values {
            BufferValues::Float(values) => values.len(),
            BufferValues::Integer(values) => values.len(),
        };
        if length != buffer.shape.iter().product::<usize>() {
            faults.push(format!(
                "buffer `{}` has not the length of its shape",
                buffer.name
            ));
        }
        let name = buffer.name.clone();
        if let Err(reason) = learner.restore(buffer) {
            faults.push(format!("refuses its own buffer `{name}`: {reason}"));
        }
    }
    faults
}

/// The weights of all encoders that the optimiser trains.
fn trained_values(learner: &dyn Learner) -> Vec<Vec<f32>> {
    let trained = learner.trained();
    let encoders = learner.encoders().into_iter();
    encoders
        .filter(|(name, _)| trained.contains(name))
        .map(|(_, encoder)| encoder.parameters().values().to_vec())
        .collect()
}
