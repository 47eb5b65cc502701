//! Colour changes of interleaved RGB pixels.
//!
//! Pixels are taken apart in blocks into one array a channel, which the compiler turns into shuffles, so that the
//! arithmetic of each operation is a plain loop over lanes.

use super::{Level, dispatch, normalize::Divisor};

/// Pixels of a block.
const BLOCK: usize = 64;

/// The channels of a block of pixels.
struct Block {
    r: [u8; BLOCK],
    g: [u8; BLOCK],
    b: [u8; BLOCK],
}

/// A change of the colours of a block.
trait Change {
    fn apply(&self, block: &mut Block);
}

/// Applies a change to all pixels.
#[inline(always)]
fn change(pixels: &mut [u8], change: &impl Change) {
    let mut block = Block {
        r: [0; BLOCK],
        g: [0; BLOCK],
        b: [0; BLOCK],
    };
    let mut chunks = pixels.chunks_exact_mut(3 * BLOCK);
    for chunk in &mut chunks {
        let chunk: &mut [u8; 3 * BLOCK] = chunk.try_into().expect("the chunk has this length");
        split(chunk, &mut block);
        change.apply(&mut block);
        join(&block, chunk);
    }
    let rest = chunks.into_remainder();
    let mut chunk = [0; 3 * BLOCK];
    chunk[..rest.len()].copy_from_slice(rest);
    split(&chunk, &mut block);
    change.apply(&mut block);
    join(&block, &mut chunk);
    rest.copy_from_slice(&chunk[..rest.len()]);
}

#[inline(always)]
fn split(chunk: &[u8; 3 * BLOCK], block: &mut Block) {
    for i in 0..BLOCK {
        block.r[i] = chunk[3 * i];
        block.g[i] = chunk[3 * i + 1];
        block.b[i] = chunk[3 * i + 2];
    }
}

#[inline(always)]
fn join(block: &Block, chunk: &mut [u8; 3 * BLOCK]) {
    for i in 0..BLOCK {
        chunk[3 * i] = block.r[i];
        chunk[3 * i + 1] = block.g[i];
        chunk[3 * i + 2] = block.b[i];
    }
}

/// Luma in fixed point (ITU-R 601-2), rounded.
#[inline(always)]
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16) as u8
}

/// `base + factor * (value - base)` in single precision, clipped to a byte and truncated.
#[inline(always)]
fn blend(base: u8, value: u8, factor: f32) -> u8 {
    let difference = i32::from(value) - i32::from(base);
    let mixed = (f32::from(base) + factor * difference as f32).clamp(0.0, 255.0);
    // SAFETY: the value was clamped to 0..=255 and the factor is finite, so it is a number.
    unsafe { mixed.to_int_unchecked::<i32>() as u8 }
}

dispatch! {
    /// Blends every byte with the constant `base`: `base + factor * (byte - base)`.
    ///
    /// `factor` must be finite.
    pub fn blend_constant(pixels: &mut [u8], base: u8, factor: f32) = blend_constant_body;
}

#[inline(always)]
fn blend_constant_body(pixels: &mut [u8], base: u8, factor: f32) {
    for value in pixels {
        *value = blend(base, *value, factor);
    }
}

dispatch! {
    /// Blends every pixel with its own luma; `factor` must be finite.
    pub fn blend_luma(pixels: &mut [u8], factor: f32) = blend_luma_body;
}

struct BlendLuma(f32);

impl Change for BlendLuma {
    #[inline(always)]
    fn apply(&self, block: &mut Block) {
        let mut grey = [0u8; BLOCK];
        for (i, grey) in grey.iter_mut().enumerate() {
            *grey = luma(block.r[i], block.g[i], block.b[i]);
        }
        for channel in [&mut block.r, &mut block.g, &mut block.b] {
            for i in 0..BLOCK {
                channel[i] = blend(grey[i], channel[i], self.0);
            }
        }
    }
}

#[inline(always)]
fn blend_luma_body(pixels: &mut [u8], factor: f32) {
    change(pixels, &BlendLuma(factor));
}

