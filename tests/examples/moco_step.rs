//! Times a full MoCo step on random images: two views, momentum update, queue, loss, backward, SGD, enqueue.
//!
//! Prints one line of JSON for `tests/bench/step.py`, which runs the same step in PyTorch and compares.

use std::{path::Path, time::Instant};

use smallfry::{
    Context, Objective, Optimizer,
    dfdx::tensor_ops::Backward,
    objective::{Moment, Setup},
    registry, tensor,
};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::bench::{Options, backbone};

fn main() -> Result<(), String> {
    let options = Options::read(12)?;
    let context = Context {
        folder: Path::new("."),
    };
    let backbone = backbone(&options.arch)?;
    let objective = format!("MoCo(queue: {})", options.queue);
    let objective = registry::parse::<dyn Objective>(&context, &objective)
        .map_err(|_| format!("no MoCo has a queue of {}", options.queue))?;
    let sgd = "SGD(lr: 0.06, momentum: 0.9, weight_decay: 1e-4)";
    let sgd = registry::parse::<dyn Optimizer>(&context, sgd).expect("a stock optimizer");
    let setup = Setup {
        seed: 0,
        batch: options.batch,
        samples: options.queue,
        epochs: 1,
    };
    let learner = objective.plugin.start(&setup, &*backbone.plugin);
    let mut learner = learner.map_err(|invalid| invalid.reason().to_owned())?;
    let mut descent = sgd
        .plugin
        .start(&learner.encoders()[0].1.parameters().clone());

    let views = [options.images(0), options.images(1)];
    let mut seconds = Vec::new();
    for step in 0..options.warmup + options.steps {
        let start = Instant::now();
        let moment = Moment {
            seed: 0,
            epoch: 0,
            step: step as u64,
        };
        learner.encoders()[0].1.parameters().clear_gradients();
        let outcome = learner.loss(&views, moment);
        if !tensor::values(&outcome.loss)[0].is_finite() {
            return Err("the loss is no number".to_owned());
        }
        outcome.loss.backward();
        descent.step(&mut learner.encoders()[0].1.parameters(), 0.06);
        learner.after_step();
        if step >= options.warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    options.report(seconds);
    Ok(())
}
