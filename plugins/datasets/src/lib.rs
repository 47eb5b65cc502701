//! The stock data sets: folders of images, IDX files and CIFAR.

mod cifar;
mod idx;
mod image_folder;

pub use cifar::{Cifar10, Cifar100};
pub use idx::Idx;
pub use image_folder::ImageFolder;

use smallfry::{Invalid, data::dataset::OpenError};

/// The refusal of a parameter that leads to an unusable file.
fn refuse(field: &'static str, error: &OpenError) -> Invalid {
    Invalid::new(field, format!("`{}` {}", error.name, error.reason)).help(error.remedy)
}
