//! Times steps of linear classifiers: one learning rate and eight, on features that are there and on images.
//!
//!     cargo run --release -p smallfry-tests --example probe -- --arch mobilenetv3_small --batch 256 --size 224
//!
//! The kinds take turns, so that what else the machine does falls on all alike; the least of each counts. `tests/bench/probe.py`
//! runs it against PyTorch.

use std::{hint::black_box, time::Instant};

use smallfry::{
    Head as NetworkHead,
    data::random::Random,
    probe::bank::{Bank, Head, Rule},
    tensor,
};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::bench::{self, Options};

const RULE: Rule = Rule {
    momentum: 0.9,
    decay: 0.0,
};

fn bank(classes: usize, width: usize, rates: usize) -> Bank {
    let head = |i: usize| Head {
        rate: 0.01 * 2f64.powi(i as i32),
        unit_length: false,
    };
    let heads: Vec<_> = (0..rates).map(head).collect();
    Bank::new(classes, width, RULE, &heads, 1)
}

/// The least seconds of each of `work`, which take turns.
fn least(rounds: usize, work: &mut [Box<dyn FnMut() + '_>]) -> Vec<f64> {
    let mut least = vec![f64::INFINITY; work.len()];
    for _ in 0..rounds {
        for (work, least) in work.iter_mut().zip(&mut least) {
            let begin = Instant::now();
            work();
            *least = least.min(begin.elapsed().as_secs_f64());
        }
    }
    least
}

fn main() -> Result<(), String> {
    let options = Options::read(10)?;
    let backbone = bench::backbone(&options.arch)?;
    let encoder = backbone.encoder(&NetworkHead::default(), 1);
    let width = encoder.width();
    let images = options.images(1);
    for classes in [10, 100, 1000] {
        let mut random = Random::new(&[2]);
        let labels: Vec<u32> = (0..options.batch)
            .map(|_| random.below(classes as u64) as u32)
            .collect();
        let features = tensor::values(&encoder.embed(&images)).to_vec();
        let [mut one, mut eight] = [1, 8].map(|rates| bank(classes, width, rates));
        let [mut one_whole, mut eight_whole] = [1, 8].map(|rates| bank(classes, width, rates));
        let (encoder, images, features, labels) = (&*encoder, &images, &features, &labels);
        let embedded = move |bank: &mut Bank| {
            let features = tensor::values(&encoder.embed(images)).to_vec();
            black_box(bank.step(&features, labels, 1.0));
        };
        let kept = least(
            10 * options.steps,
            &mut [
                Box::new(|| drop(black_box(one.step(features, labels, 1.0)))),
                Box::new(|| drop(black_box(eight.step(features, labels, 1.0)))),
            ],
        );
        let whole = least(
            options.steps,
            &mut [
                Box::new(|| embedded(&mut one_whole)),
                Box::new(|| embedded(&mut eight_whole)),
            ],
        );
        let milliseconds = |seconds: &[f64]| seconds.iter().map(|s| 1e3 * s).collect::<Vec<_>>();
        println!(
            "{}",
            serde_json::json!({
                "program": "smallfry",
                "arch": options.arch,
                "width": width,
                "batch": options.batch,
                "classes": classes,
                "kept_ms": milliseconds(&kept),
                "kept_ratio": kept[1] / kept[0],
                "images_ms": milliseconds(&whole),
                "images_ratio": whole[1] / whole[0],
            })
        );
    }
    Ok(())
}
