//! A folder of static views: `<class>/<name>-<number>.jpeg`, the image itself as number 0 and its views from 1 on.
//!
//! What stands before the first `-` of a file's name is the image, so names have none; every image must have every file that
//! a selection takes. Sets of the published script are read as well as those of this program. What a run will write
//! is listed by [`StaticViews::planned`] before it is there; its files are only looked for when they are loaded.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Dataset, LoadError, OpenError, file::reason};
use crate::{
    decode::{self, Orientation},
    image::Image,
    statics::Listing,
};

/// Files of an image in a set with masked views.
const MOST_FILES: usize = 11;

/// Which files of an image are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// The image and its two views.
    #[default]
    Normal,
    /// The image and its views with noise over what they share.
    GMask,
    /// The image and its views with as much noise elsewhere.
    RandGMask,
    /// The image and its views with the mean colour over what they share.
    AvgMask,
    /// The image and its views with as much of the mean colour elsewhere.
    RandAvgMask,
    /// All eleven.
    All,
}

impl Selection {
    /// Numbers of the files, that of the image first.
    pub fn files(self) -> &'static [usize] {
        match self {
            Self::Normal => &[0, 1, 2],
            Self::GMask => &[0, 3, 4],
            Self::RandGMask => &[0, 5, 6],
            Self::AvgMask => &[0, 7, 8],
            Self::RandAvgMask => &[0, 9, 10],
            Self::All => &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        }
    }
}

/// Images with views of each.
#[derive(Clone, Debug)]
pub struct StaticViews {
    root: PathBuf,
    classes: Vec<String>,
    /// Class and name of each image, sorted.
    samples: Vec<(u32, String)>,
    files: &'static [usize],
}

/// What a remedy says where a set is not one.
const WRITE: &str = "give the folder that a stage `Views` or the reference's `sample-augs` wrote";

impl StaticViews {
    /// Lists the images of a folder of class folders.
    ///
    /// # Errors
    /// The folder is missing or has no class folders, a class has no images, a name has another `-`, or a file that the
    /// selection takes is missing.
    pub fn open(root: &Path, selection: Selection) -> Result<Self, OpenError> {
        let mut set = Self {
            root: root.into(),
            classes: Vec::new(),
            samples: Vec::new(),
            files: selection.files(),
        };
        let mut folders = names(root)?;
        folders.retain(|name| !name.starts_with('.') && root.join(name).is_dir());
        if folders.is_empty() {
            return Err(refuse(root, "has no class folders", WRITE));
        }
        for (label, class) in (0..).zip(folders) {
            let folder = root.join(&class);
            let images = images(&folder)?;
            if images.is_empty() {
                let reason = "is a class without images named like `name-0.jpeg`";
                return Err(refuse(&folder, reason, WRITE));
            }
            for (name, found) in images {
                let missing = set.files.iter().find(|&&file| !found[file]);
                if let Some(&file) = missing {
                    let path = folder.join(file_name(&name, file));
                    let remedy = match file {
                        0..3 => "write the set again",
                        _ => {
                            "write the set in a mode with masked views (`SuperHard`, `Hard`, `Easy`), or read the mode `Normal`"
                        }
                    };
                    let reason = format!("does not exist, but other files of `{name}` do");
                    return Err(refuse(&path, reason, remedy));
                }
                set.samples.push((label, name));
            }
            set.classes.push(class);
        }
        Ok(set)
    }

    /// The images of `listing` with their two views, as they will lie in `root`.
    pub fn planned(root: &Path, listing: &Listing) -> Self {
        // A class without images gets no folder, and would not be found again.
        let used = |class: &usize| listing.samples.iter().any(|sample| sample.class == *class);
        let used: Vec<usize> = (0..listing.classes.len()).filter(used).collect();
        let label = |class| used.binary_search(&class).unwrap_or(0) as u32;
        let samples = listing.samples.iter();
        Self {
            root: root.into(),
            classes: used
                .iter()
                .map(|&class| listing.classes[class].clone())
                .collect(),
            samples: samples
                .map(|sample| (label(sample.class), sample.name.clone()))
                .collect(),
            files: Selection::Normal.files(),
        }
    }

