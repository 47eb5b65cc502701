//! What the timed examples share: their options, their images and the line that they end with.

use std::{path::Path, sync::Arc};

use smallfry::{
    Backbone, Context,
    data::random::Random,
    encoder::ImageBatch,
    registry::{self, Built},
};

/// What to time.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the backbone.
    pub arch: String,
    /// Images of a step.
    pub batch: usize,
    /// Side of an image in pixels.
    pub size: usize,
    /// Keys of the queue, where there is one.
    pub queue: usize,
    /// Steps that count.
    pub steps: usize,
    /// Steps before them.
    pub warmup: usize,
}

impl Options {
    /// Those of the command line; `steps` unless it says otherwise.
    ///
    /// # Errors
    /// An unknown option, or a value that is missing or no number.
    pub fn read(steps: usize) -> Result<Self, String> {
        let mut options = Self {
            arch: "mobilenetv3_small".to_owned(),
            batch: 32,
            size: 224,
            queue: 65_536,
            steps,
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
                // Threads come from RAYON_NUM_THREADS; the flag is the peers'.
                "--threads" => {}
                _ => return Err(format!("no option is named {name}")),
            }
        }
        Ok(options)
    }

    /// Random pixels, others for every view.
    pub fn images(&self, view: u64) -> Arc<ImageBatch> {
        Arc::new(images(self.batch, self.size, view))
    }

    /// Prints the line of JSON that the drivers in `tests/bench` read; `seconds` are those of every step that counts.
    pub fn report(&self, mut seconds: Vec<f64>) {
        seconds.sort_by(f64::total_cmp);
        let batch = self.batch as f64;
        println!(
            "{}",
            serde_json::json!({
                "program": "smallfry",
                "arch": self.arch,
                "images_per_second": batch / seconds[0],
                "median_images_per_second": batch / seconds[seconds.len() / 2],
                "peak_mb": peak_megabytes(),
            })
        );
    }
}

/// The backbone of that name or text.
///
/// # Errors
/// There is none.
pub fn backbone(name: &str) -> Result<Built<dyn Backbone>, String> {
    let context = Context {
        folder: Path::new("."),
    };
    registry::parse(&context, name).map_err(|_| format!("no backbone is named `{name}`"))
}

/// `batch` images of `size` × `size` random pixels.
pub fn images(batch: usize, size: usize, seed: u64) -> ImageBatch {
    let mut random = Random::new(&[seed]);
    ImageBatch {
        batch,
        height: size,
        width: size,
        values: (0..batch * size * size * 3)
            .map(|_| (random.unit() * 4.0 - 2.0) as f32)
            .collect(),
    }
}

/// The largest resident memory of this process so far, in megabytes, where the system tells.
fn peak_megabytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
