//! All products of the rows of two matrices, tile by tile, without ever holding them all.

use rayon::prelude::*;
use smallfry_nn::kernel::{
    Level,
    gemm::{Finish, Packed, Rows, multiply_packed},
};

use crate::metric::Watch;

/// Right rows that are packed together.
const PACK: usize = 256;

/// Left rows that a thread takes at once.
const TILE: usize = 32;

/// Products of some left rows with some right rows.
pub(crate) struct Products<'a> {
    /// Index of the first left row.
    pub left: usize,
    /// Index of the first right row.
    pub right: usize,
    /// Number of right rows.
    pub count: usize,
    values: &'a [f32],
}

impl Products<'_> {
    /// The products of each left row, by its index.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let rows = self.values.chunks(PACK).enumerate();
        rows.map(|(i, row)| (self.left + i, &row[..self.count]))
    }
}

/// Goes through the products of all rows of `left` with all rows of `right`, both `[rows, width]`, in single precision:
/// off by at most [`slack`] for rows of length one. Each tile of left rows starts with `start()` and meets the right rows
/// in order; gives what the tiles came to, in order.
///
/// `upper` leaves out tiles that lie wholly below the diagonal.
///
/// # Errors
/// Who watches wants it to stop, which is asked between pieces of a few milliseconds.
pub(crate) fn fold<T: Send>(
    left: &[f32],
    right: &[f32],
    width: usize,
    upper: bool,
    start: impl Fn() -> T + Sync,
    visit: impl Fn(&mut T, &Products<'_>) + Sync,
    watch: Watch<'_>,
) -> Result<Vec<T>, String> {
    let pieces: Vec<(usize, Packed)> = right
        .par_chunks(PACK * width)
        .enumerate()
        .map(|(i, rows)| {
            let mut packed = Packed::new(Level::current(), width, rows.len() / width);
            packed.set_transposed(rows, width, None);
            (i * PACK, packed)
        })
        .collect();
    let tiles = left.par_chunks(TILE * width).enumerate();
    tiles
        .map_init(
            || vec![0.0f32; TILE * PACK],
            |values, (i, rows)| {
                let mut state = start();
                let (first, height) = (i * TILE, rows.len() / width);
                for (begin, packed) in &pieces {
                    if upper && begin + packed.n() <= first {
                        continue;
                    }
                    watch.go_on()?;
                    let rows = Rows::dense(rows, width);
                    multiply_packed(height, rows, packed, values, PACK, Finish::default());
                    let products = Products {
                        left: first,
                        right: *begin,
                        count: packed.n(),
                        values: &values[..height * PACK],
                    };
                    visit(&mut state, &products);
                }
                Ok(state)
            },
        )
        .collect()
}

/// How far a single-precision product of two rows of length one can be from the exact one.
pub(super) fn slack(width: usize) -> f64 {
    (width + 2) as f64 * 0.5f64.powi(24)
}

/// The product of two rows in double precision, by eight partial sums.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    sums.iter().sum()
}
