//! Vectors of AVX-512, of AVX2 with FMA, and of SSE2.
//!
//! The functions of the instruction sets are safe only where the compiler knows the features. Here it does not until
//! everything is inlined into the entry functions, hence the `unsafe` blocks; what makes them sound is that a token of
//! these types exists only inside the entry functions.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// Sixteen lanes: AVX-512 F, VL, BW and DQ.
#[derive(Clone, Copy)]
pub struct Avx512(());

/// Eight lanes: AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2(());

/// Four lanes: SSE2, which every x86-64 processor has.
#[derive(Clone, Copy)]
pub struct Portable(());

/// Runs a kernel with SSE2.
///
/// # Safety
/// As [`Kernel::run`].
pub(super) unsafe fn run_portable<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run(Portable(())) }
}

/// Runs a kernel with AVX-512.
///
/// # Safety
/// The processor must have the features; and as [`Kernel::run`].
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run(Avx512(())) }
}

/// Runs a kernel with AVX2 and FMA.
///
/// # Safety
/// The processor must have the features; and as [`Kernel::run`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run(Avx2(())) }
}

/// 2 to the powers of the sixteenths below one.
static SIXTEENTHS: [f32; 16] = [
    1.0,
    1.0442737,
    1.0905077,
    1.1387886,
    1.1892071,
    1.2418578,
    1.2968396,
    1.3542556,
    std::f32::consts::SQRT_2,
    1.4768262,
    1.5422108,
    1.6104903,
    1.6817929,
    1.7562522,
    1.8340081,
    1.9152066,
];

/// An expression of intrinsics.
macro_rules! intrinsic {
    ($e:expr) => {
        // SAFETY: `self` exists, so the processor has the instructions; memory is the caller's promise.
        unsafe { $e }
    };
}

impl Simd for Avx512 {
    type Vector = __m512;
    type Mask = __mmask16;
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        intrinsic!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        intrinsic!(_mm512_loadu_ps(p))
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        intrinsic!(_mm512_storeu_ps(p, v))
    }

    #[inline(always)]
    fn mask(self, lanes: usize) -> __mmask16 {
        if lanes >= 16 { !0 } else { (1 << lanes) - 1 }
    }

    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: __mmask16) -> __m512 {
        intrinsic!(_mm512_maskz_loadu_ps(mask, p))
    }

    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: __m512, mask: __mmask16) {
        intrinsic!(_mm512_mask_storeu_ps(p, mask, v))
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn fmadd(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        intrinsic!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn where_greater(self, a: __m512, b: __m512, x: __m512) -> __m512 {
        intrinsic!(_mm512_maskz_mov_ps(
            _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b),
            x
        ))
    }

    #[inline(always)]
    fn where_equal(self, a: __m512, b: __m512, x: __m512) -> __m512 {
        intrinsic!(_mm512_maskz_mov_ps(
            _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b),
            x
        ))
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        intrinsic!(_mm512_roundscale_ps::<0>(a))
    }

    #[inline(always)]
    fn scale(self, a: __m512, n: __m512) -> __m512 {
        intrinsic!(_mm512_scalef_ps(a, n))
    }

    #[inline(always)]
    fn subtract_bits(self, bits: u32, a: __m512) -> __m512 {
        intrinsic!(_mm512_castsi512_ps(_mm512_sub_epi32(
            _mm512_set1_epi32(bits as i32),
            _mm512_castps_si512(a)
        )))
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        intrinsic!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }

    #[inline(always)]
    fn sigmoid(self, a: __m512) -> __m512 {
        // 1 / (1 + 2^t) with t = −a / ln 2 = n + j/16 + r: 2^(j/16) comes from a table, 2^r from three terms. The
        // processor's reciprocal is right to 2⁻¹⁴; a step of Newton's method squares that.
        const SHIFT: f32 = 786_432.0; // Numbers around 1.5 · 2¹⁹ are sixteenths apart.
        const LN_2: f32 = std::f32::consts::LN_2;
        let near = intrinsic!(_mm512_range_ps::<0b0010>(a, self.splat(87.0)));
        let slope = self.splat(-std::f32::consts::LOG2_E);
        let shifted = self.fmadd(near, slope, self.splat(SHIFT));
        let whole = self.sub(shifted, self.splat(SHIFT));
        let r = self.fmadd(near, slope, self.sub(self.zero(), whole));
        let p = self.fmadd(
            r,
            self.splat(LN_2 * LN_2 * LN_2 / 6.0),
            self.splat(LN_2 * LN_2 / 2.0),
        );
        let p = self.mul(r, self.fmadd(r, p, self.splat(LN_2)));
        let table = intrinsic!(_mm512_loadu_ps(SIXTEENTHS.as_ptr()));
        let t = intrinsic!(_mm512_permutexvar_ps(_mm512_castps_si512(shifted), table));
        // The scaling rounds its exponent down: to n.
        let d = self.add(self.splat(1.0), self.scale(self.fmadd(t, p, t), whole));
        let estimate = intrinsic!(_mm512_rcp14_ps(d));
        let rest = intrinsic!(_mm512_fnmadd_ps(d, estimate, self.splat(1.0)));
        self.fmadd(estimate, rest, estimate)
    }
}

