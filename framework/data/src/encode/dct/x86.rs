//! The transform in registers of eight 16-bit numbers a block: one block, or two side by side.
//!
//! Sums stay within 16 bits, since a row's constant is at most 8 * 128 * 4 and a column adds eight of those; each rotation is
//! one multiply-and-add of a pair of 16-bit numbers with a pair of constants, exact in 32 bits. So every number is the
//! one of the plain version, which the tests compare.
//!
//! Everything here is inlined into functions with the instruction set; a closure would not be, and each of its instructions a
//! call.

use std::arch::x86_64::*;

use super::{FRACTION, KEPT, Steps, constant};

/// Turns eight rows of samples into coefficients with SSE2, as [`super::forward_row`] says.
pub(super) fn sse2(samples: &[u8], stride: usize, steps: &Steps, coefficients: &mut [i16]) {
    // SAFETY: SSE2 is part of the target.
    unsafe { row::<__m128i>(samples, stride, steps, coefficients, 0) };
}

/// The same with AVX2, two blocks at a time.
#[target_feature(enable = "avx2")]
pub(super) fn avx2(samples: &[u8], stride: usize, steps: &Steps, coefficients: &mut [i16]) {
    // SAFETY: this function has AVX2.
    unsafe {
        let done = row::<__m256i>(samples, stride, steps, coefficients, 0);
        row::<__m128i>(samples, stride, steps, coefficients, done);
    }
}

/// Transforms whole groups of blocks from block `first` on; the first block that is left.
///
/// # Safety
/// The instruction set of `W` is available.
#[inline(always)]
unsafe fn row<W: Words>(
    samples: &[u8],
    stride: usize,
    steps: &Steps,
    coefficients: &mut [i16],
    first: usize,
) -> usize {
    let blocks = coefficients.len() / 64;
    assert!(
        samples.len() >= 7 * stride + 8 * blocks,
        "eight rows of samples"
    );
    let mut block = first;
    while block + W::BLOCKS <= blocks {
        // SAFETY: eight samples of each block from here on in all eight rows were counted above, and so were the coefficients.
        unsafe {
            let at = samples.as_ptr().add(8 * block);
            let mut words = [W::samples(at); 8];
            for (y, words) in words.iter_mut().enumerate() {
                *words = W::samples(at.add(y * stride));
            }
            let words = W::pass::<false>(W::transposed(words));
            let words = W::pass::<true>(W::transposed(words));
            let out = coefficients.as_mut_ptr().add(64 * block);
            for (y, words) in words.into_iter().enumerate() {
                W::quantized(words, steps, 8 * y).store(out.add(8 * y));
            }
        }
        block += W::BLOCKS;
    }
    block
}

/// Eight 16-bit numbers of each of [`BLOCKS`](Self::BLOCKS) blocks.
///
/// # Safety
/// Only code that has the instruction set may call anything here.
unsafe trait Words: Copy {
    /// Blocks side by side.
    const BLOCKS: usize;

    /// Eight samples of each block, less 128.
    unsafe fn samples(at: *const u8) -> Self;
    /// Eight numbers of each block, 64 apart.
    unsafe fn store(self, out: *mut i16);
    /// The same eight numbers for each block.
    unsafe fn same(numbers: *const u16) -> Self;
    /// The two numbers in turn.
    unsafe fn pair(first: i32, second: i32) -> Self;
    /// The number everywhere, in 32 bits.
    unsafe fn long(number: i32) -> Self;
    unsafe fn short(number: i16) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn subtract(self, other: Self) -> Self;
    unsafe fn exclusive_or(self, other: Self) -> Self;
    /// The upper halves of unsigned products.
    unsafe fn upper_product(self, other: Self) -> Self;
    unsafe fn shift_left<const BITS: i32>(self) -> Self;
    unsafe fn shift_right<const BITS: i32>(self) -> Self;
    /// Sums of two neighbouring products, in 32 bits.
    unsafe fn products(self, other: Self) -> Self;
    unsafe fn add_long(self, other: Self) -> Self;
    unsafe fn shift_long<const BITS: i32>(self) -> Self;
    /// 32-bit numbers as 16-bit ones, those of `self` first in each block.
    unsafe fn pack(self, other: Self) -> Self;
    /// Numbers, pairs and fours of them of both in turn: of the first, or the second halves of each block.
    unsafe fn mix(self, other: Self) -> [Self; 2];
    unsafe fn mix_pairs(self, other: Self) -> [Self; 2];
    unsafe fn mix_fours(self, other: Self) -> [Self; 2];

