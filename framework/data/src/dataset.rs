//! What a data set is.

use std::fmt;

use crate::image::Image;

pub mod cached;
pub mod cifar;
mod file;
pub mod folder;
pub mod idx;
pub mod tsv;
pub mod views;

/// Why a sample could not be read; names the file and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The file or record.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.name, self.reason)
    }
}

impl std::error::Error for LoadError {}

/// Why a data set could not be opened, and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// The file or folder.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}; {}", self.name, self.reason, self.remedy)
    }
}

impl std::error::Error for OpenError {}

/// A list of labelled images.
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of the classes, by label; empty where there are none.
    fn classes(&self) -> &[String];

    /// The class of a sample, where there are classes.
    fn label(&self, sample: usize) -> Option<u32>;

    /// A name for a sample that a person can find it by: its path within the set, so that logs and checkpoints are the
    /// same wherever the set lies.
    fn name(&self, sample: usize) -> String;

    /// Reads and decodes a sample.
    ///
    /// # Errors
    /// The file is missing, damaged, too large or no image.
    fn load(&self, sample: usize) -> Result<Image, LoadError>;

    /// Files of a sample: 1, or more where views of each image were written beside it.
    fn views(&self) -> usize {
        1
    }

    /// Reads and decodes file `view` of a sample; file 0 is the image itself, the others are as a network takes them.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    fn load_view(&self, sample: usize, view: usize) -> Result<Image, LoadError> {
        debug_assert_eq!(view, 0, "this set has one file a sample");
        self.load(sample)
    }

    /// A hash of what the set holds: equal for equal content, so that a run can say what it was trained on.
    ///
    /// This default hashes names, labels and decoded pixels; a set that knows its raw data hashes that instead. It
    /// takes as long as reading everything.
    ///
    /// # Errors
    /// A file cannot be read any more.
    fn fingerprint(&self) -> Result<String, LoadError> {
        let mut hash = blake3::Hasher::new();
        for sample in 0..self.len() {
            let label = self.label(sample).map_or(u64::MAX, u64::from);
            hash.update(self.name(sample).as_bytes());
            hash.update(&label.to_le_bytes());
            if let Ok(image) = self.load(sample) {
                hash.update(&(image.width as u64).to_le_bytes());
                hash.update(&image.pixels);
                image.recycle();
            }
        }
        Ok(hash.finalize().to_hex().to_string())
    }

    /// A text that changes when the content does: cheaper than the [`fingerprint`](Self::fingerprint) where the set knows
    /// something cheaper to tell by, such as sizes and times of its files. Equal content may have different stamps.
    ///
    /// # Errors
    /// A file cannot be looked at any more.
    fn stamp(&self) -> Result<String, LoadError> {
        self.fingerprint()
    }
}

/// The stamp of files by name, size and times of change.
///
/// The time of the last change of a file's state is set by the system alone, so that a file whose content is replaced has
/// another one even where its size and its time of modification are kept.
///
/// # Errors
/// A file is missing or cannot be looked at.
pub fn stamp_of_files(
    files: impl IntoIterator<Item = (String, std::path::PathBuf)>,
) -> Result<String, LoadError> {
    let mut hash = blake3::Hasher::new();
    for (name, path) in files {
        let about = std::fs::metadata(&path).map_err(|error| LoadError {
            name: name.clone(),
            reason: file::reason(&error),
        })?;
        hash.update(&(name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update(&about.len().to_le_bytes());
        for number in times(&about) {
            hash.update(&number.to_le_bytes());
        }
    }
    Ok(hash.finalize().to_hex().to_string())
}

/// The times of modification and of the last change of state, in seconds and nanoseconds.
#[cfg(unix)]
fn times(about: &std::fs::Metadata) -> [i64; 4] {
    use std::os::unix::fs::MetadataExt;
    [
        about.mtime(),
        about.mtime_nsec(),
        about.ctime(),
        about.ctime_nsec(),
    ]
}

/// The time of modification in seconds and nanoseconds.
#[cfg(not(unix))]
fn times(about: &std::fs::Metadata) -> [i64; 2] {
    let since = about.modified().ok().and_then(|time| {
        let since = time.duration_since(std::time::UNIX_EPOCH);
        since.ok()
    });
    since.map_or([0; 2], |since| {
        [since.as_secs() as i64, i64::from(since.subsec_nanos())]
    })
}

#[cfg(test)]
mod tests;
