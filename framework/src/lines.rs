//! Files of JSON objects, one a line.

use std::{fs, io, path::Path};

use serde::Deserialize;

use crate::failure::{Failure, disk};

/// The lines of the file at `path` that can be read; none where there is no file.
///
/// # Errors
/// The file exists but cannot be read.
pub fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>, Failure> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|error| disk("read", path, &error))?,
    };
    let lines = text.lines();
    Ok(lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}
