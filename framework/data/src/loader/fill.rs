//! The threads behind a loader.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use rayon::prelude::*;

use super::{Batch, Cursor, Key, LoaderError, Order, Quarantine, Settings, Transform, rows};
use crate::{dataset::Dataset, image::Image, random::Random};

/// Sets the draws of stand-ins apart from the streams of views, whose fourth part is the number of a view.
const STAND_IN: u64 = u64::MAX;

/// Random draws of a stand-in before the set is searched from one end to the other.
const DRAWS: usize = 64;

/// What all threads of a loader see.
pub(super) struct Shared {
    pub(super) dataset: Arc<dyn Dataset>,
    transform: Arc<dyn Transform>,
    pub(super) settings: Settings,
    pub(super) quarantine: Quarantine,
    stopped: AtomicBool,
}

/// Why a row was not filled.
enum Unfilled {
    /// The sample cannot be read and nothing stands in for it.
    Bad,
    /// Loading ends.
    Stopped,
    /// Loading ends with this.
    Failed(LoaderError),
}

/// A row being filled.
struct Row<'a> {
    sample: usize,
    views: Vec<&'a mut [f32]>,
    measures: Vec<f64>,
}

impl Shared {
    pub(super) fn new(
        dataset: Arc<dyn Dataset>,
        transform: Arc<dyn Transform>,
        settings: Settings,
    ) -> Self {
        Self {
            dataset,
            transform,
            settings,
            quarantine: Quarantine::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Makes all threads end soon.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Decodes a sample unless it is, or now turns out to be, unreadable.
    fn load(&self, sample: usize) -> Option<Image> {
        if self.quarantine.contains(sample) {
            return None;
        }
        match self.dataset.load(sample) {
            Ok(image) => Some(image),
            Err(error) => {
                self.quarantine.add(sample, error);
                None
            }
        }
    }

    /// A readable sample in place of an unreadable one, drawn by seed, epoch and sample.
    fn stand_in(&self, key: Key) -> Result<(usize, Image), Unfilled> {
        let n = self.dataset.len();
        let mut random = Random::new(&[key.seed, key.epoch, key.sample, STAND_IN]);
        let drawn = (0..DRAWS).map(|_| random.below(n as u64) as usize);
        let mut candidates = drawn.collect::<Vec<_>>();
        let from = random.below(n as u64) as usize;
        candidates.extend((from..n).chain(0..from));
        for sample in candidates {
            if self.stopped() {
                return Err(Unfilled::Stopped);
            }
            if let Some(image) = self.load(sample) {
                return Ok((sample, image));
            }
        }
        Err(Unfilled::Failed(self.all_bad()))
    }

    fn all_bad(&self) -> LoaderError {
        let (_, first) = self
            .quarantine
            .list()
            .into_iter()
            .next()
            .expect("every sample has just failed");
        LoaderError::AllBad { first }
    }

    /// Fills one row and returns the sample it holds.
    fn fill(&self, row: &mut Row<'_>, epoch: u64) -> Result<usize, Unfilled> {
        if self.stopped() {
            return Err(Unfilled::Stopped);
        }
        let work = || {
            let key = Key {
                seed: self.settings.seed,
                epoch,
                sample: row.sample as u64,
            };
            let (sample, image) = match (self.load(row.sample), self.settings.order) {
                (Some(image), _) => (row.sample, image),
                (None, Order::Shuffled | Order::ShuffledWhole) => self.stand_in(key)?,
                (None, Order::Sequential) => return Err(Unfilled::Bad),
            };
            self.transform
                .apply(&image, key, &mut row.views, &mut row.measures);
            image.recycle();
            Ok(sample)
        };
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            Err(Unfilled::Failed(LoaderError::Panicked {
                name: self.dataset.name(row.sample),
                message: message(&*panic),
            }))
        })
    }

