//! Features on disk, so that the same images need not pass the same network twice.
//!
//! The files lie in `.features` of the folder that run folders are made in: another run, or the same with another metric,
//! finds them there, and nothing is written where the user did not ask for output. The folder may be deleted at any time.
//!
//! A file's name is the hash of all that decides its numbers: every tensor of the network as it was filled, the backbone,
//! how images become its input, which view, the program and its instruction set, and the images. Hashing all images would
//! cost as much as reading them, so images are known by their [stamp](Dataset::stamp): names, sizes and times of change, as
//! version control does it. Stamps can be wrong only where a file is changed and the times are turned back on purpose;
//! beside them the features of the first batch are worked out anew and must be the very same bits.
//!
//! A file is `magic`, the features (little-endian, row by row), the sample of each row, the samples left out as JSON, the three
//! lengths and a BLAKE3 hash of all before. It is read once from end to end before it is believed, in pieces, and appears
//! under its name only once it is whole. [`room`] bounds what the files take together.

pub mod room;

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process,
    sync::Arc,
    time::{Duration, SystemTime},
};

use smallfry_data::Dataset;
use smallfry_nn::{Parameters, kernel::Level, parameter::Values};

use super::extracted::{Extracted, MEMORY_LIMIT};
use crate::{
    backbone::Preprocessing,
    checkpoint::Partial,
    failure::{Failure, disk},
};

/// The folder beside run folders.
const FOLDER: &str = ".features";

/// The first bytes of a file; the number changes with the layout.
const MAGIC: &[u8; 16] = b"smallfry feat 1\n";

/// Where features begin.
pub(super) const START: u64 = MAGIC.len() as u64;

/// The lengths and the hash at the end.
const FOOTER: u64 = 3 * 8 + blake3::OUT_LEN as u64;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// The age at which a file that was never finished is taken for a killed run's.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The features of one network.
pub(super) struct Cache {
    folder: PathBuf,
    /// What decides the numbers beside the images, hashed.
    network: blake3::Hash,
    /// Bytes that the folder may take.
    limit: u64,
}

