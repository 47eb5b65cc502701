//! Vectors of `f32` for three instruction sets, and the choice between them.
//!
//! A kernel is a struct with its arguments that implements [`Kernel`]: generic code over a [`Simd`], every function of
//! it `#[inline(always)]`. [`Level::run`] calls it through an entry function with `#[target_feature]`, into which
//! everything is inlined; so the generic code is compiled with the instructions of the level although the program is
//! built for the oldest processor. A helper that is *not* inlined would be compiled without them, and be slow.
//!
//! A value of a type that implements [`Simd`] is the proof that the processor has its instructions: only the entry
//! functions make one, and a [`Level`] exists only for what the processor can do.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(not(target_arch = "x86_64"))]
pub use portable::Portable;
#[cfg(not(target_arch = "x86_64"))]
use portable::run_portable;
#[cfg(target_arch = "x86_64")]
use x86::run_portable;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, Portable};

/// A vector of `f32` of an instruction set.
pub trait Simd: Copy + Send + Sync {
    /// The vector.
    type Vector: Copy;
    /// Which lanes a masked load or store touches.
    type Mask: Copy;
    /// Numbers in a vector.
    const LANES: usize;

    /// The vector whose lanes are all `x`.
    fn splat(self, x: f32) -> Self::Vector;
    /// Reads [`LANES`](Self::LANES) numbers.
    ///
    /// # Safety
    /// They must be readable; no alignment beyond that of `f32` is needed.
    unsafe fn load(self, p: *const f32) -> Self::Vector;
    /// Writes [`LANES`](Self::LANES) numbers.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn store(self, p: *mut f32, v: Self::Vector);
    /// The mask of the first `lanes` lanes; all lanes if there are fewer.
    fn mask(self, lanes: usize) -> Self::Mask;
    /// Reads the lanes of `mask`; the others are zero.
    ///
    /// # Safety
    /// The lanes of `mask` must be readable; memory behind them is not touched.
    unsafe fn load_masked(self, p: *const f32, mask: Self::Mask) -> Self::Vector;
    /// Writes the lanes of `mask`.
    ///
    /// # Safety
    /// The lanes of `mask` must be writable; memory behind them is not touched.
    unsafe fn store_masked(self, p: *mut f32, v: Self::Vector, mask: Self::Mask);
    /// a + b.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a − b.
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a · b.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a / b.
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a · b + c, in one rounding where the instruction set has it.
    fn fmadd(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The larger of each pair; `b` where one is not a number.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The smaller of each pair; `b` where one is not a number.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `x` where a > b, zero elsewhere.
    fn where_greater(self, a: Self::Vector, b: Self::Vector, x: Self::Vector) -> Self::Vector;
    /// `x` where a = b, zero elsewhere.
    fn where_equal(self, a: Self::Vector, b: Self::Vector, x: Self::Vector) -> Self::Vector;
    /// The nearest integer.
    fn round(self, a: Self::Vector) -> Self::Vector;
    /// a · 2ⁿ for an integer n between −126 and 127.
    fn scale(self, a: Self::Vector, n: Self::Vector) -> Self::Vector;
    /// The number whose bits are those of `bits` minus those of a, as integers.
    fn subtract_bits(self, bits: u32, a: Self::Vector) -> Self::Vector;
    /// Asks for the cache line of `p` ahead of its use; any address will do.
    fn prefetch(self, p: *const f32);

    /// The vector of zeros.
    #[inline(always)]
    fn zero(self) -> Self::Vector {
        self.splat(0.0)
    }

    /// e to the power of a, to about 1e-7 relative; saturates at the ends of the range of `f32`.
    #[inline(always)]
    fn exp(self, a: Self::Vector) -> Self::Vector {
        // exp(a) = 2^n exp(r), n the nearest integer to a / ln 2; ln 2 in two parts keeps r exact.
        let a = self.max(self.min(a, self.splat(88.0)), self.splat(-87.0));
        let n = self.round(self.mul(a, self.splat(std::f32::consts::LOG2_E)));
        let r = self.fmadd(n, self.splat(-355.0 / 512.0), a);
        let r = self.fmadd(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.0 / 720.0);
        for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = self.fmadd(p, r, self.splat(c));
        }
        self.scale(p, n)
    }

