//! The training features that may be among the nearest to one test feature, while a chunk of them is gone through.
//!
//! A candidate is an interval of closeness. The lowest closeness that the k-th best can have, by the lower ends of the
//! intervals and by the exact distances that are known, is what an upper end must reach to stay; it only rises. Intervals
//! are measured exactly at the end of the chunk, or earlier where too many are left, as among features that are all alike.

use super::{Bounds, Chunk, LOOK, Neighbour};

/// Candidates beside twice the wanted count at which those out of reach are dropped.
const SPARE: usize = 128;

/// A feature of the chunk whose closeness is known to lie between two numbers.
#[derive(Clone, Copy)]
struct Candidate {
    low: f32,
    high: f32,
    /// Its row in the chunk.
    row: u32,
}

/// The search for the neighbours of one test feature.
pub(super) struct Candidates<'a> {
    test: &'a [f32],
    /// Its squared length relative to the centre.
    square: f64,
    count: usize,
    /// The nearest of all features measured so far, nearest first.
    found: &'a mut Vec<Neighbour>,
    open: Vec<Candidate>,
    /// What the upper end of a candidate must reach.
    reach: f32,
}

impl<'a> Candidates<'a> {
    /// Goes on from what was `found` in earlier chunks; `square` is the squared length of `test` relative to the centre.
    pub fn new(test: &'a [f32], square: f64, count: usize, found: &'a mut Vec<Neighbour>) -> Self {
        let mut new = Self {
            test,
            square,
            count,
            found,
            open: Vec::new(),
            reach: f32::NEG_INFINITY,
        };
        new.reach = new.reach_of_found();
        new
    }

    /// The length of the test feature relative to the centre.
    pub fn length(&self) -> f64 {
        self.square.sqrt()
    }

    /// Takes what may be near enough of features `first..` of the chunk, whose closenesses are `row`.
    pub fn look(&mut self, row: &[f32], first: usize, bounds: Bounds, chunk: &Chunk<'_>) {
        let Bounds::Within(off) = bounds else {
            for i in 0..row.len() {
                self.take(f32::NEG_INFINITY, f32::INFINITY, first + i, chunk);
            }
            return;
        };
        for (block, values) in row.chunks(LOOK).enumerate() {
            let most = values.iter().fold(
                f32::NEG_INFINITY,
                |most, &v| if v > most { v } else { most },
            );
            if most + off < self.reach {
                continue;
            }
            for (i, &value) in values.iter().enumerate() {
                if value + off >= self.reach {
                    self.take(value - off, value + off, first + block * LOOK + i, chunk);
                }
            }
        }
    }

    /// Measures the candidates that are left.
    pub fn finish(mut self, chunk: &Chunk<'_>) {
        self.tighten();
        self.measure(chunk);
        self.found.shrink_to(self.count);
    }

    fn take(&mut self, low: f32, high: f32, row: usize, chunk: &Chunk<'_>) {
        let row = row as u32;
        self.open.push(Candidate { low, high, row });
        let limit = 2 * self.count + SPARE;
        if self.open.len() >= limit {
            self.tighten();
            // Where most stay, as among equal features, exact distances decide what intervals cannot.
            if self.open.len() > self.count + SPARE {
                self.measure(chunk);
            }
        }
    }

    /// Raises the reach to what the k-th best has at least, and drops what is below it.
    fn tighten(&mut self) {
        let known = self.found.iter().map(|found| self.closeness(found));
        let mut lows: Vec<f32> = known.chain(self.open.iter().map(|c| c.low)).collect();
        if lows.len() < self.count {
            return;
        }
        let (_, kth, _) = lows.select_nth_unstable_by(self.count - 1, |a, b| b.total_cmp(a));
        self.reach = self.reach.max(*kth);
        let reach = self.reach;
        self.open.retain(|candidate| candidate.high >= reach);
    }

    /// Measures all candidates and keeps the nearest.
    fn measure(&mut self, chunk: &Chunk<'_>) {
        let measured = self.open.drain(..);
        let measured = measured.map(|c| chunk.measure(self.test, c.row as usize));
        self.found.extend(measured);
        self.found.sort_unstable();
        self.found.truncate(self.count);
        self.reach = self.reach.max(self.reach_of_found());
    }

    /// The closeness of the last of those wanted, where as many are found.
    fn reach_of_found(&self) -> f32 {
        match self.found.last() {
            // Nothing is nearer than nothing, and among equals the earlier stays.
            Some(last) if self.found.len() == self.count && last.square == 0.0 => f32::INFINITY,
            Some(last) if self.found.len() == self.count => self.closeness(last),
            _ => f32::NEG_INFINITY,
        }
    }

    /// A closeness that `found` has at least: an exact distance, turned back and rounded down.
    fn closeness(&self, found: &Neighbour) -> f32 {
        let exact = 0.5 * (self.square - found.square);
        let rounding = 1e-6 * (self.square + found.square);
        (exact - rounding) as f32
    }
}
