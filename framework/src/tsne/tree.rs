//! Push by the method of Barnes and Hut: far clusters of points count as one point of their mass (van der Maaten 2014).
//!
//! A cell of a quadtree stands for its points where its diameter is at most θ times its distance. Points are sorted along
//! Morton's curve, so a cell is a range of them, and points in a leaf are neighbours: they go through the tree together, with the
//! distance of the nearest of them, and what they meet is a list that vector code works off. That is more exact than a walk
//! for each point, and many times faster. Equal maps give equal bits: every leaf is one thread's work, sums are taken
//! in order.

use rayon::prelude::*;
use smallfry_nn::kernel::Level;

use super::kernel::{self, FAR, PAD, Places};

/// Points of a leaf at most; more only where points are so near each other that cells cannot tell them apart.
const LEAF: usize = 32;

/// Halvings of the map's side in Morton's numbers.
const BITS: u32 = 20;

/// Points at most: what is left beside Morton's number in a word of 64 bits.
pub(super) const MOST: usize = 1 << (64 - 2 * BITS);

/// Push and normalisation of all points.
pub(super) struct Repulsion {
    /// Of each point the sum of n²·d, in double precision.
    pub push: Vec<[f64; 2]>,
    /// The sum of n over all pairs.
    pub total: f64,
}

/// A quadtree over a map.
struct Tree {
    /// Places in the tree's order.
    x: Vec<f32>,
    y: Vec<f32>,
    /// The point at each place.
    order: Vec<u32>,
    /// Cells, each in front of its children.
    cells: Vec<Cell>,
    /// The indices of cells without children.
    leaves: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    /// The centre of mass.
    centre: [f32; 2],
    /// The square of the diameter of its points' bounds.
    diameter: f32,
    /// The corners of its points' bounds.
    bounds: [[f32; 2]; 2],
    /// Its points, as a range of places.
    first: u32,
    end: u32,
    /// The cell behind its last descendant.
    next: u32,
    leaf: bool,
}

impl Repulsion {
    /// The push on every point of `map`; `theta` is θ, and 0 is exact.
    ///
    /// # Panics
    /// If there are more than [`MOST`] points.
    pub fn of(map: &[[f64; 2]], theta: f64) -> Self {
        let tree = Tree::new(map);
        let (level, square) = (Level::current(), (theta * theta) as f32);
        let parts: Vec<(f64, Vec<[f64; 2]>)> = tree
            .leaves
            .par_iter()
            .map_init(List::default, |list, &leaf| {
                let leaf = &tree.cells[leaf as usize];
                list.gather(&tree, leaf, square);
                let mut total = 0.0;
                let pushes = (leaf.first..leaf.end).map(|place| {
                    let at = [tree.x[place as usize], tree.y[place as usize]];
                    let sums = kernel::push(level, list.places(), &list.masses, at);
                    total += f64::from(sums.total) - 1.0;
                    sums.push.map(f64::from)
                });
                let pushes = pushes.collect();
                (total, pushes)
            })
            .collect();
        let mut push = vec![[0.0; 2]; map.len()];
        let pushes = parts.iter().flat_map(|(_, pushes)| pushes);
        for (&point, &value) in tree.order.iter().zip(pushes) {
            push[point as usize] = value;
        }
        Self {
            push,
            total: parts.iter().map(|(total, _)| total).sum(),
        }
    }
}

/// What the points of a leaf meet.
#[derive(Default)]
struct List {
    x: Vec<f32>,
    y: Vec<f32>,
    masses: Vec<f32>,
}

