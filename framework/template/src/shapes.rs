//! Drawings of discs, squares and crosses: a data set that needs no files.

use std::sync::Arc;

use smallfry::{
    Context, DataSet, Invalid,
    data::{Dataset, Image, dataset::LoadError, random::Random},
    plugin,
};

plugin! {
    /// Drawings of discs, squares and crosses
    pub struct Shapes: DataSet {
        /// Number of drawings.
        samples: usize = 300,
        /// Side in pixels, from 8 on.
        side: usize = 40,
        /// Which drawings: another number gives others.
        draw: u64 = 1,
    }

    fn build(self, _: &Context) -> Result<Box<dyn DataSet>, Invalid> {
        if self.samples == 0 {
            return Err(Invalid::new("samples", "must be above 0"));
        }
        if !(8..=1024).contains(&self.side) {
            return Err(Invalid::new("side", "must be from 8 to 1024 pixels"));
        }
        Ok(Box::new(self))
    }
}

impl DataSet for Shapes {
    fn open(&self) -> Result<Arc<dyn Dataset>, Invalid> {
        Ok(Arc::new(Drawings {
            params: self.clone(),
            classes: ["cross", "disc", "square"].map(str::to_owned).into(),
        }))
    }
}

/// The opened set.
struct Drawings {
    params: Shapes,
    classes: Vec<String>,
}

impl Drawings {
    fn class(&self, sample: usize) -> usize {
        sample % self.classes.len()
    }
}

impl Dataset for Drawings {
    fn len(&self) -> usize {
        self.params.samples
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, sample: usize) -> Option<u32> {
        Some(self.class(sample) as u32)
    }

    fn name(&self, sample: usize) -> String {
        format!(
            "{}/{}-{sample}",
            self.classes[self.class(sample)],
            self.params.draw
        )
    }

    fn load(&self, sample: usize) -> Result<Image, LoadError> {
        let side = self.params.side;
        // A drawing is a function of its number.
        let mut random = Random::new(&[self.params.draw, sample as u64]);
        let mut colour = || [0; 3].map(|_: u8| random.below(256) as u8);
        let (ground, mut ink) = (colour(), colour());
        // As in the world, colour is a hint: one channel of the ink leans towards the class.
        ink[self.class(sample)] = 255 - ink[self.class(sample)] / 3;
        let radius = side as f64 * random.uniform(0.25, 0.4);
        let mut centre = || random.uniform(radius, side as f64 - radius);
        let (x, y) = (centre(), centre());
        let mut image = Image::black(side, side);
        for (i, pixel) in image.pixels.chunks_exact_mut(3).enumerate() {
            let (dx, dy) = ((i % side) as f64 - x, (i / side) as f64 - y);
            let (across, down) = (dx.abs() / radius, dy.abs() / radius);
            let inside = match self.class(sample) {
                0 => across.max(down) < 1.0 && across.min(down) < 0.3,
                1 => across.hypot(down) < 1.0,
                _ => across.max(down) < 0.9,
            };
            pixel.copy_from_slice(if inside { &ink } else { &ground });
        }
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_is_a_function_of_its_number() {
        let open = |draw| {
            let shapes = Shapes {
                draw,
                ..Shapes::default()
            };
            shapes.open().expect("it needs no files")
        };
        let (set, again, other) = (open(1), open(1), open(2));
        assert_eq!(set.load(7), again.load(7));
        assert_ne!(set.load(7), set.load(10));
        assert_ne!(set.load(7), other.load(7));
        assert_eq!(set.name(7), "disc/1-7");
    }
}
