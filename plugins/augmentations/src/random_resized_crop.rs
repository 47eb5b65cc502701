//! A random part of the image, resized: the augmentation that makes two views differ in scale and place.

use smallfry::{
    Augmentation, Context, Invalid,
    data::{
        operation::{crop::random_rectangle, resize::Filter},
        random::Random,
        view::View,
    },
    plugin,
};

use crate::{check_range, check_side};

plugin! {
    /// Crops a random rectangle and resizes it to a square
    pub struct RandomResizedCrop: Augmentation {
        /// Side of the square, in pixels.
        size: usize = 224,
        /// Range of the rectangle's area, as a part of the image's.
        scale: (f64, f64) = (0.2, 1.0),
        /// Range of width over height.
        ratio: (f64, f64) = (0.75, 1.3333333333333333),
        /// Resample with the bicubic filter, not the bilinear one.
        bicubic: bool = false,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        check_side("size", self.size)?;
        check_range("scale", self.scale, 0.0, 1.0)?;
        check_range("ratio", self.ratio, 0.0, f64::MAX)?;
        Ok(Box::new(self))
    }
}

impl Augmentation for RandomResizedCrop {
    fn apply(&self, view: &mut View<'_>, random: &mut Random) {
        let part = random_rectangle(view.size(), self.scale, self.ratio, random);
        view.crop(part);
        let filter = match self.bicubic {
            true => Filter::Bicubic,
            false => Filter::Bilinear,
        };
        view.resize(self.size, self.size, filter);
    }

    fn size(&self) -> Option<usize> {
        Some(self.size)
    }
}