/// Eight ones, then eight zeros: a window of eight is the mask of the first lanes.
static WINDOW: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Simd for Avx2 {
    type Vector = __m256;
    type Mask = __m256i;
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        intrinsic!(_mm256_set1_ps(x))
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        intrinsic!(_mm256_loadu_ps(p))
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        intrinsic!(_mm256_storeu_ps(p, v))
    }

    #[inline(always)]
    fn mask(self, lanes: usize) -> __m256i {
        let window = &WINDOW[8 - lanes.min(8)..][..8];
        intrinsic!(_mm256_loadu_si256(window.as_ptr().cast()))
    }

    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: __m256i) -> __m256 {
        intrinsic!(_mm256_maskload_ps(p, mask))
    }

    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: __m256, mask: __m256i) {
        intrinsic!(_mm256_maskstore_ps(p, mask, v))
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        intrinsic!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        intrinsic!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        intrinsic!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        intrinsic!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn fmadd(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        intrinsic!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        intrinsic!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        intrinsic!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn where_greater(self, a: __m256, b: __m256, x: __m256) -> __m256 {
        intrinsic!(_mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b), x))
    }

    #[inline(always)]
    fn where_equal(self, a: __m256, b: __m256, x: __m256) -> __m256 {
        intrinsic!(_mm256_and_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(a, b), x))
    }

    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        intrinsic!(_mm256_round_ps::<
            { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
        >(a))
    }

    #[inline(always)]
    fn scale(self, a: __m256, n: __m256) -> __m256 {
        intrinsic!(_mm256_mul_ps(
            a,
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
                _mm256_cvtps_epi32(n),
                _mm256_set1_epi32(127)
            )))
        ))
    }

    #[inline(always)]
    fn subtract_bits(self, bits: u32, a: __m256) -> __m256 {
        intrinsic!(_mm256_castsi256_ps(_mm256_sub_epi32(
            _mm256_set1_epi32(bits as i32),
            _mm256_castps_si256(a)
        )))
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        intrinsic!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
}

impl Simd for Portable {
    type Vector = __m128;
    type Mask = usize;
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> __m128 {
        intrinsic!(_mm_set1_ps(x))
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m128 {
        intrinsic!(_mm_loadu_ps(p))
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m128) {
        intrinsic!(_mm_storeu_ps(p, v))
    }

    #[inline(always)]
    fn mask(self, lanes: usize) -> usize {
        lanes.min(4)
    }

    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: usize) -> __m128 {
        if mask == 4 {
            return intrinsic!(_mm_loadu_ps(p));
        }
        let mut v = [0.0; 4];
        for (i, v) in v.iter_mut().enumerate() {
            if i < mask {
                *v = intrinsic!(*p.add(i));
            }
        }
        intrinsic!(_mm_loadu_ps(v.as_ptr()))
    }

    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: __m128, mask: usize) {
        if mask == 4 {
            return intrinsic!(_mm_storeu_ps(p, v));
        }
        let mut lanes = [0.0; 4];
        intrinsic!(_mm_storeu_ps(lanes.as_mut_ptr(), v));
        for (i, v) in lanes.iter().enumerate() {
            if i < mask {
                intrinsic!(*p.add(i) = *v);
            }
        }
    }

    #[inline(always)]
    fn add(self, a: __m128, b: __m128) -> __m128 {
        intrinsic!(_mm_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m128, b: __m128) -> __m128 {
        intrinsic!(_mm_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m128, b: __m128) -> __m128 {
        intrinsic!(_mm_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m128, b: __m128) -> __m128 {
        intrinsic!(_mm_div_ps(a, b))
    }

    #[inline(always)]
    fn fmadd(self, a: __m128, b: __m128, c: __m128) -> __m128 {
        intrinsic!(_mm_add_ps(_mm_mul_ps(a, b), c))
    }

    #[inline(always)]
    fn max(self, a: __m128, b: __m128) -> __m128 {
        intrinsic!(_mm_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m128, b: __m128) -> __m128 {
        intrinsic!(_mm_min_ps(a, b))
    }

    #[inline(always)]
    fn where_greater(self, a: __m128, b: __m128, x: __m128) -> __m128 {
        intrinsic!(_mm_and_ps(_mm_cmpgt_ps(a, b), x))
    }

    #[inline(always)]
    fn where_equal(self, a: __m128, b: __m128, x: __m128) -> __m128 {
        intrinsic!(_mm_and_ps(_mm_cmpeq_ps(a, b), x))
    }

    #[inline(always)]
    fn round(self, a: __m128) -> __m128 {
        intrinsic!(_mm_cvtepi32_ps(_mm_cvtps_epi32(a)))
    }

    #[inline(always)]
    fn scale(self, a: __m128, n: __m128) -> __m128 {
        intrinsic!(_mm_mul_ps(
            a,
            _mm_castsi128_ps(_mm_slli_epi32::<23>(_mm_add_epi32(
                _mm_cvtps_epi32(n),
                _mm_set1_epi32(127)
            )))
        ))
    }

    #[inline(always)]
    fn subtract_bits(self, bits: u32, a: __m128) -> __m128 {
        intrinsic!(_mm_castsi128_ps(_mm_sub_epi32(
            _mm_set1_epi32(bits as i32),
            _mm_castps_si128(a)
        )))
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        intrinsic!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
}