dispatch! {
    /// Replaces every pixel by its luma.
    pub fn greyscale(pixels: &mut [u8]) = greyscale_body;
}

struct Greyscale;

impl Change for Greyscale {
    #[inline(always)]
    fn apply(&self, block: &mut Block) {
        for i in 0..BLOCK {
            let grey = luma(block.r[i], block.g[i], block.b[i]);
            block.r[i] = grey;
            block.g[i] = grey;
            block.b[i] = grey;
        }
    }
}

#[inline(always)]
fn greyscale_body(pixels: &mut [u8]) {
    change(pixels, &Greyscale);
}

dispatch! {
    /// The sum of the luma of all pixels.
    pub fn luma_sum(pixels: &[u8]) -> u64 = luma_sum_body;
}

#[inline(always)]
fn luma_sum_body(pixels: &[u8]) -> u64 {
    let mut total = 0;
    let mut block = Block {
        r: [0; BLOCK],
        g: [0; BLOCK],
        b: [0; BLOCK],
    };
    let chunks = pixels.chunks_exact(3 * BLOCK);
    for pixel in chunks.remainder().chunks_exact(3) {
        total += u64::from(luma(pixel[0], pixel[1], pixel[2]));
    }
    for chunk in chunks {
        split(
            chunk.try_into().expect("the chunk has this length"),
            &mut block,
        );
        let mut sum = 0u32;
        for i in 0..BLOCK {
            sum += u32::from(luma(block.r[i], block.g[i], block.b[i]));
        }
        total += u64::from(sum);
    }
    total
}

/// Turns the hue of every pixel by `shift` / 256 of a circle, through eight-bit HSV and back.
pub fn shift_hue(pixels: &mut [u8], shift: u8) {
    if cfg!(target_arch = "x86_64") && Level::current() == Level::Portable {
        change(pixels, &ShiftHue::<false>(shift));
    } else {
        shift_hue_fused(pixels, shift);
    }
}

dispatch! {
    /// The same with fused multiply-adds, each of which is a call where the hardware has none.
    pub fn shift_hue_fused(pixels: &mut [u8], shift: u8) = shift_hue_body;
}

struct ShiftHue<const FUSED: bool>(u8);

impl<const FUSED: bool> Change for ShiftHue<FUSED> {
    #[inline(always)]
    fn apply(&self, block: &mut Block) {
        for i in 0..BLOCK {
            let (hue, saturation, value) = hsv::<FUSED>(block.r[i], block.g[i], block.b[i]);
            let hue = hue.wrapping_add(self.0);
            let (r, g, b) = rgb::<FUSED>(hue, saturation, value);
            block.r[i] = r;
            block.g[i] = g;
            block.b[i] = b;
        }
    }
}

#[inline(always)]
fn shift_hue_body(pixels: &mut [u8], shift: u8) {
    change(pixels, &ShiftHue::<true>(shift));
}

/// `x / by`, as a corrected product where that is no call.
#[inline(always)]
fn quotient<const FUSED: bool>(x: f32, by: f32) -> f32 {
    match FUSED {
        true => Divisor::new(by).divide(x),
        false => x / by,
    }
}

/// Eight-bit hue, saturation and value.
///
/// Pillow computes the hue's last steps in double precision; single precision gives the same byte for every colour, as
/// a test tries.
#[inline(always)]
fn hsv<const FUSED: bool>(r: u8, g: u8, b: u8) -> (u8, u8, u8) {
    let value = r.max(g).max(b);
    let range = value - r.min(g).min(b);
    let (rc, gc, bc) = (value - r, value - g, value - b);
    let (base, plus, minus) = if rc == 0 {
        (0.0, bc, gc)
    } else if gc == 0 {
        (2.0, rc, bc)
    } else {
        (4.0, gc, rc)
    };
    // One of the two is the whole range, whose ratio is exactly 1, so only the other is divided. A range of 0 counts as
    // a ratio of 1 as well: hue and saturation are then 0.
    let rest = plus.min(minus) + u8::from(range == 0);
    let ratio = f32::from(rest) / f32::from(range.max(1));
    let sixths = if plus > minus {
        (base + 1.0) - ratio
    } else {
        (base - 1.0) + ratio
    };
    let turns = quotient::<FUSED>(sixths, 6.0);
    let turns = if turns < 0.0 { turns + 1.0 } else { turns };
    // SAFETY: both are numbers from 0 to 255.
    let (hue, saturation) = unsafe {
        (
            (turns * 255.0).to_int_unchecked::<i32>() as u8,
            (f32::from(range) / f32::from(value.max(1)) * 255.0).to_int_unchecked::<i32>() as u8,
        )
    };
    (hue, saturation, value)
}

