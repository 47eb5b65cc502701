//! Pictures for people: JPEG files of views for reports.

use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};

use crate::image::Image;

/// Quality of the files, Pillow's default.
const QUALITY: u8 = 75;

/// The image as a JPEG file.
///
/// # Panics
/// The image has no pixels or a side of more than 65,535.
pub fn jpeg(image: &Image) -> Vec<u8> {
    let mut file = Vec::new();
    let side = |side: usize| u32::try_from(side).expect("an image's side fits");
    JpegEncoder::new_with_quality(&mut file, QUALITY)
        .encode(
            &image.pixels,
            side(image.width),
            side(image.height),
            ExtendedColorType::Rgb8,
        )
        .expect("a JPEG file has at most 65,535 pixels a side, and memory does not fail");
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Orientation, decode};

    #[test]
    fn a_written_picture_reads_back_nearly_the_same() {
        let grey: Vec<u8> = (0..40 * 30).map(|i| (i % 40 * 6) as u8).collect();
        let image = Image::from_grey(40, 30, &grey);
        let again = decode("picture", &jpeg(&image), Orientation::AsStored).unwrap();
        assert_eq!((again.width, again.height), (40, 30));
        let worst = image
            .pixels
            .iter()
            .zip(&again.pixels)
            .map(|(a, b)| a.abs_diff(*b));
        assert!(worst.max().unwrap() < 16);
    }
}
