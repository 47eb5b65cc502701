//! JPEG files, to the pixels that libjpeg-turbo makes of them with its defaults, which are Pillow's.
//!
//! Decoders may differ by some levels within the standard, and published numbers rest on libjpeg's. Its choices are the
//! integer transform of [`idct`], the triangle filter of [`upsample`] and the fixed-point conversion of [`color`].
//! Baseline and progressive Huffman-coded files of eight bits are decoded here; [`Jpeg::open`] and [`Jpeg::decode`]
//! return `None` for all else, which goes to the general decoder.
//!
//! Decoders fill a missing end with grey, which would train a network on half a picture without a word; so
//! [`is_complete`] looks for the end marker first. A whole file has one after its last scan; within a scan's data two
//! bytes never look like one.

mod color;
mod frame;
mod huffman;
mod idct;
mod marker;
mod progressive;
mod rows;
mod scan;
mod upsample;

use self::{
    frame::{Frame, ScanHeader},
    marker::Reader,
    progressive::Progressive,
    rows::Rows,
    scan::{Sequential, Walk, units, walk_rows},
};
use crate::image::Image;

/// The most scans that are decoded; a file can ask for the whole picture's work with each few bytes of a scan.
const MOST_SCANS: usize = 100;

/// A file read up to its first scan.
pub(super) struct Jpeg<'a> {
    reader: Reader<'a>,
    frame: Frame,
    /// The first scan's header and the place of its data.
    scan: (&'a [u8], usize),
}

impl<'a> Jpeg<'a> {
    /// Reads the headers.
    pub(super) fn open(data: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(data)?;
        let scan = reader.next_scan()??;
        let frame = reader.frame.take()?;
        Some(Self {
            reader,
            frame,
            scan,
        })
    }

    /// Width and height in pixels.
    pub(super) fn dimensions(&self) -> (u32, u32) {
        (self.frame.width as u32, self.frame.height as u32)
    }

    /// Bytes that decoding takes beside the image.
    pub(super) fn work(&self) -> u64 {
        self.frame.coefficient_bytes()
    }

    /// Decodes the picture.
    pub(super) fn decode(mut self) -> Option<Image> {
        let (body, at) = self.scan;
        let scan = self.reader.scan(body, &mut self.frame)?;
        if self.frame.is_progressive || scan.components.len() < self.frame.components.len() {
            self.decode_scans(scan, at)
        } else {
            self.decode_rows(&scan, at)
        }
    }

    /// Decodes a picture of one scan, row by row.
    fn decode_rows(self, scan: &ScanHeader, at: usize) -> Option<Image> {
        let (frame, tables) = (&self.frame, &self.reader.tables);
        let mut state = Sequential::new(scan, tables)?;
        let mut walk = Walk::new(self.reader.data(), at, tables.restart_interval);
        let mut rows = Rows::new(frame, self.reader.space(frame));
        let mut coefficients: Vec<Vec<i16>> = frame
            .components
            .iter()
            .map(|c| vec![0; 64 * c.blocks_wide * c.down])
            .collect();
        let mut goes_on = true;
        for row in 0..frame.units_high {
            if row > 0 {
                coefficients.iter_mut().for_each(|store| store.fill(0));
            }
            goes_on =
                goes_on && walk_rows(&mut walk, frame, scan, 0..1, &mut coefficients, &mut state);
            rows.push(coefficients.iter().map(Vec::as_slice));
        }
        Some(rows.finish())
    }

    /// Decodes a picture of several scans, whose coefficients all have to be there first.
    fn decode_scans(mut self, mut scan: ScanHeader, mut at: usize) -> Option<Image> {
        let mut coefficients: Vec<Vec<i16>> = self
            .frame
            .components
            .iter()
            .map(|c| vec![0; 64 * c.blocks_wide * c.blocks_high])
            .collect();
        for _ in 0..MOST_SCANS {
            let (frame, tables) = (&self.frame, &self.reader.tables);
            let mut walk = Walk::new(self.reader.data(), at, tables.restart_interval);
            let all = 0..units(frame, &scan).1;
            let store = &mut coefficients;
            if frame.is_progressive {
                let mut state = Progressive::new(&scan, tables)?;
                walk_rows(&mut walk, frame, &scan, all, store, &mut state);
            } else {
                let mut state = Sequential::new(&scan, tables)?;
                walk_rows(&mut walk, frame, &scan, all, store, &mut state);
            }
            let end = walk.end(self.reader.data());
            self.reader.go_to(end);
            match self.reader.next_scan()? {
                Some((body, next)) => {
                    scan = self.reader.scan(body, &mut self.frame)?;
                    at = next;
                }
                None => return Some(self.rows_of(&coefficients)),
            }
        }
        None
    }

    /// The image of all coefficients.
    fn rows_of(&self, coefficients: &[Vec<i16>]) -> Image {
        let mut rows = Rows::new(&self.frame, self.reader.space(&self.frame));
        for row in 0..self.frame.units_high {
            let stores = self.frame.components.iter().zip(coefficients);
            rows.push(stores.map(|(component, store)| {
                let length = 64 * component.blocks_wide * component.down;
                &store[row * length..][..length]
            }));
        }
        rows.finish()
    }
}

/// Whether the end-of-image marker is where the markers before it lead to.
///
/// Data that makes no sense before the first scan counts as whole: the decoder has the better message for it.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    let mut in_scan = false;
    loop {
        let Some(step) = bytes
            .get(at..)
            .and_then(|rest| rest.iter().position(|&b| b == 0xFF))
        else {
            return false;
        };
        if step > 0 && !in_scan {
            return true;
        }
        at += step;
        let Some(&code) = bytes.get(at + 1) else {
            return false;
        };
        match code {
            // A fill byte before a marker.
            0xFF => at += 1,
            // A stuffed 0xFF of the data, a restart, or a marker without a length.
            0x00 | 0x01 | 0xD0..=0xD8 => at += 2,
            0xD9 => return true,
            _ => {
                let Some(length) = bytes.get(at + 2..at + 4) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                in_scan = code == 0xDA;
            }
        }
    }
}

#[cfg(test)]
mod tests;
