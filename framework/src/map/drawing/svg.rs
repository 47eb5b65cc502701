//! A drawing as SVG, with lengths in points.

use std::fmt::Write;

use super::{Drawing, Mark, Paint};
use crate::report::text::escape;

/// What a string does not do.
const ANY: &str = "a string takes any text";

/// The drawing as the text of a file.
pub(super) fn write(drawing: &Drawing) -> String {
    let Drawing { width, height, .. } = drawing;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}pt\" height=\"{height}pt\" viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"Helvetica, Arial, sans-serif\">\n<title>{}</title>\n",
        escape(&drawing.title)
    );
    for mark in &drawing.marks {
        add(mark, &mut svg);
        svg.push('\n');
    }
    svg.push_str("</svg>\n");
    svg
}

fn add(mark: &Mark, svg: &mut String) {
    match mark {
        Mark::Disc { at, radius, paint } => write!(
            svg,
            "<circle cx=\"{:.2}\" cy=\"{:.2}\" r=\"{radius}\"{}/>",
            at[0],
            at[1],
            fill(*paint)
        ),
        Mark::Line {
            points,
            width,
            dashed,
            paint,
        } => {
            let mut path = String::new();
            for (i, [x, y]) in points.iter().enumerate() {
                let step = if i == 0 { 'M' } else { 'L' };
                write!(path, "{step}{x:.2} {y:.2}").expect(ANY);
            }
            let dashes = match dashed {
                true => format!(" stroke-dasharray=\"{} {}\"", 3.0 * width, 2.0 * width),
                false => String::new(),
            };
            write!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\"{}{dashes}/>",
                hex(*paint),
                opacity("stroke", *paint)
            )
        }
        Mark::Rectangle { low, high, paint } => write!(
            svg,
            "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{:.2}\"{}/>",
            low[0],
            low[1],
            high[0] - low[0],
            high[1] - low[1],
            fill(*paint)
        ),
        Mark::Text {
            at,
            size,
            bold,
            text,
        } => {
            let weight = if *bold { " font-weight=\"bold\"" } else { "" };
            write!(
                svg,
                "<text x=\"{:.2}\" y=\"{:.2}\" font-size=\"{size}\"{weight}>{}</text>",
                at[0],
                at[1],
                escape(text)
            )
        }
    }
    .expect(ANY);
}

fn fill(paint: Paint) -> String {
    format!(" fill=\"{}\"{}", hex(paint), opacity("fill", paint))
}

fn hex(paint: Paint) -> String {
    let [red, green, blue] = paint.colour;
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn opacity(of: &str, paint: Paint) -> String {
    match paint.opacity < 1.0 {
        true => format!(" {of}-opacity=\"{}\"", paint.opacity),
        false => String::new(),
    }
}
