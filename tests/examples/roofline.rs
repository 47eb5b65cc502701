//! What limits each network: its operations and bytes against what this machine can do, block by block.
//!
//!     cargo run --release -p smallfry-tests --example roofline -- mobilenetv3_small resnet18 [--blocks] [--batch 32] [--size 224]
//!
//! A training step is the query's forward and backward pass and the key's forward pass. The counts are the least there
//! can be: two operations for each multiply-add of four forward passes' worth (the gradients of inputs and of weights count one each),
//! and every block's input and output moved once in each pass (four inputs and three outputs in all). Work inside
//! a block, such as MobileNet's widened tensors, moves nothing in this count, and the gradient of the images is not
//! computed. Attainable is the time of the slower of the two at the machine's measured limits, block by block.

use std::time::Instant;

use rayon::prelude::*;
use smallfry::{
    Head,
    nn::{
        Executor, Images, Mode, Parameters,
        kernel::{Level, peak},
        network::{Block, Work},
    },
};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::bench;

fn main() -> Result<(), String> {
    let (mut names, mut blocks, mut batch, mut size) = (Vec::new(), false, 32, 224);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().and_then(|value| value.parse().ok());
            value.ok_or(format!("{argument} wants a number"))
        };
        match argument.as_str() {
            "--blocks" => blocks = true,
            "--batch" => batch = number()?,
            "--size" => size = number()?,
            _ => names.push(argument),
        }
    }
    let limits = Limits::measure();
    println!(
        "{} threads, {}: {:.0} GFLOP/s, {:.1} GB/s read and written",
        rayon::current_num_threads(),
        Level::current(),
        limits.operations * 1e-9,
        limits.bytes * 1e-9
    );
    println!(
        "{:<24}{:>10}{:>10}{:>14}{:>12}{:>9}{:>12}",
        "step of a batch", "GFLOP", "GB", "attainable ms", "attained ms", "share", "GFLOP/s"
    );
    for name in &names {
        network(name, batch, size, blocks, &limits)?;
    }
    Ok(())
}

/// What the machine can do with all threads.
struct Limits {
    /// Floating-point operations a second, two for a multiply-add.
    operations: f64,
    /// Bytes read and written a second, in equal parts, beyond the caches.
    bytes: f64,
}

impl Limits {
    fn measure() -> Self {
        let threads = rayon::current_num_threads();
        let operations = fastest(|| {
            let counts = (0..threads).into_par_iter().map(|_| {
                let (count, sum) = peak::multiply_adds(Level::current(), 4_000_000);
                std::hint::black_box(sum);
                2 * count
            });
            counts.sum()
        });
        let from = vec![1.0f32; 64 << 20];
        let mut to = vec![0.0f32; from.len()];
        let bytes = fastest(|| {
            let chunk = from.len().div_ceil(threads);
            let pairs = to.par_chunks_mut(chunk).zip(from.par_chunks(chunk));
            pairs.for_each(|(to, from)| to.copy_from_slice(from));
            8 * from.len()
        });
        Self { operations, bytes }
    }

    /// The least seconds of a batch's step.
    fn seconds(&self, work: &Work, batch: usize) -> f64 {
        let operations = operations(work) * batch as f64 / self.operations;
        operations.max(bytes(work) * batch as f64 / self.bytes)
    }
}

/// The best rate of several repeats of something that says how much it did.
fn fastest(mut work: impl FnMut() -> usize) -> f64 {
    let rates = (0..7).map(|_| {
        let start = Instant::now();
        let done = work();
        done as f64 / start.elapsed().as_secs_f64()
    });
    rates.fold(0.0, f64::max)
}

/// Floating-point operations of an image's step.
fn operations(work: &Work) -> f64 {
    (2 * 4 * work.multiply_adds) as f64
}

/// Bytes that an image's step moves.
fn bytes(work: &Work) -> f64 {
    (4 * (4 * work.input + 3 * work.output)) as f64
}

fn network(
    name: &str,
    batch: usize,
    size: usize,
    each: bool,
    limits: &Limits,
) -> Result<(), String> {
    let network = bench::backbone(name)?.plugin.network(&Head::default());
    let network = network.ok_or(format!("`{name}` does not describe its network"))?;
    let work = network.work(size, size).map_err(|e| e.to_string())?;
    let attained = attained(&network, batch, size);

    let label = format!("{name} {batch} × {size}²");
    let total: f64 = attained.iter().sum();
    let attainable: f64 = work.iter().map(|work| limits.seconds(work, batch)).sum();
    let all = work.iter().fold((0.0, 0.0), |sum, work| {
        (sum.0 + operations(work), sum.1 + bytes(work))
    });
    row(&label, batch, all, attainable, total);
    if each {
        for (i, (work, seconds)) in work.iter().zip(&attained).enumerate() {
            let label = format!("  {i:>2} {}", kind(&network.blocks[i]));
            let cost = (operations(work), bytes(work));
            row(&label, batch, cost, limits.seconds(work, batch), *seconds);
        }
    }
    Ok(())
}

fn row(label: &str, batch: usize, (operations, bytes): (f64, f64), attainable: f64, attained: f64) {
    let (operations, bytes) = (operations * batch as f64, bytes * batch as f64);
    println!(
        "{label:<24}{:>10.2}{:>10.3}{:>14.2}{:>12.2}{:>8.0}%{:>12.1}",
        operations * 1e-9,
        bytes * 1e-9,
        1e3 * attainable,
        1e3 * attained,
        100.0 * attainable / attained,
        operations * 1e-9 / attained
    );
}

/// The seconds of every block in a step: the best of several, all three passes together.
fn attained(network: &smallfry::nn::Network, batch: usize, size: usize) -> Vec<f64> {
    let random = bench::images(batch, size, 0);
    let images = Images {
        batch,
        height: size,
        width: size,
        values: &random.values,
    };
    let mut parameters = Parameters::initialised(network, 0);
    let (mut query, mut key) = (
        Executor::new(network.clone()),
        Executor::new(network.clone()),
    );
    let mut features = vec![0.0; batch * network.width()];
    let gradient: Vec<f32> = (0..features.len()).map(|i| (i as f32).sin()).collect();
    let mut best: Vec<f64> = Vec::new();
    for step in 0..9 {
        let mut seconds = vec![0.0; network.blocks.len()];
        let mut watch = |position: usize, time: f64| seconds[position] += time;
        let mode = Mode::Train { draw: step };
        query.forward_timed(&mut parameters, images, mode, &mut features, &mut watch);
        query.backward_timed(&mut parameters, images, &gradient, None, &mut watch);
        let mode = Mode::Momentum { draw: step };
        key.forward_timed(&mut parameters, images, mode, &mut features, &mut watch);
        // The first steps warm up; a step counts as a whole, so that its blocks belong together.
        let faster = seconds.iter().sum::<f64>() < best.iter().sum();
        if step >= 2 && (best.is_empty() || faster) {
            best = seconds;
        }
    }
    best
}

fn kind(block: &Block) -> &'static str {
    match block {
        Block::ConvNorm(_) => "convolution",
        Block::InvertedResidual(_) => "inverted residual",
        Block::Residual(_) => "residual",
        Block::MaxPool { .. } => "max pool",
        Block::GlobalAveragePool { .. } => "average pool",
        Block::Linear(_) => "linear",
        Block::PatchEmbedding(_) => "patches",
        Block::TransformerLayer(_) => "transformer",
        _ => "other",
    }
}
