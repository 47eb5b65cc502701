//! Files of weights: those of `torch.save`, and safetensors.
//!
//! A file of `torch.save` is a program for Python's unpickler. Nothing of it runs here: the few names that weights need
//! have a fixed meaning ([`torch`]), every other name is an error. Files come from anywhere, so that every promise a file
//! makes is checked against its size before memory is taken for it ([`torch::Limits`]).
//!
//! This crate knows bytes, names and shapes, no network: which key belongs to which parameter is decided elsewhere.

#![forbid(unsafe_code)]

pub mod array;
mod dtype;
mod error;
pub mod safetensors;
mod stranger;
pub mod torch;
pub mod zip;

pub use crate::array::Array;
pub use crate::dtype::Dtype;
pub use crate::error::{Error, Kind, visible};

use std::{fs::File, path::Path};

/// Opens a plain file for reading: a pipe or a device would block, or never end.
fn open(path: &Path) -> Result<File, Error> {
    let failed = |error| Error::disk("read", &error);
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::content("is no file").remedy("give the path of a file"));
    }
    File::open(path).map_err(failed)
}
