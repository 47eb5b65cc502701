//! Products of a convolution that read a padded band in place.
//!
//! The taps of a kernel's row lie side by side in a band, so what an output pixel reads is a few *segments* of
//! consecutive numbers, and neighbouring pixels read the same with a shift. A product over segments thus needs no
//! gathered rows. Everything else is as in [`gemm`](crate::kernel::gemm): the band is read number by number, the
//! other operand in vectors.

use crate::{
    kernel::{
        activation,
        gemm::panels,
        simd::{Kernel, Level, Simd},
    },
    network::Activation,
};

/// C = A·B for pixels of one row of outputs.
#[derive(Clone, Copy, Debug)]
pub struct Direct<'a> {
    /// Pixels.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Where the segments of the first pixel start, from `a` on.
    pub segments: &'a [usize],
    /// Numbers of a segment.
    pub length: usize,
    /// The band.
    pub a: *const f32,
    /// Distance in the band from pixel to pixel.
    pub lda: usize,
    /// Panels of `segments.len() · length` rows, as made by [`pack`](crate::kernel::gemm::pack).
    pub b: *const f32,
    /// Where the first pixel goes.
    pub c: *mut f32,
    /// Distance from pixel to pixel.
    pub ldc: usize,
    /// Start value of every column, or null for zeros.
    pub start: *const f32,
    /// What is added to C, laid out as C is; C itself, or null for nothing.
    pub addend: *const f32,
    /// Applied before the store.
    pub activation: Activation,
}

impl Direct<'_> {
    /// Does the work.
    ///
    /// # Safety
    /// All segments of all pixels, the packed panels, start values and addend must be readable, and C writable; C must not
    /// overlap the rest but for the addend.
    pub unsafe fn run(&self, level: Level) {
        let depth = self.segments.len() * self.length;
        for (column, vectors) in panels(level, self.n) {
            let width = vectors * level.lanes();
            // SAFETY: the caller's promise, cut into panels.
            unsafe {
                let work = Self {
                    n: width.min(self.n - column),
                    b: self.b.add(depth * column),
                    c: self.c.add(column),
                    start: offset(self.start, column),
                    addend: offset(self.addend, column),
                    ..*self
                };
                macro_rules! run {
                    ($mr:literal, $nv:literal) => {
                        level.run(Panel::<$mr, $nv>(work))
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
}

fn offset(p: *const f32, by: usize) -> *const f32 {
    if p.is_null() { p } else { p.wrapping_add(by) }
}

/// One panel of columns.
struct Panel<'a, const MR: usize, const NV: usize>(Direct<'a>);

impl<const MR: usize, const NV: usize> Kernel for Panel<'_, MR, NV> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.0.n == NV * S::LANES {
                self.rows::<S, false>(s);
            } else {
                self.rows::<S, true>(s);
            }
        }
    }
}

