//! Sharpness taken away.

use smallfry::{
    Augmentation, Context, Invalid,
    data::{operation::blur::gaussian_blur, random::Random, view::View},
    plugin,
};

use crate::{check_probability, check_range};

plugin! {
    /// Blurs the view by a Gaussian, at random
    pub struct GaussianBlur: Augmentation {
        /// Range of the standard deviation, in pixels.
        sigma: (f64, f64) = (0.1, 2.0),
        /// Probability of blurring.
        p: f64 = 0.5,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        check_range("sigma", self.sigma, 0.0, 1000.0)?;
        check_probability("p", self.p)?;
        Ok(Box::new(self))
    }
}

impl Augmentation for GaussianBlur {
    fn apply(&self, view: &mut View<'_>, random: &mut Random) {
        if random.chance(self.p) {
            let sigma = random.uniform(self.sigma.0, self.sigma.1) as f32;
            gaussian_blur(view.image_mut(), sigma);
        }
    }
}
