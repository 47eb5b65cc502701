//! Gaussian blur as Pillow approximates it: three extended box filters along each axis.

use crate::{
    buffer,
    image::Image,
    kernel::blur::{BoxFilter, blur_columns, blur_row},
};

/// Blurs an image with the standard deviation `sigma`, in pixels.
///
/// A `sigma` of 0 or less changes nothing.
pub fn gaussian_blur(image: &mut Image, sigma: f32) {
    if sigma.is_nan() || sigma <= 0.0 || image.pixels.is_empty() {
        return;
    }
    let filter = box_of(sigma);
    let stride = 3 * image.width;
    let padded = stride + 6 * filter.margin();
    let (mut a, mut b) = (buffer::take(padded), buffer::take(padded));
    for row in image.pixels.chunks_exact_mut(stride) {
        blur_row(row, filter, &mut a, &mut b);
    }
    buffer::give(a);
    buffer::give(b);

    let mut sums = vec![0; if filter.reach > 1 { stride } else { 0 }];
    let mut other = buffer::take(image.pixels.len());
    for _ in 0..3 {
        blur_columns(
            &image.pixels,
            &mut other,
            stride,
            image.height,
            filter,
            &mut sums,
        );
        std::mem::swap(&mut image.pixels, &mut other);
    }
    buffer::give(other);
}

/// The box filter whose third power has the variance of a Gaussian.
///
/// The lengths are computed in single precision, as Pillow computes them; a double would round some weights otherwise.
fn box_of(sigma: f32) -> BoxFilter {
    let variance = sigma * sigma / 3.0;
    let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
    let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
    let fraction = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
        / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
    let radius = whole + fraction;
    let reach = radius as usize;
    let inner = ((1 << 24) as f32 / (radius * 2.0 + 1.0)) as u32;
    let outer = ((1 << 24) - (2 * reach as u32 + 1) * inner) / 2;
    BoxFilter {
        reach,
        inner,
        outer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Level;

    fn noise(width: usize, height: usize) -> Image {
        let mut random = crate::random::Random::new(&[3]);
        let pixels = (0..3 * width * height)
            .map(|_| random.bits() as u8)
            .collect();
        Image {
            width,
            height,
            pixels,
        }
    }

    /// The formula itself, one pixel at a time.
    fn reference(image: &Image, sigma: f32) -> Image {
        let filter = box_of(sigma);
        let (w, h) = (image.width as isize, image.height as isize);
        let mut now = image.clone();
        for pass in 0..6 {
            let before = now.clone();
            let at = |x: isize, y: isize, c: usize| {
                let (x, y) = (x.clamp(0, w - 1), y.clamp(0, h - 1));
                u32::from(before.pixels[(3 * (y * w + x)) as usize + c])
            };
            for y in 0..h {
                for x in 0..w {
                    for c in 0..3 {
                        let tap = |k: isize| {
                            if pass < 3 {
                                at(x + k, y, c)
                            } else {
                                at(x, y + k, c)
                            }
                        };
                        let e = filter.reach as isize;
                        let sum: u32 = (-e..=e).map(tap).sum();
                        let ends = tap(-e - 1) + tap(e + 1);
                        let value = filter.inner * sum + filter.outer * ends + (1 << 23);
                        now.pixels[(3 * (y * w + x)) as usize + c] = (value >> 24) as u8;
                    }
                }
            }
        }
        now
    }

    #[test]
    fn every_level_equals_the_formula() {
        for (width, height) in [(1, 1), (1, 9), (9, 1), (2, 3), (67, 33), (224, 17)] {
            let image = noise(width, height);
            for sigma in [0.1, 0.6, 1.0, 1.6, 2.0, 5.0, 30.0] {
                let expected = reference(&image, sigma);
                for level in Level::available() {
                    let mut blurred = image.clone();
                    level.with(|| gaussian_blur(&mut blurred, sigma));
                    assert!(
                        blurred == expected,
                        "{width}x{height} sigma {sigma} at {level:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_constant_image_stays() {
        let mut image = Image::from_grey(20, 10, &[77; 200]);
        gaussian_blur(&mut image, 1.3);
        assert!(image.pixels.iter().all(|&value| value == 77));
    }
}
