//! Random changes of brightness, contrast, saturation and hue.
//!
//! The paper's strength `cj` stands for brightness, contrast and saturation of 0.8 `cj` and a hue of 0.4 `cj`, at most
//! 0.5; the defaults are those of `cj` = 1.

use smallfry::{
    Augmentation, Context, Invalid,
    data::{
        operation::color::{brightness, contrast, hue, saturation},
        random::Random,
        view::View,
    },
    plugin,
};

use crate::check_probability;

plugin! {
    /// Changes brightness, contrast, saturation and hue at random, in random order
    pub struct ColorJitter: Augmentation {
        /// The brightness factor is drawn from 1 - this (at least 0) to 1 + this.
        brightness: f64 = 0.8,
        /// The same for the contrast factor.
        contrast: f64 = 0.8,
        /// The same for the saturation factor.
        saturation: f64 = 0.8,
        /// The hue is turned by up to this part of the circle either way, at most 0.5.
        hue: f64 = 0.4,
        /// Probability of doing all this.
        p: f64 = 0.8,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        for (field, strength) in [
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("saturation", self.saturation),
        ] {
            if !(0.0..=1e6).contains(&strength) {
                return Err(Invalid::new(field, "must be at least 0"));
            }
        }
        if !(0.0..=0.5).contains(&self.hue) {
            return Err(Invalid::new("hue", "must be from 0 to 0.5"));
        }
        check_probability("p", self.p)?;
        Ok(Box::new(self))
    }
}

/// One of the four changes.
#[derive(Clone, Copy)]
enum Change {
    Brightness,
    Contrast,
    Saturation,
    Hue,
}

impl Augmentation for ColorJitter {
    fn apply(&self, view: &mut View<'_>, random: &mut Random) {
        if !random.chance(self.p) {
            return;
        }
        let mut order = [
            Change::Brightness,
            Change::Contrast,
            Change::Saturation,
            Change::Hue,
        ];
        random.shuffle(&mut order);
        let mut factor =
            |strength: f64| random.uniform((1.0 - strength).max(0.0), 1.0 + strength) as f32;
        let factors = [
            factor(self.brightness),
            factor(self.contrast),
            factor(self.saturation),
        ];
        let turn = random.uniform(-self.hue, self.hue);
        let image = view.image_mut();
        for change in order {
            // A strength of 0 leaves its change out: turning the hue by 0 would still round every pixel.
            match change {
                Change::Brightness if self.brightness > 0.0 => brightness(image, factors[0]),
                Change::Contrast if self.contrast > 0.0 => contrast(image, factors[1]),
                Change::Saturation if self.saturation > 0.0 => saturation(image, factors[2]),
                Change::Hue if self.hue > 0.0 => hue(image, turn),
                _ => {}
            }
        }
    }
}
