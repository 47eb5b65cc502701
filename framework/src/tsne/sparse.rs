//! t-SNE whose pull comes from nearest neighbours alone, and whose push from a tree: for tens of thousands of points.
//!
//! A Gaussian of perplexity u hardly sees beyond its 3u nearest neighbours (van der Maaten 2014), so p is kept for pairs of
//! which one is among these of the other, and is zero for the rest.

use rayon::prelude::*;
use smallfry_nn::kernel::Level;

use super::{
    Field, Force,
    affinity::View,
    exact::PROBABILITY_FLOOR,
    kernel::{self, FAR, PAD, Places},
    neighbours::Neighbours,
    principal::Components,
    tree::Repulsion,
};
use crate::metric::Watch;

/// Neighbours for each unit of perplexity.
pub(super) const NEIGHBOURS: f64 = 3.0;

/// Points that a thread takes at once.
const ROWS: usize = 64;

/// The p of near pairs.
pub(super) struct Sparse {
    theta: f64,
    /// Where the row of each point begins in the two lists below, and where the last one ends.
    starts: Vec<usize>,
    /// Who the near ones are, rising within a row.
    columns: Vec<u32>,
    /// Their p.
    weights: Vec<f32>,
}

impl Sparse {
    /// The p of the points with these `components`; `theta` is that of the tree.
    ///
    /// # Errors
    /// Who watches wants it to stop.
    pub fn new(
        components: &Components,
        perplexity: f64,
        theta: f64,
        watch: Watch<'_>,
    ) -> Result<Self, String> {
        let neighbours = Neighbours::of(components, (NEIGHBOURS * perplexity) as usize, watch)?;
        let count = neighbours.count.max(1);
        let points = components.values.len() / components.width;
        let seen: Vec<f64> = neighbours
            .distances
            .par_chunks(count)
            .map(|distances| {
                watch.go_on()?;
                let view = View::search(distances, perplexity);
                Ok(distances.iter().map(|&d| view.probability(d)).collect())
            })
            .collect::<Result<Vec<Vec<f64>>, String>>()?
            .concat();
        // Every p(j|i) goes into the rows of both points; those of a pair that sees each other meet there.
        let mut rows: Vec<Vec<(u32, f64)>> = vec![Vec::new(); points];
        for (place, (&j, &p)) in neighbours.indices.iter().zip(&seen).enumerate() {
            let i = place / count;
            rows[i].push((j, p));
            rows[j as usize].push((i as u32, p));
        }
        let scale = 1.0 / (2 * points) as f64;
        rows.par_iter_mut().for_each(|row| {
            row.sort_by_key(|&(j, _)| j);
            row.dedup_by(|later, first| {
                let same = later.0 == first.0;
                if same {
                    first.1 += later.1;
                }
                same
            });
        });
        let mut starts = vec![0];
        for row in &rows {
            starts.push(starts[starts.len() - 1] + row.len());
        }
        let entries = || rows.iter().flatten();
        Ok(Self {
            theta,
            starts,
            columns: entries().map(|&(j, _)| j).collect(),
            weights: entries().map(|&(_, p)| (p * scale) as f32).collect(),
        })
    }

    fn row(&self, i: usize) -> (&[u32], &[f32]) {
        let places = self.starts[i]..self.starts[i + 1];
        (&self.columns[places.clone()], &self.weights[places])
    }
}

impl Field for Sparse {
    fn forces(&self, map: &[[f64; 2]], forces: &mut [Force]) -> f64 {
        let repulsion = Repulsion::of(map, self.theta);
        let level = Level::current();
        let places: Vec<[f32; 2]> = map.iter().map(|p| p.map(|v| v as f32)).collect();
        forces
            .par_iter_mut()
            .zip(&repulsion.push)
            .enumerate()
            .with_min_len(ROWS)
            .for_each_init(
                || [const { Vec::new() }; 3],
                |[x, y, padded], (i, (force, &push))| {
                    let (columns, weights) = self.row(i);
                    let length = columns.len().next_multiple_of(PAD);
                    x.clear();
                    y.clear();
                    for &j in columns {
                        let [across, up] = places[j as usize];
                        x.push(across);
                        y.push(up);
                    }
                    x.resize(length, FAR);
                    y.resize(length, FAR);
                    padded.clear();
                    padded.extend_from_slice(weights);
                    padded.resize(length, 0.0);
                    let pull = kernel::pull(level, Places { x, y }, padded, places[i]);
                    *force = Force {
                        pull: pull.map(f64::from),
                        push,
                    };
                },
            );
        repulsion.total
    }

    fn divergence(&self, map: &[[f64; 2]]) -> f64 {
        let total = Repulsion::of(map, self.theta).total;
        let rows: Vec<f64> = (0..map.len())
            .into_par_iter()
            .with_min_len(ROWS)
            .map(|i| {
                let (columns, weights) = self.row(i);
                let term = |(&j, &p): (&u32, &f32)| {
                    let (a, b) = (map[i], map[j as usize]);
                    let near = 1.0 / (1.0 + (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2));
                    let p = f64::from(p);
                    match p > 0.0 {
                        true => p * (p / (near / total).max(PROBABILITY_FLOOR)).ln(),
                        false => 0.0,
                    }
                };
                columns.iter().zip(weights).map(term).sum()
            })
            .collect();
        rows.iter().sum()
    }
}