impl List {
    fn places(&self) -> Places<'_> {
        Places {
            x: &self.x,
            y: &self.y,
        }
    }

    fn clear(&mut self) {
        for list in [&mut self.x, &mut self.y, &mut self.masses] {
            list.clear();
        }
    }

    /// Goes through the tree for the points of `leaf`; `square` is that of θ.
    fn gather(&mut self, tree: &Tree, leaf: &Cell, square: f32) {
        self.clear();
        let [low, high] = leaf.bounds;
        let mut index = 0;
        while let Some(cell) = tree.cells.get(index) {
            let gap = |axis: usize| {
                let centre = cell.centre[axis];
                (low[axis] - centre).max(centre - high[axis]).max(0.0)
            };
            let (across, up) = (gap(0), gap(1));
            let far = cell.diameter <= square * (across * across + up * up);
            if far {
                self.x.push(cell.centre[0]);
                self.y.push(cell.centre[1]);
                self.masses.push((cell.end - cell.first) as f32);
            } else if cell.leaf {
                let places = cell.first as usize..cell.end as usize;
                self.x.extend_from_slice(&tree.x[places.clone()]);
                self.y.extend_from_slice(&tree.y[places]);
                self.masses.resize(self.x.len(), 1.0);
            }
            index = match far {
                true => cell.next as usize,
                false => index + 1,
            };
        }
        let padded = self.x.len().next_multiple_of(PAD);
        self.x.resize(padded, FAR);
        self.y.resize(padded, FAR);
        self.masses.resize(padded, 0.0);
    }
}

impl Tree {
    fn new(map: &[[f64; 2]]) -> Self {
        assert!(map.len() <= MOST, "a map of too many points");
        let bound = |axis: usize| {
            let places = || map.iter().map(|point| point[axis]);
            (
                places().fold(f64::INFINITY, f64::min),
                places().fold(f64::NEG_INFINITY, f64::max),
            )
        };
        let (across, up) = (bound(0), bound(1));
        let side = (across.1 - across.0).max(up.1 - up.0);
        let scale = if side > 0.0 {
            f64::from((1 << BITS) - 1) / side
        } else {
            0.0
        };
        let mut keys: Vec<u64> = map
            .par_iter()
            .with_min_len(1024)
            .enumerate()
            .map(|(point, place)| {
                let across = ((place[0] - across.0) * scale) as u64;
                let up = ((place[1] - up.0) * scale) as u64;
                (spread(across) | spread(up) << 1) << (64 - 2 * BITS) | point as u64
            })
            .collect();
        keys.par_sort_unstable();
        let point = |key: &u64| (key & (MOST as u64 - 1)) as usize;
        let along = |axis: usize| keys.iter().map(move |key| map[point(key)][axis] as f32);
        let mut tree = Self {
            x: along(0).collect(),
            y: along(1).collect(),
            order: keys.iter().map(|key| point(key) as u32).collect(),
            cells: Vec::with_capacity(keys.len() / (LEAF / 4) + 1),
            leaves: Vec::new(),
        };
        if !keys.is_empty() {
            tree.grow(&keys, 0, 2 * BITS);
        }
        tree
    }

    /// Adds the cell of `keys`, which begin at place `first` and agree but for their last `bits` of Morton's number; the sum of
    /// their places.
    fn grow(&mut self, keys: &[u64], first: usize, bits: u32) -> [f64; 2] {
        let (index, end) = (self.cells.len(), first + keys.len());
        let leaf = keys.len() <= LEAF || bits == 0;
        self.cells.push(Cell {
            centre: [0.0; 2],
            diameter: 0.0,
            bounds: [[f32::INFINITY; 2], [f32::NEG_INFINITY; 2]],
            first: first as u32,
            end: end as u32,
            next: 0,
            leaf,
        });
        let mut sum = [0.0; 2];
        let [mut low, mut high] = self.cells[index].bounds;
        let mut widen = |places: [[f32; 2]; 2]| {
            for axis in 0..2 {
                low[axis] = low[axis].min(places[0][axis]);
                high[axis] = high[axis].max(places[1][axis]);
            }
        };
        if leaf {
            self.leaves.push(index as u32);
            for place in first..end {
                let at = [self.x[place], self.y[place]];
                widen([at; 2]);
                sum[0] += f64::from(at[0]);
                sum[1] += f64::from(at[1]);
            }
        } else {
            let shift = 64 - 2 * BITS + bits - 2;
            let mut begin = 0;
            for quarter in 0..4 {
                let rest = &keys[begin..];
                let count = rest.partition_point(|key| key >> shift & 3 <= quarter);
                if count > 0 {
                    let child = self.cells.len();
                    let part = self.grow(&rest[..count], first + begin, bits - 2);
                    widen(self.cells[child].bounds);
                    sum[0] += part[0];
                    sum[1] += part[1];
                    begin += count;
                }
            }
        }
        let next = self.cells.len() as u32;
        let cell = &mut self.cells[index];
        cell.centre = sum.map(|sum| (sum / keys.len() as f64) as f32);
        cell.bounds = [low, high];
        cell.diameter = (high[0] - low[0]).powi(2) + (high[1] - low[1]).powi(2);
        cell.next = next;
        sum
    }
}

