//! Augmentations: random changes of a view.

use smallfry_data::{random::Random, view::View};

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
