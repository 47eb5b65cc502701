//! Pillow's antialiased resampling, computing only what is kept.
//!
//! There are two passes, and the result of the first is rounded to eight bits, so their order shows: Pillow 13 runs the
//! horizontal one first, unless the image loses many more rows than columns. A pass that would not change the length is
//! skipped. Only the kept part is computed, and the first pass covers only what the second needs for it.

use std::{cell::RefCell, ops::Range};

use crate::{
    buffer,
    image::{Image, Rectangle},
    kernel::resample::{GROUP, PRECISION, SLACK, Taps, horizontal, vertical},
};

/// A resampling filter; widened by the scale when an image shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A triangle two input pixels wide.
    Bilinear,
    /// The cubic with a = -0.5, four input pixels wide.
    Bicubic,
    /// The mean of the input pixels an output pixel covers.
    Box,
}

impl Filter {
    /// Half the width, in input pixels when enlarging.
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Box => 0.5,
        }
    }

    /// The weight at distance `t` from the centre.
    fn weight(self, t: f64) -> f64 {
        match self {
            Filter::Bilinear => (1.0 - t.abs()).max(0.0),
            Filter::Bicubic => {
                let a = -0.5;
                let t = t.abs();
                if t < 1.0 {
                    ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
                } else if t < 2.0 {
                    (((t - 5.0) * t + 8.0) * t - 4.0) * a
                } else {
                    0.0
                }
            }
            Filter::Box => f64::from(t > -0.5 && t <= 0.5),
        }
    }
}

/// Plans the outputs `keep` of resampling `length` inputs to `target` outputs.
fn plan(taps: &mut Taps, length: usize, target: usize, keep: Range<usize>, filter: Filter) {
    let scale = length as f64 / target as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let groups = (2 * support.ceil() as usize + 1).div_ceil(GROUP);
    taps.first.clear();
    taps.count.clear();
    taps.weights.clear();
    taps.groups = groups;
    let mut exact = Vec::with_capacity(groups * GROUP);
    let mut used = 0;
    for x in keep {
        let center = (x as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(length);
        exact.clear();
        exact.extend(
            (first..end).map(|j| filter.weight((j as f64 - center + 0.5) * (1.0 / stretch))),
        );
        let sum: f64 = exact.iter().sum();
        let sum = if sum == 0.0 { 1.0 } else { sum };
        taps.first.push(first as u32);
        taps.count.push((end - first) as u32);
        used = used.max(end - first);
        let from = taps.weights.len();
        taps.weights.extend(exact.iter().map(|w| {
            let fixed = w / sum * f64::from(1 << PRECISION);
            (fixed + 0.5f64.copysign(fixed)) as i32
        }));
        taps.weights.resize(from + groups * GROUP, 0);
    }
    // The bound on the taps is generous: drop groups that no output uses.
    let needed = used.div_ceil(GROUP);
    if needed < groups {
        let (old, new) = (groups * GROUP, needed * GROUP);
        for output in 0..taps.first.len() {
            taps.weights
                .copy_within(output * old..output * old + new, output * new);
        }
        taps.weights.truncate(taps.first.len() * new);
        taps.groups = needed;
    }
    taps.split();
}

thread_local! {
    static PLANS: RefCell<(Taps, Taps)> = RefCell::default();
}

/// Resamples the part `from` of an image to `(width, height)` pixels and returns the part `keep` of the result.
///
/// # Panics
/// A part sticks out, or a size is 0.
pub fn resize(
    image: &Image,
    from: Rectangle,
    (width, height): (usize, usize),
    keep: Rectangle,
    filter: Filter,
) -> Image {
    let from = image.whole().part(from);
    let all = Rectangle {
        top: 0,
        left: 0,
        height,
        width,
    };
    let keep = all.part(keep);
    assert!(
        from.width * from.height * keep.width * keep.height > 0,
        "an image to resize has pixels"
    );
    PLANS.with_borrow_mut(|(across, down)| {
        let columns = axis(across, from.width, width, (keep.left, keep.width), filter);
        let rows = axis(down, from.height, height, (keep.top, keep.height), filter);
        let stride = 3 * image.width;
        let source = Pixels {
            bytes: &image.pixels,
            start: (from.top + rows.start) * stride + 3 * (from.left + columns.start),
            stride,
        };
        let mut out = Image::scratch(keep.width, keep.height);
        let resized = (width != from.width, height != from.height);
        match resized {
            (false, false) => source.copy(&mut out.pixels, 3 * keep.width),
            (false, true) => source.down(&mut out.pixels, 3 * keep.width, down),
            (true, false) => source.across(keep.height, &mut out.pixels, across),
            (true, true) if down_first(from, (width, height)) => {
                let wide = 3 * columns.len();
                let mut middle = buffer::take(wide * keep.height + SLACK);
                source.down(&mut middle, wide, down);
                Pixels::dense(&middle, wide).across(keep.height, &mut out.pixels, across);
                buffer::give(middle);
            }
            (true, true) => {
                let wide = 3 * keep.width;
                let mut middle = buffer::take(wide * rows.len());
                source.across(rows.len(), &mut middle, across);
                Pixels::dense(&middle, wide).down(&mut out.pixels, wide, down);
                buffer::give(middle);
            }
        }
        out
    })
}

/// Whether Pillow runs the vertical pass first: where that drops more than twice as many rows as the horizontal pass
/// drops columns.
fn down_first(from: Rectangle, (width, height): (usize, usize)) -> bool {
    let rows = from.height as i64 - height as i64;
    let columns = from.width as i64 - width as i64;
    rows > 0 && rows > 2 * columns
}

/// Plans an axis, if its length changes, and returns the inputs that its kept outputs need; taps count from the first.
fn axis(
    taps: &mut Taps,
    length: usize,
    target: usize,
    (start, count): (usize, usize),
    filter: Filter,
) -> Range<usize> {
    if length == target {
        return start..start + count;
    }
    plan(taps, length, target, start..start + count, filter);
    let first = taps.first.iter().min().copied().unwrap_or(0);
    let ends = taps.first.iter().zip(&taps.count).map(|(f, n)| f + n);
    let end = ends.max().unwrap_or(first);
    for tap in &mut taps.first {
        *tap -= first;
    }
    first as usize..end as usize
}

/// Rows of interleaved pixels to read from.
struct Pixels<'a> {
    bytes: &'a [u8],
    start: usize,
    stride: usize,
}

