//! The random choices for the views of one image, drawn before a pixel is touched.

use serde::{Deserialize, Serialize};

use super::{Mode, Overlap, SIDE};
use crate::{
    image::Rectangle,
    operation::{
        crop::CropSampler,
        overlap::{in_view, iou, nested, overlap},
        patch::moved,
    },
    random::Random,
};

/// Tries of the sampler of crops that must overlap; twice as many as torchvision's.
const TRIES: usize = 20;

/// Range of the crops' width over height.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// Range of a crop's area as a part of the image's, and as a part of a quarter's.
const SCALE: (f64, f64) = (0.2, 1.0);
const QUARTER_SCALE: (f64, f64) = (0.4, 1.0);

/// MoCo v2's colours: strength of brightness, contrast and saturation, of the hue, and the probabilities of the jitter, of
/// grey and of a blur with its range of standard deviations in pixels.
const STRENGTH: f64 = 0.4;
const TURN: f64 = 0.1;
const JITTERED: f64 = 0.8;
const GREY: f64 = 0.2;
const BLURRED: f64 = 0.5;
const SIGMA: (f64, f64) = (0.1, 2.0);

/// All that is drawn for an image; with the image, it fixes every byte of its pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The two views.
    pub views: [Crop; 2],
    /// How the two crops lie to each other, where the mode asks for an overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<Pair>,
    /// What is painted over in files 3 and up: of each, the view (0 or 1) and the patch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<(usize, Option<Patch>)>,
}

/// One view: a crop of the image, resized to [`SIDE`] pixels, with its colours changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crop {
    /// Top, left, height and width of the crop in pixels of the image.
    #[serde(with = "corners")]
    pub part: Rectangle,
    /// The changes of the colours, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Jitter>,
    /// Whether the colours are taken away.
    pub grey: bool,
    /// Standard deviation of the blur in pixels, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blur: Option<f32>,
    /// Whether the view is mirrored left to right at the end, patches and all.
    pub flip: bool,
}

/// Four changes of colours, one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jitter {
    /// In which order.
    pub order: [Change; 4],
    /// The factor of the brightness.
    pub brightness: f32,
    /// The factor of the contrast.
    pub contrast: f32,
    /// The factor of the saturation.
    pub saturation: f32,
    /// The turn of the hue, as a part of the circle.
    pub hue: f64,
}

/// One of the changes of a jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Brightness.
    Brightness,
    /// Contrast.
    Contrast,
    /// Saturation.
    Saturation,
    /// Hue.
    Hue,
}

/// How two crops lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Their intersection over union, see [`iou`].
    pub iou: f64,
    /// Pairs that were drawn.
    pub draws: usize,
    /// Whether the last of them was taken although nothing was asked of it any more.
    pub forced: bool,
}

/// A rectangle of a view that is painted over, before the view is mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patch {
    /// Top, left, height and width in pixels of the view.
    #[serde(with = "corners")]
    pub part: Rectangle,
    /// With what.
    pub fill: Fill,
}

/// What a patch is painted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// White noise of this seed.
    Noise(u64),
    /// ImageNet's mean colour.
    MeanColor,
}

impl Recipe {
    /// Whether all its numbers are finite: what is drawn is, but one that is read may say a number that is too large.
    pub fn is_finite(&self) -> bool {
        let colours = |jitter: &Jitter| {
            let Jitter {
                brightness,
                contrast,
                saturation,
                hue,
                ..
            } = *jitter;
            hue.is_finite()
                && [brightness, contrast, saturation]
                    .iter()
                    .all(|factor| factor.is_finite())
        };
        let view = |crop: &Crop| {
            crop.jitter.as_ref().is_none_or(colours) && crop.blur.is_none_or(f32::is_finite)
        };
        self.views.iter().all(view) && self.pair.is_none_or(|pair| pair.iou.is_finite())
    }

    /// Draws for an image of `size`, its width and height; none where it is too small to be quartered and the mode
    /// asks for that.
    ///
    /// `key` identifies the image, so that its views do not depend on what else is in the set.
    pub fn draw(mode: Mode, size: (usize, usize), seed: u64, key: u64) -> Option<Self> {
        let random = |of: u64| Random::new(&[seed, key, of]);
        let (parts, pair) = match mode.overlap() {
            Some(wanted) => {
                let (parts, pair) = overlapping(wanted, size, &mut random(0));
                (parts, Some(pair))
            }
            None if mode == Mode::NoInter => (quartered(size, &mut random(0))?, None),
            None => {
                let mut random = random(0);
                let sampler = sampler(SCALE, CropSampler::TRIES);
                ([0; 2].map(|_| sampler.draw(size, &mut random)), None)
            }
        };
        let views = [0, 1].map(|view| Crop::draw(parts[view], &mut random(1 + view as u64)));
        let patches = match pair {
            Some(_) => patches(parts, [3, 4].map(random)),
            None => Vec::new(),
        };
        Some(Self {
            views,
            pair,
            patches,
        })
    }
}

