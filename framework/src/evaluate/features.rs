//! The features of a data set: extracted batch by batch, read back in pieces.
//!
//! Memory is bounded: a set keeps its features in memory up to [`MEMORY_LIMIT`] and in a nameless file of the run
//! folder beyond. Loading and the network take turns on all threads, so neither waits for a free core.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rayon::prelude::*;
use smallfry_data::{
    Dataset, View,
    normalize::Normalization,
    operation::{
        crop::central_square,
        resize::{Filter, shorter_side},
    },
};

use crate::{
    Encoder,
    backbone::Preprocessing,
    encoder::ImageBatch,
    failure::{Failure, disk},
    metric::FeatureSet,
    tensor::{self, Features, Plain},
    train::Workplace,
};

/// Bytes of features that a set keeps in memory.
pub const MEMORY_LIMIT: usize = 1 << 30;

/// How images become features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Images {
    /// What the network's input looks like.
    pub preprocessing: Preprocessing,
    /// Images in a batch.
    pub batch: usize,
}

/// The features of the readable samples of a data set, in its order.
#[derive(Debug)]
pub struct Extracted {
    width: usize,
    labels: Option<Vec<u32>>,
    rows: usize,
    store: Store,
    left_out: Vec<(String, String)>,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<f32>),
    File(Mutex<File>),
}

impl Images {
    /// Extracts the features of `set`, adding to the count of samples `done` as it goes.
    ///
    /// # Errors
    /// The user stops, or features that exceed memory cannot be written to the run folder.
    pub fn extract(
        &self,
        set: &Arc<dyn Dataset>,
        encoder: &mut dyn Encoder,
        workplace: &Workplace,
        done: &mut usize,
    ) -> Result<Extracted, Failure> {
        let width = encoder.width();
        let bytes = 4 * set.len() * width;
        let mut extracted = Extracted {
            width,
            labels: (!set.classes().is_empty()).then(Vec::new),
            rows: 0,
            store: Store::new(bytes, workplace.folder.root())?,
            left_out: Vec::new(),
        };
        for first in (0..set.len()).step_by(self.batch) {
            if workplace.interrupt.requested() {
                return Err(Failure::interrupt("stopped during evaluation")
                    .help("the same command with --resume goes on with this stage"));
            }
            let samples = first..set.len().min(first + self.batch);
            let (batch, labels) = self.load(&**set, samples.clone(), &mut extracted.left_out);
            if batch.batch > 0 {
                let features = encoder.embed(&Arc::new(batch));
                extracted.push(&tensor::values(&features), labels, workplace.folder.root())?;
            }
            *done += samples.len();
            workplace.display.samples(*done as u64);
        }
        Ok(extracted)
    }

    /// The readable samples among `samples`, resized, cropped and normalised, and their labels.
    pub(crate) fn load(
        &self,
        set: &dyn Dataset,
        samples: Range<usize>,
        left_out: &mut Vec<(String, String)>,
    ) -> (ImageBatch, Vec<Option<u32>>) {
        let side = self.preprocessing.size;
        let normalization =
            Normalization::new(self.preprocessing.mean, self.preprocessing.deviation);
        let loaded: Vec<_> = samples
            .into_par_iter()
            .map(|sample| {
                let image = set.load(sample)?;
                let mut view = View::of(&image);
                self.shape(&mut view);
                let mut values = vec![0.0; 3 * side * side];
                normalization.write(&mut view, &mut values);
                Ok((values, set.label(sample)))
            })
            .collect();
        let mut batch = ImageBatch {
            batch: 0,
            height: side,
            width: side,
            values: Vec::with_capacity(loaded.len() * 3 * side * side),
        };
        let mut labels = Vec::with_capacity(loaded.len());
        for result in loaded {
            match result {
                Ok((values, label)) => {
                    batch.batch += 1;
                    batch.values.extend(values);
                    labels.push(label);
                }
                Err(smallfry_data::LoadError { name, reason }) => left_out.push((name, reason)),
            }
        }
        (batch, labels)
    }

