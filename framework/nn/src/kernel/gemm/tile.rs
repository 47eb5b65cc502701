//! The register tiles of the matrix products.
//!
//! A tile is MR rows by NV vectors of accumulators; its size is a compile-time constant, so that the accumulators stay in
//! registers. Heights favour multiples of seven, the widths of all maps at 224×224.

use std::{ops::Range, ptr};

use super::{
    super::{
        activation,
        simd::{Kernel, Level, Simd},
    },
    Epilogue, Right,
};
use crate::network::Activation;

/// Inner steps between requests of lines that are needed later: a burst of them would wait for one another.
const STEPS: usize = 8;
/// Numbers of a cache line.
const LINE: usize = 16;

/// Asks for the cache line of `p`, which need not be readable, soon.
#[inline(always)]
fn near<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which every x86-64 processor has and which touches nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Asks for the cache line of `p`, which need not be readable, into the second-level cache.
#[inline(always)]
fn far<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Widest panel in vectors.
fn widest(level: Level) -> usize {
    match level.name() {
        "avx512" => 3,
        _ => 2,
    }
}

/// The panels of `n` columns: first column and number of vectors, the widest first.
pub(super) fn cut(level: Level, n: usize) -> impl Iterator<Item = (usize, usize)> {
    let lanes = level.lanes();
    let vectors = n.div_ceil(lanes);
    let widest = match widest(level) {
        3 if vectors.is_multiple_of(4) => 4,
        widest => widest,
    };
    let panels = vectors.div_ceil(widest).max(1);
    let (narrow, wide) = (vectors / panels, vectors % panels);
    let mut column = 0;
    (0..panels).filter(move |_| n > 0).map(move |i| {
        let first = column;
        let count = narrow + usize::from(i < wide);
        column += count * lanes;
        (first, count)
    })
}

/// One panel: all rows of A against a few columns of B.
struct Panel<'a, const MR: usize, const NV: usize> {
    m: usize,
    k: usize,
    /// Columns of C, at most those of the panel.
    n: usize,
    a: *const f32,
    lda: usize,
    b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    column: usize,
    epilogue: &'a Epilogue,
    /// B has whole vectors also where C ends within one.
    padded: bool,
    /// The packed panel that is needed next, or null.
    next: *const f32,
}

impl<const MR: usize, const NV: usize> Kernel for Panel<'_, MR, NV> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: the caller's promise: `gemm`'s, for one panel.
        unsafe {
            if self.n == NV * S::LANES {
                self.rows::<S, false, false>(s);
            } else if self.padded {
                self.rows::<S, true, false>(s);
            } else {
                self.rows::<S, true, true>(s);
            }
        }
    }
}