/// Moves the bits of a number apart, so that another's fit between them.
fn spread(number: u64) -> u64 {
    let mut x = number;
    for (shift, mask) in [
        (16, 0x0000_FFFF_0000_FFFF),
        (8, 0x00FF_00FF_00FF_00FF),
        (4, 0x0F0F_0F0F_0F0F_0F0F),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        x = (x | x << shift) & mask;
    }
    x
}

#[cfg(test)]
mod tests {
    use smallfry_data::random::Random;

    use super::*;

    /// Clumps of points, some of them at the same place.
    fn clumps(points: usize) -> Vec<[f64; 2]> {
        let mut random = Random::new(&[7]);
        let centres: Vec<[f64; 2]> = (0..12)
            .map(|_| [0; 2].map(|_| 40.0 * random.normal()))
            .collect();
        let mut map: Vec<_> = (0..points)
            .map(|i| centres[i % 12].map(|c| c + 2.0 * random.normal()))
            .collect();
        map[points / 2] = map[0];
        map
    }

    fn exact(map: &[[f64; 2]]) -> Repulsion {
        let mut total = 0.0;
        let push = map.iter().map(|a| {
            let mut push = [0.0; 2];
            for b in map {
                let d = [a[0] - b[0], a[1] - b[1]];
                let near = 1.0 / (1.0 + d[0] * d[0] + d[1] * d[1]);
                total += near;
                push[0] += near * near * d[0];
                push[1] += near * near * d[1];
            }
            total -= 1.0;
            push
        });
        let push = push.collect();
        Repulsion { push, total }
    }

    fn error(found: &Repulsion, expected: &Repulsion) -> (f64, f64) {
        let square = |v: [f64; 2]| v[0] * v[0] + v[1] * v[1];
        let pairs = found.push.iter().zip(&expected.push);
        let wrong: f64 = pairs.map(|(a, b)| square([a[0] - b[0], a[1] - b[1]])).sum();
        let right: f64 = expected.push.iter().map(|&v| square(v)).sum();
        (
            (wrong / right).sqrt(),
            (found.total / expected.total - 1.0).abs(),
        )
    }

    #[test]
    fn approaches_the_exact_push_as_theta_falls() {
        let map = clumps(3000);
        let expected = exact(&map);
        for (theta, push, total) in [(0.0, 1e-5, 1e-6), (0.2, 2e-3, 2e-4), (0.5, 1e-2, 2e-3)] {
            let found = Repulsion::of(&map, theta);
            let error = error(&found, &expected);
            assert!(error.0 < push && error.1 < total, "θ = {theta}: {error:?}");
        }
    }

    #[test]
    fn points_at_one_place_push_nothing() {
        for points in [1, 2, 1000] {
            let found = Repulsion::of(&vec![[3.0, -2.0]; points], 0.5);
            let pairs = (points * (points - 1)) as f64;
            assert!(
                (found.total - pairs).abs() <= 1e-6 * pairs.max(1.0),
                "{}",
                found.total
            );
            assert!(found.push.iter().flatten().all(|v| v.abs() < 1e-3));
        }
        assert_eq!(Repulsion::of(&[], 0.5).total, 0.0);
    }

    #[test]
    fn cells_partition_their_points() {
        let tree = Tree::new(&clumps(2000));
        let mut order = tree.order.clone();
        order.sort_unstable();
        assert!(order.into_iter().eq(0..2000));
        let mut place = 0;
        for leaf in tree.leaves.iter().map(|&leaf| &tree.cells[leaf as usize]) {
            assert_eq!(leaf.first, place);
            assert!(leaf.end - leaf.first <= LEAF as u32);
            place = leaf.end;
        }
        assert_eq!(place, 2000);
        assert_eq!(spread(0b1011), 0b100_0101);
    }
}
