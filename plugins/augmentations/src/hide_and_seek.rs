//! Hide-and-seek: cells of a grid hidden behind the mean colour.
//!
//! Hidden pixels become 0 after normalisation, which is the mean colour of the data set, not black.

use smallfry::{
    Augmentation, Context, Invalid,
    data::{
        random::Random,
        view::{Replacement, View},
    },
    plugin,
};

use crate::check_probability;

plugin! {
    /// Hides random cells of a grid of random size
    pub struct HideAndSeek: Augmentation {
        /// Probability of hiding each cell.
        p: f64 = 0.5,
        /// Sides of the cells, in pixels, one of which is drawn for each view; 0 hides nothing.
        grids: Vec<usize> = vec![0, 14, 28, 56],
    }

    fn build(self, _: &Context) -> Result<Box<dyn Augmentation>, Invalid> {
        check_probability("p", self.p)?;
        if self.grids.is_empty() {
            return Err(Invalid::new("grids", "must name at least one side, or 0"));
        }
        Ok(Box::new(self))
    }
}

impl Augmentation for HideAndSeek {
    fn apply(&self, view: &mut View<'_>, random: &mut Random) {
        let cell = self.grids[random.below(self.grids.len() as u64) as usize];
        if cell == 0 {
            return;
        }
        let (width, height) = view.size();
        let columns = width.div_ceil(cell);
        let hidden: Vec<bool> = (0..columns * height.div_ceil(cell))
            .map(|_| random.chance(self.p))
            .collect();
        let mut mask = Vec::with_capacity(width * height);
        for (row, cells) in hidden.chunks_exact(columns).enumerate() {
            let start = mask.len();
            for &hidden in cells {
                let end = (mask.len() + cell).min(start + width);
                mask.resize(end, hidden);
            }
            for _ in 1..cell.min(height - row * cell) {
                mask.extend_from_within(start..start + width);
            }
        }
        view.hide(&mask, Replacement::Zero);
    }
}