impl Cache {
    /// The cache beside the run folder `run` for the network `backbone` that `parameters` fill, whose input is made by
    /// `preprocessing`.
    ///
    /// # Errors
    /// The folder cannot be made, or its limit is none.
    pub fn new(
        run: &Path,
        backbone: &str,
        parameters: &Parameters,
        preprocessing: &Preprocessing,
    ) -> Result<Self, Failure> {
        let limit = room::limit().map_err(Failure::mistake)?;
        let folder = run.parent().unwrap_or(Path::new("")).join(FOLDER);
        fs::create_dir_all(&folder).map_err(|error| disk("make", &folder, &error))?;
        remove_stale(&folder);
        let mut hash = blake3::Hasher::new();
        let mut text = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        text(env!("CARGO_PKG_VERSION"));
        text(Level::current().name());
        text(backbone);
        text(&format!("{preprocessing:?}"));
        for (i, spec) in parameters.specs().iter().enumerate() {
            let name = format!("{} {:?}", spec.name, spec.shape);
            hash.update(&(name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            match parameters.get(i) {
                Values::Float(values) => {
                    for part in values.chunks(1 << 12) {
                        let bytes: Vec<u8> = part.iter().flat_map(|v| v.to_le_bytes()).collect();
                        hash.update(&bytes);
                    }
                }
                Values::Integer(value) => {
                    hash.update(&value.to_le_bytes());
                }
            }
        }
        Ok(Self {
            folder,
            network: hash.finalize(),
            limit,
        })
    }

    /// Removes features of others where the folder has grown beyond its limit, now that those of `places` are written.
    pub fn make_room(&self, places: &[Place]) {
        let written: Vec<_> = places.iter().map(|place| place.path.clone()).collect();
        room::make(&self.folder, self.limit, &written);
    }

    /// The places of the first `views` files of each sample of `set`.
    ///
    /// # Errors
    /// A file of the set cannot be looked at.
    pub fn places(&self, set: &dyn Dataset, views: usize) -> Result<Vec<Place>, String> {
        let stamp = set.stamp().map_err(|error| error.to_string())?;
        let place = |view: usize| {
            let mut hash = blake3::Hasher::new();
            hash.update(self.network.as_bytes());
            hash.update(stamp.as_bytes());
            hash.update(&(view as u64).to_le_bytes());
            // A sample is left out where any of its files is broken, so the number of files decides the rows.
            hash.update(&(views as u64).to_le_bytes());
            let name = format!("{}.{}", hash.finalize().to_hex(), room::EXTENSION);
            Place {
                path: self.folder.join(name),
            }
        };
        Ok((0..views).map(place).collect())
    }
}

/// Removes what killed runs left half-written, where that is possible.
fn remove_stale(folder: &Path) {
    let now = SystemTime::now();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let unfinished = entry.file_name().to_string_lossy().ends_with(".partial");
        let age = entry.metadata().and_then(|about| about.modified());
        let old = age.is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age > STALE));
        if unfinished && old {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Where the features of a view of a set belong.
pub(crate) struct Place {
    path: PathBuf,
}

impl Place {
    /// The features of `set`, `width` numbers each, if they are there; one of `views` sets that share the memory.
    ///
    /// # Errors
    /// A text for the user: the file is damaged, or is none of this kind.
    pub fn read(
        &self,
        set: &Arc<dyn Dataset>,
        width: usize,
        views: usize,
    ) -> Result<Option<Extracted>, String> {
        let damaged = |what: String| format!("{} {what}", self.path.display());
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(damaged(format!("cannot be read: {error}"))),
            Ok(file) => file,
        };
        room::take(&file);
        match checked(file, set, width, views) {
            Ok(extracted) => Ok(Some(extracted)),
            Err(Damage::Disk(error)) => Err(damaged(format!("cannot be read: {error}"))),
            Err(Damage::Content(what)) => Err(damaged(what.to_owned())),
        }
    }

    /// A writer of features of `width` numbers.
    ///
    /// # Errors
    /// The folder is full or not writable.
    pub fn write(&self, width: usize) -> Result<Writer, Failure> {
        // Two runs may write the same features at once; each has its own file until it is whole.
        let own = self.path.with_extension(process::id().to_string());
        let mut writer = Writer {
            partial: Partial::create(&own)?,
            hash: blake3::Hasher::new(),
            width,
            own,
            path: self.path.clone(),
        };
        writer.put(MAGIC)?;
        Ok(writer)
    }
}

/// Why a file is not believed.
enum Damage {
    Disk(io::Error),
    Content(&'static str),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Content("is shorter than it says"),
            _ => Self::Disk(error),
        }
    }
}

