//! Metrics in shared libraries, used through the metric plugin [`Dynamic`].
//!
//! The contract is `metric-sdk/include/smallfry_metric.h`. A library is code that runs with all rights of the program;
//! what can be checked is checked when it is loaded, before any long work. It is never unloaded: a library may leave
//! threads or thread-locals behind, and names in its table are then honestly `'static`.
//!
//! What no check can prevent is that foreign code crashes or never ends. With `isolated` it does so in a process of its
//! own ([`isolated`]), and the run gets a message.

mod call;
mod elf;
#[cfg(unix)]
pub mod isolated;
mod library;
mod plugin;
mod task;

use std::{fs, io, path::Path};

use serde::Serialize;

pub use library::{DynamicMetric, LoadError, MetricLibrary};
pub(crate) use plugin::inspect;
pub use plugin::{Dynamic, Limits};
pub use task::{Table, Task};

/// A metric of a library, as its table describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Its name in experiment files.
    pub name: String,
    /// What it is, in one line.
    pub about: String,
    /// Its unit; empty for a pure number.
    pub unit: String,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// The hash of the file at `path`, as 64 hexadecimal digits: what a receipt calls a library.
///
/// # Errors
/// It cannot be read.
pub(crate) fn hash(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}
