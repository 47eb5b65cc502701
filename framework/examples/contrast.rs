//! Time of InfoNCE and of SEED's loss with their gradients against a queue of 65,536 keys, fused and composed of dfdx
//! operations.
//!
//! `cargo run --release -p smallfry --example contrast`

use std::time::Instant;

use dfdx::{tensor::Trace, tensor_ops::Backward};
use smallfry::{
    data::random::Random,
    operation::{composed, distillation, info_nce, normalise},
    tensor::{Features, Plain, import, scalar},
};

fn unit_rows(stream: u64, rows: usize, width: usize) -> Plain<Features> {
    let mut random = Random::new(&[stream]);
    let values = (0..rows * width).map(|_| (2.0 * random.unit() - 1.0) as f32);
    normalise(import(values.collect(), (rows, width)))
}

fn best(repeats: usize, mut f: impl FnMut() -> f32) -> (f64, f32) {
    let mut best = f64::INFINITY;
    let mut loss = 0.0;
    for _ in 0..repeats {
        let start = Instant::now();
        loss = f();
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    (best, loss)
}

fn main() {
    let width = 128;
    let queue = unit_rows(1, 65_536, width);
    println!("loss | batch | fused ms | composed ms | losses");
    for batch in [8, 32, 64, 256] {
        let (query, key) = (unit_rows(2, batch, width), unit_rows(3, batch, width));
        let (fused, a) = best(40, || {
            let contrast = info_nce(query.leaky_trace(), key.clone(), &queue, 0.1);
            let loss = scalar(&contrast.loss);
            contrast.loss.backward();
            loss
        });
        let (composed, b) = best(3, || {
            let contrast = composed::info_nce(query.leaky_trace(), key.clone(), &queue, 0.1);
            let loss = scalar(&contrast.loss);
            contrast.loss.backward();
            loss
        });
        println!("InfoNCE | {batch:5} | {fused:8.2} | {composed:11.1} | {a:.6} {b:.6}");
        let (fused, a) = best(40, || {
            let distilled = distillation(query.leaky_trace(), &key, &queue, 0.2, 0.05);
            let loss = scalar(&distilled.loss);
            distilled.loss.backward();
            loss
        });
        let (composed, b) = best(3, || {
            let distilled = composed::distillation(query.leaky_trace(), &key, &queue, 0.2, 0.05);
            let loss = scalar(&distilled.loss);
            distilled.loss.backward();
            loss
        });
        println!("SEED    | {batch:5} | {fused:8.2} | {composed:11.1} | {a:.6} {b:.6}");
    }
}
