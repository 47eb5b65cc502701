//! What an objective must do that several processes can train.

use std::{sync::Arc, thread};

use dfdx::tensor_ops::Backward;

use crate::{
    Backbone, Objective,
    distributed::{Communicator, Local, threads::Threads},
    encoder::ImageBatch,
    objective::{Buffer, BufferValues, Moment, Setup},
    tensor::scalar,
};

/// Processes of the check.
const PROCESSES: usize = 2;

/// Part of a number that roundings may make up.
const ROUNDING: f64 = 1e-4;

/// What a step came to in one process, or in all.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    loss: f64,
    measures: Vec<(&'static str, f64)>,
    gradients: Vec<f32>,
    buffers: Vec<Buffer>,
}

/// What is wrong with `objective` where two processes train it, each with half of `views`; nothing where it does not let
/// them.
pub(super) fn faults(
    objective: &dyn Objective,
    network: &dyn Backbone,
    setup: &Setup,
    views: &[Arc<ImageBatch>],
    moment: Moment,
) -> Vec<String> {
    if objective.check_processes(PROCESSES).is_err() {
        return Vec::new();
    }
    let step = |communicator: Arc<dyn Communicator>| {
        let mut learner = objective.start(setup, network).ok()?;
        let (rank, size) = (communicator.rank(), communicator.size());
        if size > 1 {
            learner.join(communicator);
        }
        let part = |view: &Arc<ImageBatch>| {
            let own = view.batch / size;
            let rows: Vec<_> = (rank * own..(rank + 1) * own).collect();
            Arc::new(view.pick(&rows))
        };
        let views: Vec<_> = views.iter().map(part).collect();
        let outcome = learner.loss(&views, moment);
        let (loss, measures) = (f64::from(scalar(&outcome.loss)), outcome.measures);
        drop(outcome.loss.backward());
        learner.after_step();
        let mut gradients = Vec::new();
        for (name, encoder) in learner.encoders() {
            if learner.trained().contains(&name) {
                gradients.extend_from_slice(encoder.parameters().gradients());
            }
        }
        Some(Step {
            loss,
            measures,
            gradients,
            buffers: learner.buffers(),
        })
    };
    let Some(whole) = step(Arc::new(Local)) else {
        return Vec::new();
    };
    let steps: Option<Vec<Step>> = thread::scope(|scope| {
        let start = |process| scope.spawn(|| step(Arc::new(process)));
        let started: Vec<_> = Threads::of(PROCESSES).into_iter().map(start).collect();
        let ended = started
            .into_iter()
            .map(|process| process.join().ok().flatten());
        ended.collect()
    });
    match steps {
        Some(steps) => compare(&whole, &steps),
        None => vec![format!("{PROCESSES} processes do not come through a step")],
    }
}

fn compare(whole: &Step, parts: &[Step]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut sum = |what: String, whole: f64, of: &dyn Fn(&Step) -> f64| {
        let sum: f64 = parts.iter().map(of).sum();
        if (sum - whole).abs() > ROUNDING * whole.abs().max(1.0) {
            faults.push(format!(
                "{what} of {} processes add up to {sum}, where one has {whole}",
                parts.len()
            ));
        }
    };
    sum("the losses".to_owned(), whole.loss, &|step| step.loss);
    for (name, value) in &whole.measures {
        sum(format!("the figures `{name}`"), *value, &|step| {
            let own = step.measures.iter().find(|(known, _)| known == name);
            own.map_or(f64::NAN, |(_, value)| *value)
        });
    }
    let length =
        |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|v| v * v).sum::<f64>().sqrt();
    let difference = length(&mut (0..whole.gradients.len()).map(|i| {
        let sum: f32 = parts.iter().map(|step| step.gradients[i]).sum();
        f64::from(sum) - f64::from(whole.gradients[i])
    }));
    let norm = length(&mut whole.gradients.iter().map(|&v| f64::from(v)));
    if difference > ROUNDING * norm {
        faults.push(format!(
            "the gradients of {} processes add up to something {difference} from that of one, which is {norm} long",
            parts.len()
        ));
    }
    for (number, buffer) in whole.buffers.iter().enumerate() {
        let name = &buffer.name;
        if parts
            .iter()
            .any(|step| step.buffers.get(number) != parts[0].buffers.get(number))
        {
            faults.push(format!("`{name}` is not the same in all processes"));
        } else if !parts[0]
            .buffers
            .get(number)
            .is_some_and(|own| near(own, buffer))
        {
            faults.push(format!("`{name}` is not what one process has"));
        }
    }
    faults
}

fn near(a: &Buffer, b: &Buffer) -> bool {
    match (&a.values, &b.values) {
        (BufferValues::Float(a), BufferValues::Float(b)) => {
            let mut pairs = a.iter().zip(b);
            a.len() == b.len() && pairs.all(|(a, b)| f64::from((a - b).abs()) < ROUNDING)
        }
        (a, b) => a == b,
    }
}
