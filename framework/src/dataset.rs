//! Data sets: where images and labels come from.

use std::sync::Arc;

use smallfry_data::Dataset;

use crate::registry::{Invalid, kind};

/// A source of images.
pub trait DataSet: Send + Sync {
    /// Opens the set: lists its samples and reads no pixels.
    ///
    /// # Errors
    /// Names the parameter at fault: a missing folder, an empty class, a file of the wrong format.
    fn open(&self) -> Result<Arc<dyn Dataset>, Invalid>;
}

kind!(DataSet, "data set");
