//! Tests of t-SNE as a whole: against a slow implementation in double precision, finite differences, and itself.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicUsize, Ordering},
};

use smallfry_data::random::Random;

use super::*;
use crate::metric::Watcher;

/// `clusters` clumps of points in `width` dimensions, point i in clump i modulo their number.
fn clumps(points: usize, width: usize, clusters: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(&[seed]);
    let mut draw = |scale: f64| scale * random.normal();
    let centres: Vec<f64> = (0..clusters * width).map(|_| draw(1.0)).collect();
    let value = |i: usize| centres[i / width % clusters * width + i % width];
    (0..points * width)
        .map(|i| (value(i) + draw(0.2)) as f32)
        .collect()
}

fn on(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The p of all pairs, `[points, points]`, straight from the definition and without principal components.
fn affinities(features: &[f32], width: usize, perplexity: f64) -> Vec<f64> {
    let points = features.len() / width;
    let row = |i: usize| &features[i * width..(i + 1) * width];
    let distance = |i: usize, j: usize| -> f64 {
        let pairs = row(i).iter().zip(row(j));
        pairs
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
            .sum()
    };
    let mut seen = vec![0.0; points * points];
    for i in 0..points {
        let entropy = |beta: f64| {
            let near: Vec<f64> = (0..points)
                .map(|j| {
                    if i == j {
                        0.0
                    } else {
                        (-beta * distance(i, j)).exp()
                    }
                })
                .collect();
            let sum: f64 = near.iter().sum();
            let p: Vec<f64> = near.iter().map(|near| near / sum).collect();
            let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
            (entropy, p)
        };
        let (mut low, mut high) = (0.0, 1e6);
        for _ in 0..100 {
            let middle = 0.5 * (low + high);
            match entropy(middle).0 > perplexity.ln() {
                true => low = middle,
                false => high = middle,
            }
        }
        seen[i * points..(i + 1) * points].copy_from_slice(&entropy(low).1);
    }
    let symmetric = |place: usize| {
        let (i, j) = (place / points, place % points);
        (seen[i * points + j] + seen[j * points + i]) / (2 * points) as f64
    };
    (0..points * points).map(symmetric).collect()
}

/// The divergence of a map, straight from the definition.
fn divergence(p: &[f64], map: &[[f64; 2]]) -> f64 {
    let points = map.len();
    let near = |i: usize, j: usize| {
        let (a, b) = (map[i], map[j]);
        1.0 / (1.0 + (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2))
    };
    let pairs = || (0..points * points).filter(|place| place / points != place % points);
    let total: f64 = pairs()
        .map(|place| near(place / points, place % points))
        .sum();
    pairs()
        .filter(|&place| p[place] > 0.0)
        .map(|place| {
            let q = near(place / points, place % points) / total;
            p[place] * (p[place] / q).ln()
        })
        .sum()
}

/// The gradient as descent uses it: a quarter of that of the divergence.
fn gradient(field: &dyn Field, map: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut forces = vec![Force::default(); map.len()];
    let total = field.forces(map, &mut forces);
    let part = |force: &Force| [0, 1].map(|axis| force.pull[axis] - force.push[axis] / total);
    forces.iter().map(part).collect()
}

fn scattered(points: usize, scale: f64) -> Vec<[f64; 2]> {
    let mut random = Random::new(&[99]);
    (0..points)
        .map(|_| [scale * random.normal(), scale * random.normal()])
        .collect()
}

fn length(vectors: impl Iterator<Item = [f64; 2]>) -> f64 {
    vectors
        .map(|v| v[0] * v[0] + v[1] * v[1])
        .sum::<f64>()
        .sqrt()
}

#[test]
fn affinities_and_divergence_agree_with_the_definition() {
    let (points, width) = (70, 6);
    let features = clumps(points, width, 4, 1);
    let expected = affinities(&features, width, 9.0);
    assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    let components = Components::of(&features, width, COMPONENTS, Watch::default()).unwrap();
    let map = scattered(points, 3.0);
    let wanted = divergence(&expected, &map);
    let exact = Exact::new(&components, 9.0, 4.0, Watch::default()).unwrap();
    assert!((exact.divergence(&map) - wanted).abs() < 1e-4);
    // Of 70 points 27 neighbours at perplexity 9: what lies beyond is cut off, which is little.
    let sparse = Sparse::new(&components, 9.0, 0.0, Watch::default()).unwrap();
    assert!((sparse.divergence(&map) - wanted).abs() < 0.05);
}

#[test]
fn the_gradient_is_that_of_the_divergence() {
    let (points, width) = (60, 5);
    let features = clumps(points, width, 3, 2);
    let p = affinities(&features, width, 8.0);
    let components = Components::of(&features, width, COMPONENTS, Watch::default()).unwrap();
    let field = Exact::new(&components, 8.0, 4.0, Watch::default()).unwrap();
    let map = scattered(points, 2.0);
    let found = gradient(&field, &map);
    let step = 1e-5;
    for i in [0, 7, 59] {
        for axis in 0..2 {
            let moved = |by: f64| {
                let mut map = map.clone();
                map[i][axis] += by;
                divergence(&p, &map)
            };
            let difference = (moved(step) - moved(-step)) / (2.0 * step);
            let error = (4.0 * found[i][axis] - difference).abs();
            assert!(
                error < 1e-5 * (1.0 + difference.abs()),
                "{i} {axis}: {error}"
            );
        }
    }
}

#[test]
fn neighbours_and_tree_approach_the_gradient_of_all_pairs() {
    let (points, width) = (1500, 10);
    let components = Components::of(
        &clumps(points, width, 12, 3),
        width,
        COMPONENTS,
        Watch::default(),
    )
    .unwrap();
    let exact = Exact::new(&components, 20.0, 4.0, Watch::default()).unwrap();
    for (scale, theta, bound) in [(1.0, 0.0, 0.02), (30.0, 0.0, 0.02), (30.0, 0.5, 0.03)] {
        let map = scattered(points, scale);
        let expected = gradient(&exact, &map);
        let found = gradient(
            &Sparse::new(&components, 20.0, theta, Watch::default()).unwrap(),
            &map,
        );
        let pairs = found.iter().zip(&expected);
        let error = length(pairs.map(|(a, b)| [a[0] - b[0], a[1] - b[1]]))
            / length(expected.iter().copied());
        assert!(error < bound, "deviation {scale}, θ = {theta}: {error}");
    }
}

/// The reference's descent on all pairs, in double precision.
fn slow_descent(p: &[f64], mut map: Vec<[f64; 2]>, steps: usize) -> Vec<[f64; 2]> {
    let points = map.len();
    let (mut updates, mut gains) = (vec![[0.0; 2]; points], vec![[1.0f64; 2]; points]);
    let mut p: Vec<f64> = p.iter().map(|p| (4.0 * p).max(1e-21)).collect();
    for step in 0..steps {
        let near: Vec<f64> = (0..points * points)
            .map(|place| {
                let (a, b) = (map[place / points], map[place % points]);
                match place / points == place % points {
                    true => 0.0,
                    false => 1.0 / (1.0 + (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)),
                }
            })
            .collect();
        let total: f64 = near.iter().sum();
        let before = map.clone();
        for i in 0..points {
            for axis in 0..2 {
                let gradient: f64 = (0..points)
                    .map(|j| {
                        let n = near[i * points + j];
                        let q = (n / total).max(1e-12);
                        (p[i * points + j] - q) * n * (before[i][axis] - before[j][axis])
                    })
                    .sum();
                let gain = &mut gains[i][axis];
                let same = (gradient > 0.0) == (updates[i][axis] > 0.0);
                *gain = if same { *gain * 0.8 } else { *gain + 0.2 }.max(0.01);
                let momentum = if step < 20 { 0.5 } else { 0.8 };
                updates[i][axis] = momentum * updates[i][axis] - 500.0 * *gain * gradient;
                map[i][axis] += updates[i][axis];
            }
        }
        for axis in 0..2 {
            let mean = map.iter().map(|point| point[axis]).sum::<f64>() / points as f64;
            map.iter_mut().for_each(|point| point[axis] -= mean);
        }
        if step == 100 {
            p.iter_mut().for_each(|p| *p /= 4.0);
        }
    }
    map
}

#[test]
fn follows_the_slow_descent_until_chaos_parts_them() {
    let (points, width) = (120, 8);
    let features = clumps(points, width, 5, 4);
    let settings = Settings {
        perplexity: 12.0,
        iterations: 12,
        ..Settings::default()
    };
    let p = affinities(&features, width, 12.0);
    let first = start(
        &Components::of(&features, width, COMPONENTS, Watch::default()).unwrap(),
        &settings,
    );
    let found = embed(&features, width, &settings, Watch::default(), &mut on).unwrap();
    let expected = slow_descent(&p, first.clone(), 12);
    let pairs = found.points.iter().zip(&expected);
    let error = length(pairs.map(|(a, b)| [a[0] - b[0], a[1] - b[1]]));
    let moved = length(
        expected
            .iter()
            .zip(&first)
            .map(|(a, b)| [a[0] - b[0], a[1] - b[1]]),
    );
    assert!(error < 1e-2 * moved, "{error} of {moved}");
    // Long after, both have come equally far.
    let settings = Settings {
        iterations: 400,
        ..settings
    };
    let found = embed(&features, width, &settings, Watch::default(), &mut on).unwrap();
    let expected = divergence(&p, &slow_descent(&p, first, 400));
    assert!(
        (found.divergence - expected).abs() < 0.1 * expected,
        "{} {expected}",
        found.divergence
    );
}

/// The share of points whose nearest point on the map is of their clump.
fn purity(map: &[[f64; 2]], clusters: usize) -> f64 {
    let pure = (0..map.len()).filter(|&i| {
        let distance = |j: usize| {
            let (a, b) = (map[i], map[j]);
            (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
        };
        let nearest = (0..map.len())
            .filter(|&j| j != i)
            .min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        nearest.is_some_and(|j| i % clusters == j % clusters)
    });
    pure.count() as f64 / map.len() as f64
}

#[test]
fn clumps_stay_clumps_by_every_way() {
    let (points, width, clusters) = (600, 20, 6);
    let features = clumps(points, width, clusters, 5);
    for algorithm in [Algorithm::Exact, Algorithm::BarnesHut { theta: 0.5 }] {
        for initial in [Initial::Normal, Initial::Principal] {
            let settings = Settings {
                algorithm,
                initial,
                iterations: 300,
                perplexity: 20.0,
                ..Settings::default()
            };
            let found = embed(&features, width, &settings, Watch::default(), &mut on).unwrap();
            assert!(found.points.iter().flatten().all(|v| v.is_finite()));
            assert!(
                purity(&found.points, clusters) > 0.99,
                "{algorithm:?} {initial:?}"
            );
            assert!(found.divergence > 0.0 && found.divergence < 2.0);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_for_any_number_of_threads() {
    let features = clumps(300, 12, 4, 6);
    let map = |threads: usize, algorithm: Algorithm, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let settings = Settings {
            algorithm,
            seed,
            iterations: 60,
            ..Settings::default()
        };
        let work = || embed(&features, 12, &settings, Watch::default(), &mut on).unwrap();
        pool.build().unwrap().install(work)
    };
    for algorithm in [Algorithm::Exact, Algorithm::BarnesHut { theta: 0.5 }] {
        let one = map(1, algorithm, 3);
        for threads in [2, 3, 8] {
            assert_eq!(map(threads, algorithm, 3), one);
        }
        assert_ne!(map(1, algorithm, 4).points, one.points);
    }
}

#[test]
fn points_that_are_all_the_same_do_no_harm() {
    for algorithm in [Algorithm::Exact, Algorithm::BarnesHut { theta: 0.5 }] {
        for initial in [Initial::Normal, Initial::Principal] {
            let settings = Settings {
                perplexity: 5.0,
                iterations: 150,
                algorithm,
                initial,
                ..Settings::default()
            };
            let found = embed(&[0.5; 80], 2, &settings, Watch::default(), &mut on).unwrap();
            assert!(found.points.iter().flatten().all(|v| v.is_finite()));
        }
    }
}

#[test]
fn breaks_off_when_told_to() {
    let features = clumps(50, 3, 2, 7);
    let settings = Settings {
        perplexity: 5.0,
        ..Settings::default()
    };
    let mut steps = 0;
    let found = embed(&features, 3, &settings, Watch::default(), &mut |step| {
        steps = step;
        match step < 7 {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    assert_eq!((found, steps), (None, 7));
}

/// Stops at the ask of a number.
struct Impatient {
    asks: AtomicUsize,
    last: usize,
}

impl Watcher for Impatient {
    fn show(&self, _: f64) {}

    fn stop(&self) -> bool {
        self.asks.fetch_add(1, Ordering::Relaxed) >= self.last
    }
}

#[test]
fn the_setup_stops_wherever_it_is() {
    let (points, width) = (600, 20);
    let features = clumps(points, width, 3, 7);
    for algorithm in [Algorithm::Exact, Algorithm::BarnesHut { theta: 0.5 }] {
        let settings = Settings {
            perplexity: 20.0,
            algorithm,
            ..Settings::default()
        };
        let mut steps = 0;
        let mut set_up = |last: usize| {
            let impatient = Impatient {
                asks: AtomicUsize::new(0),
                last,
            };
            let found = embed(
                &features,
                width,
                &settings,
                Watch::by(&impatient),
                &mut |_| {
                    steps += 1;
                    ControlFlow::Break(())
                },
            );
            assert_eq!(found, None);
            (impatient.asks.into_inner(), std::mem::take(&mut steps))
        };
        let (asks, steps) = set_up(usize::MAX);
        // Every point's perplexity and the products of every tile are asked for, beside the components.
        assert!(steps == 1 && asks > points, "{asks} asks");
        for last in (0..asks).step_by(asks / 50) {
            let (_, steps) = set_up(last);
            assert_eq!(steps, 0, "stopped at {last} of {asks}");
        }
    }
}

#[test]
fn the_choices_left_open_follow_the_number_of_points() {
    let settings = Settings::default();
    assert_eq!(settings.algorithm(3000), Algorithm::Exact);
    assert_eq!(
        settings.algorithm(60_000),
        Algorithm::BarnesHut { theta: THETA }
    );
    assert_eq!(
        (settings.rate(3000), settings.rate(60_000)),
        (500.0, 5000.0)
    );
}
