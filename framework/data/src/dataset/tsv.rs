//! Image files in one tab-separated file, as SEED's training data come.
//!
//! Every line is a sample: its key in column 1, its class, a whole number, in column 2, and the image file in base64 in
//! the last. Where lines start is kept in a file beside it (see `index`). Opening reads the start of every line, for
//! keys and classes, and no pixels. A line that is of no use fails when it is loaded and not before, as one damaged
//! image among a million must not end a run; but an index that belongs to another file is refused at once.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rayon::prelude::*;

use super::{
    Dataset, LoadError, OpenError,
    file::{FETCH, file_name, reason},
};
use crate::{
    base64, buffer,
    decode::{self, Orientation},
    image::Image,
};

mod index;

/// Bytes of a line that are looked at for its key and class.
const HEAD: usize = 512;

/// The same for a line whose first columns are longer.
const LONG_HEAD: u64 = 1 << 14;

/// The most letters of a key that are kept.
const KEY: usize = 120;

/// One more than the largest class; a number beyond it is a damaged line.
const MOST_CLASSES: u32 = 1 << 20;

/// The most bytes of a line: an image file of a gigabyte.
const MOST_BYTES: u64 = 3 << 29;

/// Images in the lines of a tab-separated file.
#[derive(Debug)]
pub struct Tsv {
    file: File,
    name: String,
    path: PathBuf,
    /// Where each line starts, and where the last ends.
    starts: Vec<u64>,
    /// All keys, one after the other, and where each ends.
    keys: (String, Vec<usize>),
    labels: Vec<Option<u32>>,
    classes: Vec<String>,
    orientation: Orientation,
}

/// What the start of a line tells.
struct Head {
    key: String,
    label: Option<u32>,
}

impl Tsv {
    /// Opens a file; its index is read from `NAME.lineidx` beside it, or made, and written there if that is possible.
    ///
    /// # Errors
    /// The file cannot be read, or the index is not its own.
    pub fn open(path: &Path, orientation: Orientation) -> Result<Self, OpenError> {
        let fail = |error: &io::Error| OpenError {
            name: path.display().to_string(),
            reason: reason(error),
            remedy: "give the path of a tab-separated file",
        };
        let about = std::fs::metadata(path).map_err(|error| fail(&error))?;
        if !about.is_file() {
            return Err(OpenError {
                name: path.display().to_string(),
                reason: "is not a plain file".into(),
                remedy: "give the path of a tab-separated file",
            });
        }
        let file = File::open(path).map_err(|error| fail(&error))?;
        let starts = index::read_or_make(path, &file, about.len())?;
        let heads: Vec<Head> = (1..starts.len())
            .into_par_iter()
            .map(|end| head(&file, starts[end - 1], starts[end]))
            .collect::<Result<_, _>>()
            .map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => index::foreign(path),
                _ => OpenError {
                    remedy: FETCH,
                    ..fail(&error)
                },
            })?;
        let (mut text, mut ends) = (String::new(), Vec::with_capacity(heads.len()));
        for head in &heads {
            text.push_str(&head.key);
            ends.push(text.len());
        }
        let labels: Vec<_> = heads.iter().map(|head| head.label).collect();
        let classes = labels.iter().flatten().max().map_or(0, |most| most + 1);
        Ok(Self {
            file,
            name: file_name(path),
            path: path.into(),
            starts,
            keys: (text, ends),
            labels,
            classes: (0..classes).map(|class| class.to_string()).collect(),
            orientation,
        })
    }

    fn key(&self, sample: usize) -> &str {
        let (text, ends) = &self.keys;
        let start = sample.checked_sub(1).map_or(0, |before| ends[before]);
        &text[start..ends[sample]]
    }

    /// Reads and decodes a line; the reason where that fails.
    fn line(&self, sample: usize) -> Result<Image, String> {
        let (start, end) = (self.starts[sample], self.starts[sample + 1]);
        if end - start > MOST_BYTES {
            return Err(format!(
                "is a line of {} bytes, more than {MOST_BYTES}",
                end - start
            ));
        }
        let mut line = buffer::take((end - start) as usize);
        read_at(&self.file, &mut line, start).map_err(|error| reason(&error))?;
        let image = self.image(sample, trimmed(&line));
        buffer::give(line);
        image
    }

    fn image(&self, sample: usize, line: &[u8]) -> Result<Image, String> {
        if line.contains(&b'\n') {
            return Err("is several lines, so the `.lineidx` file belongs to another file".into());
        }
        let Some(tab) = line.iter().rposition(|&byte| byte == b'\t') else {
            return Err("has no tab, where columns are expected".into());
        };
        let (before, text) = (&line[..tab], &line[tab + 1..]);
        if !self.classes.is_empty() && self.labels[sample].is_none() {
            let Some(label) = before.split(|&byte| byte == b'\t').nth(1) else {
                return Err("has two columns and so no class".into());
            };
            let label = String::from_utf8_lossy(label);
            let shown: String = label.chars().take(40).collect();
            return Err(format!(
                "has `{}` in column 2, where a class from 0 to {} is expected",
                shown.escape_debug(),
                MOST_CLASSES - 1
            ));
        }
        let mut bytes = buffer::take(0);
        let decoded = match base64::decode(text, &mut bytes) {
            Ok(()) => decode::decode("", &bytes, self.orientation).map_err(|error| error.reason),
            Err(broken) => Err(format!("holds no image: its base64 is broken, {broken}")),
        };
        buffer::give(bytes);
        decoded
    }
}

