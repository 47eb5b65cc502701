//! The rank of each image's own view among the other images, exactly, in bounded memory.
//!
//! Queries are compared with one another, so each product serves two of them and half the products suffice: blocks of
//! queries meet themselves and those after them. A product in single precision decides where it is farther from the
//! positive's than its error can be; the few others are worked out again in double precision. Counts are whole numbers, so
//! that it does not matter which thread adds first.

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;
use smallfry::{
    measure::UnitRows,
    metric::{FeatureSet, Watch},
    nn::kernel::{
        Level,
        double::dot,
        gemm::{Finish, Packed, Rows, multiply_packed},
    },
};

use crate::judged;

/// Bytes of queries in a block; two blocks and a packed one are in memory at once.
const BLOCK_BYTES: usize = 64 << 20;

/// Queries that are packed together.
const PACK: usize = 256;

/// Queries that a thread takes at once: the rows that a product keeps in the cache.
const TILE: usize = 84;

/// Where an image's own view stands among the other images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rank {
    /// Other images that are nearer.
    pub nearer: u32,
    /// Other images that are just as near.
    pub equal: u32,
}

/// The rank of each row of `positives` among the other rows of `queries`, by the cosine similarity with its own row there.
///
/// # Errors
/// A feature is not finite, or the user stops.
pub fn ranks(
    queries: &dyn FeatureSet,
    positives: &dyn FeatureSet,
    watch: Watch<'_>,
) -> Result<Vec<Rank>, String> {
    let (rows, width) = (queries.rows(), queries.width());
    let size = (BLOCK_BYTES / (4 * width)).max(1).next_multiple_of(PACK);
    let starts: Vec<usize> = (0..rows).step_by(size).collect();
    let read = |start: usize| judged::unit(queries, start..rows.min(start + size));
    let mut marks = Marks::with_capacity(rows);
    for &start in &starts {
        watch.go_on()?;
        let (first, second) = (
            read(start)?,
            judged::unit(positives, start..rows.min(start + size))?,
        );
        marks.extend(&first, &second);
    }
    let counts: Vec<Count> = (0..rows).map(|_| Count::default()).collect();
    let meetings = starts.len() * (starts.len() + 1) / 2;
    let mut met = 0;
    for (i, &left) in starts.iter().enumerate() {
        let first = read(left)?;
        for &right in &starts[i..] {
            watch.reached(met as f64 / meetings as f64)?;
            let other = (right != left).then(|| read(right)).transpose()?;
            let meeting = Meeting {
                left: Block {
                    first: left,
                    rows: &first,
                },
                right: Block {
                    first: right,
                    rows: other.as_ref().unwrap_or(&first),
                },
                marks: &marks,
                counts: &counts,
            };
            meeting.count(watch)?;
            met += 1;
        }
    }
    let rank = |count: Count| Rank {
        nearer: count.nearer.into_inner(),
        equal: count.equal.into_inner(),
    };
    Ok(counts.into_iter().map(rank).collect())
}

/// The similarity of each query with its positive, and what a product must lie below or above to be surely less or more.
struct Marks {
    own: Vec<f64>,
    low: Vec<f32>,
    high: Vec<f32>,
}

impl Marks {
    fn with_capacity(rows: usize) -> Self {
        Self {
            own: Vec::with_capacity(rows),
            low: Vec::with_capacity(rows),
            high: Vec::with_capacity(rows),
        }
    }

    fn extend(&mut self, queries: &UnitRows, positives: &UnitRows) {
        // n products of numbers of rows of length one, rounded n times; two units more for the rounding of the marks.
        let slack = 1.01 * (queries.width() + 4) as f64 * 0.5f64.powi(24);
        for row in 0..queries.rows() {
            let own = dot(queries.row(row), positives.row(row));
            self.own.push(own);
            self.low.push((own - slack) as f32);
            self.high.push((own + slack) as f32);
        }
    }
}

/// A rank that several threads add to.
#[derive(Default)]
struct Count {
    nearer: AtomicU32,
    equal: AtomicU32,
}

impl Count {
    fn add(&self, nearer: u32) {
        self.nearer.fetch_add(nearer, Ordering::Relaxed);
    }

