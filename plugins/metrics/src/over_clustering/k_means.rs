//! K-means on features of length one: centres drawn far apart (k-means++ in its greedy form; Arthur and Vassilvitskii 2007),
//! then Lloyd's rounds until nothing moves; of several starts the one with the least sum of squares.
//!
//! A start can put two centres into one cluster and none into another, and Lloyd's rounds do not mend that. Where the chance
//! is one in ten, four starts make it one in ten thousand.
//!
//! Rows are assigned by products in single precision, a row on the border to the earlier centre; centres are means in
//! double precision, their rows added in order. A centre that loses all its rows stays where it is.

use rayon::prelude::*;
use smallfry::{
    data::random::Random,
    measure::UnitRows,
    metric::Watch,
    nn::kernel::{
        Level,
        double::{distance, dot},
        gemm::{Finish, Packed, Rows, multiply_packed},
    },
};

/// Centres that are packed together.
const PACK: usize = 256;

/// Rows that a thread takes at once.
const TILE: usize = 84;

/// How k-means looks for clusters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    /// The most clusters.
    pub wanted: usize,
    /// Draws of centres that are tried, at least 1.
    pub starts: usize,
    /// The most rounds of a start, at least 1.
    pub rounds: usize,
}

/// The cluster of each row; fewer than wanted where fewer rows differ. `random` gives each start its numbers.
///
/// # Errors
/// The user stops.
pub(super) fn k_means(
    rows: &UnitRows,
    search: Search,
    random: impl Fn(u64) -> Random,
    watch: Watch<'_>,
) -> Result<Vec<u32>, String> {
    let mut best: Option<(f64, Vec<u32>)> = None;
    for start in 0..search.starts {
        let reached = |share: f64| watch.reached((start as f64 + share) / search.starts as f64);
        let (squares, clusters) = one_start(rows, search, random(start as u64), &reached)?;
        // Of equally good starts the earlier one stays.
        if best.as_ref().is_none_or(|(least, _)| squares < *least) {
            best = Some((squares, clusters));
        }
    }
    Ok(best.expect("there is at least one start").1)
}

/// What a start comes to: the sum of the squares of all distances from centres, and the clusters.
fn one_start(
    rows: &UnitRows,
    search: Search,
    random: Random,
    reached: &dyn Fn(f64) -> Result<(), String>,
) -> Result<(f64, Vec<u32>), String> {
    let mut centres = draw(rows, search.wanted, random, reached)?;
    let mut clusters = Vec::new();
    for round in 0..search.rounds {
        reached(0.5 + 0.5 * round as f64 / search.rounds as f64)?;
        let assigned = assign(rows, &centres);
        if assigned == clusters {
            break;
        }
        clusters = assigned;
        take_means(rows, &clusters, &mut centres);
    }
    Ok((squares(rows, &clusters, &centres), clusters))
}

/// The sum of the squares of the distances of all rows from the centres of their clusters.
fn squares(rows: &UnitRows, clusters: &[u32], centres: &[f32]) -> f64 {
    let width = rows.width();
    let own = |cluster: u32| &centres[cluster as usize * width..][..width];
    let each = clusters.par_iter().enumerate();
    let each: Vec<f64> = each
        .map(|(row, &cluster)| distance(rows.row(row), own(cluster)))
        .collect();
    each.iter().sum()
}

/// Rows as centres, `[at most wanted, width]`: candidates are drawn with the square of their distance to the centres before
/// as their weight, and the one that leaves the smallest sum of squares is taken.
fn draw(
    rows: &UnitRows,
    wanted: usize,
    mut random: Random,
    reached: &dyn Fn(f64) -> Result<(), String>,
) -> Result<Vec<f32>, String> {
    let candidates = 2 + (wanted as f64).ln() as usize;
    let first = random.below(rows.rows() as u64) as usize;
    let mut squares = with_centre(rows, &vec![f64::INFINITY; rows.rows()], first);
    let mut centres = rows.row(squares.1).to_vec();
    for place in 1..wanted {
        reached(0.5 * place as f64 / wanted as f64)?;
        let sum: f64 = squares.0.iter().sum();
        if sum == 0.0 {
            break;
        }
        let mut best: Option<(f64, (Vec<f64>, usize))> = None;
        for _ in 0..candidates {
            let row = pick(&squares.0, random.unit() * sum);
            let left = with_centre(rows, &squares.0, row);
            let sum: f64 = left.0.iter().sum();
            if best.as_ref().is_none_or(|(least, _)| sum < *least) {
                best = Some((sum, left));
            }
        }
        squares = best.expect("there are candidates").1;
        centres.extend_from_slice(rows.row(squares.1));
    }
    Ok(centres)
}

/// The squares of the distances to the nearest centre once `row` is one too, and the row.
fn with_centre(rows: &UnitRows, squares: &[f64], row: usize) -> (Vec<f64>, usize) {
    let centre = rows.row(row);
    let squares = squares.par_iter().enumerate();
    let nearer = squares.map(|(row, square)| square.min(distance(rows.row(row), centre)));
    (nearer.collect(), row)
}

/// The row at which the sum of `weights` passes `sum`; never one of weight 0.
fn pick(weights: &[f64], mut sum: f64) -> usize {
    let passed = weights.iter().position(|&weight| {
        sum -= weight;
        weight > 0.0 && sum < 0.0
    });
    // Rounding may leave a rest behind the last row.
    passed.unwrap_or_else(|| {
        let last = weights.iter().rposition(|&weight| weight > 0.0);
        last.expect("the weights have a sum above 0")
    })
}

