//! Times the features of random images (inference), without a head.
//!
//! Prints one line of JSON for `tests/bench/features.py`, which does the same in PyTorch and ONNX Runtime and compares.

use std::{path::Path, sync::Arc, time::Instant};

use smallfry::{
    Backbone, Context, Head, data::random::Random, encoder::ImageBatch, registry, tensor::values,
};
use smallfry_plugins as _; // links the stock plugins

fn main() -> Result<(), String> {
    let mut arch = "mobilenetv3_small".to_owned();
    let (mut batch, mut size, mut steps, mut warmup) = (32, 224, 20, 3);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} wants a value"))?;
        let number = || value.parse().map_err(|_| format!("{name}: not a number"));
        match name.as_str() {
            "--arch" => arch = value,
            "--batch" => batch = number()?,
            "--size" => size = number()?,
            "--steps" => steps = number()?,
            "--warmup" => warmup = number()?,
            // Threads come from RAYON_NUM_THREADS; the flag is the peers'.
            "--threads" => {}
            _ => return Err(format!("no option is named {name}")),
        }
    }
    let context = Context {
        folder: Path::new("."),
    };
    let backbone = registry::parse::<dyn Backbone>(&context, &arch)
        .map_err(|_| format!("no backbone is named `{arch}`"))?;
    let mut encoder = backbone.plugin.encoder(&Head::default(), 0);
    let mut random = Random::new(&[0]);
    let images = Arc::new(ImageBatch {
        batch,
        height: size,
        width: size,
        values: (0..batch * size * size * 3)
            .map(|_| (random.unit() * 4.0 - 2.0) as f32)
            .collect(),
    });
    let mut seconds = Vec::new();
    for step in 0..warmup + steps {
        let start = Instant::now();
        let embedded = encoder.embed(&images);
        let features = values(&embedded);
        if !features.iter().all(|value| value.is_finite()) {
            return Err("the features are no numbers".to_owned());
        }
        if step >= warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({
            "program": "smallfry",
            "arch": arch,
            "images_per_second": batch as f64 / seconds[0],
            "median_images_per_second": batch as f64 / seconds[seconds.len() / 2],
            "peak_mb": smallfry_tests::peak_megabytes(),
        })
    );
    Ok(())
}
