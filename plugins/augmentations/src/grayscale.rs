//! Colour taken away.

use smallfry::{
    Augmentation, Context, Invalid,
    data::{operation::color::grey, random::Random, view::View},
    plugin,
};

use crate::check_probability;

plugin! {
    /// Replaces the colours by their luma, at random
    pub struct Grayscale: Augmentation {
        /// Probability of doing so.
        p: f64 = 0.5,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        check_probability("p", self.p)?;
        Ok(Box::new(self))
    }
}

impl Augmentation for Grayscale {
    fn apply(&self, view: &mut View<'_>, random: &mut Random) {
        if random.chance(self.p) {
            grey(view.image_mut());
        }
    }
}
