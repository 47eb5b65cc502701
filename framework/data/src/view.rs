//! A view: one augmented version of an image on its way to the network.
//!
//! Crops and resizes are only noted down and carried out together when pixels are asked for, so that a crop copies
//! nothing and a resize computes nothing that a later crop drops. The bytes are those of carrying out each at once.

use std::borrow::Cow;

use crate::{
    image::{Image, Rectangle},
    operation::{
        crop,
        resize::{Filter, resize},
    },
};

/// One augmented version of a decoded image; the decoded image itself is shared by all its views.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The pixels so far; borrowed until something changes them.
    image: Cow<'a, Image>,
    /// The part of `image` that the view shows.
    window: Rectangle,
    /// What the window is to be resized to.
    target: Option<Target>,
    /// What replaces each pixel (row-major, `height * width`) after normalisation, where any is replaced.
    replaced: Option<Vec<Option<Replacement>>>,
}

/// What a pixel becomes after normalisation, in all channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// 0, which stands for the mean colour of the data set.
    Zero,
    /// The mean of its channel over the whole view, hidden pixels included.
    Mean,
}

/// A resize not yet carried out.
#[derive(Clone, Copy, Debug)]
struct Target {
    width: usize,
    height: usize,
    filter: Filter,
    /// The part of the result that is wanted.
    keep: Rectangle,
}

impl<'a> View<'a> {
    /// The unchanged view of an image.
    pub fn of(image: &'a Image) -> Self {
        Self {
            image: Cow::Borrowed(image),
            window: image.whole(),
            target: None,
            replaced: None,
        }
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        let shown = self.target.map_or(self.window, |target| target.keep);
        (shown.width, shown.height)
    }

    /// The pixels, after all that was noted down.
    pub fn image(&mut self) -> &Image {
        self.finish();
        &self.image
    }

    /// The pixels to change in place; the first change of a borrowed image copies it.
    pub fn image_mut(&mut self) -> &mut Image {
        self.finish();
        if let Cow::Borrowed(image) = self.image {
            self.image = Cow::Owned(crop::crop(image, image.whole()));
        }
        self.image.to_mut()
    }

    /// Puts an image in place of the pixels; what [`hide`](Self::hide) noted is kept only if the size stays the same.
    pub fn replace(&mut self, image: Image) {
        if self.size() != (image.width, image.height) {
            self.replaced = None;
        }
        self.window = image.whole();
        self.target = None;
        if let Cow::Owned(old) = std::mem::replace(&mut self.image, Cow::Owned(image)) {
            old.recycle();
        }
    }

    /// Keeps only a part, given in the view's coordinates.
    ///
    /// # Panics
    /// The part sticks out.
    pub fn crop(&mut self, part: Rectangle) {
        if let Some(replaced) = &self.replaced {
            let (width, _) = self.size();
            let rows = replaced
                .chunks_exact(width.max(1))
                .skip(part.top)
                .take(part.height);
            let kept = rows.flat_map(|row| &row[part.left..part.left + part.width]);
            self.replaced = Some(kept.copied().collect());
        }
        match &mut self.target {
            Some(target) => target.keep = target.keep.part(part),
            None => self.window = self.window.part(part),
        }
    }

    /// Resizes to `width * height` pixels; hidden pixels are forgotten.
    pub fn resize(&mut self, width: usize, height: usize, filter: Filter) {
        if self.target.is_some() {
            self.finish();
        }
        self.replaced = None;
        self.target = Some(Target {
            width,
            height,
            filter,
            keep: Rectangle {
                top: 0,
                left: 0,
                height,
                width,
            },
        });
    }

    /// Mirrors left to right, hidden pixels with it.
    pub fn flip(&mut self) {
        crop::flip(self.image_mut());
        let (width, _) = self.size();
        if let Some(replaced) = &mut self.replaced {
            replaced
                .chunks_exact_mut(width)
                .for_each(<[Option<Replacement>]>::reverse);
        }
    }

    /// What replaces each pixel after normalisation, row-major; nothing where none is hidden.
    pub fn replaced(&self) -> Option<&[Option<Replacement>]> {
        self.replaced.as_deref()
    }

    /// Replaces the pixels where `mask` (row-major, `height * width`) holds, after normalisation; those that were
    /// hidden before stay as they are elsewhere. The pixels themselves do not change until then, so colour changes
    /// and blur see them.
    ///
    /// # Panics
    /// The mask has another size than the view.
    pub fn hide(&mut self, mask: &[bool], by: Replacement) {
        let (width, height) = self.size();
        assert_eq!(
            mask.len(),
            width * height,
            "a mask has the size of its view"
        );
        let replaced = self.replaced.get_or_insert_with(|| vec![None; mask.len()]);
        for (pixel, _) in replaced.iter_mut().zip(mask).filter(|(_, hidden)| **hidden) {
            *pixel = Some(by);
        }
    }

    /// Gives the view's buffers back to the thread's pool.
    pub fn recycle(self) {
        if let Cow::Owned(image) = self.image {
            image.recycle();
        }
    }

    /// Carries out the crop and the resize that were noted down.
    fn finish(&mut self) {
        let image = match self.target.take() {
            Some(Target {
                width,
                height,
                filter,
                keep,
            }) => resize(&self.image, self.window, (width, height), keep, filter),
            None if self.window == self.image.whole() => return,
            None => crop::crop(&self.image, self.window),
        };
        self.window = image.whole();
        if let Cow::Owned(old) = std::mem::replace(&mut self.image, Cow::Owned(image)) {
            old.recycle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::crop::crop;

    fn part(top: usize, left: usize, height: usize, width: usize) -> Rectangle {
        Rectangle {
            top,
            left,
            height,
            width,
        }
    }

    fn ramp() -> Image {
        let grey: Vec<u8> = (0..30 * 20).map(|i| (i * 7 % 251) as u8).collect();
        Image::from_grey(30, 20, &grey)
    }

    #[test]
    fn postponed_steps_equal_immediate_ones() {
        let image = ramp();
        let mut view = View::of(&image);
        view.crop(part(2, 3, 15, 20));
        view.crop(part(1, 1, 12, 18));
        view.resize(40, 30, Filter::Bilinear);
        view.crop(part(4, 5, 20, 30));
        assert_eq!(view.size(), (30, 20));

        let now = crop(&crop(&image, part(2, 3, 15, 20)), part(1, 1, 12, 18));
        let now = resize(
            &now,
            now.whole(),
            (40, 30),
            part(0, 0, 30, 40),
            Filter::Bilinear,
        );
        let now = crop(&now, part(4, 5, 20, 30));
        assert!(*view.image() == now);
    }

    #[test]
    fn a_change_leaves_the_shared_image_alone() {
        let image = ramp();
        let mut view = View::of(&image);
        view.flip();
        assert!(*view.image() != image);
        view.flip();
        assert!(*view.image() == image);
        assert!(image == ramp());
    }

    #[test]
    fn the_mask_follows_flips_and_crops() {
        let image = Image::black(3, 2);
        let mut view = View::of(&image);
        view.hide(&[true, false, false, false, false, true], Replacement::Zero);
        view.hide(
            &[false, true, false, false, false, false],
            Replacement::Mean,
        );
        view.flip();
        let (zero, mean) = (Some(Replacement::Zero), Some(Replacement::Mean));
        assert_eq!(
            view.replaced().unwrap(),
            [None, mean, zero, zero, None, None]
        );
        view.crop(part(0, 1, 2, 2));
        assert_eq!(view.replaced().unwrap(), [mean, zero, None, None]);
    }
}
