//! The two passes of separable resampling in fixed point.
//!
//! Weights have 22 fraction bits and a result is `(sum of weight * byte + 2^21) >> 22`, clipped. The vector code
//! splits a weight into `high * 2^11 + low` so that both halves fit the 16-bit multiply-and-add instruction; the sum of
//! the two halves is the same integer.

use super::{Level, dispatch};

/// Fraction bits of a weight.
pub const PRECISION: u32 = 22;

/// Bits of the low half of a split weight.
const LOW: u32 = 11;

/// Weights are stored in groups of this many taps, the last group filled up with zeros.
pub const GROUP: usize = 4;

/// For every output position, which inputs it is the weighted sum of.
#[derive(Clone, Debug, Default)]
pub struct Taps {
    /// First input of each output.
    pub first: Vec<u32>,
    /// Taps of each output that are not padding.
    pub count: Vec<u32>,
    /// Groups of [`GROUP`] weights of every output.
    pub groups: usize,
    /// Fixed-point weights, `[outputs, groups, 4]`.
    pub weights: Vec<i32>,
    /// The same split for the vector code, `[outputs, groups, 4]`: high halves of taps 0 and 1, of 2 and 3, then the
    /// low halves, two 16-bit numbers in each.
    pub split: Vec<i32>,
}

impl Taps {
    /// The weights of an output, padding included.
    fn weights(&self, output: usize) -> &[i32] {
        let length = self.groups * GROUP;
        &self.weights[output * length..(output + 1) * length]
    }