impl<const MR: usize, const NV: usize> Panel<'_, MR, NV> {
    #[inline(always)]
    unsafe fn rows<S: Simd, const MASK_C: bool, const MASK_B: bool>(&self, s: S) {
        let mut i = 0;
        // SAFETY: rows i.. of A and C, within m.
        unsafe {
            while i + MR <= self.m {
                self.tile::<S, MR, MASK_C, MASK_B>(s, i);
                i += MR;
            }
            while i + 4 <= self.m {
                self.tile::<S, 4, MASK_C, MASK_B>(s, i);
                i += 4;
            }
            while i < self.m {
                self.tile::<S, 1, MASK_C, MASK_B>(s, i);
                i += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const MASK_C: bool, const MASK_B: bool>(
        &self,
        s: S,
        row: usize,
    ) {
        let e = self.epilogue;
        let mask = s.mask(self.n - (NV - 1) * S::LANES);
        // SAFETY: rows row..row + R; the last vector is masked where the columns end within it.
        unsafe {
            let load = |p: *const f32, j: usize| {
                if MASK_C && j + 1 == NV {
                    s.load_masked(p.add(j * S::LANES), mask)
                } else {
                    s.load(p.add(j * S::LANES))
                }
            };
            let mut tile = [[s.zero(); NV]; R];
            if !e.start.is_null() {
                for j in 0..NV {
                    let v = load(e.start.add(self.column), j);
                    for row in &mut tile {
                        row[j] = v;
                    }
                }
            }
            self.prefetch_c::<S, R>(row);
            let (a, mut b) = (self.a.add(row * self.lda), self.b);
            let (mut ahead, end) = self.ahead::<S>(row);
            let lines = (end - ahead)
                .div_ceil(LINE)
                .div_ceil((self.k / STEPS).max(1));
            let mut k = 0;
            while ahead < end && k + STEPS <= self.k {
                for line in 0..lines {
                    far(self.next.wrapping_add(ahead + line * LINE));
                }
                ahead += lines * LINE;
                for _ in 0..STEPS {
                    self.step::<S, R, MASK_B>(s, mask, a.add(k), b, &mut tile);
                    b = b.add(self.ldb);
                    k += 1;
                }
            }
            while k < self.k {
                self.step::<S, R, MASK_B>(s, mask, a.add(k), b, &mut tile);
                b = b.add(self.ldb);
                k += 1;
            }
            let c = self.c.add(row * self.ldc);
            if e.accumulate {
                for (i, row) in tile.iter_mut().enumerate() {
                    for (j, v) in row.iter_mut().enumerate() {
                        *v = s.add(*v, load(c.add(i * self.ldc), j));
                    }
                }
            }
            match e.activation {
                Activation::Identity | Activation::Swish => {}
                Activation::Relu => {
                    for row in &mut tile {
                        for v in row {
                            *v = s.max(s.zero(), *v);
                        }
                    }
                }
                Activation::Relu6 => {
                    for row in &mut tile {
                        for v in row {
                            *v = s.min(s.splat(6.0), s.max(s.zero(), *v));
                        }
                    }
                }
                Activation::HardSwish => {
                    for row in &mut tile {
                        for v in row {
                            *v = activation::hard_swish(s, *v);
                        }
                    }
                }
            }
            for (i, row) in tile.iter().enumerate() {
                for (j, &v) in row.iter().enumerate() {
                    let p = c.add(i * self.ldc + j * S::LANES);
                    if MASK_C && j + 1 == NV {
                        s.store_masked(p, v, mask);
                    } else {
                        s.store(p, v);
                    }
                }
            }
            if e.activation == Activation::Swish {
                self.swish(s, c, R);
            } else if !e.sum.is_null() {
                for j in 0..NV {
                    let (mut sum, mut squares) = (
                        load(e.sum.add(self.column), j),
                        load(e.squares.add(self.column), j),
                    );
                    for row in &tile {
                        sum = s.add(sum, row[j]);
                        squares = s.fmadd(row[j], row[j], squares);
                    }
                    let at = self.column + j * S::LANES;
                    if MASK_C && j + 1 == NV {
                        s.store_masked(e.sum.add(at), sum, mask);
                        s.store_masked(e.squares.add(at), squares, mask);
                    } else {
                        s.store(e.sum.add(at), sum);
                        s.store(e.squares.add(at), squares);
                    }
                }
            }
        }
    }

    /// One inner step: a column of A times a row of B.
    #[inline(always)]
    unsafe fn step<S: Simd, const R: usize, const MASK_B: bool>(
        &self,
        s: S,
        mask: S::Mask,
        a: *const f32,
        b: *const f32,
        tile: &mut [[S::Vector; NV]; R],
    ) {
        // SAFETY: numbers of R rows of A, and of a row of B that is masked where it ends.
        unsafe {
            let mut v = [s.zero(); NV];
            for (j, v) in v.iter_mut().enumerate() {
                let p = b.add(j * S::LANES);
                *v = if MASK_B && j + 1 == NV {
                    s.load_masked(p, mask)
                } else {
                    s.load(p)
                };
            }
            for (i, row) in tile.iter_mut().enumerate() {
                let x = s.splat(*a.add(i * self.lda));
                for j in 0..NV {
                    row[j] = s.fmadd(x, v[j], row[j]);
                }
            }
        }
    }

    /// Asks for the tile of C, which is written when the products are done.
    #[inline(always)]
    fn prefetch_c<S: Simd, const R: usize>(&self, row: usize) {
        for i in 0..R {
            for j in 0..NV {
                near(self.c.wrapping_add((row + i) * self.ldc + j * S::LANES));
            }
        }
    }

    /// The share of the next panel that the tile at `row` asks for, so that all of it is in the second-level cache when its
    /// turn comes.
    #[inline(always)]
    fn ahead<S: Simd>(&self, row: usize) -> (usize, usize) {
        if self.next.is_null() {
            return (0, 0);
        }
        let len = self.k * NV * S::LANES;
        let share = (len / LINE).div_ceil(self.m.div_ceil(MR)) * LINE;
        let first = row / MR * share;
        (first.min(len), (first + share).min(len))
    }

    /// Swish of a stored tile, and its sums. The exponential is too long to be unrolled for every register of a tile:
    /// the compiler would then keep the tile in memory all the time.
    #[inline(always)]
    unsafe fn swish<S: Simd>(&self, s: S, c: *mut f32, rows: usize) {
        let e = self.epilogue;
        // SAFETY: a tile that was just stored; columns behind n are masked.
        unsafe {
            let mut j = 0;
            while j < self.n {
                let mask = s.mask(self.n - j);
                let (mut sum, mut squares) = (s.zero(), s.zero());
                for i in 0..rows {
                    let p = c.add(i * self.ldc + j);
                    let mut v = [s.load_masked(p, mask)];
                    activation::apply(s, Activation::Swish, &mut v);
                    s.store_masked(p, v[0], mask);
                    sum = s.add(sum, v[0]);
                    squares = s.fmadd(v[0], v[0], squares);
                }
                if !e.sum.is_null() {
                    for (to, v) in [(e.sum, sum), (e.squares, squares)] {
                        let p = to.add(self.column + j);
                        s.store_masked(p, s.add(s.load_masked(p, mask), v), mask);
                    }
                }
                j += S::LANES;
            }
        }
    }
}

/// C (+)= A·B over the inner range `depth` of `k`.
///
/// # Safety
/// As [`gemm`](super::gemm).
#[expect(
    clippy::too_many_arguments,
    reason = "the customary arguments of a matrix product"
)]
pub(super) unsafe fn panels(
    level: Level,
    m: usize,
    depth: Range<usize>,
    k: usize,
    n: usize,
    a: *const f32,
    lda: usize,
    right: Right,
    c: *mut f32,
    ldc: usize,
    epilogue: &Epilogue,
) {
    for (column, vectors) in cut(level, n) {
        let width = vectors * level.lanes();
        // SAFETY: the panel lies within the operands, by the caller's promise.
        unsafe {
            let (b, ldb, next) = match right {
                Right::Packed(p, next) => {
                    let b = p.add(k * column + depth.start * width);
                    let next = match next.is_null() {
                        _ if column + width < n => b.wrapping_add(k * width),
                        true => next,
                        false => next.wrapping_add(depth.start * width),
                    };
                    (b, width, next)
                }
                Right::Rows(p, ldb) => (p.add(depth.start * ldb + column), ldb, ptr::null()),
            };
            let padded = matches!(right, Right::Packed(..));
            macro_rules! run {
                ($mr:literal, $nv:literal) => {
                    level.run(Panel::<$mr, $nv> {
                        m,
                        k: depth.len(),
                        n: width.min(n - column),
                        a: a.add(depth.start),
                        lda,
                        b,
                        ldb,
                        c: c.add(column),
                        ldc,
                        column,
                        epilogue,
                        padded,
                        next,
                    })
                };
            }
            match (level.name(), vectors) {
                ("avx512", 1) => run!(14, 1),
                ("avx512", 2) => run!(14, 2),
                ("avx512", 3) => run!(7, 3),
                ("avx512", _) => run!(6, 4),
                ("avx2", 1) => run!(12, 1),
                ("avx2", _) => run!(6, 2),
                (_, 1) => run!(8, 1),
                _ => run!(4, 2),
            }
        }
    }
}

