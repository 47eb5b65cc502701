//! t-SNE: places points in the plane so that those near each other in many dimensions stay near (van der Maaten and Hinton
//! 2008).
//!
//! The constants are those of the reference's script: principal components, four times the pull for the first hundred steps,
//! gains for each coordinate, a start with deviation 1. Neighbours mean something on such a map; distances between
//! clusters, their sizes and the axes do not. Descent is chaotic: another seed, perplexity or rounding gives a map
//! that looks different and is as good. The same seed gives the same bytes, for any number of threads.

mod affinity;
mod exact;
mod kernel;
mod neighbours;
mod principal;
mod sparse;
mod tree;

use std::ops::ControlFlow;

use smallfry_data::random::Random;

use crate::metric::Watch;

use exact::Exact;
use principal::Components;
use sparse::Sparse;

/// Principal components that points are reduced to, as in the reference.
pub const COMPONENTS: usize = 50;

/// Points up to which [`Algorithm::Auto`] takes all pairs: 400 MB, and a second for some thirty steps on two cores.
pub const EXACT: usize = 10_000;

/// Points whose pairs can be held at most, in 6.4 GB.
pub const MOST_EXACT: usize = 40_000;

/// Points of a map at most.
pub const MOST: usize = tree::MOST;

/// θ of Barnes and Hut where the algorithm is chosen by itself, as in their followers' programs.
pub const THETA: f64 = 0.5;

/// Points for each unit of perplexity at least: fewer have no such neighbourhoods.
pub const LEAST: f64 = 3.0;

/// The learning rate of the reference.
const RATE: f64 = 500.0;

/// Points for a unit of learning rate, where that is more than the reference's (Belkina et al. 2019): many points
/// share the pull, and would not get anywhere with the rate of few.
const POINTS_PER_RATE: f64 = 12.0;

/// Steps with little momentum.
const SLOW: usize = 20;

/// Momentum of the first steps, and of the others.
const MOMENTUM: [f64; 2] = [0.5, 0.8];

/// The least gain of a coordinate.
const GAIN: f64 = 0.01;

/// Deviation of a start from principal components: so small that the first steps unfold it (Kobak and Berens 2019).
const PRINCIPAL: f64 = 1e-4;

/// How the forces between points are worked out.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Algorithm {
    /// Between all pairs.
    Exact,
    /// Pull between near neighbours, push by cells of a quadtree.
    BarnesHut {
        /// Largest diameter of a cell for its distance; 0 is exact, 1 is coarse.
        theta: f64,
    },
    /// Exact up to [`EXACT`] points, Barnes and Hut with [`THETA`] beyond.
    Auto,
}

/// Where points start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Initial {
    /// Normal with deviation 1, from the seed.
    Normal,
    /// The first two principal components, scaled to a deviation of 10⁻⁴: clusters keep something of their places, and
    /// maps of related features look related.
    Principal,
}

/// How a map is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Number of neighbours that a point looks at, at least 1 and at most a third of the points.
    pub perplexity: f64,
    /// Steps of descent.
    pub iterations: usize,
    /// Factor on the pull at first, above 0.
    pub exaggeration: f64,
    /// The last step, counted from 0, whose pull is exaggerated.
    pub exaggerated: usize,
    /// Step size, above 0; the reference's 500, or a twelfth of the number of points where that is more, for none.
    pub learning_rate: Option<f64>,
    /// How forces are worked out.
    pub algorithm: Algorithm,
    /// Where points start.
    pub initial: Initial,
    /// What a start is drawn from.
    pub seed: u64,
}

impl Default for Settings {
    /// Those of the reference.
    fn default() -> Self {
        Self {
            perplexity: 30.0,
            iterations: 1000,
            exaggeration: 4.0,
            exaggerated: 100,
            learning_rate: None,
            algorithm: Algorithm::Auto,
            initial: Initial::Normal,
            seed: 0,
        }
    }
}

impl Settings {
    /// The algorithm for so many points: never [`Algorithm::Auto`].
    pub fn algorithm(&self, points: usize) -> Algorithm {
        match self.algorithm {
            Algorithm::Auto if points <= EXACT => Algorithm::Exact,
            Algorithm::Auto => Algorithm::BarnesHut { theta: THETA },
            chosen => chosen,
        }
    }

    /// The learning rate for so many points.
    pub fn rate(&self, points: usize) -> f64 {
        let own = || RATE.max(points as f64 / POINTS_PER_RATE);
        self.learning_rate.unwrap_or_else(own)
    }
}

/// Points in the plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Where each point lies; their mean is the origin.
    pub points: Vec<[f64; 2]>,
    /// The Kullback-Leibler divergence of the map from the points, in nats: 0 for a perfect map. Comparable between maps of the
    /// same points and perplexity only.
    pub divergence: f64,
}

