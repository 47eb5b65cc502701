//! Vectors as arrays of four, for architectures other than x86-64.
//!
//! The compiler turns the loops over lanes into whatever the target has (NEON, for instance). `mul_add` is used only
//! where it is an instruction: elsewhere it would be a call of the C library. On x86-64 the same would be right too, but
//! takes the compiler minutes: there the portable level is SSE2, which every such processor has.

use super::{Kernel, Simd};

/// Arrays of four.
#[derive(Clone, Copy)]
pub struct Portable(());

/// Runs a kernel on arrays.
///
/// # Safety
/// As [`Kernel::run`].
pub(super) unsafe fn run_portable<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise; arrays need no instructions.
    unsafe { kernel.run(Portable(())) }
}

#[inline(always)]
fn zip(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    let mut out = a;
    for i in 0..4 {
        out[i] = f(a[i], b[i]);
    }
    out
}

impl Simd for Portable {
    type Vector = [f32; 4];
    type Mask = usize;
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 4] {
        [x; 4]
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> [f32; 4] {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }

    #[inline(always)]
    fn mask(self, lanes: usize) -> usize {
        lanes.min(4)
    }

    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: usize) -> [f32; 4] {
        let mut v = [0.0; 4];
        // SAFETY: the caller's promise; the mask is at most 4.
        unsafe { p.copy_to_nonoverlapping(v.as_mut_ptr(), mask) };
        v
    }

    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: [f32; 4], mask: usize) {
        // SAFETY: the caller's promise; the mask is at most 4.
        unsafe { p.copy_from_nonoverlapping(v.as_ptr(), mask) };
    }

    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn fmadd(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            let mut out = c;
            for i in 0..4 {
                out[i] = a[i].mul_add(b[i], c[i]);
            }
            out
        } else {
            self.add(self.mul(a, b), c)
        }
    }

    #[inline(always)]
    fn max(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn where_greater(self, a: [f32; 4], b: [f32; 4], x: [f32; 4]) -> [f32; 4] {
        let mut out = x;
        for i in 0..4 {
            out[i] = if a[i] > b[i] { x[i] } else { 0.0 };
        }
        out
    }

    #[inline(always)]
    fn where_equal(self, a: [f32; 4], b: [f32; 4], x: [f32; 4]) -> [f32; 4] {
        let mut out = x;
        for i in 0..4 {
            out[i] = if a[i] == b[i] { x[i] } else { 0.0 };
        }
        out
    }

    #[inline(always)]
    fn round(self, a: [f32; 4]) -> [f32; 4] {
        // Adding and subtracting 1.5 · 2^23 leaves the nearest integer for anything below 2^22, without a library call.
        const MAGIC: f32 = 12_582_912.0;
        zip(a, [MAGIC; 4], |a, magic| (a + magic) - magic)
    }

    #[inline(always)]
    fn scale(self, a: [f32; 4], n: [f32; 4]) -> [f32; 4] {
        zip(a, n, |a, n| {
            a * f32::from_bits(((n as i32 + 127) as u32) << 23)
        })
    }

    #[inline(always)]
    fn subtract_bits(self, bits: u32, a: [f32; 4]) -> [f32; 4] {
        a.map(|a| f32::from_bits(bits.wrapping_sub(a.to_bits())))
    }

    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
}
