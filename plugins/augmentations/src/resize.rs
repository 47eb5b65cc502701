//! The shorter side brought to a length, as in evaluation.

use smallfry::{
    Augmentation, Context, Invalid,
    data::{
        operation::resize::{Filter, shorter_side},
        random::Random,
        view::View,
    },
    plugin,
};

use crate::check_side;

plugin! {
    /// Resizes the image so that its shorter side has a given length
    pub struct Resize: Augmentation {
        /// Length of the shorter side, in pixels.
        size: usize = 256,
        /// Resample with the bicubic filter, not the bilinear one.
        bicubic: bool = false,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        check_side("size", self.size)?;
        Ok(Box::new(self))
    }
}

impl Augmentation for Resize {
    fn apply(&self, view: &mut View<'_>, _: &mut Random) {
        let (width, height) = view.size();
        let target = shorter_side(width, height, self.size);
        if target == (width, height) {
            return;
        }
        let filter = match self.bicubic {
            true => Filter::Bicubic,
            false => Filter::Bilinear,
        };
        view.resize(target.0, target.1, filter);
    }
}
