//! What a data set is.

use crate::image::Image;

/// Why a sample could not be read; names the file and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The file or record.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

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

    /// A name for a sample that a person can find it by, such as its path.
    fn name(&self, sample: usize) -> String;

    /// Reads and decodes a sample.
    ///
    /// # Errors
    /// The file is missing, damaged, too large or no image.
    fn load(&self, sample: usize) -> Result<Image, LoadError>;
}