    /// Computes the split weights from the plain ones.
    pub fn split(&mut self) {
        let pair = |a: i32, b: i32| (a & 0xFFFF) | (b << 16);
        self.split.clear();
        for group in self.weights.chunks_exact(GROUP) {
            let high: [i32; GROUP] = std::array::from_fn(|i| group[i] >> LOW);
            let low: [i32; GROUP] = std::array::from_fn(|i| group[i] & ((1 << LOW) - 1));
            self.split.extend([
                pair(high[0], high[1]),
                pair(high[2], high[3]),
                pair(low[0], low[1]),
                pair(low[2], low[3]),
            ]);
        }
    }
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Bytes that a buffer to be read by [`horizontal`] may be longer than its rows, to spare the last rows the slow way.
pub const SLACK: usize = 64;

/// Resamples `rows` rows along x.
///
/// Row `y` of the input starts at byte `start + y * stride` of `from`; the rows of the output are dense. Output
/// positions are those of `taps`, whose inputs count from the row's start.
pub fn horizontal(
    from: &[u8],
    start: usize,
    stride: usize,
    rows: usize,
    to: &mut [u8],
    taps: &Taps,
) {
    let wide = 3 * taps.first.len();
    assert!(to.len() >= rows * wide);
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if let Some(&last) = taps.first.iter().max() {
        // Vector loads read whole groups of taps and four bytes more; rows where that leaves `from` go the plain way.
        let reach = 3 * (last as usize + taps.groups * GROUP) + 4;
        let safe = match from.len().checked_sub(start + reach) {
            Some(room) if stride > 0 => (room / stride + 1).min(rows),
            _ => 0,
        };
        let level = Level::current();
        let step = match level {
            Level::Avx512 => 4,
            Level::Avx2 => 2,
            Level::Portable => usize::MAX,
        };
        while done < safe && step <= safe {
            // The last step overlaps the one before rather than leave rows over.
            let first = done.min(safe - step);
            let (start, to) = (start + first * stride, &mut to[first * wide..]);
            // SAFETY: the level is available and the rows can be read as computed above.
            unsafe {
                match level {
                    Level::Avx512 => x86::rows4(from, start, stride, to, taps),
                    _ => x86::rows2(from, start, stride, to, taps),
                }
            }
            done = first + step;
        }
    }
    for y in done..rows {
        let row = &from[start + y * stride..];
        let out = &mut to[y * wide..][..wide];
        for (x, out) in out.chunks_exact_mut(3).enumerate() {
            let mut sums = [1 << (PRECISION - 1); 3];
            let pixels = &row[3 * taps.first[x] as usize..][..3 * taps.count[x] as usize];
            for (pixel, weight) in pixels.chunks_exact(3).zip(taps.weights(x)) {
                for c in 0..3 {
                    sums[c] += i32::from(pixel[c]) * weight;
                }
            }
            for c in 0..3 {
                out[c] = clip(sums[c]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Output pixels one after the other, several rows at once, a row in each 128-bit lane.
    //!
    //! A lane holds the pairs (R0 R1)(G0 G1)(B0 B1) of two neighbouring input pixels as 16-bit numbers, which one
    //! multiply-and-add turns into the three channel sums.

    use std::arch::x86_64::*;

    use super::{GROUP, LOW, PRECISION, Taps};

    /// Byte shuffles that pair input pixels 0 and 1, and 2 and 3, of a load of four; -1 gives 0.
    const PAIRS: [[i8; 16]; 2] = [
        [0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1],
        [6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1],
    ];

    /// Packs the first three bytes of each group of four.
    const PACK: [i8; 16] = [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1];

    /// Writes the first twelve bytes of `lane`, or as many as `out` has.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(lane: __m128i, out: &mut [u8]) {
        if let Some(out) = out.first_chunk_mut::<16>() {
            // The four bytes too many are those of the next pixels, which are written next.
            // SAFETY: writes the 16 bytes of the array.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), lane) };
        } else {
            let mut bytes = [0; 16];
            // SAFETY: writes the 16 bytes of the array.
            unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), lane) };
            let length = out.len().min(12);
            out[..length].copy_from_slice(&bytes[..length]);
        }
    }

    /// # Safety
    /// AVX-512 F, BW, DQ and VL are available; four rows from byte `start` can be read as the caller computed.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
    pub unsafe fn rows4(from: &[u8], start: usize, stride: usize, to: &mut [u8], taps: &Taps) {
        let shuffle = |bytes: &[i8; 16]| {
            // SAFETY: reads the 16 bytes of the array.
            _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
        };
        let (pair01, pair23, pack) = (shuffle(&PAIRS[0]), shuffle(&PAIRS[1]), shuffle(&PACK));
        let half = _mm512_set1_epi32(1 << (PRECISION - 1));
        // SAFETY: the caller's promise.
        let origin = unsafe { from.as_ptr().add(start) };
        let outputs = taps.first.len();
        let mut x = 0;
        while x < outputs {
            let mut pixels = [half; 4];
            let many = (outputs - x).min(4);
            for (i, pixel) in pixels[..many].iter_mut().enumerate() {
                let mut high = _mm512_setzero_si512();
                let mut low = half;
                for group in 0..taps.groups {
                    let offset = 3 * (taps.first[x + i] as usize + group * GROUP);
                    // SAFETY: 16 bytes from here lie within `from` in all four rows, the caller's promise.
                    let bytes = unsafe {
                        let at = origin.add(offset);
                        let load = |row: usize| _mm_loadu_si128(at.add(row * stride).cast());
                        let two =
                            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load(0)), load(1));
                        let others =
                            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load(2)), load(3));
                        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(two), others)
                    };
                    let weights = &taps.split[((x + i) * taps.groups + group) * GROUP..][..GROUP];
                    let a = _mm512_shuffle_epi8(bytes, pair01);
                    let b = _mm512_shuffle_epi8(bytes, pair23);
                    let product = |pair, weight| _mm512_madd_epi16(pair, _mm512_set1_epi32(weight));
                    high = _mm512_add_epi32(
                        high,
                        _mm512_add_epi32(product(a, weights[0]), product(b, weights[1])),
                    );
                    low = _mm512_add_epi32(
                        low,
                        _mm512_add_epi32(product(a, weights[2]), product(b, weights[3])),
                    );
                }
                let sum = _mm512_add_epi32(_mm512_slli_epi32::<LOW>(high), low);
                *pixel = _mm512_srai_epi32::<PRECISION>(sum);
            }
            let front = _mm512_packs_epi32(pixels[0], pixels[1]);
            let back = _mm512_packs_epi32(pixels[2], pixels[3]);
            let bytes = _mm512_shuffle_epi8(_mm512_packus_epi16(front, back), pack);
            for (row, lane) in [
                _mm512_castsi512_si128(bytes),
                _mm512_extracti32x4_epi32::<1>(bytes),
                _mm512_extracti32x4_epi32::<2>(bytes),
                _mm512_extracti32x4_epi32::<3>(bytes),
            ]
            .into_iter()
            .enumerate()
            {
                let out = &mut to[row * 3 * outputs..][3 * x..3 * outputs];
                store(lane, out);
            }
            x += 4;
        }
    }

    /// # Safety
    /// AVX2 is available; two rows from byte `start` can be read as the caller computed.
    #[target_feature(enable = "avx2")]
    pub unsafe fn rows2(from: &[u8], start: usize, stride: usize, to: &mut [u8], taps: &Taps) {
        let shuffle = |bytes: &[i8; 16]| {
            // SAFETY: reads the 16 bytes of the array.
            _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
        };
        let (pair01, pair23, pack) = (shuffle(&PAIRS[0]), shuffle(&PAIRS[1]), shuffle(&PACK));
        let half = _mm256_set1_epi32(1 << (PRECISION - 1));
        // SAFETY: the caller's promise.
        let origin = unsafe { from.as_ptr().add(start) };
        let outputs = taps.first.len();
        let mut x = 0;
        while x < outputs {
            let mut pixels = [half; 4];
            let many = (outputs - x).min(4);
            for (i, pixel) in pixels[..many].iter_mut().enumerate() {
                let mut high = _mm256_setzero_si256();
                let mut low = half;
                for group in 0..taps.groups {
                    let offset = 3 * (taps.first[x + i] as usize + group * GROUP);
                    // SAFETY: 16 bytes from here lie within `from` in both rows, the caller's promise.
                    let bytes = unsafe {
                        let at = origin.add(offset);
                        let load = |row: usize| _mm_loadu_si128(at.add(row * stride).cast());
                        _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load(0)), load(1))
                    };
                    let weights = &taps.split[((x + i) * taps.groups + group) * GROUP..][..GROUP];
                    let a = _mm256_shuffle_epi8(bytes, pair01);
                    let b = _mm256_shuffle_epi8(bytes, pair23);
                    let product = |pair, weight| _mm256_madd_epi16(pair, _mm256_set1_epi32(weight));
                    high = _mm256_add_epi32(
                        high,
                        _mm256_add_epi32(product(a, weights[0]), product(b, weights[1])),
                    );
                    low = _mm256_add_epi32(
                        low,
                        _mm256_add_epi32(product(a, weights[2]), product(b, weights[3])),
                    );
                }
                let sum = _mm256_add_epi32(_mm256_slli_epi32::<{ LOW as i32 }>(high), low);
                *pixel = _mm256_srai_epi32::<{ PRECISION as i32 }>(sum);
            }
            let front = _mm256_packs_epi32(pixels[0], pixels[1]);
            let back = _mm256_packs_epi32(pixels[2], pixels[3]);
            let bytes = _mm256_shuffle_epi8(_mm256_packus_epi16(front, back), pack);
            for (row, lane) in [
                _mm256_castsi256_si128(bytes),
                _mm256_extracti128_si256::<1>(bytes),
            ]
            .into_iter()
            .enumerate()
            {
                let out = &mut to[row * 3 * outputs..][3 * x..3 * outputs];
                store(lane, out);
            }
            x += 4;
        }
    }
}

