//! A view: one augmented version of an image on its way to the network.

use std::borrow::Cow;

use crate::image::Image;

/// One augmented version of a decoded image; the decoded image itself is shared by all its views.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The pixels; borrowed until something changes them.
    pub image: Cow<'a, Image>,
    /// Pixels (row-major, `height * width`) that become 0 after normalisation, where any do.
    pub dropped: Option<Vec<bool>>,
}
