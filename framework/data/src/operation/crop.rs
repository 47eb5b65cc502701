//! Cropping, padding, mirroring, and the sampler of random resized crops.

use crate::{
    image::{Image, Rectangle},
    kernel::color::mirror_row,
    random::Random,
};

/// A copy of a part of an image.
///
/// # Panics
/// The part sticks out of the image.
pub fn crop(image: &Image, part: Rectangle) -> Image {
    let part = image.whole().part(part);
    let mut out = Image::scratch(part.width, part.height);
    if part.width > 0 {
        for (y, row) in out.pixels.chunks_exact_mut(3 * part.width).enumerate() {
            let from = &image.row(part.top + y)[3 * part.left..];
            row.copy_from_slice(&from[..3 * part.width]);
        }
    }
    out
}

/// The central square of side `side` of an image of the given size, where the image has one.
///
/// Offsets are half the difference, rounded half to even, as in torchvision.
pub fn central_square(width: usize, height: usize, side: usize) -> Option<Rectangle> {
    (width >= side && height >= side).then(|| Rectangle {
        top: half_to_even(height - side),
        left: half_to_even(width - side),
        height: side,
        width: side,
    })
}

/// An image with black borders such that both sides are at least `side`; the larger half of a border is on the right
/// and at the bottom.
pub fn pad(image: &Image, side: usize) -> Image {
    let (width, height) = (image.width.max(side), image.height.max(side));
    let (left, top) = ((width - image.width) / 2, (height - image.height) / 2);
    let mut out = Image::scratch(width, height);
    out.pixels.fill(0);
    for y in 0..image.height {
        let start = 3 * ((top + y) * width + left);
        out.pixels[start..start + 3 * image.width].copy_from_slice(image.row(y));
    }
    out
}

/// Mirrors an image left to right.
pub fn flip(image: &mut Image) {
    if image.width > 0 {
        image
            .pixels
            .chunks_exact_mut(3 * image.width)
            .for_each(mirror_row);
    }
}

/// `difference / 2`, a half rounded to the even neighbour.
fn half_to_even(difference: usize) -> usize {
    let half = difference / 2;
    half + usize::from(difference % 2 == 1 && half % 2 == 1)
}

/// The sampler of random resized crops ("Inception crop"), as in torchvision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CropSampler {
    /// Range of the area, as a part of the image's.
    pub scale: (f64, f64),
    /// Range of width over height, drawn uniformly in its logarithm.
    pub ratio: (f64, f64),
    /// Draws that may fail to fit before the largest central crop whose ratio is in range is taken.
    pub tries: usize,
}

impl CropSampler {
    /// Draws of torchvision's sampler.
    pub const TRIES: usize = 10;

    /// Draws a rectangle in an image of the given width and height.
    pub fn draw(&self, (width, height): (usize, usize), random: &mut Random) -> Rectangle {
        let area = width as f64 * height as f64;
        let shapes = (self.ratio.0.ln(), self.ratio.1.ln());
        for _ in 0..self.tries {
            let wanted = area * random.uniform(self.scale.0, self.scale.1);
            let shape = random.uniform(shapes.0, shapes.1).exp();
            let w = (wanted * shape).sqrt().round_ties_even() as usize;
            let h = (wanted / shape).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = random.below((height - h + 1) as u64) as usize;
                let left = random.below((width - w + 1) as u64) as usize;
                return Rectangle {
                    top,
                    left,
                    height: h,
                    width: w,
                };
            }
        }
        central_in_range((width, height), self.ratio)
    }
}

/// Draws the rectangle of a random resized crop with torchvision's number of tries; see [`CropSampler`].
pub fn random_rectangle(
    size: (usize, usize),
    scale: (f64, f64),
    ratio: (f64, f64),
    random: &mut Random,
) -> Rectangle {
    let tries = CropSampler::TRIES;
    CropSampler {
        scale,
        ratio,
        tries,
    }
    .draw(size, random)
}

/// The largest central rectangle whose ratio of width over height is in range.
fn central_in_range((width, height): (usize, usize), ratio: (f64, f64)) -> Rectangle {
    let shape = width as f64 / height as f64;
    let (w, h) = if shape < ratio.0 {
        (width, (width as f64 / ratio.0).round_ties_even() as usize)
    } else if shape > ratio.1 {
        ((height as f64 * ratio.1).round_ties_even() as usize, height)
    } else {
        (width, height)
    };
    // A strip one pixel wide can round to nothing or to more than there is.
    let (w, h) = (w.clamp(1, width.max(1)), h.clamp(1, height.max(1)));
    Rectangle {
        top: (height - h) / 2,
        left: (width - w) / 2,
        height: h,
        width: w,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_neighbour() {
        let tops: Vec<_> = (4..9).map(half_to_even).collect();
        assert_eq!(tops, [2, 2, 3, 4, 4]);
    }

    #[test]
    fn rectangles_lie_within_any_image() {
        let mut random = Random::new(&[1]);
        for (width, height) in [(1, 1), (1, 500), (500, 1), (3, 8000), (500, 375)] {
            for _ in 0..200 {
                let size = (width, height);
                let r = random_rectangle(size, (0.2, 1.0), (0.75, 4.0 / 3.0), &mut random);
                assert!(r.width > 0 && r.height > 0);
                assert!(r.left + r.width <= width && r.top + r.height <= height);
            }
        }
    }

    #[test]
    fn padding_centres_the_image() {
        let image = Image::from_grey(1, 2, &[10, 20]);
        let padded = pad(&image, 4);
        assert_eq!((padded.width, padded.height), (4, 4));
        let grey: Vec<u8> = padded.pixels.iter().step_by(3).copied().collect();
        assert_eq!(grey, [0, 0, 0, 0, 0, 10, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0]);
    }
}
