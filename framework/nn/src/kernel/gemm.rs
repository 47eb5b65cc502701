//! Matrix products for tensors whose rows are pixels.
//!
//! Two products carry all 1×1 convolutions: C = A·B ([`gemm`]), and the weight gradient C += Xᵀ·D ([`gemm_tn`]). In both
//! the tall operands are read where they lie, numbers broadcast one by one; only the small right-hand side B may be
//! packed into [panels](pack) that are read in order. What comes after a convolution (start value, activation, channel
//! sums for a batch norm) happens on the tile while it is in registers.
//!
//! The functions on slices ([`multiply`], [`multiply_packed`], [`multiply_transposed`]) check their lengths and are safe;
//! those on pointers are for kernels that write into the middle of shared tensors. None of them starts threads.

use super::simd::Level;
use crate::network::Activation;

mod pack;
mod tile;

pub use pack::{Packed, pack, pack_rows, pack_transposed, packed_len, panels};

/// What happens to a finished tile.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue {
    /// Start value of every column, or null for zeros.
    pub start: *const f32,
    /// C += instead of C =.
    pub accumulate: bool,
    /// Applied before the store.
    pub activation: Activation,
    /// Where the sum of every stored column is added, or null.
    pub sum: *mut f32,
    /// Where the sum of squares of every stored column is added; null exactly when `sum` is.
    pub squares: *mut f32,
}

impl Epilogue {
    /// C = A·B.
    pub const SET: Self = Self {
        start: std::ptr::null(),
        accumulate: false,
        activation: Activation::Identity,
        sum: std::ptr::null_mut(),
        squares: std::ptr::null_mut(),
    };

    /// C += A·B.
    pub const ADD: Self = Self {
        accumulate: true,
        ..Self::SET
    };
}

/// The right-hand side of a product.
#[derive(Clone, Copy, Debug)]
pub enum Right {
    /// Panels made by [`pack`] for the same level; and the panels of the product that comes next, or null: they are asked
    /// for ahead of it, so that they are in the second-level cache then.
    Packed(*const f32, *const f32),
    /// Row-major, with the distance between rows.
    Rows(*const f32, usize),
}

/// Rows of A that are multiplied with one panel before the next panel: about 256 KB of A stay in the cache.
const BLOCK: usize = 64 * 1024;
/// Longest inner dimension of one sweep.
const DEPTH: usize = 1024;

/// C (+)= A·B for A `[m, k]` with row distance `lda`, B `[k, n]`, C `[m, n]` with row distance `ldc`.
///
/// # Safety
/// The operands must be readable, C and the epilogue's sums writable, in the given sizes; C must not overlap the rest.
#[expect(
    clippy::too_many_arguments,
    reason = "the customary arguments of a matrix product"
)]
pub unsafe fn gemm(
    level: Level,
    m: usize,
    k: usize,
    n: usize,
    a: *const f32,
    lda: usize,
    b: Right,
    c: *mut f32,
    ldc: usize,
    epilogue: &Epilogue,
) {
    let rows = (BLOCK / k.max(1)).max(84) / 84 * 84;
    let mut row = 0;
    while row < m {
        let height = rows.min(m - row);
        let mut depth = 0;
        loop {
            let next = (depth + DEPTH).min(k);
            let (first, last) = (depth == 0, next == k);
            let e = Epilogue {
                start: if first {
                    epilogue.start
                } else {
                    std::ptr::null()
                },
                accumulate: epilogue.accumulate || !first,
                activation: if last {
                    epilogue.activation
                } else {
                    Activation::Identity
                },
                sum: if last {
                    epilogue.sum
                } else {
                    std::ptr::null_mut()
                },
                squares: if last {
                    epilogue.squares
                } else {
                    std::ptr::null_mut()
                },
            };
            // SAFETY: the caller's promise, cut into blocks.
            unsafe {
                tile::panels(
                    level,
                    height,
                    depth..next,
                    k,
                    n,
                    a.add(row * lda),
                    lda,
                    b,
                    c.add(row * ldc),
                    ldc,
                    &e,
                );
            }
            depth = next;
            if last {
                break;
            }
        }
        row += height;
    }
}

/// C += Xᵀ·D for X `[m, k]`, D `[m, n]`, C `[k, n]`, with their row distances.
///
/// # Safety
/// The operands must be readable and C writable in the given sizes; C must not overlap the rest.
#[expect(
    clippy::too_many_arguments,
    reason = "the customary arguments of a matrix product"
)]
pub unsafe fn gemm_tn(
    level: Level,
    m: usize,
    k: usize,
    n: usize,
    x: *const f32,
    ldx: usize,
    d: *const f32,
    ldd: usize,
    c: *mut f32,
    ldc: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { gemm_tn_onto(level, true, m, k, n, x, ldx, d, ldd, c, ldc) }
}

/// As [`gemm_tn`]; without `accumulate` C = Xᵀ·D, and what C held does not matter.
///
/// # Safety
/// As [`gemm_tn`].
#[expect(
    clippy::too_many_arguments,
    reason = "the customary arguments of a matrix product"
)]
pub unsafe fn gemm_tn_onto(
    level: Level,
    accumulate: bool,
    m: usize,
    k: usize,
    n: usize,
    x: *const f32,
    ldx: usize,
    d: *const f32,
    ldd: usize,
    c: *mut f32,
    ldc: usize,
) {
    // C goes in and out once for every block of rows, so blocks are not short.
    let rows = (BLOCK / (k + n).max(1)).max(64);
    let mut row = 0;
    loop {
        let height = rows.min(m - row);
        // SAFETY: the caller's promise, cut into blocks of rows.
        unsafe {
            tile::panels_tn(
                level,
                accumulate || row > 0,
                height,
                k,
                n,
                x.add(row * ldx),
                ldx,
                d.add(row * ldd),
                ldd,
                c,
                ldc,
            );
        }
        row += height;
        if row == m {
            break;
        }
    }
}

