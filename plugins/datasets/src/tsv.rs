//! A tab-separated file of images in base64, as SEED's data come.

use std::{path::PathBuf, sync::Arc};

use smallfry::{
    Context, DataSet, Invalid,
    data::{
        Dataset,
        dataset::{cached::Cached, tsv},
    },
    plugin,
};

use crate::{bytes, orientation, refuse};

plugin! {
    /// Images in a tab-separated file: class in column 2, base64 in the last
    pub struct TSV: DataSet {
        /// The file; where its lines start is read from the `.lineidx` file beside it, which is made where it is missing.
        path: PathBuf = PathBuf::from("train.tsv"),
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

impl DataSet for TSV {
    fn open(&self) -> Result<Arc<dyn Dataset>, Invalid> {
        let set = tsv::Tsv::open(&self.path, orientation(self.upright));
        let set = set.map_err(|error| refuse("path", &error))?;
        Ok(Arc::new(Cached::new(set, bytes(self.cache))))
    }
}
