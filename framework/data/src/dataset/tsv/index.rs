//! Where the lines of a tab-separated file start: its `.lineidx` file, one decimal number a line.
//!
//! A missing index is made and put beside the file, whole or not at all, so that other programs find it too; where the
//! folder cannot be written it is made anew each time. An index that cannot be the file's is never overwritten: it may
//! be another program's, and the file the wrong one.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use super::{
    super::{
        OpenError,
        file::{FETCH, reason},
    },
    read_at,
};

/// Bytes read at a time.
const PART: usize = 1 << 20;

/// Where each line of the file at `path`, of `length` bytes, starts, and at last the file's length.
///
/// # Errors
/// The file cannot be read, or it has an index that cannot be its own.
pub(super) fn read_or_make(path: &Path, file: &File, length: u64) -> Result<Vec<u64>, OpenError> {
    let place = path.with_extension("lineidx");
    let fail = |path: &Path, error: &io::Error, remedy| OpenError {
        name: path.display().to_string(),
        reason: reason(error),
        remedy,
    };
    let starts = match fs::metadata(&place) {
        Ok(about) if about.is_file() => {
            let opened = File::open(&place).map_err(|error| fail(&place, &error, REMOVE))?;
            let starts = read(BufReader::new(opened), length)
                .map_err(|error| fail(&place, &error, REMOVE))?
                .ok_or_else(|| foreign(path))?;
            let last = *starts.last().unwrap_or(&length);
            if starts.is_empty() != (length == 0) || more_lines(file, last, length) {
                return Err(foreign(path));
            }
            starts
        }
        Ok(_) => return Err(foreign(path)),
        Err(_) => {
            let starts = make(file, length).map_err(|error| fail(path, &error, FETCH))?;
            // Without it only time is lost.
            let _ = write(&place, &starts);
            starts
        }
    };
    Ok(starts.into_iter().chain([length]).collect())
}

/// What to do about an index that does not fit.
const REMOVE: &str = "remove it, and it is made again";

/// The refusal of an index that belongs to another file than `path`.
pub(super) fn foreign(path: &Path) -> OpenError {
    OpenError {
        name: path.with_extension("lineidx").display().to_string(),
        reason: format!("does not say where the lines of `{}` start", path.display()),
        remedy: REMOVE,
    }
}

/// Reads numbers that rise from 0 and stay below `length`; none if they do not.
fn read(index: impl BufRead, length: u64) -> io::Result<Option<Vec<u64>>> {
    let mut starts: Vec<u64> = Vec::new();
    let mut number: Option<u64> = None;
    for byte in index.bytes().chain([Ok(b'\n')]) {
        match byte? {
            digit @ b'0'..=b'9' => {
                let tens = number.unwrap_or(0).checked_mul(10);
                number = tens.and_then(|tens| tens.checked_add(u64::from(digit - b'0')));
                if number.is_none_or(|number| number >= length) {
                    return Ok(None);
                }
            }
            b'\n' => {
                let Some(start) = number.take() else {
                    continue;
                };
                let rises = starts.last().map_or(start == 0, |&last| start > last);
                if !rises {
                    return Ok(None);
                }
                starts.push(start);
            }
            b'\r' => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(starts))
}

/// Bytes of the last line that are searched for another one; if it is longer, loading it searches the rest.
const SEARCHED: u64 = 1 << 24;

/// Whether a line ends soon after `start` and before the end of the file, or nothing can be read there.
fn more_lines(file: &File, start: u64, length: u64) -> bool {
    let length = length.min(start + SEARCHED);
    let mut part = vec![0; PART.min((length - start) as usize)];
    let mut at = start;
    // The last byte may end the last line.
    while at + 1 < length {
        let size = (part.len() as u64).min(length - 1 - at) as usize;
        let part = &mut part[..size];
        if read_at(file, part, at).is_err() || part.contains(&b'\n') {
            return true;
        }
        at += size as u64;
    }
    false
}

/// Finds where lines start.
fn make(file: &File, length: u64) -> io::Result<Vec<u64>> {
    let mut starts = Vec::new();
    if length > 0 {
        starts.push(0);
    }
    let mut part = vec![0; PART];
    let mut at = 0;
    while at < length {
        let size = (PART as u64).min(length - at) as usize;
        read_at(file, &mut part[..size], at)?;
        let ends = part[..size].iter().enumerate();
        for (i, _) in ends.filter(|(_, byte)| **byte == b'\n') {
            let next = at + i as u64 + 1;
            if next < length {
                starts.push(next);
            }
        }
        at += size as u64;
    }
    Ok(starts)
}

/// Writes an index under another name and renames it, so that nobody finds a part of one.
fn write(place: &Path, starts: &[u64]) -> io::Result<()> {
    let partial: PathBuf = place.with_extension(format!("lineidx.{}.partial", std::process::id()));
    let written = (|| {
        let file = File::create_new(&partial)?;
        let mut out = BufWriter::new(file);
        for start in starts {
            writeln!(out, "{start}")?;
        }
        out.into_inner()?.sync_all()?;
        fs::rename(&partial, place)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}
