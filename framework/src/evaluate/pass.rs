//! The feature pass of a stage: from the cache where the features are known, through the network where not.
//!
//! The cache never fails a stage: where it cannot be used the user is told why, and the pass goes without.

use std::sync::Arc;

use smallfry_data::Dataset;

use super::{
    cache::{Cache, Place},
    extracted::Extracted,
    features::Images,
};
use crate::{
    Encoder, failure::Failure, metric::FeatureSet, plan::Subject, tensor, workplace::Workplace,
};

/// The feature pass of a stage.
pub(crate) struct Pass<'a> {
    stage: &'a str,
    images: Images,
    encoder: Box<dyn Encoder>,
    cache: Option<Cache>,
    /// Images done so far.
    done: usize,
}

impl<'a> Pass<'a> {
    /// The pass of `stage` by the `encoder` of `subject`, with a cache where one is wanted. Where there can be none the user
    /// is told, and the pass goes without.
    pub fn new(
        stage: &'a str,
        subject: &Subject,
        images: Images,
        cached: bool,
        encoder: Box<dyn Encoder>,
        workplace: &mut Workplace,
    ) -> Self {
        let cache = cached.then(|| {
            let parameters = encoder.parameters();
            Cache::new(
                workplace.folder.root(),
                &subject.backbone.resolved,
                &parameters,
                &images.preprocessing,
            )
        });
        let cache = cache.and_then(|cache| {
            cache
                .map_err(|failure| workplace.note(format!("features are not cached: {failure}")))
                .ok()
        });
        Self {
            stage,
            images,
            encoder,
            cache,
            done: 0,
        }
    }

    /// The width of a feature.
    pub fn width(&self) -> usize {
        self.encoder.width()
    }

    /// The features of the first `views` files of the first `samples` of `set`: from the cache, or extracted and, where these
    /// are all samples, put there.
    ///
    /// # Errors
    /// None of the images can be read, the user stops, or features that exceed memory cannot be written.
    pub fn features(
        &mut self,
        set: &Arc<dyn Dataset>,
        samples: usize,
        views: usize,
        workplace: &mut Workplace,
    ) -> Result<Vec<Extracted>, Failure> {
        let mut places = self.places(&**set, views, workplace);
        let mut known = self.known(&places, set, views, workplace);
        if known.is_none() && !places.is_empty() && views < set.views() {
            // Those of all files hold the same rows, unless a file that is not asked for is broken.
            let mut more = self.places(&**set, set.views(), workplace);
            more.truncate(views);
            known = self.known(&more, set, views, workplace);
            known = known.filter(|known| known[0].left_out().is_empty());
        }
        if let Some(mut known) = known {
            known.iter_mut().for_each(|set| set.keep_first(samples));
            self.done += samples * views;
            workplace.display.samples(self.done as u64);
            return Ok(known);
        }
        if samples < set.len() {
            places.clear();
        }
        let (range, encoder) = (0..samples, &mut *self.encoder);
        let extracted = self.images.extract_into(
            &places,
            set,
            range,
            views,
            encoder,
            workplace,
            &mut self.done,
        )?;
        if let Some(cache) = self.cache.as_ref().filter(|_| !places.is_empty()) {
            cache.make_room(&places);
        }
        if extracted[0].rows() == 0 {
            return Err(Failure::mistake(format!(
                "stage `{}`: none of the {samples} images can be read",
                self.stage
            )));
        }
        Ok(extracted)
    }

    /// Where the features of the first `views` files of `set` belong; nowhere where there is no cache.
    fn places(&self, set: &dyn Dataset, views: usize, workplace: &mut Workplace) -> Vec<Place> {
        let places = self.cache.as_ref().map(|cache| cache.places(set, views));
        places.unwrap_or(Ok(Vec::new())).unwrap_or_else(|reason| {
            workplace.note(format!("features are not cached: {reason}"));
            Vec::new()
        })
    }

    /// The features at `places`, where all are there, whole, and begin as the encoder's do now.
    fn known(
        &self,
        places: &[Place],
        set: &Arc<dyn Dataset>,
        views: usize,
        workplace: &mut Workplace,
    ) -> Option<Vec<Extracted>> {
        let mut known = Vec::with_capacity(views);
        for place in places {
            match place.read(set, self.encoder.width(), views) {
                Ok(found) => known.push(found?),
                Err(reason) => {
                    workplace.note(format!("cached features are made again: {reason}"));
                    return None;
                }
            }
        }
        if known.is_empty() || known[0].rows() == 0 {
            return None;
        }
        let first = self.images.first_batch(&**set, views, &*self.encoder);
        let same = known.iter().zip(&first).all(|(known, now)| {
            let rows = now.len() / known.width().max(1);
            rows <= known.rows() && same_bits(&tensor::values(&known.read(0..rows)), now)
        });
        if !same {
            workplace.note(
                "cached features are made again: the first of them are not what the network gives now"
                    .to_owned(),
            );
        }
        same.then_some(known)
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