    /// 1 / a for a between 2⁻¹²⁵ and 2¹²⁵, to about 1e-7 relative; a third of a division's time.
    #[inline(always)]
    fn reciprocal(self, a: Self::Vector) -> Self::Vector {
        // Subtracting bits negates the exponent and is right to 12 %; every step of Newton's method squares the error.
        // The processors' own estimates are not used: those of different makers differ.
        let negative = self.sub(self.zero(), a);
        let two = self.splat(2.0);
        let mut r = self.subtract_bits(0x7ef3_11c7, a);
        for _ in 0..3 {
            r = self.mul(r, self.fmadd(negative, r, two));
        }
        r
    }

    /// 1 / (1 + exp(−a)), to 5e-7 relative for a above −12; saturates at 1 and about exp(−86).
    ///
    /// What is not a number may become a number: multiply with `a` to keep it.
    #[inline(always)]
    fn sigmoid(self, a: Self::Vector) -> Self::Vector {
        // Beyond −86 the reciprocal would be out of its range.
        let e = self.exp(self.sub(self.zero(), self.max(a, self.splat(-86.0))));
        self.reciprocal(self.add(self.splat(1.0), e))
    }
}

/// A piece of work for one thread, written once for all instruction sets.
pub trait Kernel {
    /// What it returns.
    type Output;

    /// Does the work. Implementations must be `#[inline(always)]`.
    ///
    /// # Safety
    /// The pointers among the kernel's arguments must be good for what it documents.
    unsafe fn run<S: Simd>(self, s: S) -> Self::Output;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Level(Kind);

/// The level in use: 0 while undecided, else one more than its place in [`KINDS`].
static CURRENT: AtomicU8 = AtomicU8::new(0);

/// Every level of the architecture, best first.
const KINDS: &[(Kind, &str)] = &[
    #[cfg(target_arch = "x86_64")]
    (Kind::Avx512, "avx512"),
    #[cfg(target_arch = "x86_64")]
    (Kind::Avx2, "avx2"),
    (Kind::Portable, "portable"),
];

impl Level {
    /// The environment variable that overrides the choice.
    pub const VARIABLE: &'static str = "SMALLFRY_SIMD";

    /// The levels that this processor has, best first; the last is portable.
    pub fn available() -> impl Iterator<Item = Level> {
        KINDS
            .iter()
            .map(|&(kind, _)| Level(kind))
            .filter(|level| level.is_available())
    }

    /// The level of that name (`avx512`, `avx2`, `portable`), if this processor has it.
    pub fn named(name: &str) -> Option<Level> {
        Self::available().find(|level| level.name() == name)
    }

    /// The best level, or the one that the environment variable `SMALLFRY_SIMD` names.
    ///
    /// # Errors
    /// If the variable names a level that this processor does not have.
    pub fn detect() -> Result<Level, String> {
        match std::env::var(Self::VARIABLE) {
            Ok(name) if !name.is_empty() => Self::named(&name).ok_or_else(|| {
                let names: Vec<_> = Self::available().map(Level::name).collect();
                format!(
                    "`{}` is `{name}`, but this processor has: {}",
                    Self::VARIABLE,
                    names.join(", ")
                )
            }),
            _ => Ok(Self::best()),
        }
    }

    /// The level that the process works with: decided by [`detect`](Self::detect) at the first call, the best one where
    /// that fails.
    pub fn current() -> Level {
        match CURRENT.load(Ordering::Relaxed) {
            0 => {
                let level = Self::detect().unwrap_or_else(|_| Self::best());
                level.make_current();
                level
            }
            i => Level(KINDS[usize::from(i) - 1].0),
        }
    }

