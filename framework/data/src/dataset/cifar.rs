//! The binary version of CIFAR-10 and CIFAR-100.
//!
//! A record is one label byte (CIFAR-100: a coarse and a fine one) and 3072 bytes of pixels, one plane a channel. There
//! is no header, so the only checks are the length, a multiple of a record's, and the range of the labels.

use std::path::{Path, PathBuf};

use super::{
    Dataset, LoadError, OpenError,
    file::{DataFile, FETCH, file_name},
};
use crate::image::Image;

/// Side of an image.
const SIDE: usize = 32;

/// Pixels of an image.
const PIXELS: usize = SIDE * SIDE;

/// The most bytes of one file; the largest of the published ones has a seventh of it.
const MOST_BYTES: u64 = 1 << 30;

/// The remedy for a missing file.
const WHERE: &str = "give the folder that the binary version of the set was unpacked to";

/// Which of the two sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ten classes.
    Cifar10,
    /// A hundred classes in twenty groups; the fine label is used.
    Cifar100,
}

impl Kind {
    /// Bytes of labels before the pixels; the last of them is used.
    fn labels(self) -> usize {
        match self {
            Kind::Cifar10 => 1,
            Kind::Cifar100 => 2,
        }
    }

    /// The files of a split.
    fn files(self, train: bool) -> &'static [&'static str] {
        match (self, train) {
            (Kind::Cifar10, true) => &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            (Kind::Cifar10, false) => &["test_batch.bin"],
            (Kind::Cifar100, true) => &["train.bin"],
            (Kind::Cifar100, false) => &["test.bin"],
        }
    }

    /// The file with the names of the classes, and how many there are.
    fn names(self) -> (&'static str, usize) {
        match self {
            Kind::Cifar10 => ("batches.meta.txt", 10),
            Kind::Cifar100 => ("fine_label_names.txt", 100),
        }
    }
}

/// A split of CIFAR, held in memory.
#[derive(Clone, Debug)]
pub struct Cifar {
    kind: Kind,
    classes: Vec<String>,
    /// Name and number of records of each file.
    files: Vec<(PathBuf, usize)>,
    records: Vec<u8>,
}

impl Cifar {
    /// Reads the training or the test split from the folder of the binary files.
    ///
    /// Files of the training split may be missing at the end, as in subsets, but not the first.
    ///
    /// # Errors
    /// A file is missing or of another length or holds labels that there are not.
    pub fn open(folder: &Path, kind: Kind, train: bool) -> Result<Self, OpenError> {
        let size = kind.labels() + 3 * PIXELS;
        let (names, count) = kind.names();
        let mut files = Vec::new();
        let mut records = Vec::new();
        for (at, name) in kind.files(train).iter().enumerate() {
            let path = folder.join(name);
            if at > 0 && !path.exists() {
                break;
            }
            let file = DataFile::open(&path, WHERE)?;
            let error = |reason: String| OpenError {
                name: path.display().to_string(),
                reason,
                remedy: FETCH,
            };
            let content = file.all(MOST_BYTES)?;
            if content.is_empty() || content.len() % size != 0 {
                return Err(error(format!(
                    "has {} bytes, which is no multiple of the {size} of a record",
                    content.len()
                )));
            }
            let label = |record: &[u8]| usize::from(record[kind.labels() - 1]);
            if let Some(at) = content.chunks_exact(size).position(|r| label(r) >= count) {
                let wrong = label(&content[at * size..]);
                return Err(error(format!(
                    "has the label {wrong} in record {at}, where labels end at {}",
                    count - 1
                )));
            }
            files.push((path.clone(), content.len() / size));
            records.extend_from_slice(&content);
        }
        let named = std::fs::read_to_string(folder.join(names)).unwrap_or_default();
        let mut classes: Vec<String> = named
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        if classes.len() != count {
            classes = (0..count).map(|class| class.to_string()).collect();
        }
        Ok(Self {
            kind,
            classes,
            files,
            records,
        })
    }

    fn record(&self, sample: usize) -> &[u8] {
        let size = self.kind.labels() + 3 * PIXELS;
        &self.records[sample * size..(sample + 1) * size]
    }
}

impl Dataset for Cifar {
    fn len(&self) -> usize {
        self.files.iter().map(|(_, records)| records).sum()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, sample: usize) -> Option<u32> {
        Some(u32::from(self.record(sample)[self.kind.labels() - 1]))
    }

    fn name(&self, sample: usize) -> String {
        let mut record = sample;
        for (path, records) in &self.files {
            if record < *records {
                return format!("{}#{record}", file_name(path));
            }
            record -= records;
        }
        format!("#{sample}")
    }

    fn load(&self, sample: usize) -> Result<Image, LoadError> {
        let planes = &self.record(sample)[self.kind.labels()..];
        let mut image = Image::scratch(SIDE, SIDE);
        for (i, pixel) in image.pixels.chunks_exact_mut(3).enumerate() {
            for (c, value) in pixel.iter_mut().enumerate() {
                *value = planes[c * PIXELS + i];
            }
        }
        Ok(image)
    }

    fn fingerprint(&self) -> Result<String, LoadError> {
        Ok(blake3::hash(&self.records).to_hex().to_string())
    }
}