/// One panel of the product with a transposed left-hand side.
struct PanelTn<const KR: usize, const NV: usize> {
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
    /// Another panel follows.
    more: bool,
}

impl<const KR: usize, const NV: usize> Kernel for PanelTn<KR, NV> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: the caller's promise: `gemm_tn`'s, for one panel.
        unsafe {
            if self.n == NV * S::LANES {
                self.rows::<S, false>(s);
            } else {
                self.rows::<S, true>(s);
            }
        }
    }
}

impl<const KR: usize, const NV: usize> PanelTn<KR, NV> {
    #[inline(always)]
    unsafe fn rows<S: Simd, const MASK: bool>(&self, s: S) {
        let mut i = 0;
        // SAFETY: columns i.. of X, rows i.. of C, within k.
        unsafe {
            while i + KR <= self.k {
                self.tile::<S, KR, MASK>(s, i);
                i += KR;
            }
            while i + 4 <= self.k {
                self.tile::<S, 4, MASK>(s, i);
                i += 4;
            }
            while i < self.k {
                self.tile::<S, 1, MASK>(s, i);
                i += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const MASK: bool>(&self, s: S, first: usize) {
        let mask = s.mask(self.n - (NV - 1) * S::LANES);
        // SAFETY: columns first..first + R of X; the last vector is masked where D and C end within it.
        unsafe {
            let load = |p: *const f32, j: usize| {
                if MASK && j + 1 == NV {
                    s.load_masked(p.add(j * S::LANES), mask)
                } else {
                    s.load(p.add(j * S::LANES))
                }
            };
            let mut tile = [[s.zero(); NV]; R];
            self.prefetch::<S, R>(first);
            let (mut x, mut d) = (self.x.add(first), self.d);
            for _ in 0..self.m {
                let mut v = [s.zero(); NV];
                for (j, v) in v.iter_mut().enumerate() {
                    *v = load(d, j);
                }
                for (i, row) in tile.iter_mut().enumerate() {
                    let x = s.splat(*x.add(i));
                    for j in 0..NV {
                        row[j] = s.fmadd(x, v[j], row[j]);
                    }
                }
                x = x.add(self.ldx);
                d = d.add(self.ldd);
            }
            for (i, row) in tile.iter().enumerate() {
                let p = self.c.add((first + i) * self.ldc);
                for (j, &v) in row.iter().enumerate() {
                    let sum = if self.accumulate {
                        s.add(load(p, j), v)
                    } else {
                        v
                    };
                    if MASK && j + 1 == NV {
                        s.store_masked(p.add(j * S::LANES), sum, mask);
                    } else {
                        s.store(p.add(j * S::LANES), sum);
                    }
                }
            }
        }
    }
}

impl<const KR: usize, const NV: usize> PanelTn<KR, NV> {
    /// Asks for the tile of C, which is written when the products are done, and for this tile's share of the next panel of D.
    #[inline(always)]
    fn prefetch<S: Simd, const R: usize>(&self, first: usize) {
        for i in 0..R {
            for j in 0..NV {
                near(self.c.wrapping_add((first + i) * self.ldc + j * S::LANES));
            }
        }
        if self.more {
            let share = self.m.div_ceil(self.k.div_ceil(KR));
            let row = first / KR * share;
            for row in row..(row + share).min(self.m) {
                for j in NV..2 * NV {
                    near(self.d.wrapping_add(row * self.ldd + j * S::LANES));
                }
            }
        }
    }
}

/// C += Xᵀ·D, or C = without `accumulate`.
///
/// # Safety
/// As [`gemm_tn`](super::gemm_tn).
#[expect(
    clippy::too_many_arguments,
    reason = "the customary arguments of a matrix product"
)]
pub(super) unsafe fn panels_tn(
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
    for (column, vectors) in cut(level, n) {
        // SAFETY: the panel lies within the operands, by the caller's promise.
        unsafe {
            macro_rules! run {
                ($kr:literal, $nv:literal) => {
                    level.run(PanelTn::<$kr, $nv> {
                        accumulate,
                        m,
                        k,
                        n: (vectors * level.lanes()).min(n - column),
                        x,
                        ldx,
                        d: d.add(column),
                        ldd,
                        c: c.add(column),
                        ldc,
                        more: column + vectors * level.lanes() < n,
                    })
                };
            }
            match (level.name(), vectors) {
                ("avx512", 1) => run!(16, 1),
                ("avx512", 2) => run!(12, 2),
                ("avx512", 3) => run!(8, 3),
                ("avx512", _) => run!(6, 4),
                ("avx2", 1) => run!(12, 1),
                ("avx2", _) => run!(6, 2),
                (_, 1) => run!(8, 1),
                _ => run!(4, 2),
            }
        }
    }
}
