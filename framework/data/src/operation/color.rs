//! Brightness, contrast, saturation, hue and greyscale, as Pillow's `ImageEnhance` and HSV conversion compute them.

use crate::{
    image::Image,
    kernel::color::{blend_constant, blend_luma, greyscale, luma_sum, shift_hue},
};

/// Multiplies the brightness by `factor`, a finite number of at least 0.
pub fn brightness(image: &mut Image, factor: f32) {
    blend_constant(&mut image.pixels, 0, factor);
}

/// Multiplies the distance of every channel from the mean luma by `factor`.
pub fn contrast(image: &mut Image, factor: f32) {
    let count = image.width * image.height;
    if count == 0 {
        return;
    }
    let mean = (luma_sum(&image.pixels) as f64 / count as f64 + 0.5) as u8;
    blend_constant(&mut image.pixels, mean, factor);
}

/// Multiplies the distance of every channel from the pixel's luma by `factor`.
pub fn saturation(image: &mut Image, factor: f32) {
    blend_luma(&mut image.pixels, factor);
}

/// Turns the hue by `turn`, a part of the full circle from -0.5 to 0.5.
///
/// The turn is truncated to 1/255 as in torchvision; even a turn of 0 goes through eight-bit HSV and loses a little.
pub fn hue(image: &mut Image, turn: f64) {
    let shift = (turn * 255.0) as i32;
    shift_hue(&mut image.pixels, shift.rem_euclid(256) as u8);
}

/// Replaces the three channels by the luma.
pub fn grey(image: &mut Image) {
    greyscale(&mut image.pixels);
}
