use super::*;
use crate::{
    decode::{Orientation, decode},
    kernel::Level,
    random::Random,
};

/// An image from a formula of column, row and channel, modulo 256.
fn drawn(width: usize, height: usize, formula: fn([usize; 3]) -> usize) -> Image {
    let mut image = Image::black(width, height);
    for (at, byte) in image.pixels.iter_mut().enumerate() {
        *byte = formula([at / 3 % width, at / 3 / width, at % 3]) as u8;
    }
    image
}

fn smooth([x, y, c]: [usize; 3]) -> usize {
    x * 3 + y * (c + 1) + 60 * c
}

fn rough([x, y, c]: [usize; 3]) -> usize {
    x * x * 3 + y * y * 5 + x * y * (c + 1) * 7 + c * 40
}

/// FNV-1a, 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}

/// Length and hash of what Pillow 13.0 with libjpeg-turbo 3.2 writes, `save(file, "JPEG", quality=..)`.
#[test]
fn files_are_those_of_pillow() {
    type Formula = fn([usize; 3]) -> usize;
    let (smooth, rough): (Formula, Formula) = (smooth, rough);
    for (width, height, quality, formula, length, expected) in [
        (1, 1, 75, smooth, 633, 0x7391D9025CD38031),
        (8, 8, 75, smooth, 638, 0x3C79C63C6ADDD322),
        (16, 16, 75, rough, 773, 0x65524944D78317B5),
        (17, 16, 75, rough, 822, 0x0E22484315ACE906),
        (24, 9, 75, rough, 817, 0xCDF714173C6EAF6B),
        (25, 24, 75, smooth, 725, 0x609DFDE7F155BBE7),
        (9, 25, 75, rough, 838, 0xD6DE93ACDB5324C6),
        (64, 48, 75, smooth, 1243, 0x4A9267FA21776930),
        (71, 41, 75, rough, 2564, 0x456B307C34CB5A06),
        (70, 33, 1, rough, 810, 0xA7144F96B7FFEDC3),
        (70, 33, 10, smooth, 788, 0xAFAD9341015B9664),
        (70, 33, 49, rough, 1714, 0xCCF2885DB008F6BB),
        (70, 33, 50, smooth, 997, 0x391FD0B2EFB85379),
        (70, 33, 95, rough, 3672, 0xBA92B226E1413504),
        (70, 33, 100, smooth, 2833, 0x00EF0A3B7D776D1A),
        (200, 130, 75, smooth, 6327, 0xBE63F4EC5CC3B32E),
    ] {
        let image = drawn(width, height, formula);
        for level in Level::available() {
            let mut file = Vec::new();
            level.with(|| jpeg_into(&mut file, &image, quality));
            assert_eq!(
                (file.len(), hash(&file)),
                (length, expected),
                "{width} x {height} at {quality}, {level:?}"
            );
        }
    }
}

#[test]
fn a_written_picture_reads_back_nearly_the_same() {
    let image = drawn(40, 30, smooth);
    let again = decode("picture", &jpeg(&image), Orientation::AsStored).unwrap();
    assert_eq!((again.width, again.height), (40, 30));
    let differences = image.pixels.iter().zip(&again.pixels);
    let sum: u32 = differences.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
    assert!(sum < 8 * 3 * 40 * 30, "{sum}");
}

/// Noise of the greatest contrast has the largest coefficients there are; at quality 100 each is written whole.
#[test]
fn extreme_pixels_come_back() {
    let mut random = Random::new(&[5]);
    for (width, height) in [(1, 1), (7, 3), (16, 16), (45, 29)] {
        let mut image = Image::black(width, height);
        image.pixels.fill_with(|| 255 * random.below(2) as u8);
        for x in image.pixels.chunks_exact_mut(3) {
            // Without colour, nothing is lost by halving it.
            x.fill(x[0]);
        }
        let mut file = Vec::new();
        jpeg_into(&mut file, &image, 100);
        let again = decode("noise", &file, Orientation::AsStored).unwrap();
        let mut differences = image.pixels.iter().zip(&again.pixels);
        assert!(differences.all(|(a, b)| a.abs_diff(*b) < 4));
    }
}

#[test]
fn only_what_fits_is_taken() {
    for (width, height, expected) in [
        (1, LONGEST, true),
        (LONGEST, 1, true),
        (LONGEST + 1, 1, false),
        (0, 5, false),
        (5, 0, false),
    ] {
        assert_eq!(fits(&Image::black(width, height)), expected);
    }
    let tall = jpeg(&Image::black(1, LONGEST));
    let again = decode("tall", &tall, Orientation::AsStored).unwrap();
    assert_eq!((again.width, again.height), (1, LONGEST));
}
