//! Parts of an image pasted over, as in pictures that show what an overlap is worth to a network.

use crate::{
    image::{Image, Rectangle},
    random::Random,
};

/// ImageNet's mean colour in bytes, as the published static data sets fill patches.
pub const MEAN_COLOR: [u8; 3] = [124, 116, 104];

/// The largest byte of white noise; published static data sets leave 255 out.
const BRIGHTEST: u64 = 254;

/// An image of one colour.
pub fn plain(width: usize, height: usize, color: [u8; 3]) -> Image {
    Image {
        width,
        height,
        pixels: color.repeat(width * height),
    }
}

/// White noise: every byte uniform from 0 to 254.
pub fn noise(width: usize, height: usize, random: &mut Random) -> Image {
    let mut image = Image::black(width, height);
    image.pixels.fill_with(|| random.below(BRIGHTEST + 1) as u8);
    image
}

/// Puts `patch` over the pixels of `image` from row `top` and column `left` on.
///
/// # Panics
/// It sticks out.
pub fn paste(image: &mut Image, patch: &Image, top: usize, left: usize) {
    let to = image.whole().part(Rectangle {
        top,
        left,
        height: patch.height,
        width: patch.width,
    });
    for y in 0..patch.height {
        let start = 3 * ((to.top + y) * image.width + to.left);
        image.pixels[start..start + 3 * patch.width].copy_from_slice(patch.row(y));
    }
}

/// A rectangle of the size of `part` at a uniformly random place of a square of `side` pixels.
///
/// # Panics
/// It is larger than the square.
pub fn moved(part: Rectangle, side: usize, random: &mut Random) -> Rectangle {
    Rectangle {
        top: random.below((side - part.height + 1) as u64) as usize,
        left: random.below((side - part.width + 1) as u64) as usize,
        ..part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_covers_its_place_and_nothing_else() {
        let mut image = Image::black(5, 4);
        paste(&mut image, &plain(2, 3, MEAN_COLOR), 1, 3);
        for y in 0..4 {
            for x in 0..5 {
                let expected = if y >= 1 && x >= 3 { MEAN_COLOR } else { [0; 3] };
                assert_eq!(image.row(y)[3 * x..3 * x + 3], expected, "{x} {y}");
            }
        }
    }

    #[test]
    fn noise_and_places_reach_all_they_may() {
        let mut random = Random::new(&[6]);
        let image = noise(100, 100, &mut random);
        let mut counts = [0; 256];
        for &byte in &image.pixels {
            counts[usize::from(byte)] += 1;
        }
        assert!(counts[..255].iter().all(|&count| count > 60), "{counts:?}");
        assert_eq!(counts[255], 0);
        let part = Rectangle {
            top: 9,
            left: 9,
            height: 8,
            width: 10,
        };
        let mut places = [0; 3];
        for _ in 0..300 {
            let place = moved(part, 10, &mut random);
            assert_eq!((place.height, place.width, place.left), (8, 10, 0));
            places[place.top] += 1;
        }
        assert!(places.iter().all(|&count| count > 60), "{places:?}");
    }
}
