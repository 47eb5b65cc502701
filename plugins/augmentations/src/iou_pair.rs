//! Two crops of an image that overlap as much as wanted.
//!
//! IoU is measured as where the published thresholds come from, with inclusive far edges: crops that touch overlap a
//! little, and equal ones by more than 1 (see `operation::overlap`). Crops of which one lies within the other are drawn
//! again whatever their IoU. Published names for the bounds are super-hard (1e-4 to 0.05), hard (0.05 to 0.25) and easy
//! (1e-4, or 0.25, to 1).

use smallfry::{
    Context, Invalid, JointAugmentation,
    data::{
        image::Rectangle,
        operation::{
            crop::CropSampler,
            overlap::{iou, nested},
            resize::Filter,
        },
        random::Random,
        view::View,
    },
    plugin,
};

use crate::{check_probability, check_range, check_side};

/// Tries of the sampler of constrained crops before it takes a central one; twice as many as torchvision's.
pub(crate) const TRIES: usize = 20;

/// The largest tolerance: that many draws take a good part of a second.
const MOST_DRAWS: usize = 1_000_000;

plugin! {
    /// Crops two views whose IoU lies within bounds, neither within the other
    pub struct IoUPair: JointAugmentation {
        /// The least IoU of the two crops, before they are resized.
        low: f64 = 0.05,
        /// The greatest.
        high: f64 = 0.25,
        /// Draws of a pair that may miss the bounds; the next one is taken as it is and counts as failed.
        tolerance: usize = 100,
        /// Share of the images whose crops must meet the bounds; the others get two independent ones.
        p: f64 = 1.0,
        /// Side of the squares, in pixels.
        size: usize = 224,
        /// Range of each rectangle's area, as a part of the image's.
        scale: (f64, f64) = (0.2, 1.0),
        /// Range of width over height.
        ratio: (f64, f64) = (0.75, 1.3333333333333333),
    }

    fn build(self, _: &Context) -> Result<Box<dyn JointAugmentation>, Invalid> {
        for (field, bound) in [("low", self.low), ("high", self.high)] {
            if !(0.0..=2.0).contains(&bound) {
                return Err(Invalid::new(field, "must be from 0 to 2"));
            }
        }
        if self.low > self.high {
            return Err(Invalid::new("low", "must not be above `high`"));
        }
        if !(1..=MOST_DRAWS).contains(&self.tolerance) {
            let reason = format!("must be from 1 to {MOST_DRAWS} draws");
            return Err(Invalid::new("tolerance", reason));
        }
        check_probability("p", self.p)?;
        check_side("size", self.size)?;
        check_range("scale", self.scale, 0.0, 1.0)?;
        check_range("ratio", self.ratio, 0.0, f64::MAX)?;
        Ok(Box::new(self))
    }
}

impl IoUPair {
    fn sampler(&self, tries: usize) -> CropSampler {
        CropSampler {
            scale: self.scale,
            ratio: self.ratio,
            tries,
        }
    }

    /// Draws two crops of an image of the given width and height, and tells whether they are those of a last draw that
    /// nothing was asked of.
    fn pair(&self, size: (usize, usize), random: &mut Random) -> ([Rectangle; 2], bool) {
        let draw = |sampler: CropSampler, random: &mut Random| {
            let first = sampler.draw(size, random);
            [first, sampler.draw(size, random)]
        };
        if !random.chance(self.p) {
            return (draw(self.sampler(CropSampler::TRIES), random), false);
        }
        let sampler = self.sampler(TRIES);
        for _ in 0..self.tolerance {
            let [first, second] = draw(sampler, random);
            if (self.low..=self.high).contains(&iou(first, second)) && !nested(first, second) {
                return ([first, second], false);
            }
        }
        (draw(sampler, random), true)
    }
}

impl JointAugmentation for IoUPair {
    fn views(&self) -> Option<usize> {
        Some(2)
    }

    fn size(&self) -> Option<usize> {
        Some(self.size)
    }

    /// The mean IoU, and the percentage of images for which no draw met the bounds.
    fn measures(&self) -> &'static [&'static str] {
        &["iou", "iou_failed"]
    }

    fn apply(&self, views: &mut [View<'_>], random: &mut Random, measures: &mut [f64]) {
        let (crops, failed) = self.pair(views[0].size(), random);
        for (view, crop) in views.iter_mut().zip(crops) {
            view.crop(crop);
            view.resize(self.size, self.size, Filter::Bilinear);
        }
        measures[0] = iou(crops[0], crops[1]);
        measures[1] = if failed { 100.0 } else { 0.0 };
    }
}
