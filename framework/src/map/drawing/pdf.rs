//! A drawing as a PDF file of one page.
//!
//! Letters are Helvetica, which every reader of PDF has; its encoding knows the letters of western Europe, and others become
//! question marks. A disc is a line of no length with round ends, a tenth of the bytes of four curves.

use std::collections::BTreeMap;

use pdf_writer::{
    Content, Finish, Name, Pdf, Rect, Ref, Str,
    types::{LineCapStyle, LineJoinStyle},
};

use super::{Drawing, Mark, Paint};

/// The drawing as the bytes of a file.
pub(super) fn write(drawing: &Drawing) -> Vec<u8> {
    let mut next = 1;
    let mut reference = || {
        next += 1;
        Ref::new(next - 1)
    };
    let [catalog, tree, page, content, plain, bold] = [(); 6].map(|()| reference());
    let mut writer = Writer {
        content: Content::new(),
        opacities: BTreeMap::new(),
        height: drawing.height,
    };
    for mark in &drawing.marks {
        writer.add(mark);
    }
    let opacities: Vec<(String, u32, Ref)> = writer
        .opacities
        .iter()
        .map(|(&percent, name)| (name.clone(), percent, reference()))
        .collect();
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(tree);
    pdf.pages(tree).kids([page]).count(1);
    let mut sheet = pdf.page(page);
    sheet.media_box(Rect::new(
        0.0,
        0.0,
        drawing.width as f32,
        drawing.height as f32,
    ));
    sheet.parent(tree).contents(content);
    let mut resources = sheet.resources();
    let mut fonts = resources.fonts();
    fonts.pair(PLAIN, plain).pair(BOLD, bold);
    fonts.finish();
    let mut states = resources.ext_g_states();
    for (name, _, state) in &opacities {
        states.pair(Name(name.as_bytes()), *state);
    }
    states.finish();
    resources.finish();
    sheet.finish();
    for (font, name) in [(plain, "Helvetica"), (bold, "Helvetica-Bold")] {
        let mut font = pdf.type1_font(font);
        font.base_font(Name(name.as_bytes()));
        font.encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    for (_, percent, state) in &opacities {
        let opacity = *percent as f32 / 100.0;
        let mut state = pdf.ext_graphics(*state);
        state.stroking_alpha(opacity).non_stroking_alpha(opacity);
    }
    pdf.stream(content, &writer.content.finish());
    pdf.finish()
}

const PLAIN: Name<'static> = Name(b"F1");
const BOLD: Name<'static> = Name(b"F2");

struct Writer {
    content: Content,
    /// Names of the opacities in use, by percent.
    opacities: BTreeMap<u32, String>,
    height: f64,
}

impl Writer {
    fn add(&mut self, mark: &Mark) {
        match mark {
            Mark::Disc { at, radius, paint } => {
                self.paint(*paint);
                let [x, y] = self.place(*at);
                self.content
                    .set_line_cap(LineCapStyle::RoundCap)
                    .set_dash_pattern([], 0.0)
                    .set_line_width(2.0 * *radius as f32)
                    .move_to(x, y)
                    .line_to(x, y)
                    .stroke();
            }
            Mark::Line {
                points,
                width,
                dashed,
                paint,
            } => {
                self.paint(*paint);
                let width = *width as f32;
                self.content
                    .set_line_cap(LineCapStyle::ButtCap)
                    .set_line_join(LineJoinStyle::MiterJoin)
                    .set_line_width(width);
                match dashed {
                    true => self
                        .content
                        .set_dash_pattern([3.0 * width, 2.0 * width], 0.0),
                    false => self.content.set_dash_pattern([], 0.0),
                };
                for (i, &point) in points.iter().enumerate() {
                    let [x, y] = self.place(point);
                    match i {
                        0 => self.content.move_to(x, y),
                        _ => self.content.line_to(x, y),
                    };
                }
                self.content.stroke();
            }
            Mark::Rectangle { low, high, paint } => {
                self.paint(*paint);
                let [x, y] = self.place([low[0], high[1]]);
                let (width, height) = (high[0] - low[0], high[1] - low[1]);
                self.content.rect(x, y, width as f32, height as f32);
                self.content.fill_nonzero();
            }
            Mark::Text {
                at,
                size,
                bold,
                text,
            } => {
                self.paint([0; 3].into());
                let [x, y] = self.place(*at);
                let letters: Vec<u8> = text.chars().map(encode).collect();
                self.content
                    .begin_text()
                    .set_font(if *bold { BOLD } else { PLAIN }, *size as f32)
                    .next_line(x, y)
                    .show(Str(&letters))
                    .end_text();
            }
        }
    }

    /// A place from the lower left corner, where a page begins.
    fn place(&self, at: [f64; 2]) -> [f32; 2] {
        // Thousandths of a point are enough, and short.
        let round = |value: f64| ((value * 100.0).round() / 100.0) as f32;
        [round(at[0]), round(self.height - at[1])]
    }

    fn paint(&mut self, paint: Paint) {
        let [red, green, blue] = paint.colour.map(|part| f32::from(part) / 255.0);
        let percent = (100.0 * paint.opacity).round() as u32;
        let name = self
            .opacities
            .entry(percent)
            .or_insert_with(|| format!("A{percent}"));
        self.content
            .set_stroke_rgb(red, green, blue)
            .set_fill_rgb(red, green, blue)
            .set_parameters(Name(name.as_bytes()));
    }
}

/// A letter in the encoding WinAnsi, of which Latin-1's are the same numbers.
fn encode(letter: char) -> u8 {
    match u32::from(letter) {
        code @ (0x20..=0x7e | 0xa0..=0xff) => code as u8,
        _ => b'?',
    }
}
