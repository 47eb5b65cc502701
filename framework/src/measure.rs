//! Figures of features that need no labels: how alike the views of an image are, how the images spread, how many
//! directions they use, and whether an image can be told from the others.
//!
//! Functions on rows in host memory, for whoever has features: the trainer each epoch, metrics on whole data sets.
//! Everything is exact (all pairs, no sampling), works in bounded pieces, and gives the same bits for any number of
//! threads. A newcomer's trap: an encoder that maps every image to one point has perfect alignment, so no figure here
//! says much without the others.

mod gram;
mod instance;
pub(crate) mod products;
mod spectrum;
mod sphere;

pub use gram::Gram;
pub use instance::instance_accuracy;
pub(crate) use spectrum::Tridiagonal;
pub use spectrum::{RANK_EPSILON, effective_rank, rank_of, singular_values};
pub use sphere::{NotFinite, UnitRows, alignment, deviation, uniformity, watched_uniformity};
