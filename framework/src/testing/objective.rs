//! What an objective must do.

mod processes;

use std::collections::BTreeMap;

use dfdx::tensor_ops::Backward;
use smallfry_nn::{Parameters, network::Role};

use super::{backbone, finite};
use crate::{
    Backbone, Objective,
    checkpoint::{Checkpoint, Values, tensors},
    objective::{Buffer, BufferValues, Learner, Moment, Setup, Source},
    tensor::scalar,
};

/// Images in a batch of the checks; a divisor of every sensible queue.
const BATCH: usize = 8;

/// What is wrong with `objective` on `backbone`: its loss, its gradients, what it says of itself, that its buffers
/// can be put back, that a teacher stays as it is, that weights from elsewhere arrive whole or not at all, and, where several
/// processes can train it, that they come to what one comes to.
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
    let (before, frozen) = (trained_values(&*learner), frozen(&*learner));
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
    for (name, before) in &frozen {
        faults.extend(moved(name, before, &*learner));
    }
    let queue = |buffer: &Buffer| buffer.name == "queue";
    if learner.queue_batches().is_none() && learner.buffers().iter().any(queue) {
        faults.push("has a queue and does not say how many batches it holds".to_owned());
    }
    faults.extend(processes::faults(
        objective, network, &setup, &views, moment,
    ));
    for source in objective.sources() {
        faults.extend(source_faults(objective, &source, &mut *learner));
    }
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

/// The encoders that neither learn nor follow one that does, as they are.
fn frozen(learner: &dyn Learner) -> Vec<(&'static str, Parameters)> {
    let followers: Vec<_> = learner.followers().iter().map(|pair| pair.0).collect();
    let moving = |name| learner.trained().contains(&name) || followers.contains(&name);
    let encoders = learner.encoders().into_iter();
    encoders
        .filter(|(name, _)| !moving(*name))
        .map(|(name, encoder)| (name, encoder.parameters().clone()))
        .collect()
}

/// What a step did to the encoder `name`, which was to stay as it was `before`.
fn moved(name: &str, before: &Parameters, learner: &dyn Learner) -> Option<String> {
    let encoders = learner.encoders();
    let (_, encoder) = encoders.iter().find(|(own, _)| *own == name)?;
    let now = encoder.parameters();
    let what = if now.values() != before.values() {
        "weights"
    } else if (now.statistics(), now.counters()) != (before.statistics(), before.counters()) {
        "running statistics"
    } else if now.gradients().iter().any(|value| *value != 0.0) {
        "gradients"
    } else {
        return None;
    };
    Some(format!(
        "a step changes the {what} of `{name}`, which neither learns nor follows an encoder that does"
    ))
}

/// What is wrong with how `source` is checked and taken, where an encoder with a backbone of its own has it.
fn source_faults(
    objective: &dyn Objective,
    source: &Source,
    learner: &mut dyn Learner,
) -> Vec<String> {
    let frozen = frozen(learner);
    let mut taught = frozen
        .iter()
        .filter(|(name, _)| objective.backbone_of(name).is_some());
    let (Some((name, parameters)), None) = (taught.next(), taught.next()) else {
        return Vec::new();
    };
    let (parameter, origin) = (source.parameter, "a file");
    let mut faults = Vec::new();
    let mut file = Checkpoint {
        tensors: tensors(parameters).collect(),
        ..Checkpoint::default()
    };
    for tensor in file.tensors.values_mut() {
        if let Values::Float(values) = &mut tensor.values {
            // Variances stay above 0.
            values.iter_mut().for_each(|v| *v = 0.5 * *v + 0.25);
        }
    }
    if let Err(invalid) = objective.check_source(source, &file, origin) {
        faults.push(format!(
            "refuses for `{parameter}` what `{name}` itself consists of: {invalid}"
        ));
        return faults;
    }
    if let Err(failure) = learner.receive(parameter, &file, origin) {
        faults.push(format!(
            "its check passes weights for `{parameter}` that it then refuses: {failure}"
        ));
    }
    let encoders = learner.encoders();
    let encoder = encoders.iter().find(|(own, _)| own == name);
    let taken =
        encoder.map(|(_, encoder)| tensors(&encoder.parameters()).collect::<BTreeMap<_, _>>());
    if taken.as_ref() != Some(&file.tensors) {
        faults.push(format!(
            "`{name}` has other weights than it was given for `{parameter}`"
        ));
    }
    let weights = parameters.specs().iter().rev();
    let lost = weights
        .filter(|spec| spec.role == Role::Weight)
        .map(|spec| &spec.name);
    for lost in lost.take(1) {
        file.tensors.remove(lost);
        if objective.check_source(source, &file, origin).is_ok() {
            faults.push(format!(
                "its check passes weights for `{parameter}` that lack `{lost}`"
            ));
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
