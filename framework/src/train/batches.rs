//! Batches of views, as the trainer takes them: the loader of `smallfry_data` with augmentations as its transform.

use std::sync::Arc;

use smallfry_data::{
    Dataset,
    loader::{Batch, Cursor, Loader, Order, Part, Settings},
    normalize::Normalization,
};

use crate::{
    Augmentation, augmentation::Views, encoder::ImageBatch, failure::Failure, plan::Pretrain,
    registry::Built,
};

/// Batches that lie ready while the network computes.
const QUEUE: usize = 2;

/// The views of a batch of images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewBatch {
    /// The samples, in the order of the rows.
    pub samples: Vec<usize>,
    /// `views[v]` holds view `v` of every image.
    pub views: Vec<Arc<ImageBatch>>,
    /// Figures of the joint augmentation, one for each row.
    pub measures: Vec<(&'static str, Vec<f64>)>,
    /// Unreadable samples that were replaced: name and reason.
    pub replaced: Vec<(String, String)>,
}

/// The batches of a training stage, from some epoch to its end.
pub struct Batches {
    loader: Loader,
    data: Arc<dyn Dataset>,
    sides: Vec<usize>,
    settings: Settings,
    /// Batches of an epoch that steps are made of.
    usable: usize,
    /// The order of the epoch at hand, to tell who was replaced.
    order: (u64, Vec<u32>),
}

impl Batches {
    /// Starts loading `part` of the batches of `stage` from `begin` on.
    ///
    /// # Errors
    /// The system refuses threads.
    pub fn start(
        stage: &Pretrain,
        seed: u64,
        data: Arc<dyn Dataset>,
        begin: Cursor,
        part: Part,
    ) -> Result<Self, Failure> {
        let settings = Settings {
            batch: stage.batch,
            part,
            order: Order::Shuffled,
            seed,
            start: begin,
            end_epoch: stage.epochs as u64,
            workers: rayon::current_num_threads(),
            queue: QUEUE,
        };
        let wanted = stage.backbone.preprocessing();
        let share = |built: &Built<dyn Augmentation>| Arc::clone(&built.plugin);
        let views = stage
            .views
            .iter()
            .map(|view| view.iter().map(share).collect());
        let normalization = Normalization::new(wanted.mean, wanted.deviation);
        let joint = stage.joint.as_ref().map(|built| Arc::clone(&built.plugin));
        let transform = Views::new(joint, views.collect(), normalization)
            .ok_or_else(|| Failure::mistake("a view has no size"))?;
        let sides = transform.sides().to_vec();
        let loader = Loader::start(data.clone(), Arc::new(transform), settings.clone())
            .map_err(|error| Failure::fault(error.to_string()))?;
        let whole = data.len() / stage.batch / stage.step.accumulate;
        Ok(Self {
            usable: whole * stage.step.accumulate,
            loader,
            data,
            sides,
            settings,
            order: (u64::MAX, Vec::new()),
        })
    }

    /// Loads `count` whole batches of `stage` from `begin` on once more, as they were.
    ///
    /// # Errors
    /// They cannot be loaded again.
    pub fn again(
        &self,
        stage: &Pretrain,
        begin: Cursor,
        count: usize,
    ) -> Result<Vec<ViewBatch>, Failure> {
        let data = self.data.clone();
        let batches = Self::start(stage, self.settings.seed, data, begin, Part::WHOLE)?;
        batches.take(count).collect()
    }

    /// Takes a batch back that is not needed any more: its buffers are filled again, unless somebody still looks at them.
    pub fn recycle(&self, batch: ViewBatch) {
        let buffers = batch.views.into_iter().filter_map(Arc::into_inner);
        self.loader
            .recycle(buffers.map(|view| view.values).collect());
    }

    /// The data set.
    pub fn data(&self) -> &Arc<dyn Dataset> {
        &self.data
    }

    /// The name of a sample.
    pub fn name(&self, sample: usize) -> String {
        self.data.name(sample)
    }

    fn convert(&mut self, batch: Batch) -> ViewBatch {
        let replaced = if batch.replaced > 0 {
            self.replaced(&batch)
        } else {
            Vec::new()
        };
        let views = batch.views.into_iter().zip(&self.sides);
        ViewBatch {
            views: views
                .map(|(values, &side)| {
                    Arc::new(ImageBatch {
                        batch: batch.samples.len(),
                        height: side,
                        width: side,
                        values,
                    })
                })
                .collect(),
            samples: batch.samples,
            measures: batch.measures,
            replaced,
        }
    }

    /// Names and reasons of the samples that others stand in for.
    fn replaced(&mut self, batch: &Batch) -> Vec<(String, String)> {
        let Cursor {
            epoch,
            batch: index,
        } = batch.cursor;
        if self.order.0 != epoch {
            let Settings { order, seed, .. } = self.settings;
            self.order = (epoch, order.samples(self.data.len(), seed, epoch));
        }
        let Settings {
            batch: length,
            part,
            ..
        } = self.settings;
        let wanted = &self.order.1[index * length + part.rows(length).start..];
        let quarantined = self.loader.quarantined();
        let mut replaced = Vec::new();
        for (&held, &wanted) in batch.samples.iter().zip(wanted) {
            let bad = quarantined
                .iter()
                .find(|(sample, _)| *sample == wanted as usize);
            if let (Some((_, error)), true) = (bad, held != wanted as usize) {
                replaced.push((error.name.clone(), error.reason.clone()));
            }
        }
        replaced
    }
}

impl Iterator for Batches {
    type Item = Result<ViewBatch, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.loader.next()? {
            // Batches that do not fill a step are left out, like images that do not fill a batch.
            Ok(batch) if batch.cursor.batch >= self.usable => self.next(),
            Ok(batch) => Some(Ok(self.convert(batch))),
            Err(error) => Some(Err(Failure::fault(error.to_string()))),
        }
    }
}