/// The colour of eight-bit hue, saturation and value.
#[inline(always)]
fn rgb<const FUSED: bool>(hue: u8, saturation: u8, value: u8) -> (u8, u8, u8) {
    let sixths = quotient::<FUSED>((u32::from(hue) * 6) as f32, 255.0);
    // SAFETY: from 0 to 6.
    let sector = unsafe { sixths.to_int_unchecked::<i32>() };
    let fraction = sixths - sector as f32;
    // A division by 255 rounded to the nearest, which is never half-way between two bytes.
    let product = u16::from(value) * u16::from(255 - saturation) + 128;
    let p = ((product + (product >> 8)) >> 8) as u8;
    let saturation = quotient::<FUSED>(f32::from(saturation), 255.0);
    // The rising edge in even sectors, the falling one in odd: only one of the two is in the pixel.
    let part = if sector % 2 == 0 {
        saturation * (1.0 - fraction)
    } else {
        saturation * fraction
    };
    let value_and_half = f32::from(value) + 0.5;
    let edge = if FUSED {
        let fall = |from: f32| (-f32::from(value)).mul_add(part, from);
        // SAFETY: from 0.5 to 255.5.
        let rounded = unsafe { fall(value_and_half).to_int_unchecked::<i32>() };
        // The single rounding above can reach the next whole number, but it keeps the sign of what is left.
        (rounded - i32::from(fall(value_and_half - rounded as f32) < 0.0)) as u8
    } else {
        // Nothing is rounded before the last step.
        let fall = f64::from(value_and_half) - f64::from(value) * f64::from(part);
        // SAFETY: from 0.5 to 255.5.
        unsafe { fall.to_int_unchecked::<i32>() as u8 }
    };
    match sector {
        0 | 6 => (value, edge, p),
        1 => (edge, value, p),
        2 => (p, value, edge),
        3 => (p, edge, value),
        4 => (edge, p, value),
        _ => (value, p, edge),
    }
}

dispatch! {
    /// Writes the pixels of `row` to `out` from right to left.
    pub fn mirror_row(row: &mut [u8]) = mirror_row_body;
}

#[inline(always)]
fn mirror_row_body(row: &mut [u8]) {
    let width = row.len() / 3;
    let half = width / 2;
    let (left, right) = row.split_at_mut(3 * (width - half));
    let left = &mut left[..3 * half];
    let mut blocks = (
        Block {
            r: [0; BLOCK],
            g: [0; BLOCK],
            b: [0; BLOCK],
        },
        Block {
            r: [0; BLOCK],
            g: [0; BLOCK],
            b: [0; BLOCK],
        },
    );
    let whole = half / BLOCK * BLOCK;
    for at in (0..whole).step_by(BLOCK) {
        let end = 3 * (half - at);
        let a: &mut [u8; 3 * BLOCK] = (&mut left[3 * at..3 * (at + BLOCK)])
            .try_into()
            .expect("the slice has this length");
        let b: &mut [u8; 3 * BLOCK] = (&mut right[end - 3 * BLOCK..end])
            .try_into()
            .expect("the slice has this length");
        split(a, &mut blocks.0);
        split(b, &mut blocks.1);
        for block in [&mut blocks.0, &mut blocks.1] {
            block.r.reverse();
            block.g.reverse();
            block.b.reverse();
        }
        join(&blocks.1, a);
        join(&blocks.0, b);
    }
    for x in whole..half {
        for c in 0..3 {
            std::mem::swap(&mut left[3 * x + c], &mut right[3 * (half - 1 - x) + c]);
        }
    }
}

#[cfg(test)]
mod tests;
