//! Time of the exact nearest-neighbour search on clusters of random features.
//!
//! `cargo run --release -p smallfry-metrics --example search`

use std::{ops::Range, time::Instant};

use smallfry::{
    Metric,
    data::random::Random,
    metric::{Evaluation, FeatureSet},
    tensor::{Features, Plain, import},
};
use smallfry_metrics::{
    best_nn::Voting,
    space::{Centre, Space},
};

struct Clusters {
    width: usize,
    features: Vec<f32>,
    labels: Vec<u32>,
}

impl Clusters {
    fn new(seed: u64, rows: usize, width: usize, classes: usize) -> Self {
        let mut random = Random::new(&[seed]);
        let mut centres = Random::new(&[99]);
        let centres: Vec<f64> = (0..classes * width).map(|_| centres.unit()).collect();
        let labels: Vec<u32> = (0..rows).map(|row| (row % classes) as u32).collect();
        let mut features = Vec::with_capacity(rows * width);
        for &label in &labels {
            let centre = &centres[label as usize * width..][..width];
            features.extend(centre.iter().map(|c| (c + 3.0 * random.unit()) as f32));
        }
        Self {
            width,
            features,
            labels,
        }
    }
}

impl FeatureSet for Clusters {
    fn rows(&self) -> usize {
        self.labels.len()
    }

    fn width(&self) -> usize {
        self.width
    }

    fn labels(&self) -> Option<&[u32]> {
        Some(&self.labels)
    }

    fn read(&self, rows: Range<usize>) -> Plain<Features> {
        let values = self.features[rows.start * self.width..rows.end * self.width].to_vec();
        import(values, (rows.len(), self.width))
    }
}

fn main() {
    for (width, rows) in [(128, 60_000), (1024, 60_000)] {
        let train = Clusters::new(1, rows, width, 10);
        let test = Clusters::new(2, 10_000, width, 10);
        for space in [Space::Original, Space::Norm, Space::ShiftNorm] {
            let voting = Voting {
                k: 101,
                space,
                centre: Centre::Batches(512),
            };
            let evaluation = Evaluation {
                train: Some(&train),
                test: &test,
                views: &[],
                classes: &[],
                seed: 0,
            };
            let start = Instant::now();
            let scores = voting.evaluate(&evaluation).expect("the sets are sound");
            let seconds = start.elapsed().as_secs_f64();
            let work = 2.0 * rows as f64 * 1e4 * width as f64;
            println!(
                "{rows} × 10000 × {width}, {}: {:.2} %, {}, {seconds:.2} s, {:.0} GFLOP/s",
                space.name(),
                scores[0].value,
                scores[0].setting,
                work / seconds * 1e-9
            );
        }
    }
}