/// What acts on the points of a map.
trait Field: Sync {
    /// The forces on every point; returns the sum over all pairs of 1 / (1 + distance²), by which pushes are divided.
    fn forces(&self, map: &[[f64; 2]], forces: &mut [Force]) -> f64;

    /// The divergence of `map`, in nats.
    fn divergence(&self, map: &[[f64; 2]]) -> f64;
}

/// The two parts of the gradient of a point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Force {
    /// The sum of p·n·d: towards its neighbours, if followed against the gradient.
    pull: [f64; 2],
    /// The sum of n²·d, not yet divided.
    push: [f64; 2],
}

/// Maps `features`, `[points, width]`. Asks `setup` many times a second whether to go on until neighbours are known, then calls
/// `watch` with the number of steps done, before each; none where either breaks off.
///
/// # Panics
/// If `width` is 0 or does not divide the number of values, a feature is not finite, or the perplexity is not between 1 and
/// the number of points.
pub fn embed(
    features: &[f32],
    width: usize,
    settings: &Settings,
    setup: Watch<'_>,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Option<Embedding> {
    assert!(
        width > 0 && features.len().is_multiple_of(width),
        "{} numbers are no rows of {width}",
        features.len()
    );
    assert!(
        features.iter().all(|value| value.is_finite()),
        "a map of features that are not finite"
    );
    let points = features.len() / width;
    assert!(
        settings.perplexity >= 1.0 && settings.perplexity < points as f64,
        "a perplexity of {} for {points} points",
        settings.perplexity
    );
    let components = Components::of(features, width, COMPONENTS, setup).ok()?;
    let map = start(&components, settings);
    let field: Box<dyn Field> = match settings.algorithm(points) {
        Algorithm::BarnesHut { theta } => {
            Box::new(Sparse::new(&components, settings.perplexity, theta, setup).ok()?)
        }
        _ => Box::new(
            Exact::new(
                &components,
                settings.perplexity,
                settings.exaggeration,
                setup,
            )
            .ok()?,
        ),
    };
    let points = descend(&*field, map, settings, watch)?;
    let divergence = field.divergence(&points);
    Some(Embedding { points, divergence })
}

/// Where the points start.
fn start(components: &Components, settings: &Settings) -> Vec<[f64; 2]> {
    let width = components.width;
    let rows = components.values.chunks_exact(width);
    match settings.initial {
        Initial::Normal => {
            let draw = |point: usize| {
                let mut random = Random::new(&[settings.seed, point as u64]);
                [random.normal(), random.normal()]
            };
            (0..rows.len()).map(draw).collect()
        }
        Initial::Principal => {
            let square: f64 = rows.clone().map(|row| f64::from(row[0]).powi(2)).sum();
            let deviation = (square / rows.len() as f64).sqrt();
            let scale = if deviation > 0.0 {
                PRINCIPAL / deviation
            } else {
                0.0
            };
            let place = |row: &[f32]| {
                let component = |i: usize| row.get(i).map_or(0.0, |&v| f64::from(v) * scale);
                [component(0), component(1)]
            };
            rows.map(place).collect()
        }
    }
}

/// Goes down the gradient from `map`.
fn descend(
    field: &dyn Field,
    mut map: Vec<[f64; 2]>,
    settings: &Settings,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Option<Vec<[f64; 2]>> {
    let points = map.len();
    let rate = settings.rate(points);
    let mut updates = vec![[0.0; 2]; points];
    let mut gains = vec![[1.0; 2]; points];
    let mut forces = vec![Force::default(); points];
    for iteration in 0..settings.iterations {
        if watch(iteration).is_break() {
            return None;
        }
        let total = field.forces(&map, &mut forces);
        let exaggeration = match iteration <= settings.exaggerated {
            true => settings.exaggeration,
            false => 1.0,
        };
        let momentum = MOMENTUM[usize::from(iteration >= SLOW)];
        let mut mean = [0.0; 2];
        for (i, force) in forces.iter().enumerate() {
            for axis in 0..2 {
                let gradient = exaggeration * force.pull[axis] - force.push[axis] / total;
                let (update, gain): (&mut f64, &mut f64) =
                    (&mut updates[i][axis], &mut gains[i][axis]);
                *gain = match (gradient > 0.0) == (*update > 0.0) {
                    true => *gain * 0.8,
                    false => *gain + 0.2,
                };
                *gain = gain.max(GAIN);
                *update = momentum * *update - rate * *gain * gradient;
                map[i][axis] += *update;
                mean[axis] += map[i][axis];
            }
        }
        let mean = mean.map(|sum| sum / points as f64);
        for point in &mut map {
            *point = [point[0] - mean[0], point[1] - mean[1]];
        }
    }
    Some(map)
}

#[cfg(test)]
mod tests;
