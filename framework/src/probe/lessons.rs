//! Augmented, labelled images in batches: every image once an epoch, in an order drawn for the epoch.

use std::{sync::Arc, time::Instant};

use smallfry_data::{
    Dataset,
    loader::{Cursor, Loader, Order, Part, Settings},
    normalize::Normalization,
};

use crate::{
    augmentation::Views, backbone::Preprocessing, encoder::ImageBatch, failure::Failure,
    plan::Probe,
};

/// Batches that lie ready while the network computes.
const QUEUE: usize = 2;

/// A batch of labelled images.
#[derive(Debug)]
pub struct Lesson {
    /// The images.
    pub images: Arc<ImageBatch>,
    /// Their classes.
    pub labels: Vec<u32>,
    /// Their numbers in the set.
    pub samples: Vec<usize>,
    /// Images that others stand in for: name and reason.
    pub replaced: Vec<(String, String)>,
}

/// Batches from some place in a training to its end.
pub struct Lessons {
    loader: Loader,
    data: Arc<dyn Dataset>,
    settings: Settings,
    side: usize,
    /// The order of the epoch at hand, to tell who was replaced.
    order: (u64, Vec<u32>),
}

impl Lessons {
    /// Starts loading the images of `data` as `stage` augments them, from `begin` on, for `epochs` epochs in all.
    ///
    /// # Errors
    /// The system refuses threads.
    pub fn start(
        stage: &Probe,
        preprocessing: &Preprocessing,
        seed: u64,
        data: &Arc<dyn Dataset>,
        order: Order,
        begin: Cursor,
        epochs: usize,
    ) -> Result<Self, Failure> {
        let settings = Settings {
            batch: stage.batch,
            part: Part::WHOLE,
            order,
            seed,
            start: begin,
            end_epoch: epochs as u64,
            workers: rayon::current_num_threads(),
            queue: QUEUE,
        };
        let normalization = Normalization::new(preprocessing.mean, preprocessing.deviation);
        let view = stage.view.iter().map(|built| Arc::clone(&built.plugin));
        let transform = Views::new(None, vec![view.collect()], normalization)
            .ok_or_else(|| Failure::mistake("the view has no size"))?;
        let side = transform.sides()[0];
        let loader = Loader::start(Arc::clone(data), Arc::new(transform), settings.clone())
            .map_err(|error| Failure::fault(error.to_string()))?;
        Ok(Self {
            loader,
            data: Arc::clone(data),
            settings,
            side,
            order: (u64::MAX, Vec::new()),
        })
    }

    /// Starts loading what `stage` is trained on: every image once an epoch, shuffled, from `begin` on.
    ///
    /// # Errors
    /// The system refuses threads.
    pub fn training(
        stage: &Probe,
        preprocessing: &Preprocessing,
        seed: u64,
        data: &Arc<dyn Dataset>,
        begin: Cursor,
    ) -> Result<Self, Failure> {
        let (order, epochs) = (Order::ShuffledWhole, stage.epochs);
        Self::start(stage, preprocessing, seed, data, order, begin, epochs)
    }

    /// The next batch, and the seconds that were waited for it.
    ///
    /// # Errors
    /// There is none, as the loader was not started or ended early, or it failed.
    pub fn awaited(lessons: &mut Option<Self>) -> Result<(Lesson, f64), Failure> {
        let begin = Instant::now();
        let lesson = lessons.as_mut().and_then(Iterator::next);
        let waited = begin.elapsed().as_secs_f64();
        let lesson = lesson.ok_or_else(|| Failure::fault("the loader ended early"))??;
        Ok((lesson, waited))
    }

    /// Images that could not be read so far: name and reason, by their numbers in the set.
    pub fn unreadable(&self) -> Vec<(String, String)> {
        let all = self.loader.quarantined().into_iter();
        all.map(|(_, error)| (error.name, error.reason)).collect()
    }

    /// Names and reasons of the samples that those in `held` stand in for.
    fn replaced(&mut self, cursor: Cursor, held: &[usize]) -> Vec<(String, String)> {
        if self.order.0 != cursor.epoch {
            let Settings { order, seed, .. } = self.settings;
            let samples = order.samples(self.data.len(), seed, cursor.epoch);
            self.order = (cursor.epoch, samples);
        }
        let wanted = &self.order.1[cursor.batch * self.settings.batch..];
        let quarantined = self.loader.quarantined();
        let pairs = held
            .iter()
            .zip(wanted)
            .filter(|(held, wanted)| **held != **wanted as usize);
        let bad = pairs.filter_map(|(_, wanted)| {
            let mut all = quarantined.iter();
            all.find(|(sample, _)| *sample == *wanted as usize)
        });
        bad.map(|(_, error)| (error.name.clone(), error.reason.clone()))
            .collect()
    }
}

impl Iterator for Lessons {
    type Item = Result<Lesson, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut batch = match self.loader.next()? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(Failure::fault(error.to_string()))),
        };
        let replaced = match batch.replaced {
            0 => Vec::new(),
            _ => self.replaced(batch.cursor, &batch.samples),
        };
        let values = batch.views.pop().unwrap_or_default();
        Some(Ok(Lesson {
            images: Arc::new(ImageBatch {
                batch: batch.samples.len(),
                height: self.side,
                width: self.side,
                values,
            }),
            labels: batch.labels,
            samples: batch.samples,
            replaced,
        }))
    }
}
