//! Times the features of random images (inference), without a head.
//!
//! Prints one line of JSON for `tests/bench/features.py`, which does the same in PyTorch and ONNX Runtime and compares.

use std::time::Instant;

use smallfry::{Head, tensor::values};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::bench::{Options, backbone};

fn main() -> Result<(), String> {
    let options = Options::read(20)?;
    let encoder = backbone(&options.arch)?.plugin.encoder(&Head::default(), 0);
    let images = options.images(0);
    let mut seconds = Vec::new();
    for step in 0..options.warmup + options.steps {
        let start = Instant::now();
        let embedded = encoder.embed(&images);
        if !values(&embedded).iter().all(|value| value.is_finite()) {
            return Err("the features are no numbers".to_owned());
        }
        if step >= options.warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    options.report(seconds);
    Ok(())
}
