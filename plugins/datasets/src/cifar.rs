//! CIFAR in its binary version.

use std::{path::PathBuf, sync::Arc};

use smallfry::{
    Context, DataSet, Invalid,
    data::{
        Dataset,
        dataset::cifar::{Cifar, Kind},
    },
    plugin,
};

use crate::refuse;

plugin! {
    /// CIFAR-10, binary version: 32 x 32 pixels, ten classes
    pub struct Cifar10: DataSet {
        /// The folder of `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`.
        path: PathBuf = PathBuf::from("cifar-10-batches-bin"),
        /// The training images, not the test images.
        train: bool = true,
    }

    fn build(mut self, context: &Context) -> Result<Box<dyn DataSet>, Invalid> {
        self.path = context.path(&self.path);
        Ok(Box::new(self))
    }
}

impl DataSet for Cifar10 {
    fn open(&self) -> Result<Arc<dyn Dataset>, Invalid> {
        let set = Cifar::open(&self.path, Kind::Cifar10, self.train);
        Ok(Arc::new(set.map_err(|error| refuse("path", &error))?))
    }
}

plugin! {
    /// CIFAR-100, binary version: 32 x 32 pixels, a hundred classes
    pub struct Cifar100: DataSet {
        /// The folder of `train.bin` and `test.bin`.
        path: PathBuf = PathBuf::from("cifar-100-binary"),
        /// The training images, not the test images.
        train: bool = true,
    }

    fn build(mut self, context: &Context) -> Result<Box<dyn DataSet>, Invalid> {
        self.path = context.path(&self.path);
        Ok(Box::new(self))
    }
}

impl DataSet for Cifar100 {
    fn open(&self) -> Result<Arc<dyn Dataset>, Invalid> {
        let set = Cifar::open(&self.path, Kind::Cifar100, self.train);
        Ok(Arc::new(set.map_err(|error| refuse("path", &error))?))
    }
}
