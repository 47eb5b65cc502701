//! Adversarial views (the small models' AdMoCo): both views are moved, within a small box, to where they are least
//! alike.
//!
//! The attack is projected gradient descent on the mean cosine s of the views' embeddings. Both views step at once
//! against the sign of their own gradient, x ← x − α sign(∂s/∂x), and are put back into the box of ±ε around where
//! they began and into the range of pixels that there are, from (0 − mean)/deviation to (1 − mean)/deviation in each
//! channel. α and ε are in normalised pixels, as in the reference: its ε of 0.0157, 4/255, is about one level of a
//! byte there, not four. The query encoder takes part as in inference; the key encoder as in training, so its running
//! statistics move with each step. What comes out carries no gradient, and MoCo goes on with it as with any views.
//!
//! The reference's class differs in four places that make it no attack, and no program of its uses it: it keeps the
//! first view's gradient only, and adds the signs of that gradient's first two images to all images of the first and
//! second view; it steps towards likeness; it clamps the first three images of a batch in the place of the three
//! channels; and it leaves the views on the tape. Here each image of each view has its own gradient, and each channel
//! its own range.

use std::sync::Arc;

use smallfry::{
    Encoder, Invalid,
    backbone::Preprocessing,
    data::random::Random,
    encoder::{ImageBatch, Normalised, OfImages},
    serde::{Deserialize, Serialize},
    tensor::values,
};

use crate::groups::{Groups, by_groups, parts};

/// A length below which embeddings are divided by it instead of their own, as in PyTorch's `normalize`.
const LEAST: f64 = 1e-12;

/// How views are attacked; the defaults are the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "smallfry::serde", default, deny_unknown_fields)]
pub struct Adversary {
    /// Steps of the attack.
    pub steps: usize,
    /// What a step changes each value by, in normalised pixels.
    pub step_size: f64,
    /// What all steps together change a value by at most, likewise.
    pub epsilon: f64,
}

impl Default for Adversary {
    fn default() -> Self {
        Self {
            steps: 5,
            step_size: 0.008,
            epsilon: 0.0157,
        }
    }
}

impl Adversary {
    /// Whether it changes anything.
    ///
    /// # Errors
    /// It has no steps, or none of a size.
    pub fn check(&self) -> Result<(), Invalid> {
        let above_zero = |value: f64| value > 0.0 && value.is_finite();
        let fault = match self {
            Self { steps: 0, .. } => "`steps` must be at least 1",
            Self { step_size, .. } if !above_zero(*step_size) => "`step_size` must be above 0",
            Self { epsilon, .. } if !above_zero(*epsilon) => "`epsilon` must be above 0",
            _ => return Ok(()),
        };
        Err(Invalid::new("adversary", fault).help("leave it out for views as they are"))
    }
}

/// An attack on the views of a network.
#[derive(Clone, Debug)]
pub struct Attack {
    adversary: Adversary,
    /// The normalised values of black and white, per channel.
    range: [(f32, f32); 3],
}

impl Attack {
    /// The attack on views for a network that takes images so.
    pub fn new(adversary: Adversary, preprocessing: &Preprocessing) -> Self {
        let Preprocessing {
            mean, deviation, ..
        } = preprocessing;
        // As a byte of 0 and one of 255 are normalised, to the last bit.
        let value = |byte: f32, c: usize| (byte / 255.0 - mean[c]) / deviation[c];
        Self {
            adversary,
            range: std::array::from_fn(|c| (value(0.0, c), value(255.0, c))),
        }
    }

    /// The views that the query and the key encoder find least alike. The key encoder has batch statistics of its own
    /// for each part of the batch.
    ///
    /// # Panics If an encoder gives no gradients of images.
    pub fn run(
        &self,
        query: &mut dyn Encoder,
        key: &mut dyn Encoder,
        views: [&Arc<ImageBatch>; 2],
        groups: &Groups,
        draws: &mut Random,
    ) -> [Arc<ImageBatch>; 2] {
        let mut attacked = views.map(Arc::clone);
        for _ in 0..self.adversary.steps {
            let gradients = likeness(query, key, &attacked, groups, draws).1;
            for ((view, origin), gradient) in attacked.iter_mut().zip(views).zip(gradients) {
                self.step(Arc::make_mut(view), origin, &gradient);
            }
        }
        attacked
    }

    /// Moves `view` against `gradient`, no further from `origin` than is allowed.
    fn step(&self, view: &mut ImageBatch, origin: &ImageBatch, gradient: &[f32]) {
        let (size, epsilon) = (
            self.adversary.step_size as f32,
            self.adversary.epsilon as f32,
        );
        let values = view.values.iter_mut().zip(&origin.values).zip(gradient);
        for (((value, origin), gradient), (black, white)) in
            values.zip(self.range.into_iter().cycle())
        {
            // No gradient, no direction: `signum` gives zero one.
            let direction = if *gradient == 0.0 {
                0.0
            } else {
                gradient.signum()
            };
            *value = (*value - size * direction)
                .clamp(origin - epsilon, origin + epsilon)
                .clamp(black, white);
        }
    }
}

/// The mean cosine of the views' embeddings, and its gradient with respect to either view.
fn likeness(
    query: &mut dyn Encoder,
    key: &mut dyn Encoder,
    views: &[Arc<ImageBatch>; 2],
    groups: &Groups,
    draws: &mut Random,
) -> (f64, [Vec<f32>; 2]) {
    let [first, second] = views;
    let batch = groups.batch(first.batch);
    let width = query.width();
    let (queries, pull) = of_images(query).trace(first, Normalised::AsInInference);
    let queries = values(&queries);
    let mut mean = 0.0;
    let mut of_queries = Vec::with_capacity(queries.len());
    let mut of_second = Vec::with_capacity(second.values.len());
    by_groups(
        key,
        parts(second, groups.own()),
        &groups.draw(draws),
        |key, part, draw| {
            let (keys, pull) = of_images(key).trace(part, Normalised::AsInTraining { draw });
            let mut of_keys = Vec::with_capacity(part.batch * width);
            let done = of_queries.len();
            let own = queries[done..].chunks_exact(width);
            for (query, key) in own.zip(values(&keys).chunks_exact(width)) {
                let share = 1.0 / batch as f64;
                mean += share * cosine(query, key, share, &mut of_queries);
                cosine(key, query, share, &mut of_keys);
            }
            of_second.extend(pull(&of_keys));
        },
    );
    (mean, [pull(&of_queries), of_second])
}

fn of_images(encoder: &mut dyn Encoder) -> &mut dyn OfImages {
    (encoder.of_images()).expect("the objective starts only where encoders give these gradients")
}

/// The cosine of `a` and `b`; its gradient with respect to `a`, times `share`, goes to `gradient`:
/// (b/|b| − cos · a/|a|) / |a|.
fn cosine(a: &[f32], b: &[f32], share: f64, gradient: &mut Vec<f32>) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let [long, other] = [a, b].map(|row| dot(row, row).sqrt().max(LEAST));
    let cosine = dot(a, b) / (long * other);
    let along = cosine / long;
    gradient.extend(
        a.iter()
            .zip(b)
            .map(|(a, b)| (share / long * (f64::from(*b) / other - along * f64::from(*a))) as f32),
    );
    cosine
}

#[cfg(test)]
mod tests;
