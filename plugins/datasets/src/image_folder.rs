//! A folder with one folder of images a class.

use std::{path::PathBuf, sync::Arc};

use smallfry::{
    Context, DataSet, Invalid,
    data::{Dataset, dataset::folder, decode::Orientation},
    plugin,
};

use crate::refuse;

plugin! {
    /// Images in one folder a class
    pub struct ImageFolder: DataSet {
        /// The folder of the class folders.
        path: PathBuf = PathBuf::from("images"),
        /// Turn images as their EXIF orientation says; torchvision does not.
        upright: bool = false,
    }

    fn build(mut self, context: &Context) -> Result<Box<dyn DataSet>, Invalid> {
        self.path = context.path(&self.path);
        Ok(Box::new(self))
    }
}

impl DataSet for ImageFolder {
    fn open(&self) -> Result<Arc<dyn Dataset>, Invalid> {
        let orientation = match self.upright {
            true => Orientation::Upright,
            false => Orientation::AsStored,
        };
        let set = folder::ImageFolder::open(&self.path, orientation);
        Ok(Arc::new(set.map_err(|error| refuse("path", &error))?))
    }
}
