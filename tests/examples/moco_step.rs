//! Times a full MoCo step on random images: two views, momentum update, queue, loss, backward, SGD, enqueue.
//!
//! Prints one line of JSON for `tests/bench/step.py`, which runs the same step in PyTorch and compares.

use std::{path::Path, sync::Arc, time::Instant};

use smallfry::{
    Backbone, Context, Objective, Optimizer,
    data::random::Random,
    dfdx::tensor_ops::Backward,
    encoder::ImageBatch,
    objective::{Moment, Setup},
    registry,
};
use smallfry_plugins as _; // links the stock plugins

fn main() -> Result<(), String> {
    let options = Options::read()?;
    let context = Context {
        folder: Path::new("."),
    };
    let backbone = registry::parse::<dyn Backbone>(&context, &options.arch);
    let objective = format!("MoCo(queue: {})", options.queue);
    let objective = registry::parse::<dyn Objective>(&context, &objective);
    let sgd = "SGD(lr: 0.06, momentum: 0.9, weight_decay: 1e-4)";
    let sgd = registry::parse::<dyn Optimizer>(&context, sgd);
    let (Ok(backbone), Ok(objective), Ok(sgd)) = (backbone, objective, sgd) else {
        return Err(format!("no backbone is named `{}`", options.arch));
    };
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

    let views: Vec<_> = (0..2).map(|view| images(view, &options)).collect();
    let mut seconds = Vec::new();
    let mut loss = f32::NAN;
    for step in 0..options.warmup + options.steps {
        let start = Instant::now();
        let moment = Moment {
            seed: 0,
            epoch: 0,
            step: step as u64,
        };
        learner.encoders()[0].1.parameters().clear_gradients();
        let outcome = learner.loss(&views, moment);
        loss = smallfry::tensor::values(&outcome.loss)[0];
        outcome.loss.backward();
        descent.step(&mut learner.encoders()[0].1.parameters(), 0.06);
        learner.after_step();
        if step >= options.warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    let batch = options.batch as f64;
    println!(
        "{}",
        serde_json::json!({
            "program": "smallfry",
            "arch": options.arch,
            "images_per_second": batch / seconds[0],
            "median_images_per_second": batch / seconds[seconds.len() / 2],
            "peak_mb": smallfry_tests::peak_megabytes(),
            "loss": loss,
        })
    );
    Ok(())
}

/// What to time.
struct Options {
    arch: String,
    batch: usize,
    size: usize,
    queue: usize,
    steps: usize,
    warmup: usize,
}

impl Options {
    fn read() -> Result<Self, String> {
        let mut options = Self {
            arch: "mobilenetv3_small".to_owned(),
            batch: 32,
            size: 224,
            queue: 65_536,
            steps: 12,
            warmup: 3,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} wants a value"))?;
            let number = || value.parse().map_err(|_| format!("{name}: not a number"));
            match name.as_str() {
                "--arch" => options.arch = value,
                "--batch" => options.batch = number()?,
                "--size" => options.size = number()?,
                "--queue" => options.queue = number()?,
                "--steps" => options.steps = number()?,
                "--warmup" => options.warmup = number()?,
                // Threads come from RAYON_NUM_THREADS; the flag is PyTorch's.
                "--threads" => {}
                _ => return Err(format!("no option is named {name}")),
            }
        }
        Ok(options)
    }
}

/// Random pixels.
fn images(view: u64, options: &Options) -> Arc<ImageBatch> {
    let mut random = Random::new(&[view]);
    let count = options.batch * options.size * options.size * 3;
    Arc::new(ImageBatch {
        batch: options.batch,
        height: options.size,
        width: options.size,
        values: (0..count)
            .map(|_| (random.unit() * 4.0 - 2.0) as f32)
            .collect(),
    })
}
