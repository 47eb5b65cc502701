//! A drawing of discs, lines, rectangles and text, written as SVG, PDF or PNG.
//!
//! Every kind of file shows the same marks in the same places. Only the letters differ: a browser has its own, PDF has
//! Helvetica, and a PNG's come from a bitmap font, so nothing may depend on how wide a text is.

mod pdf;
mod png;
mod svg;

/// Red, green and blue of 0 to 255.
pub type Colour = [u8; 3];

/// A drawing; lengths are in points, 72 to an inch, from the upper left corner.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// Its width.
    pub width: f64,
    /// Its height.
    pub height: f64,
    /// What it is about, for who cannot see it.
    pub title: String,
    /// Its marks, from the back to the front.
    pub marks: Vec<Mark>,
}

/// What can be drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// A disc.
    Disc {
        /// Its centre.
        at: [f64; 2],
        /// Its radius.
        radius: f64,
        /// Its colour.
        paint: Paint,
    },
    /// Lines from point to point.
    Line {
        /// The points.
        points: Vec<[f64; 2]>,
        /// How wide they are.
        width: f64,
        /// Whether they are broken into dashes.
        dashed: bool,
        /// Their colour.
        paint: Paint,
    },
    /// A rectangle, filled.
    Rectangle {
        /// Its upper left corner.
        low: [f64; 2],
        /// Its lower right corner.
        high: [f64; 2],
        /// Its colour.
        paint: Paint,
    },
    /// A text, to the right of where it begins.
    Text {
        /// Where its base line begins.
        at: [f64; 2],
        /// Height of a line.
        size: f64,
        /// Strong or plain.
        bold: bool,
        /// What it says.
        text: String,
    },
}

/// How a mark is coloured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paint {
    /// The colour.
    pub colour: Colour,
    /// How much it covers, from 0 to 1.
    pub opacity: f64,
}

impl From<Colour> for Paint {
    fn from(colour: Colour) -> Self {
        Self {
            colour,
            opacity: 1.0,
        }
    }
}

impl Mark {
    /// The four sides of a rectangle.
    pub fn frame(low: [f64; 2], high: [f64; 2], width: f64, paint: Paint) -> Self {
        let corners = [
            low,
            [high[0], low[1]],
            high,
            [low[0], high[1]],
            low,
            [high[0], low[1]],
        ];
        Self::Line {
            points: corners.to_vec(),
            width,
            dashed: false,
            paint,
        }
    }
}

impl Drawing {
    /// The drawing as SVG.
    pub fn svg(&self) -> String {
        svg::write(self)
    }

    /// The drawing as a PDF file of one page.
    pub fn pdf(&self) -> Vec<u8> {
        pdf::write(self)
    }

    /// The drawing as a PNG file.
    pub fn png(&self) -> Vec<u8> {
        png::write(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing() -> Drawing {
        let red = Paint {
            colour: [255, 0, 0],
            opacity: 0.5,
        };
        Drawing {
            width: 72.0,
            height: 36.0,
            title: "<a & b>".to_owned(),
            marks: vec![
                Mark::Rectangle {
                    low: [0.0, 0.0],
                    high: [72.0, 36.0],
                    paint: [255; 3].into(),
                },
                Mark::Disc {
                    at: [18.0, 18.0],
                    radius: 6.0,
                    paint: red,
                },
                Mark::frame([40.0, 10.0], [60.0, 20.0], 2.0, [0, 0, 255].into()),
                Mark::Line {
                    points: vec![[0.0, 30.0], [72.0, 30.0]],
                    width: 1.0,
                    dashed: true,
                    paint: [0; 3].into(),
                },
                Mark::Text {
                    at: [2.0, 10.0],
                    size: 12.0,
                    bold: true,
                    text: "Ä<&(x)\\ 猫".to_owned(),
                },
            ],
        }
    }

    #[test]
    fn svg_is_well_formed() {
        let svg = drawing().svg();
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("<title>&lt;a &amp; b&gt;</title>"));
        assert!(svg.contains("Ä&lt;&amp;(x)\\ 猫</text>"));
        assert!(svg.contains("fill-opacity=\"0.5\"") && svg.contains("stroke-dasharray"));
        let mut depth = 0i32;
        for tag in svg.split('<').skip(1) {
            let tag = &tag[..tag.find('>').expect("every tag ends")];
            if !tag.ends_with('/') {
                depth += if tag.starts_with('/') { -1 } else { 1 };
            }
            assert!(depth >= 0);
        }
        assert_eq!(depth, 0);
    }

    #[test]
    fn png_has_the_marks_in_their_places() {
        let image = tiny_skia::Pixmap::decode_png(&drawing().png()).unwrap();
        assert_eq!((image.width(), image.height()), (108, 54));
        let pixel = |x: u32, y: u32| {
            let pixel = image.pixel(x, y).unwrap();
            [pixel.red(), pixel.green(), pixel.blue()]
        };
        let at = |x: f64, y: f64| pixel((x * 1.5) as u32, (y * 1.5) as u32);
        assert_eq!(at(30.0, 26.0), [255; 3]);
        // Half of red over white.
        let [red, green, blue] = at(18.0, 18.0);
        assert!(red == 255 && green.abs_diff(127) <= 1 && green == blue);
        assert_eq!(at(50.0, 10.0), [0, 0, 255]);
        assert_eq!(at(50.0, 15.0), [255; 3]);
        let dark = |x: u32, y: u32| pixel(x, y)[0] < 100;
        let line: Vec<bool> = (0..108).map(|x| dark(x, 44) || dark(x, 45)).collect();
        assert!(line.contains(&true) && line.contains(&false));
        let letters = (0..50).flat_map(|x| (0..17).map(move |y| (x, y)));
        assert!(letters.filter(|&(x, y)| dark(x, y)).count() > 30);
    }

    #[test]
    fn pdf_has_its_parts_where_its_table_says() {
        let bytes = drawing().pdf();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("%PDF-1.") && text.trim_end().ends_with("%%EOF"));
        assert!(text.contains("/MediaBox [0 0 72 36]") && text.contains("/Helvetica-Bold"));
        // Parentheses and backslashes are escaped, Ä is one byte of WinAnsi, and what that lacks is a question mark.
        let shown = b"(\xc4<&\\(x\\)\\\\ ?) Tj";
        let hex = b"<C43C262878295C203F> Tj";
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(
            has(shown) || has(hex) || has(b"c43c262878295c203f"),
            "{text}"
        );
        let table = text.rfind("startxref").unwrap();
        let start: usize = text[table + 9..]
            .trim_start()
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(bytes[start..].starts_with(b"xref"));
    }
}
