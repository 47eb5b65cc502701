//! From images to features, batch by batch.
//!
//! Loading and the network take turns on all threads, so neither waits for a free core. File 0 of a sample is an image and
//! gets the evaluation's resize and crop; further files are views, written as a network takes them.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use smallfry_data::{
    Dataset, LoadError, View,
    normalize::Normalization,
    operation::{
        crop::central_square,
        resize::{Filter, shorter_side},
    },
};

use crate::{
    Encoder, backbone::Preprocessing, encoder::ImageBatch, failure::Failure, tensor,
    workplace::Workplace,
};

pub(crate) use super::extracted::Extraction;
pub use super::extracted::{Extracted, MEMORY_LIMIT};
use super::{
    cache::Place,
    crew::{Crew, Worked},
};

/// How images become features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Images {
    /// What the network's input looks like.
    pub preprocessing: Preprocessing,
    /// Images in a batch.
    pub batch: usize,
}

/// Of what features are extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    /// The samples before this one.
    pub end: usize,
    /// The first files of each.
    pub views: usize,
}

/// Samples that were read, a batch of images for each of their views.
struct Loaded {
    batches: Vec<ImageBatch>,
    /// Their places in the set.
    samples: Vec<u32>,
    labels: Vec<Option<u32>>,
    left_out: Vec<(String, String)>,
}

