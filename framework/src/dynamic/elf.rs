//! Notices a library that is cut short, which the system's loader does not: it maps what the headers promise, and the
//! program ends with a bus error at the first page that is not there.
//!
//! Only what is needed for that is read, of 64-bit little-endian ELF files; everything else is the loader's to judge.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Bytes of a file's header, and of an entry of its table of segments.
const HEADER: usize = 64;
const SEGMENT: usize = 56;

/// A segment that is mapped from the file.
const LOADED: u32 = 1;

/// The bytes that the file at `path` must have for its segments, if it is an ELF library with fewer.
///
/// # Errors
/// It cannot be read.
pub(super) fn missing_end(path: &Path) -> io::Result<Option<u64>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0; HEADER];
    if length < HEADER as u64 || !path.is_file() {
        return Ok(None);
    }
    file.read_exact(&mut header)?;
    // The magic number, 64 bits, little-endian.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(None);
    }
    let table = long(&header, 32);
    let (size, count) = (short(&header, 54), short(&header, 56));
    if usize::from(size) != SEGMENT {
        return Ok(None);
    }
    let mut end = table.saturating_add(u64::from(count) * SEGMENT as u64);
    if end > length {
        return Ok(Some(end));
    }
    file.seek(SeekFrom::Start(table))?;
    let mut segments = vec![0; usize::from(count) * SEGMENT];
    file.read_exact(&mut segments)?;
    for segment in segments.chunks_exact(SEGMENT) {
        let kind = u32::from_le_bytes([segment[0], segment[1], segment[2], segment[3]]);
        if kind == LOADED {
            end = end.max(long(segment, 8).saturating_add(long(segment, 32)));
        }
    }
    Ok((end > length).then_some(end))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with one segment of 100 bytes at 128, in a file of `length` bytes.
    fn library(length: usize) -> Vec<u8> {
        let mut file = vec![0; 256];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32] = 64;
        file[54] = SEGMENT as u8;
        file[56] = 1;
        file[64] = 1;
        file[64 + 8] = 128;
        file[64 + 32] = 100;
        file.truncate(length);
        file
    }

    #[test]
    fn an_end_that_is_missing_is_noticed() {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let path = folder.path().join("library");
        for (length, missing) in [
            (0, None),
            (63, None),
            (64, Some(120)),
            (119, Some(120)),
            (120, Some(228)),
            (227, Some(228)),
            (228, None),
            (256, None),
        ] {
            std::fs::write(&path, library(length)).expect("the folder is ours");
            assert_eq!(missing_end(&path).ok(), Some(missing), "{length}");
        }
        std::fs::write(&path, [b'x'; 100]).expect("the folder is ours");
        assert_eq!(missing_end(&path).ok(), Some(None));
        assert_eq!(missing_end(folder.path()).ok(), Some(None));
    }
}
