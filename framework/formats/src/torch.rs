//! Files of `torch.save`.
//!
//! [`read`] gives the value that was saved, made of plain containers and arrays. What PyTorch tells apart but weights do
//! not need is dropped: a parameter is an array, strides and shared storages are resolved, `_metadata` of a state dict,
//! devices of storages and hooks are gone. [`write()`] writes the layout that `torch.load` reads with
//! `weights_only=True`.

mod value;

pub use value::Value;

use std::{
    io::{self, Write},
    path::Path,
};

use crate::error::Error;

/// How much a file may ask for.
///
/// Whatever a file holds, reading it takes memory of the order of `expansion` times its size plus `allowance`, plus
/// about 200 bytes for each of `cells`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest pickle, in bytes; tensors lie outside it.
    pub pickle_bytes: u64,
    /// Most values, container elements and tensor dimensions together.
    pub cells: usize,
    /// Deepest nesting of containers.
    pub depth: usize,
    /// All arrays and texts together may take this many times the bytes of the file, plus `allowance`. Expanded
    /// tensors (stride 0) are larger than what is stored of them.
    pub expansion: u64,
    /// See `expansion`; in bytes.
    pub allowance: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pickle_bytes: 64 << 20,
            cells: 2_000_000,
            depth: 100,
            expansion: 4,
            allowance: 64 << 20,
        }
    }
}

/// Reads the value saved in the file at `path`.
///
/// # Errors
/// The file cannot be read, is damaged, is no file of `torch.save`, names code, or asks for more than `limits`.
pub fn read(path: &Path, limits: &Limits) -> Result<Value, Error> {
    let bytes = std::fs::read(path).map_err(|e| Error::disk("read", &e).at(path))?;
    read_bytes(&bytes, limits).map_err(|e| e.at(path))
}

/// Reads the value saved in a file with this content.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(_bytes: &[u8], _limits: &Limits) -> Result<Value, Error> {
    Err(Error::content("is of a kind that is not read"))
}

/// Writes `value` as `torch.save` of PyTorch 1.6 and later would; the same value gives the same bytes.
///
/// `archive_name` is the folder inside the container; PyTorch takes the file's name without its ending.
///
/// # Errors
/// Writing fails, or `value` holds something that does not fit the format.
pub fn write(_value: &Value, _archive_name: &str, _out: &mut impl Write) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}
