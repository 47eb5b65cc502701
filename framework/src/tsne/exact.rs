//! t-SNE with all pairs of points, as in the paper: the time of a step and the memory grow with the square.
//!
//! The gradient is Σ (p − q)·n·d with q = n / Z. Its two parts need no Z, so one sweep over the pairs gives both and Z
//! itself. The reference's floor of 10⁻¹² under q is left out of the gradient, where it cannot move a point by more than
//! 10⁻⁹ times the number of points in a step; it stays in the divergence, where it matters.

use rayon::prelude::*;
use smallfry_nn::kernel::Level;

use super::{
    Field, Force,
    affinity::View,
    kernel::{self, FAR, PAD, Places},
    principal::Components,
};
use crate::metric::Watch;

/// What the reference lets no exaggerated p fall below.
const FLOOR: f64 = 1e-21;

/// What the reference lets no q fall below.
pub(super) const PROBABILITY_FLOOR: f64 = 1e-12;

/// Points that a thread takes at once.
const ROWS: usize = 16;

/// The p of all pairs.
pub(super) struct Exact {
    points: usize,
    /// Length of a row, a multiple of [`PAD`].
    stride: usize,
    /// `[points, stride]`; zero behind the points and on the diagonal.
    weights: Vec<f32>,
}

impl Exact {
    /// The p of the points with these `components`.
    ///
    /// # Errors
    /// Who watches wants it to stop.
    pub fn new(
        components: &Components,
        perplexity: f64,
        exaggeration: f64,
        watch: Watch<'_>,
    ) -> Result<Self, String> {
        let columns = Columns::of(components);
        let points = columns.points;
        let views: Vec<View> = (0..points)
            .into_par_iter()
            .with_min_len(ROWS)
            .map_init(Vec::new, |distances, i| {
                watch.go_on()?;
                columns.distances(i, distances);
                distances.remove(i);
                Ok(View::search(distances, perplexity))
            })
            .collect::<Result<_, String>>()?;
        let stride = points.next_multiple_of(PAD);
        let floor = FLOOR / exaggeration;
        let mut weights = vec![0.0; points * stride];
        // Both views of a pair are worked out again for each of its two places: cheaper than to keep and turn them.
        weights
            .par_chunks_exact_mut(stride)
            .with_min_len(ROWS)
            .enumerate()
            .try_for_each_init(Vec::new, |distances, (i, row)| {
                watch.go_on()?;
                columns.distances(i, distances);
                let pairs = distances.iter().zip(&views).enumerate();
                for (weight, (j, (&distance, view))) in row.iter_mut().zip(pairs) {
                    if i != j {
                        let sum = views[i].probability(distance) + view.probability(distance);
                        *weight = (sum / (2 * points) as f64).max(floor) as f32;
                    }
                }
                Ok::<_, String>(())
            })?;
        Ok(Self {
            points,
            stride,
            weights,
        })
    }

    /// The places on the map in single precision, padded.
    fn places(&self, map: &[[f64; 2]]) -> [Vec<f32>; 2] {
        [0, 1].map(|axis| {
            let mut places: Vec<f32> = map.iter().map(|point| point[axis] as f32).collect();
            places.resize(self.stride, FAR);
            places
        })
    }
}

impl Field for Exact {
    fn forces(&self, map: &[[f64; 2]], forces: &mut [Force]) -> f64 {
        let (level, [x, y]) = (Level::current(), self.places(map));
        let totals: Vec<f64> = forces
            .par_iter_mut()
            .zip(self.weights.par_chunks_exact(self.stride))
            .enumerate()
            .with_min_len(ROWS)
            .map(|(i, (force, weights))| {
                let sums = kernel::both(level, Places { x: &x, y: &y }, weights, [x[i], y[i]]);
                *force = Force {
                    pull: sums.pull.map(f64::from),
                    push: sums.push.map(f64::from),
                };
                f64::from(sums.total) - 1.0
            })
            .collect();
        totals.iter().sum()
    }

    fn divergence(&self, map: &[[f64; 2]]) -> f64 {
        let near = |i: usize, j: usize| {
            let (dx, dy) = (map[i][0] - map[j][0], map[i][1] - map[j][1]);
            1.0 / (1.0 + dx * dx + dy * dy)
        };
        let sum = |term: &(dyn Fn(usize, usize) -> f64 + Sync)| -> f64 {
            let rows: Vec<f64> = (0..self.points)
                .into_par_iter()
                .with_min_len(ROWS)
                .map(|i| {
                    let others = (0..self.points).filter(|&j| j != i);
                    others.map(|j| term(i, j)).sum()
                })
                .collect();
            rows.iter().sum()
        };
        let total = sum(&near);
        sum(&|i, j| {
            let p = f64::from(self.weights[i * self.stride + j]);
            let q = (near(i, j) / total).max(PROBABILITY_FLOOR);
            p * (p / q).ln()
        })
    }
}

/// Coordinates, one component after the other, so that distances to many points are vector work.
struct Columns {
    points: usize,
    /// `[width, points]`.
    values: Vec<f64>,
}

impl Columns {
    fn of(components: &Components) -> Self {
        let width = components.width;
        let points = components.values.len() / width;
        let values = (0..components.values.len())
            .map(|i| f64::from(components.values[i % points * width + i / points]))
            .collect();
        Self { points, values }
    }

    /// Squared distances of point `i` to all.
    fn distances(&self, i: usize, distances: &mut Vec<f64>) {
        distances.clear();
        distances.resize(self.points, 0.0);
        for column in self.values.chunks_exact(self.points) {
            let own = column[i];
            for (distance, value) in distances.iter_mut().zip(column) {
                *distance += (value - own) * (value - own);
            }
        }
    }
}
