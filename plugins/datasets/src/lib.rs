//! The stock data sets: folders of images and of static views, tab-separated files, IDX files and CIFAR.

mod cifar;
mod idx;
mod image_folder;
mod static_views;
mod tsv;

pub use cifar::{Cifar10, Cifar100};
pub use idx::Idx;
pub use image_folder::{ImageFiles, ImageFolder};
pub use static_views::StaticViews;
pub use tsv::TSV;

use smallfry::{
    Invalid,
    data::{dataset::OpenError, decode::Orientation},
};

/// The refusal of a parameter that leads to an unusable file.
fn refuse(field: &'static str, error: &OpenError) -> Invalid {
    Invalid::new(field, format!("`{}` {}", error.name, error.reason)).help(error.remedy)
}

/// What to do about orientation tags.
fn orientation(upright: bool) -> Orientation {
    match upright {
        true => Orientation::Upright,
        false => Orientation::AsStored,
    }
}

/// Megabytes in bytes.
fn bytes(megabytes: usize) -> usize {
    megabytes.saturating_mul(1 << 20)
}
