//! `manifest.jsonl`: what a folder of static views holds, a line an image.
//!
//! The first line says how the set was made, the last how much there is; between them, sorted, stand all images with the
//! hash of every file and all that was drawn for their views. While a set is being written its lines
//! stand in `manifest.unfinished.jsonl`, in the order in which images were done; it becomes the manifest at the end.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use smallfry_data::{
    encode::QUALITY,
    statics::{Mode, Recipe, SIDE},
};

use crate::{
    checkpoint::Partial,
    failure::{Failure, disk},
    plan::Views,
};

/// Name of the record of a whole set.
pub const MANIFEST: &str = "manifest.jsonl";

/// Name of the record of a set that is being written.
pub const UNFINISHED: &str = "manifest.unfinished.jsonl";

/// Version of the layout of the lines.
const FORMAT: u32 = 1;

/// How a set was made; equal headers give equal files of equal images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this layout.
    pub format: u32,
    /// What made it, with its version.
    pub program: String,
    /// How the two views of an image are cropped.
    pub mode: Mode,
    /// Seed of all that was drawn.
    pub seed: u64,
    /// Images taken of each class, at most.
    pub per_class: usize,
    /// Side of a view in pixels.
    pub side: usize,
    /// Quality of the files.
    pub quality: u8,
    /// The set of the images, as an experiment file names it.
    pub data: String,
    /// How many images that set has, with a hash of their names and classes.
    pub images: String,
}

impl Header {
    /// That of the set which `stage` writes; `images` tells the images by names and classes.
    pub fn new(stage: &Views, seed: u64, images: String) -> Self {
        Self {
            format: FORMAT,
            program: concat!("smallfry ", env!("CARGO_PKG_VERSION")).to_owned(),
            mode: stage.mode,
            seed,
            per_class: stage.per_class,
            side: SIDE,
            quality: QUALITY,
            data: stage.data.line.clone(),
            images,
        }
    }

    /// Whether both make the same files; where the images lie does not matter.
    pub fn equals(&self, other: &Self) -> bool {
        let here = Self {
            data: other.data.clone(),
            ..self.clone()
        };
        here == *other
    }
}

/// An image with its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Class and name, which with `-<number>.jpeg` make the paths of the files.
    pub image: String,
    /// Its name in the set that it comes from.
    pub source: String,
    /// BLAKE3 of its decoded pixels there.
    pub pixels: String,
    /// Its width and height.
    pub size: (usize, usize),
    /// All that was drawn for its views.
    pub recipe: Recipe,
    /// Bytes and BLAKE3 of each file, from number 0 on.
    pub files: Vec<(u64, String)>,
}

impl Record {
    /// The files' paths below the set's folder, with their bytes.
    pub fn paths(&self) -> impl Iterator<Item = (String, u64)> {
        let files = self.files.iter().enumerate();
        files.map(|(file, (bytes, _))| (format!("{}-{file}.jpeg", self.image), *bytes))
    }
}

/// A line of a manifest.
#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// The first.
    Set(Header),
    /// An image.
    Image(Record),
    /// An image that could not be read.
    LeftOut {
        /// Its name in the set that it comes from.
        source: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The last: how much there is.
    End {
        /// Images with views.
        images: usize,
        /// Their files.
        files: usize,
        /// Bytes of all files.
        bytes: u64,
    },
}

impl Line {
    /// The line with its break.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("lines are plain data") + "\n"
    }
}

/// A manifest as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// How the set was made.
    pub header: Header,
    /// Its images.
    pub records: Vec<Record>,
    /// Images that could not be read: name and reason.
    pub left_out: Vec<(String, String)>,
}

impl Manifest {
    /// Files of all images.
    pub fn files(&self) -> usize {
        self.records.iter().map(|record| record.files.len()).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let files = self.records.iter().flat_map(|record| &record.files);
        // A file from anywhere may say anything.
        files.fold(0, |sum, (bytes, _)| sum.saturating_add(*bytes))
    }

    /// Writes the manifest of the set in `folder`.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join(MANIFEST);
        let mut file = Partial::create(&path)?;
        let records = self.records.iter().cloned().map(Line::Image);
        let left_out = self.left_out.iter().cloned();
        let lines = std::iter::once(Line::Set(self.header.clone()))
            .chain(records)
            .chain(left_out.map(|(source, reason)| Line::LeftOut { source, reason }))
            .chain([Line::End {
                images: self.records.len(),
                files: self.files(),
                bytes: self.bytes(),
            }]);
        for line in lines {
            file.write_all(line.text().as_bytes())
                .map_err(|error| disk("write", &path, &error))?;
        }
        file.finish()
    }

    /// Reads the manifest at `path`, as [`take`](Self::take).
    fn read(path: &Path) -> Result<Option<(Self, bool)>, Failure> {
        fs::File::open(path)
            .and_then(|file| Self::take(BufReader::new(file)))
            .map_err(|error| disk("read", path, &error))
    }

    /// Reads a manifest; tells also whether it is complete. None where there is no first line.
    ///
    /// Lines that cannot be read end it: they are those that a killed run left half-written.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn take(text: impl BufRead) -> io::Result<Option<(Self, bool)>> {
        let mut lines = text.lines();
        let mut next = || -> io::Result<Option<Line>> {
            match lines.next() {
                None => Ok(None),
                // Bytes that are no text are a damaged line.
                Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
                Some(line) => Ok(serde_json::from_str(&line?).ok()),
            }
        };
        let Some(Line::Set(header)) = next()? else {
            return Ok(None);
        };
        let mut manifest = Self {
            header,
            records: Vec::new(),
            left_out: Vec::new(),
        };
        while let Some(line) = next()? {
            match line {
                Line::Image(record) if is_below(&record.image) && record.recipe.is_finite() => {
                    manifest.records.push(record);
                }
                Line::LeftOut { source, reason } => manifest.left_out.push((source, reason)),
                Line::End {
                    images,
                    files,
                    bytes,
                } => {
                    let own = (manifest.records.len(), manifest.files(), manifest.bytes());
                    return Ok(Some((manifest, own == (images, files, bytes))));
                }
                Line::Set(_) | Line::Image(_) => break,
            }
        }
        Ok(Some((manifest, false)))
    }
}

