use smallfry_data::random::Random;

use super::*;

const RULE: Rule = Rule {
    momentum: 0.9,
    decay: 1e-3,
};

fn head(rate: f64, unit_length: bool) -> Head {
    Head { rate, unit_length }
}

/// Features around a centre for each class, and their classes.
fn samples(count: usize, width: usize, classes: usize, seed: u64) -> (Vec<f32>, Vec<u32>) {
    let mut random = Random::new(&[seed]);
    let labels: Vec<u32> = (0..count)
        .map(|_| random.below(classes as u64) as u32)
        .collect();
    let features = labels.iter().flat_map(|&label| {
        let mut centre = Random::new(&[99, u64::from(label)]);
        let values = (0..width).map(|_| (0.5 * centre.normal() + random.normal()) as f32);
        values.collect::<Vec<_>>()
    });
    (features.collect(), labels)
}

/// Softmax regression in double precision, one number at a time.
struct Slow {
    weight: Vec<f64>,
    bias: Vec<f64>,
    velocity: [Vec<f64>; 2],
    width: usize,
}

impl Slow {
    fn of(state: &State) -> Self {
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        Self {
            weight: wide(&state.weight),
            bias: wide(&state.bias),
            velocity: [wide(&state.weight_velocity), wide(&state.bias_velocity)],
            width: state.weight.len() / state.bias.len(),
        }
    }

    fn rows(&self, features: &[f32], unit_length: bool) -> Vec<Vec<f64>> {
        let rows = features.chunks(self.width).map(|row| {
            let row: Vec<f64> = row.iter().map(|&v| v.into()).collect();
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
            let by = if unit_length { length } else { 1.0 };
            row.iter().map(|v| v / by).collect()
        });
        rows.collect()
    }

    /// Mean cross-entropy, and its gradient.
    fn loss(&self, rows: &[Vec<f64>], labels: &[u32]) -> (f64, Vec<f64>, Vec<f64>) {
        let mut weight = vec![0.0; self.weight.len()];
        let mut bias = vec![0.0; self.bias.len()];
        let mut loss = 0.0;
        for (row, &label) in rows.iter().zip(labels) {
            let score = |c: usize| {
                let weight = &self.weight[c * self.width..][..self.width];
                self.bias[c] + weight.iter().zip(row).map(|(w, x)| w * x).sum::<f64>()
            };
            let scores: Vec<f64> = (0..bias.len()).map(score).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            loss += (sum.ln() + top - scores[label as usize]) / rows.len() as f64;
            for (c, score) in scores.iter().enumerate() {
                let wanted = f64::from(u8::from(c == label as usize));
                let d = ((score - top).exp() / sum - wanted) / rows.len() as f64;
                bias[c] += d;
                for (slot, x) in weight[c * self.width..].iter_mut().zip(row) {
                    *slot += d * x;
                }
            }
        }
        (loss, weight, bias)
    }

    fn step(&mut self, rows: &[Vec<f64>], labels: &[u32], rate: f64) -> f64 {
        let (loss, weight, bias) = self.loss(rows, labels);
        let [weight_velocity, bias_velocity] = &mut self.velocity;
        for (values, gradient, velocity) in [
            (&mut self.weight, weight, weight_velocity),
            (&mut self.bias, bias, bias_velocity),
        ] {
            for ((w, g), v) in values.iter_mut().zip(gradient).zip(velocity) {
                *v = RULE.momentum * *v + g + RULE.decay * *w;
                *w -= rate * *v;
            }
        }
        loss
    }
}

/// Relative distance of `a` from `b`.
fn distance(a: &[f32], b: &[f64]) -> f64 {
    let difference = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2));
    let size: f64 = b.iter().map(|b| b * b).sum();
    (difference.sum::<f64>() / size).sqrt()
}

#[test]
fn it_is_softmax_regression() {
    // Sizes around those of groups, blocks and vectors.
    for (batch, width, classes) in [(3, 5, 2), (128, 64, 10), (131, 33, 65), (300, 70, 130)] {
        for unit_length in [false, true] {
            let (features, labels) = samples(batch, width, classes, 1);
            let mut bank = Bank::new(classes, width, RULE, &[head(0.5, unit_length)], 7);
            let mut slow = Slow::of(&bank.state(0));
            let rows = slow.rows(&features, unit_length);
            for (step, factor) in [1.0, 1.0, 0.1, 0.1].into_iter().enumerate() {
                let figures = bank.step(&features, &labels, factor)[0];
                let loss = slow.step(&rows, &labels, 0.5 * factor);
                let gap = (figures.mean_loss().unwrap() - loss).abs();
                assert!(
                    gap < 1e-5 * loss,
                    "{batch} {width} {classes} {step}: {gap:e}"
                );
            }
            let state = bank.state(0);
            assert!(distance(&state.weight, &slow.weight) < 1e-5);
            assert!(distance(&state.bias, &slow.bias) < 1e-5);
            assert!(distance(&state.weight_velocity, &slow.velocity[0]) < 1e-4);
        }
    }
}

