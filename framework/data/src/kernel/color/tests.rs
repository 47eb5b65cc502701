//! Every level against the portable one, and the hue change against the literal formulas for all colours.

use super::*;
use crate::kernel::Level;

fn noise(bytes: usize) -> Vec<u8> {
    let mut random = crate::random::Random::new(&[5]);
    (0..bytes).map(|_| random.bits() as u8).collect()
}

/// Every level must return what the portable one does, for whole blocks and remainders.
fn check(name: &str, operation: impl Fn(&mut [u8])) {
    for pixels in [0, 1, 5, 63, 64, 65, 1000] {
        let mut expected = noise(3 * pixels);
        Level::Portable.with(|| operation(&mut expected));
        for level in Level::available() {
            let mut actual = noise(3 * pixels);
            level.with(|| operation(&mut actual));
            assert!(actual == expected, "{name}, {pixels} pixels at {level:?}");
        }
    }
}

#[test]
fn every_level_returns_the_same_bytes() {
    for factor in [0.0, 0.3, 1.0, 1.7, 2.2] {
        check("constant", |pixels| blend_constant(pixels, 93, factor));
        check("luma", |pixels| blend_luma(pixels, factor));
    }
    check("grey", greyscale);
    check("mirror", mirror_row);
    for shift in [0, 1, 100, 255] {
        check("hue", |pixels| shift_hue(pixels, shift));
    }
    for level in Level::available() {
        let pixels = noise(3 * 777);
        let slow: u64 = pixels
            .chunks(3)
            .map(|p| u64::from(luma(p[0], p[1], p[2])))
            .sum();
        assert_eq!(level.with(|| luma_sum(&pixels)), slow);
    }
}

#[test]
fn mirroring_reverses_the_pixels() {
    for width in [0, 1, 2, 7, 128, 129, 131, 300] {
        let row = noise(3 * width);
        let expected: Vec<u8> = row.chunks(3).rev().flatten().copied().collect();
        let mut mirrored = row.clone();
        mirror_row(&mut mirrored);
        assert_eq!(mirrored, expected);
    }
}

/// Pillow's formulas as they stand, with every division.
fn literal_hsv(r: u8, g: u8, b: u8) -> (u8, u8, u8) {
    let value = r.max(g).max(b);
    let range = value - r.min(g).min(b);
    if range == 0 {
        return (0, 0, value);
    }
    let ratio = |channel: u8| f32::from(value - channel) / f32::from(range);
    let (rc, gc, bc) = (ratio(r), ratio(g), ratio(b));
    let sixths = match value {
        _ if r == value => bc - gc,
        _ if g == value => (2.0 + f64::from(rc) - f64::from(bc)) as f32,
        _ => (4.0 + f64::from(gc) - f64::from(rc)) as f32,
    };
    let turns = ((f64::from(sixths) / 6.0 + 1.0) % 1.0) as f32;
    let saturation = f32::from(range) / f32::from(value);
    let byte = |x: f32| (f64::from(x) * 255.0) as u8;
    (byte(turns), byte(saturation), value)
}

fn literal_rgb(hue: u8, saturation: u8, value: u8) -> (u8, u8, u8) {
    if saturation == 0 {
        return (value, value, value);
    }
    let sixths = (f64::from(hue) * 6.0 / 255.0) as f32;
    let sector = sixths.floor();
    let fraction = sixths - sector;
    let s = (f64::from(saturation) / 255.0) as f32;
    let v = f64::from(value);
    let p = (v * (1.0 - f64::from(s))).round() as u8;
    let q = (v * (1.0 - f64::from(s * fraction))).round() as u8;
    let t = (v * (1.0 - f64::from(s) * (1.0 - f64::from(fraction)))).round() as u8;
    match sector as u8 % 6 {
        0 => (value, t, p),
        1 => (q, value, p),
        2 => (p, value, t),
        3 => (p, q, value),
        4 => (t, p, value),
        _ => (value, p, q),
    }
}

#[test]
fn every_colour_converts_as_by_the_literal_formulas() {
    every_colour_converts::<true>();
    every_colour_converts::<false>();
}

fn every_colour_converts<const FUSED: bool>() {
    for a in 0..=255 {
        for b in 0..=255 {
            for c in 0..=255 {
                assert_eq!(hsv::<FUSED>(a, b, c), literal_hsv(a, b, c), "{a} {b} {c}");
                assert_eq!(rgb::<FUSED>(a, b, c), literal_rgb(a, b, c), "{a} {b} {c}");
            }
        }
    }
}

#[test]
fn pure_colours_turn_as_on_the_wheel() {
    assert_eq!(hsv::<true>(255, 0, 0), (0, 255, 255));
    assert_eq!(hsv::<true>(0, 255, 0), (85, 255, 255));
    assert_eq!(hsv::<true>(0, 0, 255), (170, 255, 255));
    assert_eq!(hsv::<true>(9, 9, 9), (0, 0, 9));
    assert_eq!(rgb::<true>(85, 255, 200), (0, 200, 0));
    assert_eq!(rgb::<true>(200, 0, 77), (77, 77, 77));
}
