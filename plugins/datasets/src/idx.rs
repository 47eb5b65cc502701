//! IDX files: MNIST, Fashion-MNIST.

use std::{path::PathBuf, sync::Arc};

use smallfry::{
    Context, DataSet, Invalid,
    data::{Dataset, dataset::idx},
    plugin,
};

use crate::refuse;

plugin! {
    /// Grey images in IDX files, as MNIST and Fashion-MNIST come
    pub struct Idx: DataSet {
        /// The folder of the four files, plain or gzipped, under their usual names.
        path: PathBuf = PathBuf::from("."),
        /// The training images, not the test images.
        train: bool = true,
        /// The file of images, where it has another name; below `path`.
        images: Option<PathBuf> = None,
        /// The file of labels, where it has another name; below `path`.
        labels: Option<PathBuf> = None,
    }

    fn build(mut self, context: &Context) -> Result<Box<dyn DataSet>, Invalid> {
        if self.images.is_some() != self.labels.is_some() {
            let (missing, given) = match self.images {
                Some(_) => ("labels", "images"),
                None => ("images", "labels"),
            };
            return Err(Invalid::new(missing, format!("must be given where `{given}` is")));
        }
        self.path = context.path(&self.path);
        Ok(Box::new(self))
    }
}

impl Idx {
    /// The file of a name, or gzipped where only that exists.
    fn file(&self, given: &Option<PathBuf>, what: &str) -> PathBuf {
        if let Some(given) = given {
            return self.path.join(given);
        }
        let split = if self.train { "train" } else { "t10k" };
        let plain = self.path.join(format!("{split}-{what}-ubyte"));
        let zipped = self.path.join(format!("{split}-{what}-ubyte.gz"));
        if zipped.exists() && !plain.exists() {
            zipped
        } else {
            plain
        }
    }
}

impl DataSet for Idx {
    fn open(&self) -> Result<Arc<dyn Dataset>, Invalid> {
        let images = self.file(&self.images, "images-idx3");
        let labels = self.file(&self.labels, "labels-idx1");
        let set = idx::Idx::open(&images, &labels).map_err(|error| {
            let field = match (&self.images, error.name == images.display().to_string()) {
                (None, _) => "path",
                (Some(_), true) => "images",
                (Some(_), false) => "labels",
            };
            refuse(field, &error)
        })?;
        Ok(Arc::new(set))
    }
}
