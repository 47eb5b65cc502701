//! Whole data files, plain or gzipped, with their size checked against what their header claims.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;

use super::OpenError;

/// An open data file.
pub(super) struct DataFile {
    path: PathBuf,
    input: Box<dyn Read>,
    /// The most bytes that the content can have.
    bound: u64,
}

/// Deflate expands by at most this factor.
const DEFLATE: u64 = 1032;

impl DataFile {
    /// Opens a plain file, or a gzipped one, told apart by content.
    pub fn open(path: &Path, remedy: &'static str) -> Result<Self, OpenError> {
        let fail = |reason: String| OpenError {
            name: path.display().to_string(),
            reason,
            remedy,
        };
        let about = std::fs::metadata(path).map_err(|error| fail(reason(&error)))?;
        if !about.is_file() {
            return Err(fail("is not a plain file".into()));
        }
        let mut file = File::open(path).map_err(|error| fail(reason(&error)))?;
        let mut start = Vec::new();
        (&mut file)
            .take(2)
            .read_to_end(&mut start)
            .map_err(|error| fail(reason(&error)))?;
        let zipped = start == [0x1F, 0x8B];
        let whole = std::io::Cursor::new(start).chain(file);
        Ok(if zipped {
            Self {
                path: path.into(),
                input: Box::new(GzDecoder::new(std::io::BufReader::new(whole))),
                bound: about.len().saturating_mul(DEFLATE),
            }
        } else {
            Self {
                path: path.into(),
                input: Box::new(whole),
                bound: about.len(),
            }
        })
    }

    /// An error about this file.
    pub fn error(&self, reason: impl Into<String>, remedy: &'static str) -> OpenError {
        OpenError {
            name: self.path.display().to_string(),
            reason: reason.into(),
            remedy,
        }
    }

    /// Reads a header of `N` bytes.
    pub fn header<const N: usize>(&mut self) -> Result<[u8; N], OpenError> {
        let mut header = [0; N];
        self.input
            .read_exact(&mut header)
            .map_err(|_| self.error("ends within its header", FETCH))?;
        Ok(header)
    }

    /// Reads exactly `length` bytes up to the end of the file.
    ///
    /// `length` comes from the file itself: nothing is allocated for it before the file's size allows it.
    pub fn rest(mut self, length: u64) -> Result<Vec<u8>, OpenError> {
        if length > self.bound {
            return Err(self.error(
                format!("is too short for the {length} bytes that its header claims"),
                FETCH,
            ));
        }
        let mut content = Vec::new();
        let read = (&mut self.input).take(length + 1).read_to_end(&mut content);
        if let Err(error) = read {
            return Err(self.error(format!("is damaged: {error}"), FETCH));
        }
        match content.len() as u64 {
            n if n == length => Ok(content),
            n if n < length => Err(self.error(
                format!("has {n} bytes of data where its header claims {length}"),
                FETCH,
            )),
            _ => Err(self.error("goes on after the data that its header claims", FETCH)),
        }
    }

    /// Reads everything.
    pub fn all(mut self, most: u64) -> Result<Vec<u8>, OpenError> {
        let mut content = Vec::new();
        let read = (&mut self.input).take(most + 1).read_to_end(&mut content);
        if let Err(error) = read {
            return Err(self.error(format!("is damaged: {error}"), FETCH));
        }
        if content.len() as u64 > most {
            return Err(self.error(format!("has more than {most} bytes"), FETCH));
        }
        Ok(content)
    }
}

/// The remedy for a damaged file.
pub(super) const FETCH: &str = "fetch the file again";

/// A system error in few words.
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".into(),
        std::io::ErrorKind::PermissionDenied => "may not be read".into(),
        _ => error.to_string(),
    }
}

/// The last part of a path, for the names of samples.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