/// The slow reference itself: its gradient is that of its loss.
#[test]
fn the_reference_follows_the_slope() {
    let (features, labels) = samples(9, 4, 3, 2);
    let mut slow = Slow::of(&Bank::new(3, 4, RULE, &[head(1.0, false)], 1).state(0));
    let rows = slow.rows(&features, true);
    let (_, weight, bias) = slow.loss(&rows, &labels);
    for i in 0..15 {
        let mut moved = |by: f64| {
            match i {
                0..12 => slow.weight[i] += by,
                _ => slow.bias[i - 12] += by,
            }
            slow.loss(&rows, &labels).0
        };
        let (up, down) = (moved(1e-5), moved(-2e-5));
        moved(1e-5);
        let slope = if i < 12 { weight[i] } else { bias[i - 12] };
        assert!(((up - down) / 2e-5 - slope).abs() < 1e-8, "{i}");
    }
}

/// Equal scores: the loss is the logarithm of the number of classes, and the gradient of the biases is known.
#[test]
fn nothing_learnt_is_chance() {
    let (features, _) = samples(8, 6, 4, 3);
    let mut bank = Bank::new(4, 6, RULE, &[head(1.0, false)], 1);
    let mut state = bank.state(0);
    state.weight.fill(0.0);
    bank.set_state(0, &state, false);
    let figures = bank.step(&features, &[2; 8], 1.0)[0];
    assert!((figures.mean_loss().unwrap() - 4f64.ln()).abs() < 1e-6);
    // Of equal scores that of the first class comes first, and five of four classes are all.
    assert_eq!((figures.first, figures.fifth), (0, 8));
    let bias = bank.state(0).bias;
    for (class, wanted) in [-0.25, -0.25, 0.75, -0.25].into_iter().enumerate() {
        assert!((bias[class] - wanted).abs() < 1e-6);
    }
}

#[test]
fn a_head_among_many_has_the_bits_that_it_has_alone() {
    let (features, labels) = samples(200, 48, 70, 4);
    let heads: Vec<_> = [0.01, 0.1, 1.0, 30.0]
        .into_iter()
        .flat_map(|rate| [head(rate, false), head(rate, true)])
        .collect();
    let mut all = Bank::new(70, 48, RULE, &heads, 5);
    let mut together = Vec::new();
    for factor in [1.0, 0.5, 0.5] {
        together.push(all.step(&features, &labels, factor));
        together.push(all.step(&features[..48 * 77], &labels[..77], factor));
    }
    together.push(all.judge(&features, &labels));
    for (i, &one) in heads.iter().enumerate() {
        let mut alone = Bank::new(70, 48, RULE, &[one], 5);
        let mut figures = Vec::new();
        for factor in [1.0, 0.5, 0.5] {
            figures.extend(alone.step(&features, &labels, factor));
            figures.extend(alone.step(&features[..48 * 77], &labels[..77], factor));
        }
        figures.extend(alone.judge(&features, &labels));
        let own: Vec<_> = together.iter().map(|figures| figures[i]).collect();
        assert_eq!(figures, own, "{one:?}");
        assert_eq!(alone.state(0), all.state(i), "{one:?}");
    }
}

#[test]
fn threads_do_not_show() {
    let (features, labels) = samples(300, 40, 90, 6);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let heads = [head(1.0, false), head(3.0, true)];
            let mut bank = Bank::new(90, 40, RULE, &heads, 5);
            let figures: Vec<_> = (0..3).map(|_| bank.step(&features, &labels, 1.0)).collect();
            (figures, bank.state(0), bank.state(1))
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn a_rate_that_diverges_leaves_others_alone() {
    let (features, labels) = samples(64, 16, 4, 7);
    let features: Vec<f32> = features.iter().map(|v| v * 1e18).collect();
    let heads = [head(1e-30, false), head(1e30, false), head(1.0, true)];
    let mut bank = Bank::new(4, 16, RULE, &heads, 1);
    let mut last = Vec::new();
    for _ in 0..5 {
        last = bank.step(&features, &labels, 1.0);
    }
    assert_eq!([0, 1, 2].map(|i| bank.failed(i)), [false, true, false]);
    assert!(!last[1].loss.is_finite() && last[0].loss.is_finite());
    assert!(last[2].mean_loss().unwrap() < 4f64.ln());
    let before = bank.state(1);
    bank.step(&features, &labels, 1.0);
    assert!(
        before
            .bias
            .iter()
            .zip(&bank.state(1).bias)
            .all(|(a, b)| a.to_bits() == b.to_bits())
    );
}

#[test]
fn a_state_goes_on_as_if_never_stopped() {
    let (features, labels) = samples(50, 12, 5, 8);
    let heads = [head(1.0, false), head(2.0, true)];
    let mut straight = Bank::new(5, 12, RULE, &heads, 1);
    straight.step(&features, &labels, 1.0);
    let mut resumed = Bank::new(5, 12, RULE, &heads, 2);
    for i in 0..2 {
        resumed.set_state(i, &straight.state(i), straight.failed(i));
    }
    straight.step(&features, &labels, 0.5);
    resumed.step(&features, &labels, 0.5);
    for i in 0..2 {
        assert_eq!(straight.state(i), resumed.state(i));
    }
}

#[test]
fn weights_start_as_the_reference_draws_them() {
    let bank = Bank::new(100, 200, RULE, &[head(1.0, false); 2], 3);
    let State { weight, bias, .. } = bank.state(0);
    assert_eq!(weight, bank.state(1).weight);
    assert!(bias.iter().all(|&b| b == 0.0));
    let squares: f64 = weight.iter().map(|&w| f64::from(w).powi(2)).sum();
    assert!(((squares / 20_000.0).sqrt() - 0.01).abs() < 2e-4);
    assert_ne!(
        weight,
        Bank::new(100, 200, RULE, &[head(1.0, false)], 4)
            .state(0)
            .weight
    );
}
