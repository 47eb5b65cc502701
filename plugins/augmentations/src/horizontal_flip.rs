//! Left and right exchanged.

use smallfry::{
    Augmentation, Context, Invalid,
    data::{random::Random, view::View},
    plugin,
};

use crate::check_probability;

plugin! {
    /// Mirrors the view left to right, at random
    pub struct HorizontalFlip: Augmentation {
        /// Probability of mirroring.
        p: f64 = 0.5,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        check_probability("p", self.p)?;
        Ok(Box::new(self))
    }
}

impl Augmentation for HorizontalFlip {
    fn apply(&self, view: &mut View<'_>, random: &mut Random) {
        if random.chance(self.p) {
            view.flip();
        }
    }
}
