//! Deterministic parallel loading of batches.
//!
//! A coordinating thread fills batches in order, each by all workers together, and puts them into a bounded queue. What
//! a batch holds depends on the seed, the epoch and its number alone: any number of workers and any starting point give
//! the same bytes. An image that cannot be read never ends a training run: see [`Order`].

use std::{
    fmt,
    ops::Range,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    dataset::{Dataset, LoadError},
    image::Image,
    random::Random,
};

mod fill;
mod order;
mod quarantine;

pub use order::{Cursor, Order};
use quarantine::Quarantine;

/// What becomes of an image on its way into a batch.
pub trait Transform: Send + Sync {
    /// Floats of each view of a sample, such as `3 * 224 * 224`; their number is the number of views.
    fn lengths(&self) -> Vec<usize>;

    /// Names of the figures that it tells of each sample; none unless it has something to tell.
    fn measures(&self) -> &'static [&'static str] {
        &[]
    }

    /// Writes the views of an image to their slots, and its figures to `measures` (0 before); all randomness comes
    /// from `key`.
    fn apply(&self, image: &Image, key: Key, views: &mut [&mut [f32]], measures: &mut [f64]);
}

/// Sets streams of all views together apart from those of one view, whose fourth part is its number.
const JOINT: u64 = u64::MAX - 1;

/// What the randomness of one sample in one epoch is derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The seed of the run.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The sample whose place in the epoch this is, even where another one stands in for it.
    pub sample: u64,
}

impl Key {
    /// The stream of an operation of a view.
    pub fn stream(self, view: usize, operation: usize) -> Random {
        Random::new(&[
            self.seed,
            self.epoch,
            self.sample,
            view as u64,
            operation as u64,
        ])
    }

    /// The stream of what concerns all views together.
    pub fn joint(self) -> Random {
        Random::new(&[self.seed, self.epoch, self.sample, JOINT])
    }
}

/// Which rows of every batch are loaded: of `count` equal parts the one numbered `index`, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub index: usize,
    /// How many parts there are, at least 1; they divide the batch.
    pub count: usize,
}

impl Part {
    /// All rows.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Its rows in a batch of `length`.
    pub fn rows(self, length: usize) -> Range<usize> {
        let size = length / self.count;
        self.index * size..(self.index + 1) * size
    }
}

/// How to load.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Samples of a batch, at least 1.
    pub batch: usize,
    /// The rows of each batch that are wanted; those of a last batch that is not full are all.
    pub part: Part,
    /// The order of samples, and what happens to unreadable ones.
    pub order: Order,
    /// The seed of everything random.
    pub seed: u64,
    /// Where to start.
    pub start: Cursor,
    /// The epoch to end before.
    pub end_epoch: u64,
    /// Threads that decode and transform; 0 counts as 1.
    pub workers: usize,
    /// Batches that may lie ready; 0 counts as 1.
    pub queue: usize,
}

/// Samples ready for the network.
#[derive(Debug)]
pub struct Batch {
    /// Its place in the run.
    pub cursor: Cursor,
    /// Each view, `[samples, length]` with the transform's length.
    pub views: Vec<Vec<f32>>,
    /// The sample that each row was made of.
    pub samples: Vec<usize>,
    /// The class of each row; 0 where the set has no classes.
    pub labels: Vec<u32>,
    /// Rows whose sample stands in for an unreadable one.
    pub replaced: usize,
    /// The transform's figures, one for each row.
    pub measures: Vec<(&'static str, Vec<f64>)>,
    /// How long the consumer waited for it.
    pub waited: Duration,
}

/// Why loading cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoaderError {
    /// The set has fewer samples than a batch, of which none would be left.
    TooFew {
        /// Samples of the set.
        samples: usize,
        /// Samples of a batch.
        batch: usize,
    },
    /// No sample can be read.
    AllBad {
        /// The failure of the first.
        first: LoadError,
    },
    /// The transform or the data set panicked.
    Panicked {
        /// The sample.
        name: String,
        /// What the panic said.
        message: String,
    },
    /// The system refused threads.
    Threads(String),
}

