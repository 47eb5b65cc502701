//! The features of a data set, kept where there is room and read back in pieces.
//!
//! Memory is bounded: the views of a set keep their features in memory up to [`MEMORY_LIMIT`] together. Beyond that they lie
//! in a file: that of the cache where there is one, a nameless one of the run folder otherwise.

use std::{
    fmt,
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use smallfry_data::Dataset;

use super::cache::{self, Place};
use crate::{
    failure::{Failure, disk},
    metric::FeatureSet,
    tensor::{self, Features, Plain},
};

/// Bytes of features that a set keeps in memory, all its views together.
pub const MEMORY_LIMIT: usize = 1 << 30;

/// The features of the readable samples of a data set, in its order.
pub struct Extracted {
    set: Arc<dyn Dataset>,
    width: usize,
    /// The sample of each row.
    samples: Vec<u32>,
    labels: Option<Vec<u32>>,
    store: Store,
    left_out: Vec<(String, String)>,
}

/// Where features lie.
enum Store {
    Memory(Vec<f32>),
    File {
        file: Mutex<File>,
        /// Where the first feature begins.
        offset: u64,
    },
}

impl Extracted {
    /// Features in memory, `[samples, width]`, of `samples` of `set`.
    pub(super) fn in_memory(
        set: &Arc<dyn Dataset>,
        width: usize,
        samples: Vec<u32>,
        left_out: Vec<(String, String)>,
        values: Vec<f32>,
    ) -> Self {
        Self::new(set, width, samples, left_out, Store::Memory(values))
    }

    /// Features in `file` from byte `offset` on, as little-endian numbers.
    pub(super) fn in_file(
        set: &Arc<dyn Dataset>,
        width: usize,
        samples: Vec<u32>,
        left_out: Vec<(String, String)>,
        file: File,
        offset: u64,
    ) -> Self {
        let file = Mutex::new(file);
        Self::new(set, width, samples, left_out, Store::File { file, offset })
    }

    fn new(
        set: &Arc<dyn Dataset>,
        width: usize,
        samples: Vec<u32>,
        left_out: Vec<(String, String)>,
        store: Store,
    ) -> Self {
        Self {
            set: set.clone(),
            width,
            labels: labels(&**set, &samples),
            samples,
            store,
            left_out,
        }
    }

    /// Samples that could not be read: name and reason, in the order of the set.
    pub fn left_out(&self) -> &[(String, String)] {
        &self.left_out
    }

    /// The place in the set of each row, ascending.
    pub fn samples(&self) -> &[u32] {
        &self.samples
    }

    /// The features, `[rows, width]`, where they are in memory.
    ///
    /// # Errors
    /// They lie in a file, and stay as they are.
    pub fn into_memory(self) -> Result<Vec<f32>, Box<Self>> {
        match self.store {
            Store::Memory(values) => Ok(values),
            Store::File { .. } => Err(Box::new(self)),
        }
    }

    /// Forgets all but the first `samples` of the set.
    pub(super) fn keep_first(&mut self, samples: usize) {
        if samples >= self.set.len() {
            return;
        }
        let rows = self.samples.partition_point(|&i| (i as usize) < samples);
        self.samples.truncate(rows);
        // Each sample without a row has a reason, in the same order.
        self.left_out.truncate(samples - rows);
        self.labels = labels(&*self.set, &self.samples);
    }
}

/// The classes of `samples`; a sample without class makes the set one without classes.
fn labels(set: &dyn Dataset, samples: &[u32]) -> Option<Vec<u32>> {
    match set.classes() {
        [] => None,
        _ => samples.iter().map(|&i| set.label(i as usize)).collect(),
    }
}

impl FeatureSet for Extracted {
    fn rows(&self) -> usize {
        self.samples.len()
    }

    fn width(&self) -> usize {
        self.width
    }

    fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    fn read(&self, rows: Range<usize>) -> Plain<Features> {
        let place = rows.start * self.width..rows.end * self.width;
        let values = match &self.store {
            Store::Memory(values) => values[place].to_vec(),
            Store::File { file, offset } => {
                let mut bytes = vec![0; 4 * place.len()];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(offset + 4 * place.start as u64))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .expect("features that were written or checked can be read back");
                let words = bytes.as_chunks().0.iter();
                words.map(|word| f32::from_le_bytes(*word)).collect()
            }
        };
        tensor::import(values, (rows.len(), self.width))
    }

    fn name(&self, row: usize) -> String {
        self.set.name(self.samples[row] as usize)
    }
}

impl fmt::Debug for Extracted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} features of {} numbers", self.rows(), self.width)
    }
}

/// Features that come in batch by batch.
pub(crate) struct Extraction {
    set: Arc<dyn Dataset>,
    width: usize,
    samples: Vec<u32>,
    left_out: Vec<(String, String)>,
    /// Those that stay in memory.
    memory: Option<Vec<f32>>,
    /// The nameless file of those that do not, where they are not cached.
    nameless: Option<(File, PathBuf)>,
    cached: Option<cache::Writer>,
}

