//! Speed of the matrix products on one thread, in GFLOP/s, for the sizes of MobileNetV3; chunks stay in the cache.
//!
//! `cargo run --release -p smallfry-nn --example products`

use std::time::Instant;

use smallfry_nn::kernel::{
    Level,
    gemm::{Finish, Packed, Rows, multiply_packed, multiply_transposed},
};

fn best(work: f64, mut f: impl FnMut()) -> f64 {
    let repeats = (2e7 / work).ceil() as usize;
    let mut seconds = f64::INFINITY;
    for _ in 0..30 {
        let start = Instant::now();
        for _ in 0..repeats {
            f();
        }
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    2.0 * work * repeats as f64 / seconds * 1e-9
}

fn main() {
    println!("  k    n |  {:>8} |  {:>8}", "C = A·B", "C += XᵀD");
    for level in Level::available() {
        println!("{level}");
        for (k, n) in [
            (16usize, 16usize),
            (16, 64),
            (16, 72),
            (24, 88),
            (40, 120),
            (40, 240),
            (72, 24),
            (120, 40),
            (48, 288),
            (288, 96),
            (96, 576),
            (576, 96),
            (112, 672),
            (960, 160),
        ] {
            let m = (32 * 1024 / (k + n)).next_multiple_of(14);
            let a = vec![0.5f32; m * k];
            let d = vec![0.5f32; m * n];
            let mut c = vec![0.0f32; m * n];
            let mut w = vec![0.0f32; k * n];
            let mut packed = Packed::new(level, k, n);
            packed.set_rows(&w, n);
            let work = (m * k * n) as f64;
            let forward = best(work, || {
                let finish = Finish::default();
                multiply_packed(m, Rows::dense(&a, k), &packed, &mut c, n, finish);
            });
            let gradient = best(work, || {
                let (x, d) = (Rows::dense(&a, k), Rows::dense(&d, n));
                multiply_transposed(level, m, k, n, x, d, &mut w, n);
            });
            println!("{k:>3} {n:>4} | {forward:>9.1} | {gradient:>9.1}");
        }
    }
}