/// The features in `file`, if it is whole and fits `set`. Nothing is kept before the size of the file proves it.
fn checked(
    mut file: File,
    set: &Arc<dyn Dataset>,
    width: usize,
    views: usize,
) -> Result<Extracted, Damage> {
    let size = file.metadata()?.len();
    let footer = size.checked_sub(FOOTER);
    let Some(footer) = footer.filter(|footer| *footer >= START) else {
        return Err(Damage::Content("is too short"));
    };
    file.seek(SeekFrom::Start(footer))?;
    let mut lengths = [[0u8; 8]; 3];
    for length in &mut lengths {
        file.read_exact(length)?;
    }
    let [rows, stored_width, json] = lengths.map(u64::from_le_bytes);
    let mut hash = [0u8; blake3::OUT_LEN];
    file.read_exact(&mut hash)?;
    let values = rows
        .checked_mul(stored_width)
        .and_then(|n| n.checked_mul(4));
    let whole = values
        .and_then(|values| values.checked_add(rows.checked_mul(4)?))
        .and_then(|bytes| bytes.checked_add(json)?.checked_add(START));
    if whole != Some(footer) || stored_width != width as u64 || rows > set.len() as u64 {
        return Err(Damage::Content("is not what its end says"));
    }
    let mut reader = HashedReader {
        file: &mut file,
        hash: blake3::Hasher::new(),
    };
    reader.file.seek(SeekFrom::Start(0))?;
    let mut magic = [0u8; MAGIC.len()];
    reader.read(&mut magic)?;
    if magic != *MAGIC {
        return Err(Damage::Content("is no file of features"));
    }
    let bytes = values.unwrap_or(0) as usize;
    let fits = bytes.saturating_mul(views) <= MEMORY_LIMIT;
    let mut kept = Vec::with_capacity(if fits { bytes / 4 } else { 0 });
    let mut piece = vec![0u8; PIECE];
    let mut left = bytes;
    while left > 0 {
        let part = &mut piece[..left.min(PIECE)];
        reader.read(part)?;
        if fits {
            let words = part.as_chunks().0.iter();
            kept.extend(words.map(|word| f32::from_le_bytes(*word)));
        }
        left -= part.len();
    }
    let mut samples = vec![0u8; 4 * rows as usize];
    reader.read(&mut samples)?;
    let words = samples.as_chunks().0.iter();
    let samples: Vec<u32> = words.map(|word| u32::from_le_bytes(*word)).collect();
    let mut text = vec![0u8; json as usize];
    reader.read(&mut text)?;
    for length in lengths {
        reader.hash.update(&length);
    }
    if reader.hash.finalize() != hash {
        return Err(Damage::Content(
            "does not have the checksum that it carries",
        ));
    }
    let ascending = samples.windows(2).all(|pair| pair[0] < pair[1]);
    let inside = samples
        .last()
        .is_none_or(|&last| (last as usize) < set.len());
    let left_out = serde_json::from_slice(&text);
    let (true, true, Ok(left_out)) = (ascending, inside, left_out) else {
        return Err(Damage::Content("does not fit the set"));
    };
    Ok(match fits {
        true => Extracted::in_memory(set, width, samples, left_out, kept),
        false => Extracted::in_file(set, width, samples, left_out, file, START),
    })
}

/// Reads a file and hashes what it reads.
struct HashedReader<'a> {
    file: &'a mut File,
    hash: blake3::Hasher,
}

impl HashedReader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact(bytes)?;
        self.hash.update(bytes);
        Ok(())
    }
}

/// Writes the features of a view as they come.
pub(crate) struct Writer {
    partial: Partial,
    hash: blake3::Hasher,
    width: usize,
    own: PathBuf,
    path: PathBuf,
}

impl Writer {
    /// Takes more features.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn push(&mut self, features: &[f32]) -> Result<(), Failure> {
        let bytes: Vec<u8> = features.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.put(&bytes)
    }

    /// Puts the file in its place, and gives it back, with the sample of each row and those left out.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn finish(
        mut self,
        samples: &[u32],
        left_out: &[(String, String)],
    ) -> Result<File, Failure> {
        let rows: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        self.put(&rows)?;
        let text = serde_json::to_vec(left_out).expect("names and reasons are plain text");
        self.put(&text)?;
        for length in [samples.len(), self.width, text.len()] {
            self.put(&(length as u64).to_le_bytes())?;
        }
        let hash = *self.hash.finalize().as_bytes();
        self.put(&hash)?;
        let Self {
            partial, own, path, ..
        } = self;
        partial.finish()?;
        let file = fs::rename(&own, &path)
            .and_then(|()| File::open(&path))
            .map_err(|error| disk("write", &path, &error))?;
        room::take(&file);
        Ok(file)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.hash.update(bytes);
        self.partial
            .write_all(bytes)
            .map_err(|error| disk("write features to", &self.path, &error))
    }
}

#[cfg(test)]
mod tests;
