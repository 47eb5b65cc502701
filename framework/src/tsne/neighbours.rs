//! The nearest neighbours of every point, found by comparing all pairs.
//!
//! Products of rows in single precision choose a few more candidates than needed, distances in double precision decide
//! among these. At the few dozen numbers of a point that t-SNE works on, a matrix product over all pairs outruns search
//! trees, and unlike them it misses nothing.

use rayon::prelude::*;

use super::principal::Components;
use crate::{measure::products::fold, metric::Watch};

/// Candidates beyond the neighbours wanted, for those that rounding puts into the wrong order.
const SPARE: usize = 8;

/// The nearest neighbours of points.
pub(super) struct Neighbours {
    /// Neighbours of each point.
    pub count: usize,
    /// `[points, count]`, the nearest first; of those equally near the one that comes first.
    pub indices: Vec<u32>,
    /// Their squared distances.
    pub distances: Vec<f64>,
}

impl Neighbours {
    /// The `count` nearest other points of every point, all of them where there are fewer.
    ///
    /// # Errors
    /// Who watches wants it to stop.
    ///
    /// # Panics
    /// If there are more than 2³² points.
    pub fn of(components: &Components, count: usize, watch: Watch<'_>) -> Result<Self, String> {
        let (values, width) = (&components.values, components.width);
        let points = values.len() / width;
        assert!(u32::try_from(points).is_ok(), "points have 32-bit numbers");
        let count = count.min(points.saturating_sub(1));
        // |a − b|² falls as a·b − |b|²/2 rises.
        let halves: Vec<f32> = values
            .par_chunks_exact(width)
            .map(|row| 0.5 * row.iter().map(|v| v * v).sum::<f32>())
            .collect();
        let tiles = fold(
            values,
            values,
            width,
            false,
            Vec::<Candidates>::new,
            |tile, products| {
                for (place, (i, row)) in products.rows().enumerate() {
                    if tile.len() == place {
                        tile.push(Candidates::new(count + SPARE));
                    }
                    let candidates = &mut tile[place];
                    let halves = &halves[products.right..];
                    for (j, (product, half)) in row.iter().zip(halves).enumerate() {
                        let near = product - half;
                        if near >= candidates.least && products.right + j != i {
                            candidates.add(near, (products.right + j) as u32);
                        }
                    }
                }
            },
            watch,
        )?;
        let candidates: Vec<Candidates> = tiles.into_iter().flatten().collect();
        let row = |i: usize| &values[i * width..(i + 1) * width];
        let chosen: Vec<Vec<(f64, u32)>> = candidates
            .into_par_iter()
            .enumerate()
            .map(|(i, candidates)| {
                watch.go_on()?;
                let exact = |&(_, j): &(f32, u32)| {
                    let differences = row(i).iter().zip(row(j as usize));
                    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
                    (differences.map(square).sum::<f64>(), j)
                };
                let mut found: Vec<_> = candidates.found.iter().map(exact).collect();
                found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                found.truncate(count);
                Ok(found)
            })
            .collect::<Result<_, String>>()?;
        let all = || chosen.iter().flatten();
        Ok(Self {
            count,
            indices: all().map(|&(_, j)| j).collect(),
            distances: all().map(|&(distance, _)| distance).collect(),
        })
    }
}

/// The nearest of the points seen so far, and some more.
struct Candidates {
    wanted: usize,
    /// A nearness that `wanted` points reach.
    least: f32,
    found: Vec<(f32, u32)>,
}

impl Candidates {
    fn new(wanted: usize) -> Self {
        Self {
            wanted,
            least: f32::NEG_INFINITY,
            found: Vec::with_capacity(2 * wanted),
        }
    }

    fn add(&mut self, near: f32, point: u32) {
        self.found.push((near, point));
        if self.found.len() == 2 * self.wanted {
            // Ties stay in order of points, so that what is kept does not depend on how the rest lay.
            let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            let (_, last, _) = self.found.select_nth_unstable_by(self.wanted - 1, order);
            self.least = last.0;
            self.found.truncate(self.wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use smallfry_data::random::Random;

    use super::*;

    #[test]
    fn agrees_with_sorting_all_distances() {
        for (points, width, count) in [(700, 5, 20), (40, 3, 100), (2, 1, 1), (300, 1, 7)] {
            let mut random = Random::new(&[points as u64]);
            // Whole numbers: many distances are equal.
            let values: Vec<f32> = (0..points * width)
                .map(|_| random.below(9) as f32)
                .collect();
            let components = Components { values, width };
            let found = Neighbours::of(&components, count, Watch::default()).unwrap();
            let row = |i: usize| &components.values[i * width..(i + 1) * width];
            assert_eq!(found.count, count.min(points - 1));
            for i in 0..points {
                let mut expected: Vec<(f64, u32)> = (0..points)
                    .filter(|&j| j != i)
                    .map(|j| {
                        let differences = row(i).iter().zip(row(j));
                        let distance = differences.map(|(a, b)| f64::from(a - b).powi(2)).sum();
                        (distance, j as u32)
                    })
                    .collect();
                expected.sort_by(|a, b| a.partial_cmp(b).unwrap());
                let place = i * found.count..(i + 1) * found.count;
                let distances = &found.distances[place.clone()];
                let expected = &expected[..found.count];
                assert!(
                    distances.iter().eq(expected.iter().map(|e| &e.0)),
                    "point {i}"
                );
                // Whole numbers are exact in single precision, but ties may be more than spare places.
                for (j, distance) in found.indices[place].iter().zip(distances) {
                    let differences = row(i).iter().zip(row(*j as usize));
                    let exact: f64 = differences.map(|(a, b)| f64::from(a - b).powi(2)).sum();
                    assert_eq!(exact, *distance);
                }
            }
        }
    }
}