/// The nearest of `centres`, `[centres, width]`, to each row.
fn assign(rows: &UnitRows, centres: &[f32]) -> Vec<u32> {
    let width = rows.width();
    let pieces: Vec<(Packed, Vec<f32>)> = centres
        .par_chunks(PACK * width)
        .map(|centres| {
            let mut packed = Packed::new(Level::current(), width, centres.len() / width);
            packed.set_transposed(centres, width, None);
            let halves = centres.chunks_exact(width);
            (packed, halves.map(|c| (-0.5 * dot(c, c)) as f32).collect())
        })
        .collect();
    let tiles = rows.values().par_chunks(TILE * width);
    let nearest = tiles.map_init(
        || vec![0.0f32; TILE * PACK],
        |products, tile| {
            let height = tile.len() / width;
            let mut best = vec![(f32::NEG_INFINITY, 0u32); height];
            for (i, (packed, start)) in pieces.iter().enumerate() {
                let finish = Finish {
                    start: Some(start),
                    ..Finish::default()
                };
                let tile = Rows::dense(tile, width);
                multiply_packed(height, tile, packed, products, PACK, finish);
                for (best, products) in best.iter_mut().zip(products.chunks(PACK)) {
                    for (j, &product) in products[..packed.n()].iter().enumerate() {
                        if product > best.0 {
                            *best = (product, (i * PACK + j) as u32);
                        }
                    }
                }
            }
            best.into_iter()
                .map(|(_, centre)| centre)
                .collect::<Vec<u32>>()
        },
    );
    nearest.collect::<Vec<_>>().concat()
}

/// Moves each centre to the mean of its rows.
fn take_means(rows: &UnitRows, clusters: &[u32], centres: &mut [f32]) {
    let width = rows.width();
    let mut members = vec![Vec::new(); centres.len() / width];
    for (row, &cluster) in clusters.iter().enumerate() {
        members[cluster as usize].push(row);
    }
    let pairs = centres.par_chunks_exact_mut(width).zip(&members);
    pairs.for_each(|(centre, members)| {
        if members.is_empty() {
            return;
        }
        let mut sum = vec![0.0f64; width];
        for &row in members {
            for (sum, &value) in sum.iter_mut().zip(rows.row(row)) {
                *sum += f64::from(value);
            }
        }
        for (centre, sum) in centre.iter_mut().zip(sum) {
            *centre = (sum / members.len() as f64) as f32;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points around the axes, in turn.
    fn around_axes(rows: usize, width: usize) -> UnitRows {
        let mut random = Random::new(&[3]);
        let values: Vec<f32> = (0..rows * width)
            .map(|i| {
                let axis = i / width % width == i % width;
                f32::from(u8::from(axis)) + 0.05 * random.normal() as f32
            })
            .collect();
        UnitRows::new(&values, width).expect("they are finite")
    }

    fn run(rows: &UnitRows, wanted: usize, seed: u64) -> Vec<u32> {
        let random = |start| Random::new(&[seed, start]);
        let search = Search {
            wanted,
            starts: 4,
            rounds: 50,
        };
        k_means(rows, search, random, Watch::default()).expect("nobody stops it")
    }

    #[test]
    fn clear_clusters_are_found() {
        let rows = around_axes(200, 8);
        for seed in 0..20 {
            let found = run(&rows, 8, seed);
            for (row, cluster) in found.iter().enumerate() {
                assert_eq!(*cluster, found[row % 8], "seed {seed}");
            }
            let mut first = found[..8].to_vec();
            first.sort_unstable();
            assert_eq!(first, [0, 1, 2, 3, 4, 5, 6, 7], "seed {seed}");
        }
    }

    #[test]
    fn the_start_with_the_least_sum_of_squares_is_kept() {
        let mut random = Random::new(&[4]);
        let values: Vec<f32> = (0..300 * 5).map(|_| random.normal() as f32).collect();
        let rows = UnitRows::new(&values, 5).expect("they are finite");
        let random = |start| Random::new(&[7, start]);
        let search = |starts| Search {
            wanted: 12,
            starts,
            rounds: 50,
        };
        let single = |start| {
            let found = one_start(&rows, search(1), random(start), &|_| Ok(()));
            found.expect("nobody stops it")
        };
        let singles: Vec<_> = (0..6).map(single).collect();
        let best = singles.iter().min_by(|a, b| a.0.total_cmp(&b.0));
        let best = best.expect("there are starts");
        assert!(singles.iter().any(|other| other.0 > best.0));
        let found = k_means(&rows, search(6), random, Watch::default());
        assert_eq!(found.expect("nobody stops it"), best.1);
    }

    #[test]
    fn every_row_is_with_its_nearest_centre() {
        let mut random = Random::new(&[9]);
        let values: Vec<f32> = (0..400 * 6).map(|_| random.normal() as f32).collect();
        let rows = UnitRows::new(&values, 6).expect("they are finite");
        let clusters = run(&rows, 300, 2);
        let mut centres = vec![0.0; 300 * 6];
        take_means(&rows, &clusters, &mut centres);
        let mut slower = 0;
        for (row, &cluster) in clusters.iter().enumerate() {
            let square = |c: usize| distance(rows.row(row), &centres[c * 6..][..6]);
            let used = |c: &usize| clusters.contains(&(*c as u32));
            let best = (0..300)
                .filter(used)
                .map(square)
                .fold(f64::INFINITY, f64::min);
            slower += usize::from(square(cluster as usize) > best + 1e-6);
        }
        assert_eq!(slower, 0);
    }

    #[test]
    fn equal_rows_make_one_cluster() {
        let rows = UnitRows::new(&[0.6, 0.8].repeat(9), 2).expect("they are finite");
        assert_eq!(run(&rows, 4, 1), [0; 9]);
    }
}
