//! The zip container of `torch.save`, read with suspicion.
//!
//! Records lie uncompressed, so that a record is a range of the file and can never grow on reading. Programs that read
//! zip files disagree on what to do with a name that occurs twice, a local header that contradicts the directory or
//! records that overlap; here each of these is an error. Nothing is ever written to a path that a record's name spells.

pub(crate) mod write;

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Seek, SeekFrom},
};

use crate::error::{Error, visible};

/// The longest directory that is believed, in bytes: room for a hundred thousand tensors.
const DIRECTORY_LIMIT: u64 = 16 << 20;
/// The length of the end record without its comment, and of the longest comment.
const END_LENGTH: u64 = 22;
const COMMENT_LIMIT: u64 = 65_535;
const LOCATOR_LENGTH: u64 = 20;
const END64_LENGTH: u64 = 56;
/// A field of this value is found elsewhere, with 64 bits.
const ELSEWHERE: u64 = 0xffff_ffff;

/// An open container.
pub struct Archive<R> {
    source: R,
    /// Length of the whole file in bytes.
    length: u64,
    records: Vec<Record>,
    /// From a name to its place in `records`.
    index: HashMap<String, usize>,
}

/// What the directory says of a record.
struct Record {
    name: String,
    method: u16,
    flags: u16,
    crc: u32,
    packed: u64,
    size: u64,
    /// Where its local header starts.
    header: u64,
    /// Where the next record starts or the directory does.
    end: u64,
}

/// The place of the directory.
struct Directory {
    records: u64,
    start: u64,
    length: u64,
}

impl<R: Read + Seek> Archive<R> {
    /// Opens a container and reads its directory.
    ///
    /// # Errors
    /// The container is cut off or contradicts itself.
    pub fn open(mut source: R) -> Result<Self, Error> {
        let length = length(&mut source)?;
        let directory = find_directory(&mut source, length)?;
        let bytes = read_at(&mut source, directory.start, directory.length)?;
        let mut records = parse_directory(&bytes, &directory)?;
        let mut order: Vec<usize> = (0..records.len()).collect();
        order.sort_by_key(|&i| records[i].header);
        let mut end = directory.start;
        for &i in order.iter().rev() {
            let record = &mut records[i];
            record.end = end;
            // The name stands in the local header too.
            let least = 30 + record.name.len() as u64;
            let room = end.saturating_sub(record.header);
            if room < least || room - least < record.packed {
                return Err(damaged(format!(
                    "record `{}` reaches into another part of the container",
                    visible(&record.name)
                )));
            }
            end = record.header;
        }
        let mut index = HashMap::with_capacity(records.len());
        for (i, record) in records.iter().enumerate() {
            if index.insert(record.name.clone(), i).is_some() {
                return Err(damaged(format!(
                    "the container has the record `{}` twice",
                    visible(&record.name)
                )));
            }
        }
        Ok(Self {
            source,
            length,
            records,
            index,
        })
    }

    /// Length of the whole file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Names of the records, in the directory's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.records.iter().map(|r| r.name.as_str())
    }

    /// Size of a record in bytes, if there is one of this name.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.index.get(name).map(|&i| self.records[i].size)
    }

    /// The bytes of a record, whose checksum must fit if the file has one.
    ///
    /// # Errors
    /// There is no such record, it is compressed or encrypted, or it is damaged.
    pub fn read(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        let shown = visible(name);
        let Some(&i) = self.index.get(name) else {
            return Err(damaged(format!("the record `{shown}` is missing")));
        };
        let record = &self.records[i];
        if record.flags & 1 != 0 {
            return Err(damaged(format!("the record `{shown}` is encrypted")));
        }
        if record.method != 0 || record.packed != record.size {
            return Err(
                damaged(format!("the record `{shown}` is compressed")).remedy(
                    "`torch.save` never compresses; unpack the container and store its records as they are",
                ),
            );
        }
        let start = local_data(&mut self.source, record)?;
        if record.end - start < record.size {
            return Err(damaged(format!(
                "record `{shown}` reaches into another part of the container"
            )));
        }
        let bytes = read_at(&mut self.source, start, record.size)?;
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        // PyTorch can be told to leave the checksum out, which makes it zero.
        if record.crc != 0 && record.crc != crc.sum() {
            return Err(damaged(format!(
                "the checksum of the record `{shown}` does not fit its bytes"
            )));
        }
        Ok(bytes)
    }
}

