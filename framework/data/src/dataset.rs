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
}

#[cfg(test)]
mod tests;
