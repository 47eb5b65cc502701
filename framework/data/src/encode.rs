//! JPEG files with the bytes that Pillow writes: baseline, colour at half resolution, the standard Huffman codes.
//!
//! Static data sets are judged by features of their files, and every step of an encoder rounds. So each is libjpeg-turbo's:
//! the colour conversion in 16 fraction bits, the alternating bias of the chroma mean, the accurate integer transform,
//! and rounding to nearest by the quantisation. Edges surprise most: blocks are filled up with the last pixel, but
//! chroma rows below the image repeat the last *halved* row, and blocks that only complete a unit of 16 x 16 pixels
//! repeat the constant of the block before them. Comments and colour profiles are not written.

mod color;
mod dct;
mod header;
mod huffman;
mod strip;

use crate::image::Image;

/// Pillow's default quality.
pub const QUALITY: u8 = 75;

/// The longest side of a JPEG file in pixels, by libjpeg's limit.
pub const LONGEST: usize = 65_500;

/// The image as a JPEG file of Pillow's default quality.
///
/// # Panics
/// The image has no pixels or a side of more than [`LONGEST`].
pub fn jpeg(image: &Image) -> Vec<u8> {
    let mut file = Vec::new();
    jpeg_into(&mut file, image, QUALITY);
    file
}

/// Whether an image can be a JPEG file: it has pixels, and no side of more than [`LONGEST`].
pub fn fits(image: &Image) -> bool {
    let side = 1..=LONGEST;
    side.contains(&image.width) && side.contains(&image.height)
}

/// Appends the image to `file` as a JPEG file of a quality from 1 to 100.
///
/// # Panics
/// The quality is none, or the image does not fit (see [`fits`]).
pub fn jpeg_into(file: &mut Vec<u8>, image: &Image, quality: u8) {
    assert!(
        (1..=100).contains(&quality),
        "a quality is from 1 to 100: {quality}"
    );
    assert!(
        fits(image),
        "a JPEG file has 1 to {LONGEST} pixels a side: {} x {}",
        image.width,
        image.height
    );
    let tables = header::quantization(quality);
    header::start(file, image, &tables);
    let steps = tables.each_ref().map(dct::Steps::new);
    let mut strip = strip::Strip::new(image);
    let mut scan = huffman::Scan::new(file);
    for top in (0..image.height).step_by(strip::UNIT) {
        strip.fill(image, top);
        strip.transform(&steps);
        scan.write(&strip);
    }
    scan.finish();
}

#[cfg(test)]
mod tests;
