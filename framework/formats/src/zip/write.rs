//! Writing the zip container of `torch.save`: stored records at multiples of 64 bytes, the same bytes every time.

use std::io::{self, Write};

use super::ELSEWHERE;

/// PyTorch lays records at multiples of this, so that they can be mapped into memory.
pub(crate) const ALIGNMENT: u64 = 64;
/// Names are UTF-8.
const FLAGS: u16 = 1 << 11;
/// The first of January 1980, the earliest date of the format.
const DATE: u16 = 0x21;
/// The version of the format that has 64-bit sizes.
const VERSION: u16 = 45;

/// A container being written.
pub(crate) struct Writer<W> {
    out: W,
    position: u64,
    directory: Vec<u8>,
    records: u64,
    /// Numbers from here on are written with 64 bits.
    wide_from: u64,
}

impl<W: Write> Writer<W> {
    /// Starts a container.
    pub fn new(out: W) -> Self {
        Self::with_wide_from(out, ELSEWHERE)
    }

    fn with_wide_from(out: W, wide_from: u64) -> Self {
        Self {
            out,
            position: 0,
            directory: Vec::new(),
            records: 0,
            wide_from,
        }
    }

    /// Writes a record.
    ///
    /// # Errors
    /// Writing fails, or the name is longer than the format allows.
    pub fn record(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let name_length = u16::try_from(name.len()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the name of a record is too long",
            )
        })?;
        let header = self.position;
        let size = bytes.len() as u64;
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let wide_size = size >= self.wide_from;

        let mut extra = Vec::new();
        if wide_size {
            extra.extend(field(1, &[size, size]));
        }
        let start = header + 30 + u64::from(name_length) + extra.len() as u64 + 4;
        let padding = start.next_multiple_of(ALIGNMENT) - start;
        extra.extend(b"FB");
        extra.extend((padding as u16).to_le_bytes());
        extra.resize(extra.len() + padding as usize, b'Z');
        let mut local = b"PK\x03\x04".to_vec();
        self.describe(&mut local, crc.sum(), size, wide_size);
        local.extend(name_length.to_le_bytes());
        local.extend((extra.len() as u16).to_le_bytes());
        local.extend(name.as_bytes());
        local.extend(extra);
        self.write(&local)?;
        self.write(bytes)?;

        let mut extra = Vec::new();
        if wide_size {
            extra.extend([size, size]);
        }
        let wide_header = header >= self.wide_from;
        if wide_header {
            extra.push(header);
        }
        let extra = match extra.is_empty() {
            true => Vec::new(),
            false => field(1, &extra),
        };
        let mut entry = b"PK\x01\x02".to_vec();
        entry.extend(VERSION.to_le_bytes());
        self.describe(&mut entry, crc.sum(), size, wide_size);
        entry.extend(name_length.to_le_bytes());
        entry.extend((extra.len() as u16).to_le_bytes());
        // No comment; first disk; no attributes.
        entry.extend([0; 10]);
        entry.extend(narrow(header, wide_header).to_le_bytes());
        entry.extend(name.as_bytes());
        entry.extend(extra);
        self.directory.extend(entry);
        self.records += 1;
        Ok(())
    }

    /// Writes the directory and the end of the container.
    ///
    /// # Errors
    /// Writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        let start = self.position;
        let directory = std::mem::take(&mut self.directory);
        let length = directory.len() as u64;
        self.write(&directory)?;
        let end = self.position;
        let mut tail = b"PK\x06\x06".to_vec();
        tail.extend(44u64.to_le_bytes());
        tail.extend([VERSION.to_le_bytes(), VERSION.to_le_bytes()].concat());
        tail.extend([0; 8]);
        for number in [self.records, self.records, length, start] {
            tail.extend(number.to_le_bytes());
        }
        tail.extend(b"PK\x06\x07");
        tail.extend(0u32.to_le_bytes());
        tail.extend(end.to_le_bytes());
        tail.extend(1u32.to_le_bytes());
        tail.extend(b"PK\x05\x06");
        tail.extend([0; 4]);
        let records = u16::try_from(self.records).unwrap_or(u16::MAX);
        tail.extend([records.to_le_bytes(), records.to_le_bytes()].concat());
        for number in [length, start] {
            tail.extend(narrow(number, number >= self.wide_from).to_le_bytes());
        }
        tail.extend([0; 2]);
        self.write(&tail)?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// The fields that the local header and the directory share.
    fn describe(&self, header: &mut Vec<u8>, crc: u32, size: u64, wide: bool) {
        for number in [VERSION, FLAGS, 0, 0, DATE] {
            header.extend(number.to_le_bytes());
        }
        header.extend(crc.to_le_bytes());
        for _ in ["packed", "plain"] {
            header.extend(narrow(size, wide).to_le_bytes());
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// An extra field of 64-bit numbers.
fn field(id: u16, numbers: &[u64]) -> Vec<u8> {
    let length = 8 * numbers.len() as u16;
    let mut field = [id.to_le_bytes(), length.to_le_bytes()].concat();
    field.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
    field
}

/// The 32-bit form of a number, or the mark that it is found elsewhere.
fn narrow(number: u64, wide: bool) -> u32 {
    match wide {
        true => ELSEWHERE as u32,
        false => number as u32,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{super::Archive, *};

    fn written(wide_from: u64) -> Vec<u8> {
        let mut writer = Writer::with_wide_from(Vec::new(), wide_from);
        writer.record("a/one", b"first").unwrap();
        writer.record("a/empty", b"").unwrap();
        writer.record("a/two", &[7; 300]).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn records_come_back_from_narrow_and_wide_headers() {
        // Everything wide, only the offsets, nothing.
        for wide_from in [0, 301, ELSEWHERE] {
            let bytes = written(wide_from);
            let mut archive = Archive::open(Cursor::new(&bytes[..])).unwrap();
            let names: Vec<String> = archive.names().map(str::to_owned).collect();
            assert_eq!(names, ["a/one", "a/empty", "a/two"]);
            assert_eq!(archive.read("a/one").unwrap(), b"first");
            assert_eq!(archive.read("a/empty").unwrap(), b"");
            assert_eq!(archive.read("a/two").unwrap(), [7; 300]);
            assert_eq!(archive.size("a/two"), Some(300));
            assert!(archive.read("a/three").is_err());
        }
    }

    #[test]
    fn records_are_aligned() {
        let bytes = written(ELSEWHERE);
        for content in [&b"first"[..], &[7; 300]] {
            let at = bytes.windows(content.len()).position(|w| w == content);
            assert_eq!(at.unwrap() % ALIGNMENT as usize, 0);
        }
    }

    #[test]
    fn a_changed_byte_of_a_record_is_noticed() {
        let mut bytes = written(ELSEWHERE);
        let at = bytes.windows(5).position(|w| w == b"first").unwrap();
        bytes[at] ^= 1;
        let mut archive = Archive::open(Cursor::new(&bytes[..])).unwrap();
        let error = archive.read("a/one").unwrap_err();
        assert!(error.problem().contains("checksum"), "{error}");
    }

    #[test]
    fn contradictions_are_refused() {
        let good = written(ELSEWHERE);
        // Offsets of fields from the start of the first directory entry.
        let entry = good.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        let second = entry + 46 + "a/one".len();
        let opened = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            assert_ne!(bytes[at], byte, "the test changes nothing");
            bytes[at] = byte;
            let mut archive = Archive::open(Cursor::new(&bytes[..]))?;
            archive.read("a/one")
        };
        for (what, at, byte) in [
            ("compressed", entry + 10, 8),
            ("encrypted", entry + 8, 1),
            ("larger than its place", entry + 24, 255),
            ("of the header of another", entry + 42, 64),
            ("of another name locally", 30, b'b'),
            ("of another method locally", 8, 8),
            ("of another size locally", 18, 4),
            ("where another is", second + 42, 0),
            ("counted wrongly", good.len() - 14, 2),
            (
                "of a wrong directory",
                good.len() - 6,
                good[good.len() - 6] ^ 1,
            ),
        ] {
            assert!(opened(at, byte).is_err(), "{what}");
        }
        let mut twice = Writer::new(Vec::new());
        twice.record("a", b"1").unwrap();
        twice.record("a", b"2").unwrap();
        let twice = twice.finish().unwrap();
        assert!(Archive::open(Cursor::new(&twice[..])).is_err());
        for length in 0..good.len() {
            assert!(Archive::open(Cursor::new(&good[..length])).is_err());
        }
        assert!(Archive::open(Cursor::new([&good[..], b"x"].concat())).is_err());
    }
}