    /// The path of view `view` of a sample.
    pub fn path(&self, sample: usize, view: usize) -> PathBuf {
        let (label, name) = &self.samples[sample];
        let class = &self.classes[*label as usize];
        self.root
            .join(class)
            .join(file_name(name, self.files[view]))
    }
}

fn file_name(name: &str, file: usize) -> String {
    format!("{name}-{file}.jpeg")
}

fn refuse(path: &Path, reason: impl Into<String>, remedy: &'static str) -> OpenError {
    OpenError {
        name: path.display().to_string(),
        reason: reason.into(),
        remedy,
    }
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, OpenError> {
    let fail = |error: std::io::Error| refuse(folder, reason(&error), WRITE);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        names.push(name.into_string().map_err(|name| {
            let path = folder.join(name);
            refuse(&path, "has a name that is no text", "rename it")
        })?);
    }
    names.sort();
    Ok(names)
}

/// The images of a class folder with the files that there are of each.
fn images(folder: &Path) -> Result<BTreeMap<String, [bool; MOST_FILES]>, OpenError> {
    let mut images = BTreeMap::new();
    for name in names(folder)? {
        // Other files may lie beside; a picture that is none of a set shows that the folder is another kind of set.
        let Some(stem) = name.strip_suffix(".jpeg") else {
            if [".jpg", ".JPG", ".JPEG", ".png", ".webp"]
                .iter()
                .any(|other| name.ends_with(other))
            {
                let reason = "is not named like `name-0.jpeg`";
                return Err(refuse(&folder.join(name), reason, WRITE));
            }
            continue;
        };
        let (image, number) = stem.split_once('-').unwrap_or((stem, ""));
        let number = match number.parse::<usize>() {
            Ok(file) if file < MOST_FILES && number == file.to_string() => file,
            _ => {
                let reason = match stem.matches('-').count() {
                    0 | 1 => "is not named like `name-0.jpeg`, with a number up to 10",
                    _ => {
                        "has more than one `-` in its name, but the first one ends an image's name"
                    }
                };
                return Err(refuse(
                    &folder.join(&name),
                    reason,
                    "rename all files of the image",
                ));
            }
        };
        images
            .entry(image.to_owned())
            .or_insert([false; MOST_FILES])[number] = true;
    }
    Ok(images)
}

