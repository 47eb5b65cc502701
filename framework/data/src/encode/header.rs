//! What stands before the entropy-coded data: one segment a table, as Pillow orders them.
//!
//! Tables are those of the standard's annex K (ITU-T T.81). A quality scales the quantisation of annex K, which is that of 50.

use crate::image::Image;

use super::huffman::{Code, Component};

/// Where each coefficient in zigzag order stands in its block.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Quantisation of luma at quality 50, rows of frequencies down the image.
#[rustfmt::skip]
const LUMA: [u8; 64] = [
    16, 11, 10, 16,  24,  40,  51,  61,
    12, 12, 14, 19,  26,  58,  60,  55,
    14, 13, 16, 24,  40,  57,  69,  56,
    14, 17, 22, 29,  51,  87,  80,  62,
    18, 22, 37, 56,  68, 109, 103,  77,
    24, 35, 55, 64,  81, 104, 113,  92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103,  99,
];

/// Quantisation of the colour differences at quality 50.
#[rustfmt::skip]
const CHROMA: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99,
    18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
];

/// The quantisation of luma and of the colour differences for a quality from 1 to 100, in natural order.
pub(super) fn quantization(quality: u8) -> [[u8; 64]; 2] {
    let quality = u32::from(quality);
    let percent = match quality {
        ..50 => 5000 / quality,
        _ => 200 - 2 * quality,
    };
    [LUMA, CHROMA].map(|table| {
        table.map(|step| {
            let scaled = (u32::from(step) * percent + 50) / 100;
            scaled.clamp(1, 255) as u8
        })
    })
}

/// Appends everything from the start of the file to the scan's header.
pub(super) fn start(file: &mut Vec<u8>, image: &Image, tables: &[[u8; 64]; 2]) {
    file.extend([0xFF, 0xD8]);
    // JFIF 1.01: pixels are square, of no known size; no thumbnail.
    segment(file, 0xE0, b"JFIF\0\x01\x01\x00\x00\x01\x00\x01\x00\x00");
    for (number, table) in (0..).zip(tables) {
        let mut content = vec![number];
        content.extend(ZIGZAG.map(|at| table[usize::from(at)]));
        segment(file, 0xDB, &content);
    }
    // A side is at most `LONGEST`, which two bytes hold.
    let [height, width] = [image.height, image.width].map(|side| (side as u16).to_be_bytes());
    let mut frame = vec![8];
    frame.extend([height, width].concat());
    // Three components: number, samples of it in a unit across and down, table.
    frame.extend([3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1]);
    segment(file, 0xC0, &frame);
    for (number, component) in (0..).zip([Component::Luma, Component::Chroma]) {
        for (class, code) in [(0, component.constant()), (0x10, component.others())] {
            let Code { counts, symbols } = code;
            let mut content = vec![class | number];
            content.extend(counts);
            content.extend(symbols);
            segment(file, 0xC4, &content);
        }
    }
    segment(file, 0xDA, &[3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
}

/// Appends a marker segment.
fn segment(file: &mut Vec<u8>, marker: u8, content: &[u8]) {
    file.extend([0xFF, marker]);
    file.extend((content.len() as u16 + 2).to_be_bytes());
    file.extend(content);
}