    /// Exchanges rows and columns of each block.
    #[inline(always)]
    unsafe fn transposed(rows: [Self; 8]) -> [Self; 8] {
        let [a, b, c, d, e, f, g, h] = rows;
        // SAFETY: the caller has the instruction set.
        unsafe {
            let ([ab, ab2], [cd, cd2]) = (a.mix(b), c.mix(d));
            let ([ef, ef2], [gh, gh2]) = (e.mix(f), g.mix(h));
            let ([ad0, ad1], [ad2, ad3]) = (ab.mix_pairs(cd), ab2.mix_pairs(cd2));
            let ([eh0, eh1], [eh2, eh3]) = (ef.mix_pairs(gh), ef2.mix_pairs(gh2));
            let ([x0, x1], [x2, x3]) = (ad0.mix_fours(eh0), ad1.mix_fours(eh1));
            let ([x4, x5], [x6, x7]) = (ad2.mix_fours(eh2), ad3.mix_fours(eh3));
            [x0, x1, x2, x3, x4, x5, x6, x7]
        }
    }

    /// The transform of all columns, as the plain [`pass`](super::pass) with the rotations multiplied out.
    #[inline(always)]
    unsafe fn pass<const LAST: bool>(rows: [Self; 8]) -> [Self; 8] {
        let [x0, x1, x2, x3, x4, x5, x6, x7] = rows;
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (s0, s1) = (x0.add(x7), x1.add(x6));
            let (s2, s3) = (x2.add(x5), x3.add(x4));
            let (d, c) = (x0.subtract(x7), x1.subtract(x6));
            let (b, a) = (x2.subtract(x5), x3.subtract(x4));
            let (outer, inner) = (s0.add(s3), s1.add(s2));
            let (wide, narrow) = (s0.subtract(s3), s1.subtract(s2));
            let [sum, difference] = [outer.add(inner), outer.subtract(inner)];
            let (out0, out4) = if LAST {
                let half = Self::short(1 << (KEPT - 1));
                (
                    sum.add(half).shift_right::<{ KEPT as i32 }>(),
                    difference.add(half).shift_right::<{ KEPT as i32 }>(),
                )
            } else {
                (
                    sum.shift_left::<{ KEPT as i32 }>(),
                    difference.shift_left::<{ KEPT as i32 }>(),
                )
            };
            let even = wide.mix(narrow);
            let turn = constant(0.541196100);
            let out2 = scaled::<Self, LAST>(rotated(even, turn + constant(0.765366865), turn));
            let out6 = scaled::<Self, LAST>(rotated(even, turn, turn - constant(1.847759065)));

            let sums = a.add(c).mix(b.add(d));
            let all = constant(1.175875602);
            let ac = rotated(sums, all - constant(1.961570560), all);
            let bd = rotated(sums, all, all - constant(0.390180644));
            let (outside, inside) = (a.mix(d), b.mix(c));
            let ad = constant(0.899976223);
            let bc = constant(2.562915447);
            let out7 = odd::<Self, LAST>(outside, constant(0.298631336) - ad, -ad, ac);
            let out5 = odd::<Self, LAST>(inside, constant(2.053119869) - bc, -bc, bd);
            let out3 = odd::<Self, LAST>(inside, -bc, constant(3.072711026) - bc, ac);
            let out1 = odd::<Self, LAST>(outside, -ad, constant(1.501321110) - ad, bd);
            [out0, out1, out2, out3, out4, out5, out6, out7]
        }
    }

    /// The quotients of coefficients and the steps from `at` on, rounded to nearest, halves away from zero.
    #[inline(always)]
    unsafe fn quantized(words: Self, steps: &Steps, at: usize) -> Self {
        // SAFETY: the caller has the instruction set; eight steps from here are among the 64.
        unsafe {
            let [half, reciprocal, scale] = [&steps.half, &steps.reciprocal, &steps.scale]
                .map(|table| table[at..][..8].as_ptr());
            let sign = words.shift_right::<15>();
            let size = words.exclusive_or(sign).subtract(sign);
            let quotient = size
                .add(Self::same(half))
                .upper_product(Self::same(reciprocal))
                .upper_product(Self::same(scale));
            quotient.exclusive_or(sign).subtract(sign)
        }
    }
}