/// A line without what ends it.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Reads the key and the class of the line from `start` to `end`.
///
/// # Errors
/// The file cannot be read, or, as invalid data, no line starts here.
fn head(file: &File, start: u64, end: u64) -> io::Result<Head> {
    let before = u64::from(start > 0);
    let mut bytes = [0; HEAD + 1];
    let length = (end - start).min(HEAD as u64);
    let bytes = &mut bytes[..(before + length) as usize];
    read_at(file, bytes, start - before)?;
    if before == 1 && bytes[0] != b'\n' {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let line = &bytes[before as usize..];
    let tabs = line.iter().filter(|&&byte| byte == b'\t').count();
    if tabs >= 2 || length == end - start {
        return Ok(Head::of(trimmed(line)));
    }
    let mut line = vec![0; (end - start).min(LONG_HEAD) as usize];
    read_at(file, &mut line, start)?;
    Ok(Head::of(trimmed(&line)))
}

impl Head {
    /// What a line tells of which at least the first two columns are given, if it has more.
    fn of(line: &[u8]) -> Self {
        let mut columns = line.split(|&byte| byte == b'\t');
        let key = String::from_utf8_lossy(columns.next().unwrap_or_default());
        let plain = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
        // A second column that is also the last is the image.
        let label = match (columns.next(), columns.next()) {
            (Some(label), Some(_)) => class(label),
            _ => None,
        };
        Self {
            key: key.chars().take(KEY).map(plain).collect(),
            label,
        }
    }
}

/// The class that column 2 holds, where it holds one.
fn class(label: &[u8]) -> Option<u32> {
    let label = std::str::from_utf8(label).ok()?.trim();
    label.parse().ok().filter(|&class| class < MOST_CLASSES)
}

/// Fills `bytes` from a place in a file; many threads may do so at once.
fn read_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, bytes, place);
    #[cfg(windows)]
    {
        let (mut bytes, mut place) = (bytes, place);
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(file, bytes, place)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => (bytes, place) = (&mut bytes[read..], place + read as u64),
            }
        }
        Ok(())
    }
}

impl Dataset for Tsv {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, sample: usize) -> Option<u32> {
        self.labels[sample]
    }

    fn name(&self, sample: usize) -> String {
        format!("{}:{} {}", self.name, sample + 1, self.key(sample))
    }

    fn load(&self, sample: usize) -> Result<Image, LoadError> {
        self.line(sample).map_err(|reason| LoadError {
            name: self.name(sample),
            reason,
        })
    }

    fn fingerprint(&self) -> Result<String, LoadError> {
        let fail = |error: io::Error| LoadError {
            name: self.path.display().to_string(),
            reason: reason(&error),
        };
        let mut hash = blake3::Hasher::new();
        let mut file = File::open(&self.path).map_err(fail)?;
        let mut part = vec![0; 1 << 20];
        loop {
            match file.read(&mut part).map_err(fail)? {
                0 => break,
                n => hash.update(&part[..n]),
            };
        }
        Ok(hash.finalize().to_hex().to_string())
    }
}

#[cfg(test)]
mod tests;
