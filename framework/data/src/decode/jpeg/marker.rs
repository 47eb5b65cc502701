//! Marker segments: what lies between the coded data of a JPEG file.

use super::{
    color::Space,
    frame::{Frame, ScanHeader, Tables},
    huffman::Table,
};

/// Coefficients in the order they are coded, as places in a row-major block. Runs that lead beyond the last one stay
/// there, as in libjpeg.
pub(super) const ORDER: [u8; 128] = order();

const fn order() -> [u8; 128] {
    let mut order = [63; 128];
    let (mut x, mut y, mut at) = (0, 0, 0);
    while at < 64 {
        order[at] = (8 * y + x) as u8;
        at += 1;
        // Up and to the right on even diagonals, down and to the left on odd ones.
        match ((x + y) % 2, x, y) {
            (0, 7, _) => y += 1,
            (0, _, 0) => x += 1,
            (0, ..) => (x, y) = (x + 1, y - 1),
            (_, _, 7) => x += 1,
            (_, 0, _) => y += 1,
            _ => (x, y) = (x - 1, y + 1),
        }
    }
    order
}

/// A file read up to one of its scans.
pub(super) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    pub(super) tables: Tables,
    pub(super) frame: Option<Frame>,
    has_jfif: bool,
    adobe: Option<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Option<Self> {
        data.starts_with(&[0xFF, 0xD8]).then(|| Self {
            data,
            at: 2,
            tables: Tables::default(),
            frame: None,
            has_jfif: false,
            adobe: None,
        })
    }

    /// The whole file.
    pub(super) fn data(&self) -> &'a [u8] {
        self.data
    }

    /// What the components stand for.
    pub(super) fn space(&self, frame: &Frame) -> Space {
        frame.space(self.has_jfif, self.adobe)
    }

    /// Reads segments up to the next start of a scan: the body of that segment and the place behind it. `Some(None)` is
    /// the end of the picture, `None` what this decoder leaves to another.
    pub(super) fn next_scan(&mut self) -> Option<Option<(&'a [u8], usize)>> {
        loop {
            self.at += self
                .data
                .get(self.at..)?
                .iter()
                .position(|&byte| byte == 0xFF)?;
            let code = *self.data.get(self.at + 1)?;
            match code {
                0xFF => {
                    self.at += 1;
                    continue;
                }
                0x00 | 0x01 | 0xD0..=0xD7 => {
                    self.at += 2;
                    continue;
                }
                0xD9 => return Some(None),
                _ => {}
            }
            let length = self.data.get(self.at + 2..self.at + 4)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let body = self.data.get(self.at + 4..self.at + 2 + length)?;
            self.at += 2 + length;
            match code {
                0xDA => return Some(Some((body, self.at))),
                0xC0..=0xC2 if self.frame.is_none() => {
                    self.frame = Some(Frame::parse(body, code == 0xC2)?);
                }
                0xC4 => self.huffman_tables(body)?,
                // Other frames, arithmetic coding, a later height, hierarchies, a second picture.
                0xC0..=0xCF | 0xD8 | 0xDC | 0xDE | 0xDF => return None,
                0xDB => self.quantization_tables(body)?,
                0xDD => {
                    let interval = <[u8; 2]>::try_from(body).ok()?;
                    self.tables.restart_interval = usize::from(u16::from_be_bytes(interval));
                }
                0xE0 => self.has_jfif |= body.len() >= 14 && body.starts_with(b"JFIF\0"),
                0xEE if body.len() >= 12 && body.starts_with(b"Adobe") => {
                    self.adobe = Some(body[11]);
                }
                _ => {}
            }
        }
    }

    /// Goes on at a place behind the data of a scan.
    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    fn quantization_tables(&mut self, mut body: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = body.split_first() {
            let place = self.tables.quantization.get_mut(usize::from(head & 15))?;
            let bytes = match head >> 4 {
                0 => 1,
                1 => 2,
                _ => return None,
            };
            let (values, rest) = rest.split_at_checked(64 * bytes)?;
            let mut table = [0; 64];
            for (value, &at) in values.chunks_exact(bytes).zip(&ORDER) {
                let value = value
                    .iter()
                    .fold(0, |sum, &byte| sum << 8 | u16::from(byte));
                table[usize::from(at)] = value;
            }
            *place = Some(table);
            body = rest;
        }
        Some(())
    }

    fn huffman_tables(&mut self, mut body: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = body.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(total)?;
            let table = Table::new(counts, symbols)?;
            let tables = match head >> 4 {
                0 if table.is_for_dc() => &mut self.tables.dc,
                1 => &mut self.tables.ac,
                _ => return None,
            };
            *tables.get_mut(usize::from(head & 15))? = Some(Box::new(table));
            body = rest;
        }
        Some(())
    }

    /// The scan of a body, with the quantization tables of its components settled.
    pub(super) fn scan(&mut self, body: &[u8], frame: &mut Frame) -> Option<ScanHeader> {
        let scan = ScanHeader::parse(body, frame)?;
        for &(place, ..) in &scan.components {
            let component = &mut frame.components[place];
            if component.quantization.is_none() {
                component.quantization = Some(self.tables.quantization[component.table]?);
            }
        }
        Some(scan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_runs_along_the_diagonals() {
        assert_eq!(ORDER[..10], [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]);
        assert_eq!(ORDER[60..66], [47, 55, 62, 63, 63, 63][..]);
        let mut places = ORDER[..64].to_vec();
        places.sort_unstable();
        assert!(places.into_iter().eq(0..64));
    }
}
