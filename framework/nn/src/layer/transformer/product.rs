//! Rows times a packed matrix that lies in shared memory.

use crate::{
    kernel::{
        Level,
        gemm::{Epilogue, Right, Rows, gemm, packed_len},
    },
    memory::Memory,
    network::Activation,
};

/// A right-hand side `[k, n]`, packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub level: Level,
    pub k: usize,
    pub n: usize,
    pub packed: &'a [f32],
}

impl Matrix<'_> {
    /// One of several matrices of this size that are packed behind each other, each at a cache line.
    pub fn block(&self, i: usize) -> Self {
        let len = Memory::pad(packed_len(self.k, self.n));
        Self {
            packed: &self.packed[i * len..],
            ..*self
        }
    }
}

/// C (+)= A·B for A `[m, k]` and C `[m, n]` with row distance `ldc`; `start` is added to every row.
///
/// # Panics
/// If a slice is too short.
pub(crate) fn multiply(
    m: usize,
    a: Rows<'_>,
    b: &Matrix<'_>,
    c: &mut [f32],
    ldc: usize,
    start: Option<&[f32]>,
    accumulate: bool,
) {
    let (k, n) = (b.k, b.n);
    let fits = |len, stride, width| m == 0 || (stride >= width && len >= (m - 1) * stride + width);
    assert!(fits(a.values.len(), a.stride, k), "A is too short");
    assert!(fits(c.len(), ldc, n), "C is too short");
    assert!(b.packed.len() >= packed_len(k, n), "B is too short");
    let epilogue = Epilogue {
        start: start.map_or(std::ptr::null(), |start| start[..n].as_ptr()),
        accumulate,
        activation: Activation::Identity,
        ..Epilogue::SET
    };
    // SAFETY: the sizes were checked, and C is borrowed alone.
    unsafe {
        gemm(
            b.level,
            m,
            k,
            n,
            a.values.as_ptr(),
            a.stride,
            Right::Packed(b.packed.as_ptr(), std::ptr::null()),
            c.as_mut_ptr(),
            ldc,
            &epilogue,
        );
    }
}