/// `first` times the one and `second` times the other number of each pair, in 32 bits.
#[inline(always)]
unsafe fn rotated<W: Words>(pairs: [W; 2], first: i32, second: i32) -> [W; 2] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let constants = W::pair(first, second);
        [pairs[0].products(constants), pairs[1].products(constants)]
    }
}

/// The rotation plus `further`, rounded.
#[inline(always)]
unsafe fn odd<W: Words, const LAST: bool>(
    pairs: [W; 2],
    first: i32,
    second: i32,
    further: [W; 2],
) -> W {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let [low, high] = rotated(pairs, first, second);
        scaled::<W, LAST>([low.add_long(further[0]), high.add_long(further[1])])
    }
}

/// The products rounded to the bits that the pass leaves.
#[inline(always)]
unsafe fn scaled<W: Words, const LAST: bool>(products: [W; 2]) -> W {
    const FIRST: i32 = (FRACTION - KEPT) as i32;
    const SECOND: i32 = (FRACTION + KEPT) as i32;
    let [low, high] = products;
    // SAFETY: the caller has the instruction set.
    unsafe {
        if LAST {
            let half = W::long(1 << (SECOND - 1));
            let low = low.add_long(half).shift_long::<SECOND>();
            low.pack(high.add_long(half).shift_long::<SECOND>())
        } else {
            let half = W::long(1 << (FIRST - 1));
            let low = low.add_long(half).shift_long::<FIRST>();
            low.pack(high.add_long(half).shift_long::<FIRST>())
        }
    }
}

/// What both kinds of registers have under names that differ in their prefix.
macro_rules! common {
    ($add:ident, $subtract:ident, $upper:ident, $left:ident, $right:ident, $products:ident, $add_long:ident, $shift_long:ident,
     $pack:ident, $short:ident, $long:ident, $mix:ident $mix_high:ident, $pairs:ident $pairs_high:ident, $fours:ident $fours_high:ident) => {
        common!(@two add $add, subtract $subtract, upper_product $upper, products $products, add_long $add_long, pack $pack);
        common!(@mixed mix $mix $mix_high, mix_pairs $pairs $pairs_high, mix_fours $fours $fours_high);
        common!(@shifted shift_left $left, shift_right $right, shift_long $shift_long);
        #[inline(always)]
        unsafe fn short(number: i16) -> Self {
            // SAFETY: the caller has the instruction set.
            unsafe { $short(number) }
        }
        #[inline(always)]
        unsafe fn long(number: i32) -> Self {
            // SAFETY: as above.
            unsafe { $long(number) }
        }
        #[inline(always)]
        unsafe fn pair(first: i32, second: i32) -> Self {
            // SAFETY: as above.
            unsafe { $long(first & 0xFFFF | second << 16) }
        }
    };
    (@two $($name:ident $intrinsic:ident),*) => {$(
        #[inline(always)]
        unsafe fn $name(self, other: Self) -> Self {
            // SAFETY: the caller has the instruction set.
            unsafe { $intrinsic(self, other) }
        }
    )*};
    (@mixed $($name:ident $low:ident $high:ident),*) => {$(
        #[inline(always)]
        unsafe fn $name(self, other: Self) -> [Self; 2] {
            // SAFETY: the caller has the instruction set.
            unsafe { [$low(self, other), $high(self, other)] }
        }
    )*};
    (@shifted $($name:ident $intrinsic:ident),*) => {$(
        #[inline(always)]
        unsafe fn $name<const BITS: i32>(self) -> Self {
            // SAFETY: the caller has the instruction set.
            unsafe { $intrinsic::<BITS>(self) }
        }
    )*};
}