impl<'a> Pixels<'a> {
    fn dense(bytes: &'a [u8], stride: usize) -> Self {
        Self {
            bytes,
            start: 0,
            stride,
        }
    }

    /// Copies rows of `wide` bytes.
    fn copy(&self, out: &mut [u8], wide: usize) {
        for (y, row) in out.chunks_exact_mut(wide).enumerate() {
            row.copy_from_slice(&self.bytes[self.start + y * self.stride..][..wide]);
        }
    }

    /// The vertical pass, for rows of `wide` bytes.
    fn down(&self, out: &mut [u8], wide: usize, taps: &Taps) {
        vertical(self.bytes, self.start, self.stride, out, wide, taps);
    }

    /// The horizontal pass.
    fn across(&self, rows: usize, out: &mut [u8], taps: &Taps) {
        horizontal(self.bytes, self.start, self.stride, rows, out, taps);
    }
}

/// The size of an image whose shorter side is scaled to `side`, the longer one truncated, as torchvision's `Resize`.
///
/// # Panics
/// A side is 0.
pub fn shorter_side(width: usize, height: usize, side: usize) -> (usize, usize) {
    let (short, long) = (width.min(height), width.max(height));
    assert!(short > 0, "an image to resize has pixels");
    let other = (side as u128 * long as u128 / short as u128) as usize;
    if width <= height {
        (side, other)
    } else {
        (other, side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernel::Level, random::Random};

    fn noise(width: usize, height: usize) -> Image {
        let mut random = Random::new(&[9]);
        let pixels = (0..3 * width * height)
            .map(|_| random.bits() as u8)
            .collect();
        Image {
            width,
            height,
            pixels,
        }
    }

    fn rectangle(top: usize, left: usize, height: usize, width: usize) -> Rectangle {
        Rectangle {
            top,
            left,
            height,
            width,
        }
    }

    #[test]
    fn every_level_returns_the_same_bytes() {
        let image = noise(97, 71);
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Box] {
            for from in [
                image.whole(),
                rectangle(31, 40, 40, 57),
                rectangle(70, 96, 1, 1),
            ] {
                for size in [(1, 1), (7, 5), (57, 40), (64, 64), (224, 224), (97, 300)] {
                    let keep = rectangle(0, 0, size.1, size.0);
                    let at = |level: Level| level.with(|| resize(&image, from, size, keep, filter));
                    let expected = at(Level::Portable);
                    for level in Level::available() {
                        assert!(
                            at(level) == expected,
                            "{filter:?} {from:?} to {size:?} at {level:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn keeping_a_part_equals_cropping_the_whole() {
        let image = noise(90, 61);
        for (size, keep) in [
            ((40, 30), rectangle(3, 5, 20, 30)),
            ((90, 30), rectangle(0, 13, 29, 70)),
            ((200, 61), rectangle(60, 199, 1, 1)),
            ((90, 61), rectangle(7, 8, 9, 10)),
        ] {
            let all = rectangle(0, 0, size.1, size.0);
            let whole = resize(&image, image.whole(), size, all, Filter::Bicubic);
            let expected = crate::operation::crop::crop(&whole, keep);
            assert!(resize(&image, image.whole(), size, keep, Filter::Bicubic) == expected);
        }
    }

    #[test]
    fn a_constant_image_stays_constant() {
        let image = Image::from_grey(50, 40, &[201; 2000]);
        let small = resize(
            &image,
            image.whole(),
            (13, 77),
            rectangle(0, 0, 77, 13),
            Filter::Bicubic,
        );
        assert!(small.pixels.iter().all(|&value| value == 201));
    }

    #[test]
    fn the_longer_side_is_truncated() {
        assert_eq!(shorter_side(500, 375, 256), (341, 256));
        assert_eq!(shorter_side(375, 500, 256), (256, 341));
        assert_eq!(shorter_side(97, 71, 256), (349, 256));
    }
}