/// The length of a source, which is left at its start.
pub(crate) fn length(source: &mut impl Seek) -> Result<u64, Error> {
    let length = source.seek(SeekFrom::End(0)).map_err(|e| unreadable(&e))?;
    source.rewind().map_err(|e| unreadable(&e))?;
    Ok(length)
}

/// `length` bytes from `start`; the caller has checked that the file has them.
pub(crate) fn read_at(
    source: &mut (impl Read + Seek),
    start: u64,
    length: u64,
) -> Result<Vec<u8>, Error> {
    source
        .seek(SeekFrom::Start(start))
        .map_err(|e| unreadable(&e))?;
    let mut bytes = Vec::new();
    let room = usize::try_from(length).ok();
    room.and_then(|room| bytes.try_reserve_exact(room).ok())
        .ok_or_else(|| Error::content(format!("needs {length} bytes of memory at once")))?;
    // Read to the end of a bounded part, for the memory is not initialised first.
    let read = source
        .by_ref()
        .take(length)
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(&e))?;
    if (read as u64) < length {
        return Err(unreadable(&ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

fn unreadable(error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => damaged("it ends too early".to_owned()),
        _ => Error::disk("read", error),
    }
}

fn damaged(reason: String) -> Error {
    Error::content(format!("is damaged: {reason}"))
}

fn cut_off() -> Error {
    damaged("the directory of the container is missing, so its end was probably cut off".to_owned())
}

/// Little-endian numbers within `bytes`, whose length the caller has checked.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Finds the directory through the record at the file's very end.
fn find_directory(source: &mut (impl Read + Seek), length: u64) -> Result<Directory, Error> {
    let tail_length = length.min(END_LENGTH + COMMENT_LIMIT);
    let tail_start = length - tail_length;
    let tail = read_at(source, tail_start, tail_length)?;
    let last = tail.len().checked_sub(END_LENGTH as usize);
    let at = (0..=last.ok_or_else(cut_off)?)
        .rev()
        .find(|&at| {
            tail[at..].starts_with(b"PK\x05\x06")
                && at + 22 + usize::from(u16_at(&tail, at + 20)) == tail.len()
        })
        .ok_or_else(cut_off)?;
    let end = &tail[at..];
    let position = tail_start + at as u64;
    let narrow = Directory {
        records: u16_at(end, 10).into(),
        start: u32_at(end, 16).into(),
        length: u32_at(end, 12).into(),
    };
    let one_disk = matches!(u32_at(end, 4), 0 | u32::MAX) && u16_at(end, 8) == u16_at(end, 10);
    let (directory, end) = match find_end64(source, position)? {
        Some((wide, position)) => {
            let agree = |narrow: u64, wide: u64, elsewhere| narrow == wide || narrow == elsewhere;
            if !(agree(narrow.records, wide.records, 0xffff)
                && agree(narrow.start, wide.start, ELSEWHERE)
                && agree(narrow.length, wide.length, ELSEWHERE))
            {
                return Err(damaged(
                    "the two end records of the container contradict each other".to_owned(),
                ));
            }
            (wide, position)
        }
        None => (narrow, position),
    };
    if !one_disk || directory.start.checked_add(directory.length) != Some(end) {
        return Err(damaged(
            "the end record of the container does not point at its directory".to_owned(),
        ));
    }
    if directory.length > DIRECTORY_LIMIT || directory.records > directory.length / 46 {
        return Err(damaged(format!(
            "the container claims {} records",
            directory.records
        )));
    }
    Ok(directory)
}

/// The 64-bit end record before the ordinary one at `end`, and its position.
fn find_end64(
    source: &mut (impl Read + Seek),
    end: u64,
) -> Result<Option<(Directory, u64)>, Error> {
    let Some(locator) = end.checked_sub(LOCATOR_LENGTH) else {
        return Ok(None);
    };
    let bytes = read_at(source, locator, LOCATOR_LENGTH)?;
    if !bytes.starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    let position = u64_at(&bytes, 8);
    if position.checked_add(END64_LENGTH) != Some(locator) {
        return Err(damaged(
            "the locator of the container does not point at its end record".to_owned(),
        ));
    }
    let bytes = read_at(source, position, END64_LENGTH)?;
    if !bytes.starts_with(b"PK\x06\x06")
        || u64_at(&bytes, 4) != END64_LENGTH - 12
        || u64_at(&bytes, 24) != u64_at(&bytes, 32)
    {
        return Err(damaged(
            "the end record of the container is not of the known form".to_owned(),
        ));
    }
    let directory = Directory {
        records: u64_at(&bytes, 32),
        start: u64_at(&bytes, 48),
        length: u64_at(&bytes, 40),
    };
    Ok(Some((directory, position)))
}

fn parse_directory(bytes: &[u8], directory: &Directory) -> Result<Vec<Record>, Error> {
    let broken = || damaged("the directory of the container is broken".to_owned());
    let mut records = Vec::with_capacity(directory.records as usize);
    let mut rest = bytes;
    for _ in 0..directory.records {
        if rest.len() < 46 || !rest.starts_with(b"PK\x01\x02") {
            return Err(broken());
        }
        let (entry, after) = rest.split_at(46);
        let lengths = [28, 30, 32].map(|at| usize::from(u16_at(entry, at)));
        if after.len() < lengths.iter().sum() {
            return Err(broken());
        }
        let (name, after) = after.split_at(lengths[0]);
        let (extra, after) = after.split_at(lengths[1]);
        rest = &after[lengths[2]..];
        let mut wide = [24, 20, 42].map(|at| u64::from(u32_at(entry, at)));
        widen(extra, &mut wide).ok_or_else(broken)?;
        let [size, packed, header] = wide;
        records.push(Record {
            name: String::from_utf8_lossy(name).into_owned(),
            method: u16_at(entry, 10),
            flags: u16_at(entry, 8),
            crc: u32_at(entry, 16),
            packed,
            size,
            header,
            end: 0,
        });
    }
    if !rest.is_empty() {
        return Err(broken());
    }
    Ok(records)
}

/// Replaces those of `fields` that are found elsewhere by the numbers of the 64-bit extra field, which has them in
/// this order; none if it lacks one.
fn widen(mut extra: &[u8], fields: &mut [u64; 3]) -> Option<()> {
    if !fields.contains(&ELSEWHERE) {
        return Some(());
    }
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let body = extra.get(4..4 + length)?;
        if id == 1 {
            let mut numbers = body.chunks_exact(8).map(|piece| u64_at(piece, 0));
            for field in fields.iter_mut().filter(|field| **field == ELSEWHERE) {
                *field = numbers.next()?;
            }
            return Some(());
        }
        extra = &extra[4 + length..];
    }
    None
}

/// Where the bytes of a record start; its local header must say what the directory says.
fn local_data(source: &mut (impl Read + Seek), record: &Record) -> Result<u64, Error> {
    let contradiction = || {
        damaged(format!(
            "the header of the record `{}` contradicts the directory of the container",
            visible(&record.name)
        ))
    };
    let header = read_at(source, record.header, 30)?;
    let name_length = u16_at(&header, 26);
    let start = record.header + 30 + u64::from(name_length) + u64::from(u16_at(&header, 28));
    if !header.starts_with(b"PK\x03\x04")
        || u16_at(&header, 8) != record.method
        || u16_at(&header, 6) & 1 != record.flags & 1
        || start > record.end
    {
        return Err(contradiction());
    }
    let name = read_at(source, record.header + 30, name_length.into())?;
    // Sizes may follow the data instead (flag 8), or stand in the extra field.
    let deferred = u16_at(&header, 6) & 8 != 0;
    let agrees = |at, size| {
        let local = u64::from(u32_at(&header, at));
        local == size || local == ELSEWHERE || deferred && local == 0
    };
    if String::from_utf8_lossy(&name) != record.name.as_str()
        || !agrees(18, record.packed)
        || !agrees(22, record.size)
    {
        return Err(contradiction());
    }
    Ok(start)
}
