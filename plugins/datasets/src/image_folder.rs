//! Folders of image files: one folder a class, or anywhere and without classes.

use std::{path::PathBuf, sync::Arc};

use smallfry::{
    Context, DataSet, Invalid,
    data::{
        Dataset,
        dataset::{cached::Cached, folder},
    },
    plugin,
};

use crate::{bytes, orientation, refuse};

plugin! {
    /// Images in one folder a class
    pub struct ImageFolder: DataSet {
        /// The folder of the class folders.
        path: PathBuf = PathBuf::from("images"),
        /// Turn images as their EXIF orientation says; torchvision does not.
        upright: bool = false,
        /// Megabytes of decoded images to keep: a set that fits is decoded once, another one is not kept at all.
        cache: usize = 512,
    }

    fn build(mut self, context: &Context) -> Result<Box<dyn DataSet>, Invalid> {
        self.path = context.path(&self.path);
        Ok(Box::new(self))
    }
}

impl DataSet for ImageFolder {
    fn open(&self) -> Result<Arc<dyn Dataset>, Invalid> {
        let set = folder::ImageFolder::open(&self.path, orientation(self.upright));
        let set = set.map_err(|error| refuse("path", &error))?;
        Ok(Arc::new(Cached::new(set, bytes(self.cache))))
    }
}

plugin! {
    /// Image files anywhere in and below a folder, without classes
    pub struct ImageFiles: DataSet {
        /// The folder.
        path: PathBuf = PathBuf::from("images"),
        /// Turn images as their EXIF orientation says; torchvision does not.
        upright: bool = false,
        /// Megabytes of decoded images to keep: a set that fits is decoded once, another one is not kept at all.
        cache: usize = 512,
    }

    fn build(mut self, context: &Context) -> Result<Box<dyn DataSet>, Invalid> {
        self.path = context.path(&self.path);
        Ok(Box::new(self))
    }
}

impl DataSet for ImageFiles {
    fn open(&self) -> Result<Arc<dyn Dataset>, Invalid> {
        let set = folder::ImageFolder::without_classes(&self.path, orientation(self.upright));
        let set = set.map_err(|error| refuse("path", &error))?;
        Ok(Arc::new(Cached::new(set, bytes(self.cache))))
    }
}
