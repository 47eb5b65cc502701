//! A drawing as a PNG file, one and a half pixels to a point.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};
use tiny_skia::{
    FillRule, LineCap, Paint as Brush, Path, PathBuilder, Pixmap, PremultipliedColorU8, Rect,
    Stroke, StrokeDash, Transform,
};

use super::{Drawing, Mark, Paint};

/// Pixels for a point: 108 to an inch, so that ten inches fill a screen and letters have a size that the font has.
const SCALE: f32 = 1.5;

/// What stands for a letter that the font lacks.
const UNKNOWN: char = '?';

/// Of a letter's height, what is above its base line.
const ASCENT: f32 = 0.8;

/// The drawing as the bytes of a file.
pub(super) fn write(drawing: &Drawing) -> Vec<u8> {
    let side = |points: f64| ((points * f64::from(SCALE)).round() as u32).max(1);
    let (width, height) = (side(drawing.width), side(drawing.height));
    let mut pixels = Pixmap::new(width, height).expect("a drawing is some inches large");
    pixels.fill(tiny_skia::Color::WHITE);
    for mark in &drawing.marks {
        add(mark, &mut pixels);
    }
    pixels.encode_png().expect("memory takes any picture")
}

fn add(mark: &Mark, pixels: &mut Pixmap) {
    let scale = Transform::from_scale(SCALE, SCALE);
    match mark {
        Mark::Disc { at, radius, paint } => {
            let [x, y] = at.map(|v| v as f32);
            if let Some(disc) = PathBuilder::from_circle(x, y, *radius as f32) {
                let brush = brush(*paint);
                pixels.fill_path(&disc, &brush, FillRule::Winding, scale, None);
            }
        }
        Mark::Line {
            points,
            width,
            dashed,
            paint,
        } => {
            let width = *width as f32;
            let stroke = Stroke {
                width,
                line_cap: LineCap::Butt,
                dash: dashed
                    .then(|| StrokeDash::new(vec![3.0 * width, 2.0 * width], 0.0))
                    .flatten(),
                ..Stroke::default()
            };
            if let Some(line) = path(points) {
                pixels.stroke_path(&line, &brush(*paint), &stroke, scale, None);
            }
        }
        Mark::Rectangle { low, high, paint } => {
            let [left, top, right, bottom] = [low[0], low[1], high[0], high[1]].map(|v| v as f32);
            if let Some(rectangle) = Rect::from_ltrb(left, top, right, bottom) {
                pixels.fill_rect(rectangle, &brush(*paint), scale, None);
            }
        }
        Mark::Text {
            at,
            size,
            bold,
            text,
        } => write_text(pixels, *at, *size as f32 * SCALE, *bold, text),
    }
}

fn brush(paint: Paint) -> Brush<'static> {
    let mut brush = Brush::default();
    let [red, green, blue] = paint.colour;
    brush.set_color_rgba8(red, green, blue, (255.0 * paint.opacity).round() as u8);
    brush.anti_alias = true;
    brush
}

fn path(points: &[[f64; 2]]) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (i, [x, y]) in points.iter().enumerate() {
        let (x, y) = (*x as f32, *y as f32);
        match i {
            0 => builder.move_to(x, y),
            _ => builder.line_to(x, y),
        }
    }
    builder.finish()
}

/// Writes black letters of about `size` pixels in height.
fn write_text(pixels: &mut Pixmap, at: [f64; 2], size: f32, bold: bool, text: &str) {
    let heights = [
        RasterHeight::Size16,
        RasterHeight::Size20,
        RasterHeight::Size24,
        RasterHeight::Size32,
    ];
    let distance = |height: &RasterHeight| (height.val() as f32 - size).abs();
    let height = heights
        .into_iter()
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .expect("there are four");
    let weight = match bold {
        true => FontWeight::Bold,
        false => FontWeight::Regular,
    };
    let mut left = (at[0] as f32 * SCALE).round() as i64;
    let top = (at[1] as f32 * SCALE - ASCENT * height.val() as f32).round() as i64;
    for letter in text.chars() {
        let raster = get_raster(letter, weight, height)
            .or_else(|| get_raster(UNKNOWN, weight, height))
            .expect("the font has a question mark");
        for (y, row) in raster.rows().enumerate() {
            for (x, &ink) in row.iter().enumerate() {
                darken(pixels, left + x as i64, top + y as i64, ink);
            }
        }
        left += raster.width() as i64;
    }
}

/// Lays black over a pixel; outside of the picture it does nothing.
fn darken(pixels: &mut Pixmap, x: i64, y: i64, ink: u8) {
    let (width, height) = (i64::from(pixels.width()), i64::from(pixels.height()));
    if ink == 0 || !(0..width).contains(&x) || !(0..height).contains(&y) {
        return;
    }
    let pixel = &mut pixels.pixels_mut()[(y * width + x) as usize];
    let left = |part: u8| (u16::from(part) * u16::from(255 - ink) / 255) as u8;
    let (red, green, blue) = (left(pixel.red()), left(pixel.green()), left(pixel.blue()));
    *pixel = PremultipliedColorU8::from_rgba(red, green, blue, pixel.alpha())
        .expect("darker colours are within an opaque alpha");
}
