//! A data set for tests that names samples and can read none.

use smallfry_data::{Dataset, Image, LoadError};

/// Samples `0.png`, `1.png` and so on.
pub(crate) struct Unread {
    classes: Vec<String>,
    labels: Vec<Option<u32>>,
    stamp: &'static str,
}

impl Unread {
    /// As many samples as `labels` has, of `classes`.
    pub fn new(classes: &[&str], labels: &[Option<u32>]) -> Self {
        Self {
            classes: classes.iter().map(|&class| class.to_owned()).collect(),
            labels: labels.to_vec(),
            stamp: "",
        }
    }

    /// As many samples without classes, whose stamp is given.
    pub fn stamped(samples: usize, stamp: &'static str) -> Self {
        Self {
            stamp,
            ..Self::new(&[], &vec![None; samples])
        }
    }
}

impl Dataset for Unread {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, sample: usize) -> Option<u32> {
        self.labels[sample]
    }

    fn name(&self, sample: usize) -> String {
        format!("{sample}.png")
    }

    fn load(&self, sample: usize) -> Result<Image, LoadError> {
        Err(LoadError {
            name: self.name(sample),
            reason: "is not there".to_owned(),
        })
    }

    fn stamp(&self) -> Result<String, LoadError> {
        Ok(self.stamp.to_owned())
    }
}
