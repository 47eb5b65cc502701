//! Solarisation, one of the augmentations of BYOL (Grill et al. 2020, appendix B).

use smallfry::{
    Augmentation, Context, Invalid,
    data::{random::Random, view::View},
    plugin,
};

plugin! {
    /// Inverts bright pixels, at random
    pub struct Solarize: Augmentation {
        /// Values from this one on are inverted, each channel for itself.
        threshold: u8 = 128,
        /// Probability.
        p: f64 = 0.2,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        if !(0.0..=1.0).contains(&self.p) {
            return Err(Invalid::new("p", "must be a probability, from 0 to 1"));
        }
        Ok(Box::new(self))
    }
}

impl Augmentation for Solarize {
    fn apply(&self, view: &mut View<'_>, random: &mut Random) {
        // Randomness comes from `random` alone, which is keyed by seed, epoch, sample and view: any worker at any time
        // gets the same.
        if random.chance(self.p) {
            for value in &mut view.image_mut().pixels {
                if *value >= self.threshold {
                    *value = 255 - *value;
                }
            }
        }
    }
}
