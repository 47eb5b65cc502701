//! Augmentations: random changes of a view, or of all views of an image together.
//!
//! A view is a list of augmentations, applied in order to the decoded image. Each gets a random stream of its own,
//! keyed by seed, epoch, sample, view and place in the list, so inserting a draw in one changes no other. A joint
//! augmentation comes before the lists and sees all views of the image at once: it decides what must be decided
//! together, such as how far two crops overlap, and the lists go on with what each view is then.

use std::{ops::Deref, sync::Arc};

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

/// A random change of all views of one image together.
pub trait JointAugmentation: Send + Sync {
    /// The number of views it takes; none where any number will do.
    fn views(&self) -> Option<usize> {
        None
    }

    /// The side of the square it always leaves behind in every view, where it sets the size.
    fn size(&self) -> Option<usize> {
        None
    }

    /// Names of the figures that it tells of each image, such as how often it failed; their means are logged with those
    /// of the objective.
    fn measures(&self) -> &'static [&'static str] {
        &[]
    }

    /// Changes `views`, as many as [`views`](Self::views) says, each of them the whole image before; writes a figure
    /// for each name to `measures`, which are 0 before. All randomness comes from `random`, which is keyed by seed,
    /// epoch and sample.
    fn apply(&self, views: &mut [View<'_>], random: &mut Random, measures: &mut [f64]);
}

kind!(JointAugmentation, "joint augmentation");

/// All views of an image, from decoded pixels to normalised floats: what a [`smallfry_data::loader::Loader`] applies.
///
/// `A` is `Box<dyn Augmentation>` or [`Built<dyn Augmentation>`](crate::registry::Built).
pub struct Views<A> {
    joint: Option<Arc<dyn JointAugmentation>>,
    views: Vec<Vec<A>>,
    sides: Vec<usize>,
    normalization: Normalization,
}

impl<A: Deref<Target = dyn Augmentation>> Views<A> {
    /// Views by their augmentations, the joint one first; `None` if a view does not end with a known size.
    pub fn new(
        joint: Option<Arc<dyn JointAugmentation>>,
        views: Vec<Vec<A>>,
        normalization: Normalization,
    ) -> Option<Self> {
        let sides = views.iter().map(|view| side(joint.as_deref(), view));
        Some(Self {
            sides: sides.collect::<Option<_>>()?,
            joint,
            views,
            normalization,
        })
    }

    /// The side of each view, in pixels.
    pub fn sides(&self) -> &[usize] {
        &self.sides
    }
}

/// The side of the square that a list of augmentations leaves behind after a joint one, if anything sets it.
pub fn side<A: Deref<Target = dyn Augmentation>>(
    joint: Option<&dyn JointAugmentation>,
    augmentations: &[A],
) -> Option<usize> {
    let own = augmentations.iter().rev().find_map(|a| a.size());
    own.or_else(|| joint?.size())
}

impl<A> Transform for Views<A>
where
    A: Deref<Target = dyn Augmentation> + Send + Sync,
{
    fn lengths(&self) -> Vec<usize> {
        self.sides.iter().map(|side| 3 * side * side).collect()
    }

    fn measures(&self) -> &'static [&'static str] {
        self.joint.as_ref().map_or(&[], |joint| joint.measures())
    }

    fn apply(&self, image: &Image, key: Key, slots: &mut [&mut [f32]], measures: &mut [f64]) {
        // Crops are only noted down at first, so all views together cost no pixels yet.
        let mut views: Vec<_> = self.views.iter().map(|_| View::of(image)).collect();
        if let Some(joint) = &self.joint {
            joint.apply(&mut views, &mut key.joint(), measures);
        }
        for (v, ((mut view, augmentations), slot)) in
            views.into_iter().zip(&self.views).zip(slots).enumerate()
        {
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