impl fmt::Display for LoaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { samples, batch } => write!(
                f,
                "the data set has {samples} samples, too few for a batch of {batch}; choose a smaller batch"
            ),
            Self::AllBad { first } => write!(f, "no sample can be read; the first: {first}"),
            Self::Panicked { name, message } => {
                write!(f, "a bug while loading `{name}`: {message}")
            }
            Self::Threads(reason) => write!(f, "cannot start the loading threads: {reason}"),
        }
    }
}

impl std::error::Error for LoaderError {}

/// A running loader: an iterator over batches.
///
/// Dropping it stops its threads; each finishes at most the image it is at.
pub struct Loader {
    batches: Option<mpsc::Receiver<Result<Batch, LoaderError>>>,
    spare: mpsc::Sender<Vec<Vec<f32>>>,
    shared: Arc<fill::Shared>,
    coordinator: Option<JoinHandle<()>>,
    waited: Duration,
}

impl Loader {
    /// Starts the threads.
    ///
    /// # Errors
    /// The set is too small or the system refuses threads.
    pub fn start(
        dataset: Arc<dyn Dataset>,
        transform: Arc<dyn Transform>,
        settings: Settings,
    ) -> Result<Self, LoaderError> {
        let samples = dataset.len();
        if settings.order.batches(samples, settings.batch) == 0 {
            return Err(LoaderError::TooFew {
                samples,
                batch: settings.batch,
            });
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(settings.workers.max(1))
            .thread_name(|worker| format!("load {worker}"))
            .build()
            .map_err(|error| LoaderError::Threads(error.to_string()))?;
        let (batch_sender, batches) = mpsc::sync_channel(settings.queue.max(1));
        let (spare, spares) = mpsc::channel();
        let shared = Arc::new(fill::Shared::new(dataset, transform, settings));
        let worker = Arc::clone(&shared);
        let coordinator = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || fill::run(&worker, &pool, &batch_sender, &spares))
            .map_err(|error| LoaderError::Threads(error.to_string()))?;
        Ok(Self {
            batches: Some(batches),
            spare,
            shared,
            coordinator: Some(coordinator),
            waited: Duration::ZERO,
        })
    }

    /// Batches of an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        let settings = &self.shared.settings;
        settings
            .order
            .batches(self.shared.dataset.len(), settings.batch)
    }

    /// Takes the views of a used batch back, so that their buffers are filled again: fresh ones cost page faults, as much
    /// as a third of the loading.
    pub fn recycle(&self, views: Vec<Vec<f32>>) {
        // The coordinator may have finished; then the buffers are freed.
        let _ = self.spare.send(views);
    }

    /// The samples that could not be read so far, each once, by sample number.
    pub fn quarantined(&self) -> Vec<(usize, LoadError)> {
        self.shared.quarantine.list()
    }

    /// The time the consumer has waited for batches in all.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, LoaderError>;

    /// The next batch; after an error there is none.
    fn next(&mut self) -> Option<Self::Item> {
        let start = Instant::now();
        let received = self.batches.as_ref()?.recv();
        let waited = start.elapsed();
        self.waited += waited;
        match received {
            Ok(Ok(mut batch)) => {
                batch.waited = waited;
                Some(Ok(batch))
            }
            Ok(Err(error)) => {
                self.batches = None;
                Some(Err(error))
            }
            Err(mpsc::RecvError) => {
                self.batches = None;
                // The coordinator has hung up: either all is done, or it panicked.
                let ended = self.coordinator.take().map(JoinHandle::join);
                match ended {
                    Some(Err(panic)) => Some(Err(LoaderError::Panicked {
                        name: "a batch".into(),
                        message: fill::message(&*panic),
                    })),
                    _ => None,
                }
            }
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.stop();
        // Hanging up wakes a coordinator that waits for room in the queue.
        self.batches = None;
        if let Some(coordinator) = self.coordinator.take() {
            let _ = coordinator.join();
        }
    }
}

/// The rows of a batch in a set of `samples`.
fn rows(samples: usize, batch: usize, index: usize) -> Range<usize> {
    let start = index * batch;
    start..(start + batch).min(samples)
}

#[cfg(test)]
mod tests;