    /// Resize of the shorter side, then the central square.
    fn shape(&self, view: &mut View<'_>) {
        let Preprocessing {
            size,
            resize,
            bicubic,
            ..
        } = self.preprocessing;
        let filter = if bicubic {
            Filter::Bicubic
        } else {
            Filter::Bilinear
        };
        let (width, height) = view.size();
        let (width, height) = shorter_side(width, height, resize);
        if (width, height) != view.size() {
            view.resize(width, height, filter);
        }
        let square = central_square(width, height, size);
        view.crop(square.expect("an evaluation resizes to no less than it crops"));
    }
}

impl Extracted {
    /// Samples that could not be read: name and reason.
    pub fn left_out(&self) -> &[(String, String)] {
        &self.left_out
    }

    fn push(
        &mut self,
        features: &[f32],
        labels: Vec<Option<u32>>,
        folder: &Path,
    ) -> Result<(), Failure> {
        self.rows += labels.len();
        match (
            &mut self.labels,
            labels.into_iter().collect::<Option<Vec<_>>>(),
        ) {
            (Some(known), Some(more)) => known.extend(more),
            // A sample without class makes the set one without classes.
            (known, _) => *known = None,
        }
        match &mut self.store {
            Store::Memory(values) => values.extend_from_slice(features),
            Store::File(file) => {
                let bytes: Vec<u8> = features.iter().flat_map(|v| v.to_le_bytes()).collect();
                let file = file.get_mut().unwrap_or_else(PoisonError::into_inner);
                file.write_all(&bytes)
                    .map_err(|error| disk("write features to", folder, &error))?;
            }
        }
        Ok(())
    }
}

impl Store {
    fn new(bytes: usize, folder: &Path) -> Result<Self, Failure> {
        if bytes <= MEMORY_LIMIT {
            return Ok(Self::Memory(Vec::with_capacity(bytes / 4)));
        }
        // Two sets of an evaluation are open at once.
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
        // Without a name the file goes when the set does, even if the process is killed.
        if cfg!(unix) {
            fs::remove_file(&path).map_err(|error| disk("remove", &path, &error))?;
        }
        Ok(Self::File(Mutex::new(file)))
    }
}

impl FeatureSet for Extracted {
    fn rows(&self) -> usize {
        self.rows
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
            Store::File(file) => {
                let mut bytes = vec![0; 4 * place.len()];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(4 * place.start as u64))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .expect("features just written can be read back");
                let words = bytes.chunks_exact(4);
                words
                    .map(|word| f32::from_le_bytes(word.try_into().expect("chunks have 4 bytes")))
                    .collect()
            }
        };
        tensor::import(values, (rows.len(), self.width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(store: Store) -> Extracted {
        let mut set = Extracted {
            width: 2,
            labels: Some(Vec::new()),
            rows: 0,
            store,
            left_out: Vec::new(),
        };
        let folder = Path::new("");
        set.push(&[1.0, 2.0, 3.0, 4.0], vec![Some(0), Some(1)], folder)
            .unwrap();
        set.push(&[5.0, -6.5], vec![Some(2)], folder).unwrap();
        set
    }

    #[test]
    fn features_on_disk_equal_those_in_memory() {
        let memory = set(Store::new(24, Path::new("")).unwrap());
        let folder = std::env::temp_dir().join(format!("smallfry-features-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let disk = set(Store::new(MEMORY_LIMIT + 1, &folder).unwrap());
        for set in [&memory, &disk] {
            assert_eq!((set.rows(), set.width()), (3, 2));
            assert_eq!(set.labels(), Some(&[0, 1, 2][..]));
            assert_eq!(*tensor::values(&set.read(1..3)), [3.0, 4.0, 5.0, -6.5]);
            assert!(tensor::values(&set.read(2..2)).is_empty());
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn one_sample_without_class_makes_a_set_without_classes() {
        let mut set = set(Store::Memory(Vec::new()));
        set.push(&[0.0, 0.0], vec![None], Path::new("")).unwrap();
        assert_eq!(set.labels(), None);
    }
}
