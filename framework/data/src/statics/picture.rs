//! The pictures of an image, after its recipe.

use super::{Change, Crop, Fill, Patch, Recipe, SIDE};
use crate::{
    image::Image,
    operation::{
        blur::gaussian_blur,
        color::{brightness, contrast, grey, hue, saturation},
        crop::{self, flip},
        patch::{MEAN_COLOR, noise, paste, plain},
        resize::Filter,
    },
    random::Random,
    view::View,
};

/// Calls `each` with the number and the pixels of every picture that `recipe` tells of, from file 1 on.
///
/// Fails with the first error of `each`.
///
/// # Panics
/// The recipe is that of an image of another size.
pub fn paint<E>(
    image: &Image,
    recipe: &Recipe,
    mut each: impl FnMut(usize, &Image) -> Result<(), E>,
) -> Result<(), E> {
    let pictures = Pictures::new(image, recipe);
    for file in 1..=pictures.count() {
        let picture = pictures.picture(file);
        let outcome = each(file, &picture);
        picture.recycle();
        outcome?;
    }
    pictures.recycle();
    Ok(())
}

/// The two views of an image, from which the other pictures follow.
pub struct Pictures<'a> {
    recipe: &'a Recipe,
    /// Not mirrored yet.
    views: [Image; 2],
}

impl<'a> Pictures<'a> {
    /// Crops and colours the views of `image`.
    ///
    /// # Panics
    /// The recipe is that of an image of another size.
    pub fn new(image: &Image, recipe: &'a Recipe) -> Self {
        let views = recipe.views.each_ref().map(|crop| colored(image, crop));
        Self { recipe, views }
    }

    /// How many pictures there are, beside the image itself.
    pub fn count(&self) -> usize {
        self.views.len() + self.recipe.patches.len()
    }

    /// The picture of a file, `SIDE` pixels square.
    ///
    /// # Panics
    /// The file is 0, the image itself, or there is none of the number.
    pub fn picture(&self, file: usize) -> Image {
        let (view, patch) = match file {
            1 | 2 => (file - 1, None),
            _ => self.recipe.patches[file - 3],
        };
        let mut picture = crop::crop(&self.views[view], self.views[view].whole());
        if let Some(Patch { part, fill }) = patch {
            let filled = match fill {
                Fill::Noise(seed) => noise(part.width, part.height, &mut Random::new(&[seed])),
                Fill::MeanColor => plain(part.width, part.height, MEAN_COLOR),
            };
            paste(&mut picture, &filled, part.top, part.left);
        }
        if self.recipe.views[view].flip {
            flip(&mut picture);
        }
        picture
    }

    /// Gives the pixel buffers back to the thread's pool.
    pub fn recycle(self) {
        self.views.into_iter().for_each(Image::recycle);
    }
}

/// The view of `image` that `crop` tells of, but not mirrored.
fn colored(image: &Image, crop: &Crop) -> Image {
    let mut view = View::of(image);
    view.crop(crop.part);
    view.resize(SIDE, SIDE, Filter::Bilinear);
    let pixels = view.image_mut();
    if let Some(jitter) = &crop.jitter {
        for change in jitter.order {
            match change {
                Change::Brightness => brightness(pixels, jitter.brightness),
                Change::Contrast => contrast(pixels, jitter.contrast),
                Change::Saturation => saturation(pixels, jitter.saturation),
                Change::Hue => hue(pixels, jitter.hue),
            }
        }
    }
    if crop.grey {
        grey(pixels);
    }
    if let Some(sigma) = crop.blur {
        gaussian_blur(pixels, sigma);
    }
    std::mem::take(pixels)
}
