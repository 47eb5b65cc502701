//! Augmentations: random changes of a view.
//!
//! A view is a list of augmentations, applied in order to the decoded image. Each gets a random stream of its own,
//! keyed by seed, epoch, sample, view and place in the list, so inserting a draw in one changes no other.

use std::ops::Deref;

use smallfry_data::{
    Image,
    loader::{Key, Transform},
    normalize::Normalization,
    random::Random,
    view::View,
};

use crate::registry::kind;

/// A random change of one view of an image.
pub trait Augmentation: Send + Sync {
    /// Changes `view`; all randomness comes from `random`, which is keyed by seed, epoch, sample, view and position.
    fn apply(&self, view: &mut View<'_>, random: &mut Random);

    /// The side of the square it always leaves behind, for augmentations that set the size.
    fn size(&self) -> Option<usize> {
        None
    }
}

kind!(Augmentation, "augmentation");

/// All views of an image, from decoded pixels to normalised floats: what a [`smallfry_data::loader::Loader`] applies.
///
/// `A` is `Box<dyn Augmentation>` or [`Built<dyn Augmentation>`](crate::registry::Built).
pub struct Views<A> {
    views: Vec<Vec<A>>,
    sides: Vec<usize>,
    normalization: Normalization,
}

impl<A: Deref<Target = dyn Augmentation>> Views<A> {
    /// Views by their augmentations; `None` if one of them does not end with a known size.
    pub fn new(views: Vec<Vec<A>>, normalization: Normalization) -> Option<Self> {
        let sides = views.iter().map(|view| side(view)).collect::<Option<_>>()?;
        Some(Self {
            views,
            sides,
            normalization,
        })
    }

    /// The side of each view, in pixels.
    pub fn sides(&self) -> &[usize] {
        &self.sides
    }
}

/// The side of the square that a list of augmentations leaves behind, if one of them sets it.
pub fn side<A: Deref<Target = dyn Augmentation>>(augmentations: &[A]) -> Option<usize> {
    augmentations.iter().rev().find_map(|a| a.size())
}

impl<A> Transform for Views<A>
where
    A: Deref<Target = dyn Augmentation> + Send + Sync,
{
    fn lengths(&self) -> Vec<usize> {
        self.sides.iter().map(|side| 3 * side * side).collect()
    }

    fn apply(&self, image: &Image, key: Key, slots: &mut [&mut [f32]]) {
        for (v, (augmentations, slot)) in self.views.iter().zip(slots).enumerate() {
            let mut view = View::of(image);
            for (i, augmentation) in augmentations.iter().enumerate() {
                augmentation.apply(&mut view, &mut key.stream(v, i));
            }
            let side = self.sides[v];
            assert_eq!(
                view.size(),
                (side, side),
                "view {} must end with the size that its augmentations state",
                v + 1
            );
            self.normalization.write(&mut view, slot);
            view.recycle();
        }
    }
}
