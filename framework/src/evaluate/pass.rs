//! The feature pass of an evaluation: from the cache where the features are known, through the network where not.
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
    Encoder, failure::Failure, metric::FeatureSet, plan::Evaluate, tensor, train::Workplace,
};

/// The feature pass of a stage.
pub(super) struct Pass<'a> {
    stage: &'a Evaluate,
    images: Images,
    encoder: Box<dyn Encoder>,
    cache: Option<Cache>,
    /// Images done so far.
    done: usize,
}

impl<'a> Pass<'a> {
    /// The pass of `stage` by `encoder`. Where there can be no cache the user is told, and the pass goes without.
    pub fn new(stage: &'a Evaluate, encoder: Box<dyn Encoder>, workplace: &mut Workplace) -> Self {
        let preprocessing = super::preprocessing(stage);
        let cache = stage.cache.then(|| {
            let backbone = &stage.subject.backbone.resolved;
            let parameters = encoder.parameters();
            Cache::new(
                workplace.folder.root(),
                backbone,
                &parameters,
                &preprocessing,
            )
        });
        let cache = cache.and_then(|cache| {
            cache
                .map_err(|failure| workplace.note(format!("features are not cached: {failure}")))
                .ok()
        });
        Self {
            stage,
            images: Images {
                preprocessing,
                batch: stage.batch,
            },
            encoder,
            cache,
            done: 0,
        }
    }

    /// The features of the first `views` files of the samples of `set`: from the cache, or extracted and put there.
    pub fn features(
        &mut self,
        set: &Arc<dyn Dataset>,
        views: usize,
        workplace: &mut Workplace,
    ) -> Result<Vec<Extracted>, Failure> {
        let places = match &self.cache {
            Some(cache) => cache.places(&**set, views).unwrap_or_else(|reason| {
                workplace.note(format!("features are not cached: {reason}"));
                Vec::new()
            }),
            None => Vec::new(),
        };
        if let Some(known) = self.known(&places, set, views, workplace) {
            self.done += set.len() * views;
            workplace.display.samples(self.done as u64);
            return Ok(known);
        }
        let (all, encoder) = (0..set.len(), &mut *self.encoder);
        let extracted = self.images.extract_into(
            &places,
            set,
            all,
            views,
            encoder,
            workplace,
            &mut self.done,
        )?;
        if extracted[0].rows() == 0 {
            return Err(Failure::mistake(format!(
                "stage `{}`: none of the {} images can be read",
                self.stage.name,
                set.len()
            )));
        }
        Ok(extracted)
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