impl<const MR: usize, const NV: usize> Panel<'_, MR, NV> {
    #[inline(always)]
    unsafe fn rows<S: Simd, const MASKED: bool>(&self, s: S) {
        let mut i = 0;
        // SAFETY: pixels i.., within m.
        unsafe {
            while i + MR <= self.0.m {
                self.tile::<S, MR, MASKED>(s, i);
                i += MR;
            }
            // Rows of all maps at 224×224 are multiples of seven pixels.
            if MR > 7 && i + 7 <= self.0.m {
                self.tile::<S, 7, MASKED>(s, i);
                i += 7;
            }
            while i + 4 <= self.0.m {
                self.tile::<S, 4, MASKED>(s, i);
                i += 4;
            }
            if i + 2 <= self.0.m {
                self.tile::<S, 2, MASKED>(s, i);
                i += 2;
            }
            if i < self.0.m {
                self.tile::<S, 1, MASKED>(s, i);
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const MASKED: bool>(&self, s: S, first: usize) {
        let e = &self.0;
        let mask = s.mask(e.n - (NV - 1) * S::LANES);
        // SAFETY: R pixels from `first` on; the last vector is masked where the columns end within it.
        unsafe {
            let load = |p: *const f32, j: usize| {
                if MASKED && j + 1 == NV {
                    s.load_masked(p.add(j * S::LANES), mask)
                } else {
                    s.load(p.add(j * S::LANES))
                }
            };
            let mut tile = [[s.zero(); NV]; R];
            if !e.start.is_null() {
                for j in 0..NV {
                    let v = load(e.start, j);
                    for row in &mut tile {
                        row[j] = v;
                    }
                }
            }
            let (a, mut b) = (e.a.add(first * e.lda), e.b);
            for &segment in e.segments {
                let a = a.add(segment);
                for k in 0..e.length {
                    let mut v = [s.zero(); NV];
                    for (j, v) in v.iter_mut().enumerate() {
                        *v = s.load(b.add(j * S::LANES));
                    }
                    for (i, row) in tile.iter_mut().enumerate() {
                        let x = s.splat(*a.add(i * e.lda + k));
                        for j in 0..NV {
                            row[j] = s.fmadd(x, v[j], row[j]);
                        }
                    }
                    b = b.add(NV * S::LANES);
                }
            }
            if !e.addend.is_null() {
                let addend = e.addend.add(first * e.ldc);
                for (i, row) in tile.iter_mut().enumerate() {
                    for (j, v) in row.iter_mut().enumerate() {
                        *v = s.add(*v, load(addend.add(i * e.ldc), j));
                    }
                }
            }
            if e.activation == Activation::Relu {
                for row in &mut tile {
                    for v in row {
                        *v = s.max(s.zero(), *v);
                    }
                }
            }
            let c = e.c.add(first * e.ldc);
            for (i, row) in tile.iter().enumerate() {
                for (j, &v) in row.iter().enumerate() {
                    let p = c.add(i * e.ldc + j * S::LANES);
                    if MASKED && j + 1 == NV {
                        s.store_masked(p, v, mask);
                    } else {
                        s.store(p, v);
                    }
                }
            }
            if !matches!(e.activation, Activation::Identity | Activation::Relu) {
                self.activate(s, c, R);
            }
        }
    }

    /// Any activation of a stored tile: the rare and long ones would drive the tile out of the registers.
    #[inline(always)]
    unsafe fn activate<S: Simd>(&self, s: S, c: *mut f32, rows: usize) {
        // SAFETY: a tile that was just stored; columns behind n are masked.
        unsafe {
            for i in 0..rows {
                let mut j = 0;
                while j < self.0.n {
                    let mask = s.mask(self.0.n - j);
                    let p = c.add(i * self.0.ldc + j);
                    let mut v = [s.load_masked(p, mask)];
                    activation::apply(s, self.0.activation, &mut v);
                    s.store_masked(p, v[0], mask);
                    j += S::LANES;
                }
            }
        }
    }
}

/// C += Xᵀ·D over the pixels of some rows: the weight gradient of one segment.
#[derive(Clone, Copy, Debug)]
pub struct DirectTransposed {
    /// Rows of pixels, and pixels of a row.
    pub pixels: (usize, usize),
    /// Numbers of the segment, the rows of C.
    pub k: usize,
    /// Columns of D and C.
    pub n: usize,
    /// The segment of the first pixel in the band.
    pub x: *const f32,
    /// Distances in the band from row to row, and from pixel to pixel.
    pub ldx: (usize, usize),
    /// The first pixel of D.
    pub d: *const f32,
    /// Distance from pixel to pixel; rows follow each other without gaps.
    pub ldd: usize,
    /// The sums.
    pub c: *mut f32,
    /// Distance between rows of sums.
    pub ldc: usize,
}

impl DirectTransposed {
    /// Does the work.
    ///
    /// # Safety
    /// X and D must be readable and C writable in the given sizes; C must not overlap the rest.
    pub unsafe fn run(&self, level: Level) {
        for (column, vectors) in panels(level, self.n) {
            let width = vectors * level.lanes();
            // SAFETY: the caller's promise, cut into panels.
            unsafe {
                let work = Self {
                    n: width.min(self.n - column),
                    d: self.d.add(column),
                    c: self.c.add(column),
                    ..*self
                };
                macro_rules! run {
                    ($kr:literal, $nv:literal) => {
                        level.run(PanelTransposed::<$kr, $nv>(work))
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
}

/// One panel of columns.
struct PanelTransposed<const KR: usize, const NV: usize>(DirectTransposed);

impl<const KR: usize, const NV: usize> Kernel for PanelTransposed<KR, NV> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.0.n == NV * S::LANES {
                self.rows::<S, false>(s);
            } else {
                self.rows::<S, true>(s);
            }
        }
    }
}

impl<const KR: usize, const NV: usize> PanelTransposed<KR, NV> {
    #[inline(always)]
    unsafe fn rows<S: Simd, const MASKED: bool>(&self, s: S) {
        let mut i = 0;
        // SAFETY: rows i.. of C, within k.
        unsafe {
            while i + KR <= self.0.k {
                self.tile::<S, KR, MASKED>(s, i);
                i += KR;
            }
            while i + 4 <= self.0.k {
                self.tile::<S, 4, MASKED>(s, i);
                i += 4;
            }
            if i + 2 <= self.0.k {
                self.tile::<S, 2, MASKED>(s, i);
                i += 2;
            }
            if i < self.0.k {
                self.tile::<S, 1, MASKED>(s, i);
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const MASKED: bool>(&self, s: S, first: usize) {
        let e = &self.0;
        let mask = s.mask(e.n - (NV - 1) * S::LANES);
        // SAFETY: R rows of C from `first` on; the last vector is masked where the columns end within it.
        unsafe {
            let load = |p: *const f32, j: usize| {
                if MASKED && j + 1 == NV {
                    s.load_masked(p.add(j * S::LANES), mask)
                } else {
                    s.load(p.add(j * S::LANES))
                }
            };
            let mut tile = [[s.zero(); NV]; R];
            let mut d = e.d;
            for row in 0..e.pixels.0 {
                let mut x = e.x.add(row * e.ldx.0 + first);
                for _ in 0..e.pixels.1 {
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
                    x = x.add(e.ldx.1);
                    d = d.add(e.ldd);
                }
            }
            for (i, row) in tile.iter().enumerate() {
                let p = e.c.add((first + i) * e.ldc);
                for (j, &v) in row.iter().enumerate() {
                    let sum = s.add(load(p, j), v);
                    if MASKED && j + 1 == NV {
                        s.store_masked(p.add(j * S::LANES), sum, mask);
                    } else {
                        s.store(p.add(j * S::LANES), sum);
                    }
                }
            }
        }
    }
}