dispatch! {
    /// Resamples along y: output row `y`, `width` bytes, is the weighted sum of the rows of `from` that `taps` names
    /// for it. Rows of `from` are `stride` bytes apart, the first at byte `start`; the output is dense.
    pub fn vertical(from: &[u8], start: usize, stride: usize, to: &mut [u8], width: usize, taps: &Taps)
        = vertical_body;
}

/// Bytes of a row whose sums are held in registers.
const STRIP: usize = 64;

#[inline(always)]
fn vertical_body(
    from: &[u8],
    start: usize,
    stride: usize,
    to: &mut [u8],
    width: usize,
    taps: &Taps,
) {
    for (y, out) in to
        .chunks_exact_mut(width)
        .take(taps.first.len())
        .enumerate()
    {
        let first = start + taps.first[y] as usize * stride;
        let weights = &taps.weights(y)[..taps.count[y] as usize];
        let whole = width / STRIP * STRIP;
        for x in (0..whole).step_by(STRIP) {
            let mut sums = [1i32 << (PRECISION - 1); STRIP];
            for (row, weight) in weights.iter().enumerate() {
                let row: &[u8; STRIP] = from[first + row * stride + x..][..STRIP]
                    .try_into()
                    .expect("the slice has this length");
                for i in 0..STRIP {
                    sums[i] += i32::from(row[i]) * weight;
                }
            }
            let out: &mut [u8; STRIP] = (&mut out[x..x + STRIP])
                .try_into()
                .expect("the slice has this length");
            for i in 0..STRIP {
                out[i] = clip(sums[i]);
            }
        }
        for x in whole..width {
            let mut sum = 1 << (PRECISION - 1);
            for (row, weight) in weights.iter().enumerate() {
                sum += i32::from(from[first + row * stride + x]) * weight;
            }
            out[x] = clip(sum);
        }
    }
}
