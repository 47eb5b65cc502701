//! The central square, as in evaluation.

use smallfry::{
    Augmentation, Context, Invalid,
    data::{
        operation::crop::{central_square, pad},
        random::Random,
        view::View,
    },
    plugin,
};

use crate::check_side;

plugin! {
    /// Cuts out the central square; an image that is too small gets black borders
    pub struct CenterCrop: Augmentation {
        /// Side of the square, in pixels.
        size: usize = 224,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        check_side("size", self.size)?;
        Ok(Box::new(self))
    }
}

impl Augmentation for CenterCrop {
    fn apply(&self, view: &mut View<'_>, _: &mut Random) {
        let (width, height) = view.size();
        if width < self.size || height < self.size {
            let padded = pad(view.image(), self.size);
            view.replace(padded);
        }
        let (width, height) = view.size();
        let square = central_square(width, height, self.size)
            .expect("the image was padded to at least the square");
        view.crop(square);
    }

    fn size(&self) -> Option<usize> {
        Some(self.size)
    }
}