impl Extraction {
    /// Room for features of `set`: `bytes` of them in each of so many `views`, of which those that do not stay in memory go
    /// to their `place` in the cache or to a nameless file in `folder`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(
        set: &Arc<dyn Dataset>,
        width: usize,
        (bytes, views): (usize, usize),
        folder: &Path,
        place: Option<&Place>,
    ) -> Result<Self, Failure> {
        let fits = bytes.saturating_mul(views) <= MEMORY_LIMIT;
        let cached = place.map(|place| place.write(width)).transpose();
        let cached = match (cached, fits) {
            (Ok(cached), _) => cached,
            // What fits into memory needs no file.
            (Err(_), true) => None,
            (Err(failure), false) => return Err(failure),
        };
        Ok(Self {
            set: set.clone(),
            width,
            samples: Vec::new(),
            left_out: Vec::new(),
            memory: fits.then(|| Vec::with_capacity(bytes / 4)),
            nameless: match fits || cached.is_some() {
                true => None,
                false => Some(nameless(folder)?),
            },
            cached,
        })
    }

    /// Takes the features of `samples`.
    ///
    /// # Errors
    /// The disk is full or broken, and the features do not fit into memory.
    pub fn push(&mut self, features: &[f32], samples: &[u32]) -> Result<(), Failure> {
        self.samples.extend_from_slice(samples);
        if let Some(values) = &mut self.memory {
            values.extend_from_slice(features);
        }
        if let Some((file, path)) = &mut self.nameless {
            let bytes: Vec<u8> = features.iter().flat_map(|v| v.to_le_bytes()).collect();
            file.write_all(&bytes)
                .map_err(|error| disk("write features to", path, &error))?;
        }
        if let Some(writer) = &mut self.cached
            && let Err(failure) = writer.push(features)
        {
            self.cached = None;
            self.excuse(failure)?;
        }
        Ok(())
    }

    /// Takes the names and reasons of samples that could not be read.
    pub fn leave_out(&mut self, samples: &[(String, String)]) {
        self.left_out.extend_from_slice(samples);
    }

    /// All of them, ready to be read.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Extracted, Failure> {
        let written = match self.cached.take() {
            Some(writer) => match writer.finish(&self.samples, &self.left_out) {
                Ok(file) => Some(file),
                Err(failure) => {
                    self.excuse(failure)?;
                    None
                }
            },
            None => None,
        };
        let (set, samples, left_out) = (&self.set, self.samples, self.left_out);
        Ok(match (self.memory, self.nameless, written) {
            (Some(values), ..) => Extracted::in_memory(set, self.width, samples, left_out, values),
            (None, Some((file, _)), _) => {
                Extracted::in_file(set, self.width, samples, left_out, file, 0)
            }
            (None, None, file) => {
                let file = file.expect("what is in neither memory nor a nameless file is cached");
                Extracted::in_file(set, self.width, samples, left_out, file, cache::START)
            }
        })
    }

    /// Goes on without the cache after a `failure` of it, if the features are in memory.
    fn excuse(&self, failure: Failure) -> Result<(), Failure> {
        match self.memory {
            Some(_) => Ok(()),
            None => Err(failure),
        }
    }
}

/// A file in `folder` that goes when it is closed, even if the process is killed.
fn nameless(folder: &Path) -> Result<(File, PathBuf), Failure> {
    // Several sets of an evaluation are open at once.
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("features-{number}.partial"));
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .map_err(|error| disk("write", &path, &error))?;
    if cfg!(unix) {
        fs::remove_file(&path).map_err(|error| disk("remove", &path, &error))?;
    }
    Ok((file, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::unread::Unread;

    /// Four samples of which none can be read, of three classes; sample 2 has none.
    fn nothing() -> Arc<dyn Dataset> {
        let labels = [Some(0), Some(1), None, Some(2)];
        Arc::new(Unread::new(&["a", "b", "c"], &labels))
    }

    fn extract(bytes: usize, folder: &Path, more: &[u32]) -> Extracted {
        let set = nothing();
        let mut extraction = Extraction::new(&set, 2, (bytes, 2), folder, None).unwrap();
        extraction.push(&[1.0, 2.0, 3.0, 4.0], &[0, 1]).unwrap();
        extraction.push(&[5.0, -6.5], more).unwrap();
        extraction.finish().unwrap()
    }

    #[test]
    fn features_on_disk_equal_those_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let memory = extract(24, Path::new(""), &[3]);
        let disk = extract(MEMORY_LIMIT / 2 + 1, folder.path(), &[3]);
        assert!(matches!(disk.store, Store::File { .. }));
        for set in [&memory, &disk] {
            assert_eq!((set.rows(), set.width()), (3, 2));
            assert_eq!(set.labels(), Some(&[0, 1, 2][..]));
            assert_eq!(set.name(2), "3.png");
            assert_eq!(*tensor::values(&set.read(1..3)), [3.0, 4.0, 5.0, -6.5]);
            assert!(tensor::values(&set.read(2..2)).is_empty());
        }
    }

    #[test]
    fn the_first_samples_of_a_set_are_kept_with_what_belongs_to_them() {
        let set = nothing();
        let left_out = ["1.png", "2.png"].map(|name| (name.to_owned(), "broken".to_owned()));
        for (samples, rows, missing) in [(4, 2, 2), (3, 1, 2), (2, 1, 1), (1, 1, 0)] {
            let values = vec![1.0, 2.0, 3.0, 4.0];
            let mut kept =
                Extracted::in_memory(&set, 2, vec![0, 3], left_out.to_vec(), values.clone());
            kept.keep_first(samples);
            assert_eq!((kept.rows(), kept.left_out().len()), (rows, missing));
            assert_eq!(kept.labels().map(<[u32]>::len), Some(rows));
            assert_eq!(*tensor::values(&kept.read(0..rows)), values[..2 * rows]);
        }
    }

    #[test]
    fn one_sample_without_class_makes_a_set_without_classes() {
        assert_eq!(extract(24, Path::new(""), &[2]).labels(), None);
    }
}
