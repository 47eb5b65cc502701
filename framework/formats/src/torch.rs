//! Files of `torch.save`.
//!
//! [`read`] gives the value that was saved, made of plain containers and arrays. What PyTorch tells apart but weights do
//! not need is dropped: a parameter is an array, strides and shared storages are resolved, `_metadata` of a state dict,
//! devices of storages and hooks are gone. [`write()`] writes the layout that `torch.load` reads with
//! `weights_only=True`.

mod assemble;
mod call;
mod global;
mod graph;
mod input;
mod legacy;
mod modern;
mod numpy;
mod pickle;
mod tensor;
mod value;
mod write;

pub use value::Value;

use std::{
    io::{self, Cursor, Read, Seek, Write},
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
    /// Deepest nesting of containers, at most 1000.
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
    let file = crate::open(path).map_err(|e| e.at(path))?;
    read_from(file, limits).map_err(|e| e.at(path))
}

/// Reads the value saved in a file with this content.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], limits: &Limits) -> Result<Value, Error> {
    read_from(Cursor::new(bytes), limits)
}

fn read_from(mut source: impl Read + Seek, limits: &Limits) -> Result<Value, Error> {
    let length = crate::zip::length(&mut source)?;
    let start = crate::zip::read_at(&mut source, 0, length.min(512))?;
    source.rewind().map_err(|e| Error::disk("read", &e))?;
    match Container::of(&start) {
        Container::Zip => modern::read(source, limits),
        Container::Pickles => legacy::read(source, length, limits),
        Container::Foreign(problem, remedy) => Err(Error::content(problem).remedy(remedy)),
    }
}

/// What a file is by its first bytes.
enum Container {
    Zip,
    Pickles,
    /// Another kind of file: what it is, and what to do.
    Foreign(&'static str, &'static str),
}

impl Container {
    fn of(start: &[u8]) -> Self {
        let again = "fetch it again, and check that its size is what it should be";
        let safetensors = start.len() > 8 && start[8] == b'{' && start[6..8] == [0, 0];
        let text = start.trim_ascii_start();
        match start {
            [] => Self::Foreign("is empty", again),
            _ if start.starts_with(b"PK\x03\x04") => Self::Zip,
            // Protocol 2 and later; before that, pickles have no mark of their own.
            [0x80, ..] => Self::Pickles,
            _ if start.get(257..262) == Some(b"ustar") => Self::Foreign(
                "is of the layout of PyTorch before 0.2, an archive of `tar`, which is not read",
                "load it with a PyTorch of its time and save it again",
            ),
            [0x1f, 0x8b, ..] => Self::Foreign("is compressed with gzip", "unpack it first"),
            _ if safetensors => Self::Foreign(
                "is a safetensors file, not one of `torch.save`",
                "give it the ending `.safetensors`",
            ),
            _ if text.starts_with(b"version https://git-lfs") => Self::Foreign(
                "is a pointer of Git LFS, not the file itself",
                "fetch the file with `git lfs pull`",
            ),
            _ if text.starts_with(b"<") => Self::Foreign("is a web page, not weights", again),
            _ => Self::Foreign(
                "does not start like a file of `torch.save`",
                "give a file that `torch.save` wrote, or a safetensors file",
            ),
        }
    }
}

/// Writes `value` as `torch.save` of PyTorch 1.6 and later would; the same value gives the same bytes.
///
/// `archive_name` is the folder inside the container; PyTorch takes the file's name without its ending. Every array
/// gets a storage of its own, on the processor.
///
/// # Errors
/// Writing fails, or `value` holds something that does not fit the format: an array whose bytes are not those of its
/// shape, or an integer of more than 255 bytes.
pub fn write(value: &Value, archive_name: &str, out: &mut impl Write) -> io::Result<()> {
    write::write(value, archive_name, out)
}