// SAFETY: every function needs no more than the instruction set.
unsafe impl Words for __m128i {
    const BLOCKS: usize = 1;

    common!(
        _mm_add_epi16, _mm_sub_epi16, _mm_mulhi_epu16, _mm_slli_epi16, _mm_srai_epi16, _mm_madd_epi16, _mm_add_epi32, _mm_srai_epi32,
        _mm_packs_epi32, _mm_set1_epi16, _mm_set1_epi32, _mm_unpacklo_epi16 _mm_unpackhi_epi16,
        _mm_unpacklo_epi32 _mm_unpackhi_epi32, _mm_unpacklo_epi64 _mm_unpackhi_epi64
    );

    #[inline(always)]
    unsafe fn samples(at: *const u8) -> Self {
        // SAFETY: the caller counted eight bytes.
        unsafe {
            let bytes = _mm_loadl_epi64(at.cast());
            let words = _mm_unpacklo_epi8(bytes, _mm_setzero_si128());
            _mm_sub_epi16(words, _mm_set1_epi16(128))
        }
    }

    #[inline(always)]
    unsafe fn store(self, out: *mut i16) {
        // SAFETY: the caller counted eight numbers.
        unsafe { _mm_storeu_si128(out.cast(), self) }
    }

    #[inline(always)]
    unsafe fn same(numbers: *const u16) -> Self {
        // SAFETY: the caller counted eight numbers.
        unsafe { _mm_loadu_si128(numbers.cast()) }
    }

    #[inline(always)]
    unsafe fn exclusive_or(self, other: Self) -> Self {
        // SAFETY: SSE2 is part of the target.
        unsafe { _mm_xor_si128(self, other) }
    }
}

// SAFETY: as above.
unsafe impl Words for __m256i {
    const BLOCKS: usize = 2;

    common!(
        _mm256_add_epi16, _mm256_sub_epi16, _mm256_mulhi_epu16, _mm256_slli_epi16, _mm256_srai_epi16, _mm256_madd_epi16, _mm256_add_epi32,
        _mm256_srai_epi32, _mm256_packs_epi32, _mm256_set1_epi16, _mm256_set1_epi32,
        _mm256_unpacklo_epi16 _mm256_unpackhi_epi16, _mm256_unpacklo_epi32 _mm256_unpackhi_epi32,
        _mm256_unpacklo_epi64 _mm256_unpackhi_epi64
    );

    #[inline(always)]
    unsafe fn samples(at: *const u8) -> Self {
        // SAFETY: the caller counted sixteen bytes.
        unsafe {
            let words = _mm256_cvtepu8_epi16(_mm_loadu_si128(at.cast()));
            _mm256_sub_epi16(words, _mm256_set1_epi16(128))
        }
    }

    #[inline(always)]
    unsafe fn store(self, out: *mut i16) {
        // SAFETY: the caller counted eight numbers of each of two blocks.
        unsafe {
            _mm_storeu_si128(out.cast(), _mm256_castsi256_si128(self));
            _mm_storeu_si128(out.add(64).cast(), _mm256_extracti128_si256::<1>(self));
        }
    }

    #[inline(always)]
    unsafe fn same(numbers: *const u16) -> Self {
        // SAFETY: the caller counted eight numbers.
        unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(numbers.cast())) }
    }

    #[inline(always)]
    unsafe fn exclusive_or(self, other: Self) -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm256_xor_si256(self, other) }
    }
}