    /// Fills a batch; `None` if loading was stopped.
    fn batch(
        &self,
        cursor: Cursor,
        wanted: &[u32],
        mut views: Vec<Vec<f32>>,
        pool: &rayon::ThreadPool,
    ) -> Option<Result<Batch, LoaderError>> {
        let (lengths, names) = (self.transform.lengths(), self.transform.measures());
        views.resize_with(lengths.len(), Vec::new);
        let mut filling: Vec<Row<'_>> = wanted
            .iter()
            .map(|&sample| Row {
                sample: sample as usize,
                views: Vec::with_capacity(lengths.len()),
                measures: vec![0.0; names.len()],
            })
            .collect();
        for (view, &length) in views.iter_mut().zip(&lengths) {
            view.resize(wanted.len() * length, 0.0);
            let slots = view.chunks_exact_mut(length.max(1));
            for (row, slot) in filling.iter_mut().zip(slots) {
                row.views.push(slot);
            }
        }
        let filled: Vec<Result<usize, Unfilled>> = pool.install(|| {
            filling
                .par_iter_mut()
                .with_max_len(1)
                .map(|row| self.fill(row, cursor.epoch))
                .collect()
        });
        let measured: Vec<_> = filling.into_iter().map(|row| row.measures).collect();

        let mut batch = Batch {
            cursor,
            views,
            samples: Vec::with_capacity(wanted.len()),
            labels: Vec::with_capacity(wanted.len()),
            replaced: 0,
            measures: names.iter().map(|&name| (name, Vec::new())).collect(),
            waited: Duration::ZERO,
        };
        for (row, (filled, &sample)) in filled.into_iter().zip(wanted).enumerate() {
            let held = match filled {
                Ok(held) => held,
                Err(Unfilled::Bad) => continue,
                Err(Unfilled::Stopped) => return None,
                Err(Unfilled::Failed(error)) => return Some(Err(error)),
            };
            let to = batch.samples.len();
            if to < row {
                for (view, &length) in batch.views.iter_mut().zip(&lengths) {
                    view.copy_within(row * length..(row + 1) * length, to * length);
                }
            }
            batch.replaced += usize::from(held != sample as usize);
            for ((_, values), value) in batch.measures.iter_mut().zip(&measured[row]) {
                values.push(*value);
            }
            batch.samples.push(held);
            batch.labels.push(self.dataset.label(held).unwrap_or(0));
        }
        for (view, &length) in batch.views.iter_mut().zip(&lengths) {
            view.truncate(batch.samples.len() * length);
        }
        Some(Ok(batch))
    }
}

/// Fills batch after batch until all are done, loading fails or nobody listens any more.
pub(super) fn run(
    shared: &Shared,
    pool: &rayon::ThreadPool,
    batches: &mpsc::SyncSender<Result<Batch, LoaderError>>,
    spares: &mpsc::Receiver<Vec<Vec<f32>>>,
) {
    let settings = &shared.settings;
    let samples = shared.dataset.len();
    let per_epoch = settings.order.batches(samples, settings.batch);
    let mut first = settings.start.batch;
    for epoch in settings.start.epoch..settings.end_epoch {
        let order = settings.order.samples(samples, settings.seed, epoch);
        for index in first..per_epoch {
            let wanted = &order[rows(samples, settings.batch, index)];
            let wanted = match wanted.len() == settings.batch {
                true => &wanted[settings.part.rows(settings.batch)],
                false => wanted,
            };
            let views = spares.try_recv().unwrap_or_default();
            let cursor = Cursor {
                epoch,
                batch: index,
            };
            let Some(batch) = shared.batch(cursor, wanted, views, pool) else {
                return;
            };
            let failed = batch.is_err();
            if batch.as_ref().is_ok_and(|batch| batch.samples.is_empty()) {
                if shared.quarantine.len() == samples {
                    let _ = batches.send(Err(shared.all_bad()));
                    return;
                }
                continue;
            }
            if batches.send(batch).is_err() || failed {
                return;
            }
        }
        first = 0;
    }
}

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".into())
}
