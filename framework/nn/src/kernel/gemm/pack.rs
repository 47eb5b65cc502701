//! The order in which a right-hand side is read.
//!
//! Columns are cut into panels of a few vectors; a panel is stored row by row without gaps, the last vector filled up
//! with zeros. Widths are as even as possible and depend on the level.

use super::{super::simd::Level, tile};

/// Numbers that the packed form of `[k, n]` takes, for any level.
pub const fn packed_len(k: usize, n: usize) -> usize {
    k * n.next_multiple_of(16)
}

/// The panels of a packed right-hand side with `n` columns: first column and number of vectors of each.
pub fn panels(level: Level, n: usize) -> impl Iterator<Item = (usize, usize)> {
    tile::cut(level, n)
}

/// Packs the matrix whose element in row k and column n is `f(k, n)`.
///
/// # Panics
/// If `out` is shorter than [`packed_len`].
pub fn pack(level: Level, k: usize, n: usize, out: &mut [f32], f: impl Fn(usize, usize) -> f32) {
    assert!(out.len() >= packed_len(k, n), "packed matrix is too short");
    for (column, vectors) in tile::cut(level, n) {
        let width = vectors * level.lanes();
        let panel = &mut out[k * column..][..k * width];
        for (i, row) in panel.chunks_exact_mut(width).enumerate() {
            for (j, value) in row.iter_mut().enumerate() {
                *value = if column + j < n {
                    f(i, column + j)
                } else {
                    0.0
                };
            }
        }
    }
}

/// Packs a row-major matrix, element (k, n) at `values[k * stride + n]`.
///
/// # Panics
/// If `out` or `values` is too short.
pub fn pack_rows(level: Level, k: usize, n: usize, values: &[f32], stride: usize, out: &mut [f32]) {
    assert!(out.len() >= packed_len(k, n), "packed matrix is too short");
    for (column, vectors) in tile::cut(level, n) {
        let width = vectors * level.lanes();
        let filled = width.min(n - column);
        let panel = &mut out[k * column..][..k * width];
        for (i, row) in panel.chunks_exact_mut(width).enumerate() {
            row[..filled].copy_from_slice(&values[i * stride + column..][..filled]);
            row[filled..].fill(0.0);
        }
    }
}

/// Packs a matrix stored by columns, element (k, n) at `values[n * stride + k]`, times `scale[n]` where given.
///
/// This is how weights `[output, input]` become the right-hand side of a convolution.
///
/// # Panics
/// If `out`, `values` or `scale` is too short.
pub fn pack_transposed(
    level: Level,
    k: usize,
    n: usize,
    values: &[f32],
    stride: usize,
    scale: Option<&[f32]>,
    out: &mut [f32],
) {
    assert!(out.len() >= packed_len(k, n), "packed matrix is too short");
    for (column, vectors) in tile::cut(level, n) {
        let width = vectors * level.lanes();
        let panel = &mut out[k * column..][..k * width];
        let filled = width.min(n - column);
        // Sixteen rows at a time: their lines stay in the first cache while the columns are read.
        for (block, rows) in panel.chunks_mut(16 * width).enumerate() {
            let first = block * 16;
            let count = rows.len() / width;
            let mut j = 0;
            while j + 4 <= filled {
                let sources: [&[f32]; 4] =
                    std::array::from_fn(|c| &values[(column + j + c) * stride + first..][..count]);
                let factors: [f32; 4] =
                    std::array::from_fn(|c| scale.map_or(1.0, |scale| scale[column + j + c]));
                turn(sources, factors, &mut rows[j..], width);
                j += 4;
            }
            for j in j..filled {
                let source = &values[(column + j) * stride + first..][..count];
                let factor = scale.map_or(1.0, |scale| scale[column + j]);
                for (i, value) in source.iter().enumerate() {
                    rows[i * width + j] = value * factor;
                }
            }
            for row in rows.chunks_mut(width) {
                row[filled..].fill(0.0);
            }
        }
    }
}

/// Writes four columns, each times its factor, as rows `width` apart. Squares of four are turned at once, in a form that the
/// compiler makes shuffles of.
fn turn(columns: [&[f32]; 4], factors: [f32; 4], rows: &mut [f32], width: usize) {
    let squares = columns.map(|column| column.as_chunks::<4>());
    let [a, b, c, d] = squares.map(|(squares, _)| squares);
    let mut at = 0;
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for i in 0..4 {
            let row = [a[i], b[i], c[i], d[i]];
            let row: [f32; 4] = std::array::from_fn(|c| row[c] * factors[c]);
            rows[at..at + 4].copy_from_slice(&row);
            at += width;
        }
    }
    let [a, b, c, d] = squares.map(|(_, rest)| rest);
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        let row = [a, b, c, d];
        let row: [f32; 4] = std::array::from_fn(|c| row[c] * factors[c]);
        rows[at..at + 4].copy_from_slice(&row);
        at += width;
    }
}

/// A packed right-hand side with its own memory, to be filled again and again.
#[derive(Clone, Debug)]
pub struct Packed {
    level: Level,
    k: usize,
    n: usize,
    values: Vec<f32>,
}

impl Packed {
    /// Zeros of `[k, n]`.
    pub fn new(level: Level, k: usize, n: usize) -> Self {
        Self {
            level,
            k,
            n,
            values: vec![0.0; packed_len(k, n)],
        }
    }

    /// Fills it from a row-major matrix `[k, n]`, element (k, n) at `values[k * stride + n]`.
    pub fn set_rows(&mut self, values: &[f32], stride: usize) {
        pack_rows(self.level, self.k, self.n, values, stride, &mut self.values);
    }

    /// Fills it from a matrix stored by columns, element (k, n) at `values[n * stride + k]`, times `scale[n]`.
    pub fn set_transposed(&mut self, values: &[f32], stride: usize, scale: Option<&[f32]>) {
        pack_transposed(
            self.level,
            self.k,
            self.n,
            values,
            stride,
            scale,
            &mut self.values,
        );
    }

    /// Rows.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The level it is packed for.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The panels.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}