impl Dataset for StaticViews {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, sample: usize) -> Option<u32> {
        Some(self.samples[sample].0)
    }

    fn name(&self, sample: usize) -> String {
        let (label, name) = &self.samples[sample];
        format!("{}/{name}", self.classes[*label as usize])
    }

    fn load(&self, sample: usize) -> Result<Image, LoadError> {
        self.load_view(sample, 0)
    }

    fn views(&self) -> usize {
        self.files.len()
    }

    fn load_view(&self, sample: usize, view: usize) -> Result<Image, LoadError> {
        decode::read(&self.path(sample, view), Orientation::AsStored).map_err(|error| LoadError {
            name: file_name(&self.name(sample), self.files[view]),
            ..error
        })
    }

    fn stamp(&self) -> Result<String, LoadError> {
        let places =
            (0..self.len()).flat_map(|sample| (0..self.views()).map(move |view| (sample, view)));
        super::stamp_of_files(places.map(|(sample, view)| {
            let name = file_name(&self.name(sample), self.files[view]);
            (name, self.path(sample, view))
        }))
    }

    fn fingerprint(&self) -> Result<String, LoadError> {
        let mut hash = blake3::Hasher::new();
        let mut part = vec![0; 1 << 16];
        for sample in 0..self.len() {
            for (view, &file) in self.files.iter().enumerate() {
                let name = file_name(&self.name(sample), file);
                let fail = |error: std::io::Error| LoadError {
                    name: name.clone(),
                    reason: reason(&error),
                };
                let path = self.path(sample, view);
                let about = std::fs::metadata(&path).map_err(fail)?;
                let mut content = File::open(&path).map_err(fail)?;
                hash.update(&(name.len() as u64).to_le_bytes());
                hash.update(name.as_bytes());
                hash.update(&about.len().to_le_bytes());
                loop {
                    match content.read(&mut part).map_err(fail)? {
                        0 => break,
                        n => hash.update(&part[..n]),
                    };
                }
            }
        }
        Ok(hash.finalize().to_hex().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::jpeg;

    /// A folder of empty files, and the refusal of opening it or the names of its samples.
    fn open(files: &[&str], selection: Selection) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        match StaticViews::open(folder.path(), selection) {
            Ok(set) => (0..set.len()).map(|sample| set.name(sample)).collect(),
            Err(error) => {
                let root = format!("{}/", folder.path().display());
                vec![format!(
                    "`{}` {}",
                    error.name.replace(&root, ""),
                    error.reason
                )]
            }
        }
    }

    #[test]
    fn sets_are_listed_or_refused() {
        let whole = [
            "b/x-0.jpeg",
            "b/x-1.jpeg",
            "b/x-2.jpeg",
            "a/y_1-0.jpeg",
            "a/y_1-1.jpeg",
        ];
        let listed = [
            &whole[..],
            &["a/y_1-2.jpeg", "a/notes.txt", "manifest.jsonl"],
        ]
        .concat();
        assert_eq!(open(&listed, Selection::Normal), ["a/y_1", "b/x"]);
        for (files, selection, expected) in [
            (
                &whole[..],
                Selection::Normal,
                "`a/y_1-2.jpeg` does not exist, but other files of `y_1` do",
            ),
            (
                &listed,
                Selection::GMask,
                "`a/y_1-3.jpeg` does not exist, but other files of `y_1` do",
            ),
            (
                &["a/x-y-0.jpeg"],
                Selection::Normal,
                "`a/x-y-0.jpeg` has more than one `-` in its name, but the first one ends an image's name",
            ),
            (
                &["a/x-11.jpeg"],
                Selection::Normal,
                "`a/x-11.jpeg` is not named like `name-0.jpeg`, with a number up to 10",
            ),
            (
                &["a/x.JPEG"],
                Selection::Normal,
                "`a/x.JPEG` is not named like `name-0.jpeg`",
            ),
            (
                &["a/notes.txt"],
                Selection::Normal,
                "`a` is a class without images named like `name-0.jpeg`",
            ),
        ] {
            assert_eq!(open(files, selection), [expected]);
        }
        let empty = &open(&["notes.txt"], Selection::Normal)[0];
        assert!(empty.ends_with("has no class folders"), "{empty}");
        let missing = StaticViews::open(Path::new("/no/such/folder"), Selection::Normal);
        assert_eq!(missing.unwrap_err().reason, "does not exist");
    }

    #[test]
    fn views_are_those_of_the_selection() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        for file in 0..MOST_FILES {
            let picture = jpeg(&Image::black(8 + file, 8));
            std::fs::write(folder.path().join(format!("a/x-{file}.jpeg")), picture).unwrap();
        }
        let mut prints = Vec::new();
        for selection in [
            Selection::Normal,
            Selection::GMask,
            Selection::RandGMask,
            Selection::AvgMask,
            Selection::RandAvgMask,
            Selection::All,
        ] {
            let set = StaticViews::open(folder.path(), selection).unwrap();
            assert_eq!(set.views(), selection.files().len());
            for (view, file) in selection.files().iter().enumerate() {
                assert_eq!(set.load_view(0, view).unwrap().width, 8 + file);
            }
            assert_eq!((set.load(0).unwrap().width, set.label(0)), (8, Some(0)));
            prints.push(set.fingerprint().unwrap());
        }
        prints.sort();
        prints.dedup();
        assert_eq!(prints.len(), 6);
        let set = StaticViews::open(folder.path(), Selection::Normal).unwrap();
        std::fs::remove_file(folder.path().join("a/x-2.jpeg")).unwrap();
        assert_eq!(set.load_view(0, 2).unwrap_err().name, "a/x-2.jpeg");
        assert!(set.fingerprint().is_err());
    }
}
