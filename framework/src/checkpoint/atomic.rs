//! Files that appear whole or not at all.
//!
//! The contents go to `<name>.partial` in the same folder, are synced, and take the final name by a rename; then the
//! folder is synced, because a rename that only the page cache knows does not survive a power cut. Whatever a killed
//! run left is a `.partial` file and is never read.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::failure::{Failure, disk};

const SUFFIX: &str = ".partial";

/// A file on its way to its name; dropped before [`finish`](Self::finish), it is removed.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    temporary: PathBuf,
    writer: Option<BufWriter<File>>,
}

impl Partial {
    /// Opens the temporary file for `path`, over one that an earlier run may have left.
    ///
    /// # Errors
    /// The folder is missing, full or not writable.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let mut name = path.file_name().map(OsString::from).unwrap_or_default();
        name.push(SUFFIX);
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).map_err(|error| disk("write", &temporary, &error))?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
            writer: Some(BufWriter::with_capacity(1 << 20, file)),
        })
    }

    /// Syncs the contents and gives the file its name.
    ///
    /// # Errors
    /// The disk is full or broken; what stood under the name before is untouched.
    pub fn finish(mut self) -> Result<(), Failure> {
        let writer = self.writer.take().expect("only `finish` takes the writer");
        let finished = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path))
            .and_then(|()| sync_folder(&self.path));
        finished.map_err(|error| {
            let _ = fs::remove_file(&self.temporary);
            disk("write", &self.path, &error)
        })
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.writer {
            Some(writer) => writer.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            drop(writer.into_parts());
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes `bytes` to `path`, whole or not at all.
///
/// # Errors
/// As [`Partial::create`] and [`Partial::finish`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut partial = Partial::create(path)?;
    partial
        .write_all(bytes)
        .map_err(|error| disk("write", path, &error))?;
    partial.finish()
}

/// Removes what killed runs left half-written in `folder`.
///
/// # Errors
/// The folder cannot be read or changed.
pub fn remove_partial(folder: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(folder).map_err(|error| disk("read", folder, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| disk("read", folder, &error))?;
        if entry.file_name().to_string_lossy().ends_with(SUFFIX) {
            let path = entry.path();
            fs::remove_file(&path).map_err(|error| disk("remove", &path, &error))?;
        }
    }
    Ok(())
}

/// Makes the names in the folder of `path` durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        // Other systems do not let a folder be opened, and need no such sync.
        Some(folder) if cfg!(unix) => {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            File::open(folder)?.sync_all()
        }
        _ => Ok(()),
    }
}
