//! What two crops of an image have in common, thinned out.
//!
//! Pixels are hidden when the view is normalised, after colour changes and blur, and a mirrored view carries its hidden
//! pixels along; so the augmentations of each view follow as usual. A hidden pixel becomes the mean of its view, not of
//! the data set.

use smallfry::{
    Context, Invalid, JointAugmentation,
    data::{
        image::Rectangle,
        operation::{
            crop::CropSampler,
            overlap::{in_view, overlap},
            resize::Filter,
        },
        random::Random,
        view::{Replacement, View},
    },
    plugin,
};

use crate::{check_probability, check_range, check_side, iou_pair::TRIES};

plugin! {
    /// Crops two views and hides random pixels of what both show
    pub struct DropOverlap: JointAugmentation {
        /// Probability of hiding each pixel of the overlap, in each view for itself.
        p: f64 = 0.5,
        /// Side of the squares, in pixels.
        size: usize = 224,
        /// Range of each rectangle's area, as a part of the image's.
        scale: (f64, f64) = (0.2, 1.0),
        /// Range of width over height.
        ratio: (f64, f64) = (0.75, 1.3333333333333333),
    }

    fn build(self, _: &Context) -> Result<Box<dyn JointAugmentation>, Invalid> {
        check_probability("p", self.p)?;
        check_side("size", self.size)?;
        check_range("scale", self.scale, 0.0, 1.0)?;
        check_range("ratio", self.ratio, 0.0, f64::MAX)?;
        Ok(Box::new(self))
    }
}

impl JointAugmentation for DropOverlap {
    fn views(&self) -> Option<usize> {
        Some(2)
    }

    fn size(&self) -> Option<usize> {
        Some(self.size)
    }

    fn apply(&self, views: &mut [View<'_>], random: &mut Random, _: &mut [f64]) {
        let sampler = CropSampler {
            scale: self.scale,
            ratio: self.ratio,
            tries: TRIES,
        };
        let image = views[0].size();
        let crops = [sampler.draw(image, random), sampler.draw(image, random)];
        let shared = overlap(crops[0], crops[1]);
        for (view, crop) in views.iter_mut().zip(crops) {
            view.crop(crop);
            view.resize(self.size, self.size, Filter::Bilinear);
            let part = shared.and_then(|shared| in_view(shared, crop, self.size));
            if let Some(part) = part {
                view.hide(&self.mask(part, random), Replacement::Mean);
            }
        }
    }
}

impl DropOverlap {
    /// Random pixels of a part of a view.
    fn mask(&self, part: Rectangle, random: &mut Random) -> Vec<bool> {
        let mut mask = vec![false; self.size * self.size];
        for row in mask
            .chunks_exact_mut(self.size)
            .skip(part.top)
            .take(part.height)
        {
            row[part.left..part.left + part.width].fill_with(|| random.chance(self.p));
        }
        mask
    }
}