impl Images {
    /// Extracts the features of `set`, adding to the count of images `done` as it goes.
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
        let all = 0..set.len();
        let mut views = self.extract_into(&[], set, all, 1, encoder, workplace, done)?;
        Ok(views.pop().expect("one view was asked for"))
    }

    /// Extracts the features of the first `views` files of each of `samples`: one set of features a view, row by row the
    /// same samples. A sample is left out of all where one of its files cannot be read. Adds to the count of images `done`
    /// as it goes, and writes the features of each view to its place in the cache, where `places` has one.
    ///
    /// # Errors
    /// The user stops, or features that exceed memory cannot be written to the run folder.
    ///
    /// # Panics
    /// If the set has fewer views or samples.
    #[expect(
        clippy::too_many_arguments,
        reason = "what is extracted, by what, from where, to where"
    )]
    pub(super) fn extract_into(
        &self,
        places: &[Place],
        set: &Arc<dyn Dataset>,
        samples: Range<usize>,
        views: usize,
        encoder: &mut dyn Encoder,
        workplace: &Workplace,
        done: &mut usize,
    ) -> Result<Vec<Extracted>, Failure> {
        let folder = workplace.folder.root();
        let bytes = 4 * samples.len() * encoder.width();
        let mut extracted = (0..views)
            .map(|view| {
                Extraction::new(
                    set,
                    encoder.width(),
                    (bytes, views),
                    folder,
                    places.get(view),
                )
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let end = samples.end;
        let extent = Extent { end, views };
        let crew = Crew::engage(set, &extent, encoder, workplace);
        let round = self.batch * crew.as_ref().map_or(1, Crew::size);
        for first in samples.step_by(round) {
            if workplace.interrupt.requested() {
                return Err(stopped());
            }
            if let Some(crew) = &crew {
                crew.begin(first);
            }
            let own = self.work(&**set, first, &extent, encoder);
            let batches = match &crew {
                Some(crew) => crew.collect(&own),
                None => vec![own],
            };
            for batch in batches {
                for (extraction, features) in extracted.iter_mut().zip(&batch.features) {
                    extraction.push(features, &batch.samples)?;
                    extraction.leave_out(&batch.left_out);
                }
            }
            *done += (end.min(first + round) - first) * views;
            workplace.display.samples(*done as u64);
        }
        if let Some(crew) = &crew {
            crew.leave();
        }
        extracted.into_iter().map(Extraction::finish).collect()
    }

    /// The features of the batch of `set` that begins with sample `first`, of which there may be none.
    pub(super) fn work(
        &self,
        set: &dyn Dataset,
        first: usize,
        extent: &Extent,
        encoder: &dyn Encoder,
    ) -> Worked {
        let Extent { end, views } = *extent;
        let part = first.min(end)..end.min(first + self.batch);
        let loaded = self.load_views(set, part, views);
        let batches = loaded.batches.into_iter();
        Worked {
            features: batches
                .map(|batch| match batch.batch {
                    0 => Vec::new(),
                    _ => tensor::values(&encoder.embed(&Arc::new(batch))).into_owned(),
                })
                .collect(),
            samples: loaded.samples,
            left_out: loaded.left_out,
        }
    }

    /// The features of the first batch of `set`, a set of rows a view.
    pub(super) fn first_batch(
        &self,
        set: &dyn Dataset,
        views: usize,
        encoder: &dyn Encoder,
    ) -> Vec<Vec<f32>> {
        let end = set.len();
        self.work(set, 0, &Extent { end, views }, encoder).features
    }

    /// The readable samples among `samples`, resized, cropped and normalised, and their labels.
    pub(crate) fn load(
        &self,
        set: &dyn Dataset,
        samples: Range<usize>,
        left_out: &mut Vec<(String, String)>,
    ) -> (ImageBatch, Vec<Option<u32>>) {
        let mut loaded = self.load_views(set, samples, 1);
        left_out.extend(loaded.left_out);
        let batch = loaded.batches.pop().expect("one view was asked for");
        (batch, loaded.labels)
    }

    /// The first `views` files of the samples among `samples` whose files can all be read.
    fn load_views(&self, set: &dyn Dataset, samples: Range<usize>, views: usize) -> Loaded {
        let side = self.preprocessing.size;
        let numbers = 3 * side * side;
        let normalization =
            Normalization::new(self.preprocessing.mean, self.preprocessing.deviation);
        let results: Vec<_> = samples
            .into_par_iter()
            .map(|sample| {
                let mut values = vec![0.0; views * numbers];
                for (view, values) in values.chunks_exact_mut(numbers).enumerate() {
                    let image = set.load_view(sample, view)?;
                    let mut shaped = View::of(&image);
                    match view {
                        0 => self.shape(&mut shaped),
                        _ => self.fit(&mut shaped),
                    }
                    normalization.write(&mut shaped, values);
                }
                Ok((values, sample))
            })
            .collect();
        let empty = || ImageBatch {
            batch: 0,
            height: side,
            width: side,
            values: Vec::with_capacity(results.len() * numbers),
        };
        let mut loaded = Loaded {
            batches: (0..views).map(|_| empty()).collect(),
            samples: Vec::with_capacity(results.len()),
            labels: Vec::with_capacity(results.len()),
            left_out: Vec::new(),
        };
        for result in results {
            match result {
                Ok((values, sample)) => {
                    let values = values.chunks_exact(numbers);
                    for (batch, values) in loaded.batches.iter_mut().zip(values) {
                        batch.batch += 1;
                        batch.values.extend_from_slice(values);
                    }
                    loaded.samples.push(sample as u32);
                    loaded.labels.push(set.label(sample));
                }
                Err(LoadError { name, reason }) => loaded.left_out.push((name, reason)),
            }
        }
        loaded
    }

    /// Resize of the shorter side, then the central square.
    fn shape(&self, view: &mut View<'_>) {
        let Preprocessing { size, resize, .. } = self.preprocessing;
        let (width, height) = view.size();
        let (width, height) = shorter_side(width, height, resize);
        if (width, height) != view.size() {
            view.resize(width, height, self.filter());
        }
        let square = central_square(width, height, size);
        view.crop(square.expect("an evaluation resizes to no less than it crops"));
    }

    /// A view as the network takes it: as it is where it has the input's size, else resized to it.
    fn fit(&self, view: &mut View<'_>) {
        let side = self.preprocessing.size;
        if view.size() != (side, side) {
            view.resize(side, side, self.filter());
        }
    }

    fn filter(&self) -> Filter {
        match self.preprocessing.bicubic {
            true => Filter::Bicubic,
            false => Filter::Bilinear,
        }
    }
}

/// The end of an evaluation that the user stopped.
pub(super) fn stopped() -> Failure {
    Failure::interrupt("stopped during evaluation")
        .help("the same command with --resume goes on with this stage")
}