fn sampler(scale: (f64, f64), tries: usize) -> CropSampler {
    CropSampler {
        scale,
        ratio: RATIO,
        tries,
    }
}

/// Two crops of which neither lies within the other and whose IoU is as wanted, if that many draws give any.
fn overlapping(
    wanted: Overlap,
    size: (usize, usize),
    random: &mut Random,
) -> ([Rectangle; 2], Pair) {
    let sampler = sampler(SCALE, TRIES);
    let mut draws = 0;
    loop {
        draws += 1;
        let [first, second] = [0; 2].map(|_| sampler.draw(size, random));
        let iou = iou(first, second);
        let forced = draws > wanted.tolerance;
        if forced || (wanted.low..=wanted.high).contains(&iou) && !nested(first, second) {
            return ([first, second], Pair { iou, draws, forced });
        }
    }
}

/// Two crops from different quarters of an image, which lie in its corners; none where a quarter has no pixel.
fn quartered((width, height): (usize, usize), random: &mut Random) -> Option<[Rectangle; 2]> {
    let half = (width / 2, height / 2);
    if half.0 == 0 || half.1 == 0 {
        return None;
    }
    let mut corners = [0, 1, 2, 3];
    random.shuffle(&mut corners);
    let sampler = sampler(QUARTER_SCALE, CropSampler::TRIES);
    Some([0, 1].map(|view| {
        let (below, right) = (corners[view] / 2 == 1, corners[view] % 2 == 1);
        let part = sampler.draw(half, random);
        Rectangle {
            top: part.top + if below { height - half.1 } else { 0 },
            left: part.left + if right { width - half.0 } else { 0 },
            ..part
        }
    }))
}

impl Crop {
    fn draw(part: Rectangle, random: &mut Random) -> Self {
        let jitter = random.chance(JITTERED).then(|| {
            let mut order = [
                Change::Brightness,
                Change::Contrast,
                Change::Saturation,
                Change::Hue,
            ];
            random.shuffle(&mut order);
            let mut factor = || random.uniform(1.0 - STRENGTH, 1.0 + STRENGTH) as f32;
            Jitter {
                order,
                brightness: factor(),
                contrast: factor(),
                saturation: factor(),
                hue: random.uniform(-TURN, TURN),
            }
        });
        let grey = random.chance(GREY);
        let blurred = random.chance(BLURRED);
        Self {
            part,
            jitter,
            grey,
            blur: blurred.then(|| random.uniform(SIGMA.0, SIGMA.1) as f32),
            flip: random.chance(0.5),
        }
    }
}

/// What is painted over in files 3 to 10, in turns of the first view and of the second: noise over the overlap, the same
/// noise elsewhere, the mean colour over the overlap, the mean colour elsewhere. Where two crops share nothing, nothing is.
fn patches(parts: [Rectangle; 2], mut random: [Random; 2]) -> Vec<(usize, Option<Patch>)> {
    let shared = overlap(parts[0], parts[1]);
    let of_view: [Option<[Patch; 4]>; 2] = std::array::from_fn(|view| {
        let random = &mut random[view];
        let part = in_view(shared?, parts[view], SIDE)?;
        let noise = Fill::Noise(random.bits());
        let patch = |part, fill| Patch { part, fill };
        Some([
            patch(part, noise),
            patch(moved(part, SIDE, random), noise),
            patch(part, Fill::MeanColor),
            patch(moved(part, SIDE, random), Fill::MeanColor),
        ])
    });
    (0..8)
        .map(|file| (file % 2, of_view[file % 2].map(|patches| patches[file / 2])))
        .collect()
}

/// Rectangles as `[top, left, height, width]`.
mod corners {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::image::Rectangle;

    pub fn serialize<S: Serializer>(part: &Rectangle, to: S) -> Result<S::Ok, S::Error> {
        [part.top, part.left, part.height, part.width].serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Rectangle, D::Error> {
        let [top, left, height, width] = Deserialize::deserialize(from)?;
        Ok(Rectangle {
            top,
            left,
            height,
            width,
        })
    }
}
