//! A folder of class folders of image files, or of image files without classes.
//!
//! Classes and files are sorted by name, as in torchvision's `ImageFolder`, so that labels and sample numbers are the
//! same on every machine. Only the names decide what belongs to the set; whether a file is an image shows when it is
//! loaded.

use std::{
    ffi::OsStr,
    io::Read,
    path::{Path, PathBuf},
};

use super::{Dataset, LoadError, OpenError, file::reason, stamp_of_files};
use crate::{
    decode::{self, Orientation},
    image::Image,
};

/// File name extensions of images, compared without case; those of torchvision whose format can be decoded.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp", "gif"];

/// Levels of folders below a class folder that are searched.
const DEEPEST: usize = 32;

/// Images in one folder a class, or without classes.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    /// Path below the root and label of each sample; the labels say nothing where there are no classes.
    samples: Vec<(PathBuf, u32)>,
    orientation: Orientation,
}

impl ImageFolder {
    /// Lists the images of a folder: every folder in it is a class, every image file in or below that a sample. A
    /// folder that holds images and no folders is a set without classes.
    ///
    /// # Errors
    /// The folder is missing, has neither class folders nor images, or a class has no images.
    pub fn open(root: &Path, orientation: Orientation) -> Result<Self, OpenError> {
        let fail = |path: &Path, reason: String, remedy| OpenError {
            name: path.display().to_string(),
            reason,
            remedy,
        };
        let mut folders: Vec<PathBuf> = entries(root)?
            .into_iter()
            .filter(|path| path.is_dir())
            .collect();
        folders.sort();
        if folders.is_empty() {
            let flat = Self::without_classes(root, orientation);
            return flat.map_err(|error| OpenError {
                reason: "holds neither class folders nor images".into(),
                remedy: "put the images of each class into a folder of its own in it",
                ..error
            });
        }
        let mut classes = Vec::with_capacity(folders.len());
        let mut samples = Vec::new();
        for (label, folder) in folders.iter().enumerate() {
            let before = samples.len();
            let mut files = Vec::new();
            list(folder, DEEPEST, &mut files)?;
            files.sort();
            for file in files {
                let below = file.strip_prefix(root).unwrap_or(&file).to_path_buf();
                samples.push((below, label as u32));
            }
            if samples.len() == before {
                return Err(fail(
                    folder,
                    format!("is a class without images ({})", EXTENSIONS.join(", ")),
                    "add images to it or remove the folder",
                ));
            }
            let name = folder.file_name().unwrap_or(OsStr::new(""));
            classes.push(name.to_string_lossy().into_owned());
        }
        Ok(Self {
            root: root.into(),
            classes,
            samples,
            orientation,
        })
    }

    /// Lists every image file in and below a folder, sorted by path; there are no classes.
    ///
    /// # Errors
    /// The folder is missing or has no images.
    pub fn without_classes(root: &Path, orientation: Orientation) -> Result<Self, OpenError> {
        let mut files = Vec::new();
        list(root, DEEPEST, &mut files)?;
        files.sort();
        if files.is_empty() {
            return Err(OpenError {
                name: root.display().to_string(),
                reason: format!("holds no images ({})", EXTENSIONS.join(", ")),
                remedy: "give the path of a folder with image files in or below it",
            });
        }
        let below = |file: PathBuf| (file.strip_prefix(root).unwrap_or(&file).to_path_buf(), 0);
        Ok(Self {
            root: root.into(),
            classes: Vec::new(),
            samples: files.into_iter().map(below).collect(),
            orientation,
        })
    }

    /// The path of a sample.
    pub fn path(&self, sample: usize) -> PathBuf {
        self.root.join(&self.samples[sample].0)
    }
}

/// The entries of a folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let fail = |error: std::io::Error| OpenError {
        name: folder.display().to_string(),
        reason: reason(&error),
        remedy: "give the path of a folder with one folder of images a class",
    };
    std::fs::read_dir(folder)
        .map_err(fail)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(fail))
        .collect()
}

/// Appends the image files in and below a folder.
fn list(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), OpenError> {
    for path in entries(folder)? {
        let image = path.extension().is_some_and(|extension| {
            EXTENSIONS
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        });
        if image {
            // A folder with the name of an image is one of the set's mistakes and shows when it is loaded.
            files.push(path);
        } else if depth > 0 && path.is_dir() {
            list(&path, depth - 1, files)?;
        }
    }
    Ok(())
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, sample: usize) -> Option<u32> {
        (!self.classes.is_empty()).then(|| self.samples[sample].1)
    }

    fn name(&self, sample: usize) -> String {
        self.samples[sample].0.display().to_string()
    }

    fn load(&self, sample: usize) -> Result<Image, LoadError> {
        decode::read(&self.path(sample), self.orientation).map_err(|error| LoadError {
            name: self.name(sample),
            ..error
        })
    }

    fn stamp(&self) -> Result<String, LoadError> {
        stamp_of_files((0..self.len()).map(|sample| (self.name(sample), self.path(sample))))
    }

    fn fingerprint(&self) -> Result<String, LoadError> {
        let mut hash = blake3::Hasher::new();
        let mut part = vec![0; 1 << 16];
        for (sample, (below, _)) in self.samples.iter().enumerate() {
            let name = below.as_os_str().as_encoded_bytes();
            hash.update(&(name.len() as u64).to_le_bytes());
            hash.update(name);
            let path = self.path(sample);
            let fail = |error: std::io::Error| LoadError {
                name: path.display().to_string(),
                reason: reason(&error),
            };
            let about = std::fs::metadata(&path).map_err(fail)?;
            if !about.is_file() {
                hash.update(&u64::MAX.to_le_bytes());
                continue;
            }
            hash.update(&about.len().to_le_bytes());
            let mut file = std::fs::File::open(&path).map_err(fail)?;
            loop {
                match file.read(&mut part).map_err(fail)? {
                    0 => break,
                    n => hash.update(&part[..n]),
                };
            }
        }
        Ok(hash.finalize().to_hex().to_string())
    }
}