/// What happens to a finished product, for the functions on slices.
#[derive(Debug)]
pub struct Finish<'a> {
    /// Start value of every column (a bias).
    pub start: Option<&'a [f32]>,
    /// C += instead of C =.
    pub accumulate: bool,
    /// Applied before the store.
    pub activation: Activation,
    /// Where sums and sums of squares of the stored columns are added.
    pub sums: Option<(&'a mut [f32], &'a mut [f32])>,
}

impl Default for Finish<'_> {
    /// C = A·B.
    fn default() -> Self {
        Self {
            start: None,
            accumulate: false,
            activation: Activation::Identity,
            sums: None,
        }
    }
}

impl Finish<'_> {
    fn epilogue(&mut self, n: usize) -> Epilogue {
        let (sum, squares) = match &mut self.sums {
            Some((sum, squares)) => {
                assert!(sum.len() >= n && squares.len() >= n, "sums are too short");
                (sum.as_mut_ptr(), squares.as_mut_ptr())
            }
            None => (std::ptr::null_mut(), std::ptr::null_mut()),
        };
        Epilogue {
            start: self.start.map_or(std::ptr::null(), |start| {
                assert!(start.len() >= n, "start values are too short");
                start.as_ptr()
            }),
            accumulate: self.accumulate,
            activation: self.activation,
            sum,
            squares,
        }
    }
}

/// Row-major rows to read, `width` numbers of every `stride`.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The numbers, from the first of the first row.
    pub values: &'a [f32],
    /// Distance between rows.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows without gaps.
    pub fn dense(values: &'a [f32], width: usize) -> Self {
        Self {
            values,
            stride: width,
        }
    }

    fn check(self, rows: usize, width: usize, name: &str) {
        check(self.values.len(), self.stride, rows, width, name);
    }
}

fn check(len: usize, stride: usize, rows: usize, width: usize, name: &str) {
    assert!(
        rows == 0 || width == 0 || (stride >= width && len >= (rows - 1) * stride + width),
        "matrix {name} of {rows} × {width} with row distance {stride} does not fit into {len} numbers"
    );
}

/// C (+)= A·B for A `[m, k]`, B `[k, n]` row-major, and C `[m, n]` with row distance `ldc`.
///
/// # Panics
/// If a slice is too short.
#[expect(
    clippy::too_many_arguments,
    reason = "the customary arguments of a matrix product"
)]
pub fn multiply(
    level: Level,
    m: usize,
    k: usize,
    n: usize,
    a: Rows<'_>,
    b: Rows<'_>,
    c: &mut [f32],
    ldc: usize,
    mut finish: Finish<'_>,
) {
    a.check(m, k, "A");
    b.check(k, n, "B");
    check(c.len(), ldc, m, n, "C");
    let epilogue = finish.epilogue(n);
    // SAFETY: every size was checked, and C is borrowed alone.
    unsafe {
        gemm(
            level,
            m,
            k,
            n,
            a.values.as_ptr(),
            a.stride,
            Right::Rows(b.values.as_ptr(), b.stride),
            c.as_mut_ptr(),
            ldc,
            &epilogue,
        );
    }
}

/// C (+)= A·B for A `[m, k]`, packed B, and C `[m, n]` with row distance `ldc`; k and n are those of `b`.
///
/// # Panics
/// If a slice is too short.
pub fn multiply_packed(
    m: usize,
    a: Rows<'_>,
    b: &Packed,
    c: &mut [f32],
    ldc: usize,
    mut finish: Finish<'_>,
) {
    a.check(m, b.k(), "A");
    check(c.len(), ldc, m, b.n(), "C");
    let epilogue = finish.epilogue(b.n());
    // SAFETY: every size was checked, and C is borrowed alone.
    unsafe {
        gemm(
            b.level(),
            m,
            b.k(),
            b.n(),
            a.values.as_ptr(),
            a.stride,
            Right::Packed(b.values().as_ptr(), std::ptr::null()),
            c.as_mut_ptr(),
            ldc,
            &epilogue,
        );
    }
}

/// C += Xᵀ·D for X `[m, k]`, D `[m, n]` and C `[k, n]` with row distance `ldc`.
///
/// # Panics
/// If a slice is too short.
#[expect(
    clippy::too_many_arguments,
    reason = "the customary arguments of a matrix product"
)]
pub fn multiply_transposed(
    level: Level,
    m: usize,
    k: usize,
    n: usize,
    x: Rows<'_>,
    d: Rows<'_>,
    c: &mut [f32],
    ldc: usize,
) {
    x.check(m, k, "X");
    d.check(m, n, "D");
    check(c.len(), ldc, k, n, "C");
    // SAFETY: every size was checked, and C is borrowed alone.
    unsafe {
        gemm_tn(
            level,
            m,
            k,
            n,
            x.values.as_ptr(),
            x.stride,
            d.values.as_ptr(),
            d.stride,
            c.as_mut_ptr(),
            ldc,
        );
    }
}

#[cfg(test)]
mod tests;
