//! The published recipes of whole views, each as one augmentation: crop, colours, mirroring.
//!
//! They stand for the lists of augmentations that they are made of; whoever wants another strength writes the list.
//! `SimCLR` and `MoCoV1` are alike because the distillation recipe uses MoCo v1's colours for teachers of both kinds.

use smallfry::{
    Augmentation, Context, Invalid, Plugin,
    data::{random::Random, view::View},
    plugin,
};

use crate::{ColorJitter, GaussianBlur, Grayscale, HorizontalFlip, RandomResizedCrop};

/// Augmentations one after the other, each with a random stream of its own.
struct Sequence {
    parts: Vec<Box<dyn Augmentation>>,
    size: usize,
}

impl Augmentation for Sequence {
    fn apply(&self, view: &mut View<'_>, random: &mut Random) {
        let seed = random.bits();
        for (i, part) in self.parts.iter().enumerate() {
            part.apply(view, &mut Random::new(&[seed, i as u64]));
        }
    }

    fn size(&self) -> Option<usize> {
        Some(self.size)
    }
}

/// The colours of a recipe.
enum Colors {
    /// MoCo v1: grey first, then always a jitter with a strong turn of the hue; no blur.
    First,
    /// MoCo v2: a jitter most of the time, then grey, then blur.
    Second,
}

fn recipe(
    size: usize,
    scale: (f64, f64),
    colors: Colors,
    context: &Context,
) -> Result<Box<dyn Augmentation>, Invalid> {
    let crop = RandomResizedCrop {
        size,
        scale,
        ..RandomResizedCrop::default()
    };
    let jitter = |hue: f64, p: f64| ColorJitter {
        brightness: 0.4,
        contrast: 0.4,
        saturation: 0.4,
        hue,
        p,
    };
    let grey = Grayscale { p: 0.2 };
    let mut parts = vec![crop.build(context)?];
    parts.extend(match colors {
        Colors::First => vec![grey.build(context)?, jitter(0.4, 1.0).build(context)?],
        Colors::Second => vec![
            jitter(0.1, 0.8).build(context)?,
            grey.build(context)?,
            GaussianBlur::default().build(context)?,
        ],
    });
    parts.push(HorizontalFlip::default().build(context)?);
    Ok(Box::new(Sequence { parts, size }))
}

plugin! {
    /// A view as MoCo v1 makes it: crop, grey, strong colour jitter, mirroring
    pub struct MoCoV1: Augmentation {
        /// Side of the square, in pixels.
        size: usize = 224,
        /// Range of the crop's area, as a part of the image's.
        scale: (f64, f64) = (0.2, 1.0),
    }

    fn build(self, context: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        recipe(self.size, self.scale, Colors::First, context)
    }
}

plugin! {
    /// A view as MoCo v2 makes it: crop, colour jitter, grey, blur, mirroring
    pub struct MoCoV2: Augmentation {
        /// Side of the square, in pixels.
        size: usize = 224,
        /// Range of the crop's area, as a part of the image's.
        scale: (f64, f64) = (0.2, 1.0),
    }

    fn build(self, context: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        recipe(self.size, self.scale, Colors::Second, context)
    }
}

plugin! {
    /// A view as SEED makes it for a SimCLR teacher: that of MoCo v1
    pub struct SimCLR: Augmentation {
        /// Side of the square, in pixels.
        size: usize = 224,
        /// Range of the crop's area, as a part of the image's.
        scale: (f64, f64) = (0.2, 1.0),
    }

    fn build(self, context: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        recipe(self.size, self.scale, Colors::First, context)
    }
}

plugin! {
    /// A large view as SwAV makes it: a crop from 0.14 on, the colours of MoCo v2
    pub struct SwAV: Augmentation {
        /// Side of the square, in pixels.
        size: usize = 224,
        /// Range of the crop's area, as a part of the image's.
        scale: (f64, f64) = (0.14, 1.0),
    }

    fn build(self, context: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        recipe(self.size, self.scale, Colors::Second, context)
    }
}

plugin! {
    /// A small view beside those of SwAV: a crop up to 0.14, the colours of MoCo v2
    pub struct SwAVPatch: Augmentation {
        /// Side of the square, in pixels.
        size: usize = 96,
        /// Range of the crop's area, as a part of the image's.
        scale: (f64, f64) = (0.05, 0.14),
    }

    fn build(self, context: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        recipe(self.size, self.scale, Colors::Second, context)
    }
}
