//! One crop for all views of an image, so that they differ in everything but place.

use smallfry::{
    Context, Invalid, JointAugmentation,
    data::{image::Rectangle, random::Random, view::View},
    plugin,
};

plugin! {
    /// Crops all views of an image to the same square
    pub struct SameCrop: JointAugmentation {
        /// Side of the square as a share of the image's shorter side, above 0 and up to 1.
        share: f64 = 0.8,
    }

    fn build(self, _: &Context) -> Result<Box<dyn JointAugmentation>, Invalid> {
        if !(self.share > 0.0 && self.share <= 1.0) {
            return Err(Invalid::new("share", "must be above 0 and up to 1"));
        }
        Ok(Box::new(self))
    }
}

impl JointAugmentation for SameCrop {
    fn apply(&self, views: &mut [View<'_>], random: &mut Random, _: &mut [f64]) {
        // Every view is the whole image here.
        let Some((width, height)) = views.first().map(View::size) else {
            return;
        };
        let side = (self.share * width.min(height) as f64).round().max(1.0) as usize;
        let mut place = |room: usize| random.below(room as u64 + 1) as usize;
        let part = Rectangle {
            top: place(height - side),
            left: place(width - side),
            height: side,
            width: side,
        };
        for view in views {
            // Only noted down: pixels are computed once, for all crops and resizes together.
            view.crop(part);
        }
    }
}