    /// Counts an image whose similarity exceeds the positive's by `gap`.
    fn take(&self, gap: f64) {
        if gap > 0.0 {
            self.add(1);
        } else if gap == 0.0 {
            self.equal.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Some of the queries.
#[derive(Clone, Copy)]
struct Block<'a> {
    /// Row of the first of them.
    first: usize,
    rows: &'a UnitRows,
}

/// A block of queries and one that is not before it.
struct Meeting<'a> {
    left: Block<'a>,
    right: Block<'a>,
    marks: &'a Marks,
    counts: &'a [Count],
}

impl Meeting<'_> {
    /// Counts each pair of a left query and a later right one, for both.
    fn count(&self, watch: Watch<'_>) -> Result<(), String> {
        let width = self.left.rows.width();
        let pieces: Vec<(usize, Packed)> = self
            .right
            .rows
            .values()
            .par_chunks(PACK * width)
            .enumerate()
            .map(|(i, rows)| {
                let mut packed = Packed::new(Level::current(), width, rows.len() / width);
                packed.set_transposed(rows, width, None);
                (self.right.first + i * PACK, packed)
            })
            .collect();
        let tiles = self.left.rows.values().par_chunks(TILE * width).enumerate();
        tiles.try_for_each_init(
            || vec![0.0f32; TILE * PACK],
            |products, (i, rows)| {
                watch.go_on()?;
                let (first, height) = (self.left.first + i * TILE, rows.len() / width);
                let mut nearer = [0u32; TILE];
                for (begin, packed) in &pieces {
                    if begin + packed.n() <= first {
                        continue;
                    }
                    let rows = Rows::dense(rows, width);
                    multiply_packed(height, rows, packed, products, PACK, Finish::default());
                    let products = products.chunks(PACK).map(|row| &row[..packed.n()]);
                    self.tile(first, *begin, products.take(height), &mut nearer);
                }
                for (row, nearer) in nearer.into_iter().enumerate().take(height) {
                    self.counts[first + row].add(nearer);
                }
                Ok(())
            },
        )
    }

    /// Counts the `products` of queries from `first` on with queries from `begin` on.
    fn tile<'p>(
        &self,
        first: usize,
        begin: usize,
        products: impl Iterator<Item = &'p [f32]>,
        nearer: &mut [u32; TILE],
    ) {
        let mut columns = [0u32; PACK];
        for (row, products) in products.enumerate() {
            let query = first + row;
            // Only pairs with a later query: the others were met the other way round.
            let skip = (query + 1).saturating_sub(begin).min(products.len());
            let products = &products[skip..];
            let others = begin + skip..begin + skip + products.len();
            let line = Line {
                products,
                low: &self.marks.low[others.clone()],
                high: &self.marks.high[others.clone()],
                own_low: self.marks.low[query],
                own_high: self.marks.high[query],
            };
            let (more, open) = line.count(&mut columns[skip..]);
            nearer[row] += more;
            if open {
                self.settle(query, others, &line);
            }
        }
        for (column, &nearer) in columns.iter().enumerate().filter(|(_, n)| **n > 0) {
            self.counts[begin + column].add(nearer);
        }
    }

    /// Works out exactly what a line leaves open.
    fn settle(&self, query: usize, others: std::ops::Range<usize>, line: &Line<'_>) {
        for (j, other) in others.enumerate() {
            let product = line.products[j];
            let open = |low: f32, high: f32| product >= low && product <= high;
            let (for_query, for_other) = (
                open(line.own_low, line.own_high),
                open(line.low[j], line.high[j]),
            );
            if for_query || for_other {
                let left = self.left.rows.row(query - self.left.first);
                let right = self.right.rows.row(other - self.right.first);
                let exact = dot(left, right);
                for (row, open) in [(query, for_query), (other, for_other)] {
                    if open {
                        self.counts[row].take(exact - self.marks.own[row]);
                    }
                }
            }
        }
    }
}

/// The products of one query with some others, and the marks of all of them.
struct Line<'a> {
    products: &'a [f32],
    low: &'a [f32],
    high: &'a [f32],
    own_low: f32,
    own_high: f32,
}

impl Line<'_> {
    /// How many others are surely nearer to the query than its positive, and whether some pair is open; adds to each column
    /// whether the query is surely nearer to that one than its own positive.
    fn count(&self, columns: &mut [u32]) -> (u32, bool) {
        let (own_low, own_high) = (self.own_low, self.own_high);
        let (mut nearer, mut open) = (0u32, 0u32);
        let marks = self.low.iter().zip(self.high).zip(columns);
        for (&product, ((&low, &high), column)) in self.products.iter().zip(marks) {
            let (mine, theirs) = (product > own_high, product > high);
            nearer += u32::from(mine);
            *column += u32::from(theirs);
            open |= u32::from((product >= own_low) & !mine) | u32::from((product >= low) & !theirs);
        }
        (nearer, open != 0)
    }
}
