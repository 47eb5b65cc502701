//! Pointers that the tasks of a pass share.

use rayon::prelude::*;

use crate::kernel::{
    Level,
    gemm::{Epilogue, Right, gemm, gemm_tn},
};

/// The start of memory that several tasks write to, each to places of its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::layer) struct Place(*mut f32);

// SAFETY: a pointer; what is done with it is `unsafe` at the place where it is done.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    pub fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr())
    }

    /// The place `offset` numbers further.
    #[inline(always)]
    pub fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }

    /// As [`at`](Self::at), to be shared on.
    #[inline(always)]
    pub fn from(self, offset: usize) -> Self {
        Self(self.at(offset))
    }

    /// The `len` numbers from `offset` on.
    ///
    /// # Safety
    /// They must be allocated and initialised, and nobody else may use them while the slice lives.
    pub unsafe fn slice<'a>(self, offset: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset), len) }
    }
}

/// Multiply-adds below which a product is not worth a second thread.
const SERIAL: usize = 1 << 18;
/// Rows of a task: whole tiles of the kernels.
const TASK: usize = 28;

/// C = A·B by all threads: A `[m, k]`, B `[k, n]` and C `[m, n]` without gaps.
pub(in crate::layer) fn product(
    level: Level,
    sizes: [usize; 3],
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
) {
    let [m, k, n] = sizes;
    assert!(a.len() >= m * k && b.len() >= k * n && c.len() >= m * n);
    let task = if m * k * n < SERIAL { m } else { TASK }.max(1);
    c[..m * n]
        .par_chunks_mut(task * n)
        .enumerate()
        .for_each(|(i, c)| {
            // SAFETY: the rows of C and those of A lie within the slices, whose lengths were checked.
            unsafe {
                let (a, b) = (a.as_ptr().add(i * task * k), b.as_ptr());
                let b = Right::Rows(b, n);
                gemm(
                    level,
                    c.len() / n,
                    k,
                    n,
                    a,
                    k,
                    b,
                    c.as_mut_ptr(),
                    n,
                    &Epilogue::SET,
                );
            }
        });
}

/// C += Xᵀ·D by all threads: X `[m, k]`, D `[m, n]` and C `[k, n]` without gaps.
pub(in crate::layer) fn product_tn(
    level: Level,
    sizes: [usize; 3],
    x: &[f32],
    d: &[f32],
    c: &mut [f32],
) {
    let [m, k, n] = sizes;
    assert!(x.len() >= m * k && d.len() >= m * n && c.len() >= k * n);
    let task = if m * k * n < SERIAL {
        k
    } else {
        k.div_ceil(8).next_multiple_of(6)
    }
    .max(1);
    c[..k * n]
        .par_chunks_mut(task * n)
        .enumerate()
        .for_each(|(i, c)| {
            // SAFETY: the columns of X and the rows of C lie within the slices, whose lengths were checked.
            unsafe {
                let x = x.as_ptr().add(i * task);
                gemm_tn(
                    level,
                    m,
                    c.len() / n,
                    n,
                    x,
                    k,
                    d.as_ptr(),
                    n,
                    c.as_mut_ptr(),
                    n,
                );
            }
        });
}