    /// Lets everything planned from now on work with this level.
    pub fn make_current(self) {
        let place = KINDS.iter().position(|&(kind, _)| kind == self.0);
        let place = place.expect("every kind is in the list");
        CURRENT.store(place as u8 + 1, Ordering::Relaxed);
    }

    /// Its name: `avx512`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        let entry = KINDS.iter().find(|&&(kind, _)| kind == self.0);
        entry.expect("every kind is in the list").1
    }

    /// Numbers in a vector.
    pub fn lanes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => Avx2::LANES,
            Kind::Portable => Portable::LANES,
        }
    }

    /// Does a kernel's work with the instructions of this level.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    #[inline]
    pub unsafe fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: a level exists only where its instructions do; the rest is the caller's promise.
        unsafe {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => x86::run_avx512(kernel),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => x86::run_avx2(kernel),
                Kind::Portable => run_portable(kernel),
            }
        }
    }

    fn best() -> Level {
        Self::available()
            .next()
            .expect("the portable level is always there")
    }

    fn is_available(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Kind::Portable => true,
        }
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Everything<'a> {
        a: &'a [f32; 16],
        b: &'a [f32; 16],
        out: &'a mut [[f32; 16]; 15],
    }

    impl Kernel for Everything<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<S: Simd>(self, s: S) {
            // SAFETY: every array has 16 numbers, a multiple of the lanes.
            unsafe {
                for i in (0..16).step_by(S::LANES) {
                    let (a, b) = (
                        s.load(self.a.as_ptr().add(i)),
                        s.load(self.b.as_ptr().add(i)),
                    );
                    let results = [
                        s.add(a, b),
                        s.sub(a, b),
                        s.mul(a, b),
                        s.div(a, b),
                        s.fmadd(a, b, a),
                        s.max(a, b),
                        s.min(a, b),
                        s.where_greater(a, b, a),
                        s.where_equal(a, b, s.splat(7.0)),
                        s.round(a),
                        s.scale(b, s.round(a)),
                        s.exp(a),
                        s.load_masked(self.a.as_ptr().add(i), s.mask(3)),
                        s.reciprocal(s.exp(a)),
                        s.zero(),
                    ];
                    for (row, v) in self.out.iter_mut().zip(results) {
                        s.store(row.as_mut_ptr().add(i), v);
                    }
                    s.store_masked(self.out[14].as_mut_ptr().add(i), a, s.mask(5));
                }
            }
        }
    }

    #[test]
    fn every_operation_on_every_level() {
        let a: [f32; 16] = std::array::from_fn(|i| i as f32 * 1.3 - 9.1);
        let mut b: [f32; 16] = std::array::from_fn(|i| 4.5 - i as f32);
        b[3] = a[3];
        let mut results = Vec::new();
        let mut record = |name: &'static str, lanes, run: &dyn Fn(Everything<'_>)| {
            let mut out = [[0.0f32; 16]; 15];
            run(Everything {
                a: &a,
                b: &b,
                out: &mut out,
            });
            results.push((name, lanes, out));
        };
        for level in Level::available() {
            // SAFETY: the arguments are arrays.
            record(level.name(), level.lanes(), &|all| unsafe {
                level.run(all)
            });
        }
        // SAFETY: the arguments are arrays.
        record("arrays", 4, &|all| unsafe { portable::run_portable(all) });
        for (level, lanes, out) in results {
            for i in 0..16 {
                let (x, y) = (a[i], b[i]);
                let lane = i % lanes;
                let expected = [
                    x + y,
                    x - y,
                    x * y,
                    x / y,
                    x * y + x,
                    x.max(y),
                    x.min(y),
                    if x > y { x } else { 0.0 },
                    if x == y { 7.0 } else { 0.0 },
                    x.round(),
                    y * 2f32.powi(x.round() as i32),
                    x.exp(),
                    if lane < 3 { x } else { 0.0 },
                    (-x).exp(),
                    if lane < 5 { x } else { 0.0 },
                ];
                for (row, expected) in out.iter().zip(expected) {
                    // Sums of products lose digits where they cancel; all terms are below 100.
                    let tolerance = 3e-7 * expected.abs() + 1e-5;
                    assert!(
                        (row[i] - expected).abs() <= tolerance,
                        "{level}: {} instead of {expected}",
                        row[i]
                    );
                }
            }
        }
    }

    #[test]
    fn exponential_is_exact_to_single_precision() {
        for level in Level::available() {
            for i in -80..80 {
                let a: [f32; 16] = std::array::from_fn(|j| i as f32 + j as f32 / 16.0);
                let mut out = [[0.0f32; 16]; 15];
                // SAFETY: the arguments are arrays.
                unsafe {
                    level.run(Everything {
                        a: &a,
                        b: &a,
                        out: &mut out,
                    });
                }
                for (x, y) in a.iter().zip(out[11]) {
                    let exact = f64::from(*x).exp();
                    assert!(
                        (f64::from(y) - exact).abs() <= 3e-7 * exact,
                        "{level}: exp({x}) = {y}"
                    );
                }
                for (x, y) in a.iter().zip(out[13]) {
                    let exact = (-f64::from(*x)).exp();
                    assert!(
                        (f64::from(y) - exact).abs() <= 5e-7 * exact,
                        "{level}: 1 / exp({x}) = {y}"
                    );
                }
            }
        }
    }

    struct Sigmoid<'a>(&'a [f32; 16], &'a mut [f32; 16]);

    impl Kernel for Sigmoid<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<S: Simd>(self, s: S) {
            // SAFETY: the arrays have 16 numbers, a multiple of the lanes; any address may be asked for.
            unsafe {
                for i in (0..16).step_by(S::LANES) {
                    s.prefetch(self.0.as_ptr().wrapping_add(1 << 20));
                    s.store(
                        self.1.as_mut_ptr().add(i),
                        s.sigmoid(s.load(self.0.as_ptr().add(i))),
                    );
                }
            }
        }
    }

    #[test]
    fn sigmoid_is_exact_to_single_precision() {
        for level in Level::available() {
            for i in -1200..4000 {
                let a: [f32; 16] = std::array::from_fn(|j| (i as f32 + j as f32 / 16.0) / 100.0);
                let mut out = [0.0; 16];
                // SAFETY: the arguments are arrays.
                unsafe { level.run(Sigmoid(&a, &mut out)) };
                for (x, y) in a.iter().zip(out) {
                    let exact = 1.0 / (1.0 + (-f64::from(*x)).exp());
                    assert!(
                        (f64::from(y) - exact).abs() <= 5e-7 * exact,
                        "{level}: sigmoid({x}) = {y} instead of {exact}"
                    );
                }
            }
            let far = [f32::MAX, f32::INFINITY, 1e5, 90.0, -90.0, -1e5, f32::MIN];
            let a: [f32; 16] = std::array::from_fn(|j| far[j % far.len()]);
            let mut out = [0.0; 16];
            // SAFETY: the arguments are arrays.
            unsafe { level.run(Sigmoid(&a, &mut out)) };
            for (x, y) in a.iter().zip(out) {
                let right = if *x > 0.0 {
                    (y - 1.0).abs() <= f32::EPSILON
                } else {
                    (0.0..1e-37).contains(&y)
                };
                assert!(right, "{level}: sigmoid({x}) = {y}");
            }
        }
    }

    #[test]
    fn levels_have_names() {
        for level in Level::available() {
            assert_eq!(Level::named(level.name()), Some(level));
        }
        assert_eq!(Level::named("mmx"), None);
        assert!(Level::named("portable").is_some());
    }
}