/// Whether a path names a class and an image, and leads nowhere else.
fn is_below(image: &str) -> bool {
    let mut parts = image.split('/');
    let plain = |part: Option<&str>| part.is_some_and(|p| !p.is_empty() && p != "." && p != "..");
    plain(parts.next()) && plain(parts.next()) && parts.next().is_none()
}

/// What a folder holds of a set.
#[derive(Debug)]
pub enum State {
    /// Nothing, or there is no folder.
    Empty,
    /// Files, but no record of a set.
    Foreign,
    /// A set that is not complete, or whose record is not.
    Begun(Manifest),
    /// A set with a complete record.
    Whole(Manifest),
}

impl State {
    /// Looks into `folder`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        for name in [MANIFEST, UNFINISHED] {
            let path = folder.join(name);
            if path.is_file()
                && let Some((manifest, complete)) = Manifest::read(&path)?
            {
                return Ok(match complete && name == MANIFEST {
                    true => Self::Whole(manifest),
                    false => Self::Begun(manifest),
                });
            }
        }
        match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Empty),
            Err(error) => Err(disk("read", folder, &error)),
            Ok(entries) => {
                // A record without a first line is one of a run that was killed at once.
                let foreign = |entry: io::Result<fs::DirEntry>| {
                    entry.is_ok_and(|entry| entry.file_name() != UNFINISHED)
                };
                Ok(match entries.into_iter().any(foreign) {
                    true => Self::Foreign,
                    false => Self::Empty,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use smallfry_data::random::Random;

    use super::*;

    /// A manifest of two images, one left out, as text.
    fn text() -> String {
        let header = Header {
            format: FORMAT,
            program: "smallfry".to_owned(),
            mode: Mode::Hard,
            seed: 3,
            per_class: 50,
            side: SIDE,
            quality: QUALITY,
            data: "ImageFolder()".to_owned(),
            images: "3 images".to_owned(),
        };
        let record = |image: &str| Record {
            image: image.to_owned(),
            source: format!("{image}.png"),
            pixels: "ab".to_owned(),
            size: (60, 50),
            recipe: Recipe::draw(Mode::Hard, (60, 50), 3, 9).expect("it is large enough"),
            files: vec![(700, "cd".to_owned()), (u64::MAX, "ef".to_owned())],
        };
        let lines = [
            Line::Set(header),
            Line::Image(record("a/one")),
            Line::Image(record("b/two")),
            Line::LeftOut {
                source: "c.png".to_owned(),
                reason: "is damaged".to_owned(),
            },
            Line::End {
                images: 2,
                files: 4,
                bytes: u64::MAX,
            },
        ];
        lines.iter().map(Line::text).collect()
    }

    #[test]
    fn whatever_a_file_says_it_is_read_or_refused() {
        let text = text();
        let (manifest, complete) = Manifest::take(text.as_bytes()).unwrap().unwrap();
        assert!(complete && manifest.records.len() == 2);
        let mut random = Random::new(&[8]);
        for _ in 0..3000 {
            let mut changed = text.clone().into_bytes();
            for _ in 0..1 + random.below(4) {
                let at = random.below(changed.len() as u64) as usize;
                match random.below(4) {
                    0 => changed.truncate(at + 1),
                    1 => changed[at] = random.bits() as u8,
                    2 => changed[at] = b"/.0-9\"\n{}"[random.below(9) as usize],
                    _ => {
                        let piece = changed[at..].to_vec();
                        let to = random.below(changed.len() as u64) as usize;
                        changed.splice(to..to, piece);
                    }
                }
            }
            let Some((found, _)) = Manifest::take(changed.as_slice()).unwrap() else {
                continue;
            };
            let _ = (found.files(), found.bytes());
            for (path, _) in found.records.iter().flat_map(Record::paths) {
                let (class, name) = path.split_once('/').unwrap();
                assert!(
                    !["", ".", ".."].contains(&class) && !name.contains('/'),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn a_number_that_is_too_large_ends_the_record() {
        let text = text();
        // The first of such a field, with another number.
        let with = |field: &str, number: &str| {
            let field = format!("\"{field}\":");
            let begin = text.find(&field).expect("the recipe has one") + field.len();
            let end = begin + text[begin..].find([',', '}']).expect("it goes on");
            format!("{}{number}{}", &text[..begin], &text[end..])
        };
        let found = |text: &str| Manifest::take(text.as_bytes()).unwrap().unwrap();
        for field in ["iou", "blur", "brightness"] {
            assert_eq!(found(&with(field, "0.5")).0.records.len(), 2, "{field}");
            assert_eq!(found(&with(field, "1e400")).0.records.len(), 0, "{field}");
        }
        let (manifest, complete) = found(&with("blur", "1e39"));
        assert!(!complete && manifest.records.is_empty());
    }
}
