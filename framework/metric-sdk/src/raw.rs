//! The C layout of `include/smallfry_metric.h`, version 1.

use std::ffi::{CStr, c_char, c_void};

/// The version of the layout; it changes when a meaning does.
pub const ABI: u32 = 1;

/// The one symbol of a library.
pub const SYMBOL: &CStr = c"smallfry_metrics";

/// The features of a data set.
#[repr(C)]
pub struct Features {
    /// Number of images.
    pub rows: usize,
    /// Width of a feature.
    pub columns: usize,
    /// `rows * columns` numbers, row-major.
    pub values: *const f32,
    /// `rows` labels, or null.
    pub labels: *const i64,
}

/// A number by its name.
#[repr(C)]
pub struct Param {
    /// The name, with a final NUL.
    pub name: *const c_char,
    /// The number.
    pub value: f64,
}

/// Room for a message.
#[repr(C)]
pub struct Error {
    /// Where it starts.
    pub text: *mut c_char,
    /// Bytes of room, the final NUL included.
    pub capacity: usize,
}

/// The function of a metric.
pub type Evaluate = unsafe extern "C" fn(
    params: *const Param,
    param_count: usize,
    train: *const Features,
    test: *const Features,
    value: *mut f64,
    error: *mut Error,
) -> i32;

/// All that a metric may learn from.
#[repr(C)]
pub struct Evaluation {
    /// Bytes of this struct in the host: fields beyond it are not there.
    pub size: usize,
    /// Features to learn from, or null.
    pub train: *const Features,
    /// Features to judge.
    pub test: *const Features,
    /// `view_count` sets of features of further views of the images of `test`.
    pub views: *const Features,
    /// Number of further views.
    pub view_count: usize,
    /// `class_count` names with a final NUL, by label.
    pub classes: *const *const c_char,
    /// Number of classes.
    pub class_count: usize,
    /// Seed of anything that is sampled.
    pub seed: u64,
}

/// The function of a metric that is given everything.
pub type EvaluateAll = unsafe extern "C" fn(
    params: *const Param,
    param_count: usize,
    evaluation: *const Evaluation,
    value: *mut f64,
    error: *mut Error,
) -> i32;

/// One metric.
#[repr(C)]
pub struct Metric {
    /// Its name in experiment files.
    pub name: *const c_char,
    /// What it is, in one line.
    pub about: *const c_char,
    /// Its unit.
    pub unit: *const c_char,
    /// Whether more is better, 0 or 1.
    pub higher_is_better: i32,
    /// The function; null in a broken library.
    pub evaluate: Option<Evaluate>,
    /// The function that is called in place of `evaluate`, where there is one. Entries of libraries built before it was
    /// added end in front of it.
    pub evaluate_all: Option<EvaluateAll>,
}

/// Bytes of the shortest entry of this version: up to and with `evaluate`.
pub const SHORTEST: usize = std::mem::offset_of!(Metric, evaluate_all);

/// The table of a library.
#[repr(C)]
pub struct Library {
    /// [`ABI`].
    pub abi: u32,
    /// The distance between entries, in bytes: at least [`SHORTEST`].
    pub size: u32,
    /// Number of entries.
    pub count: usize,
    /// The first entry.
    pub metrics: *const c_void,
}

// SAFETY: an immutable table of pointers to static data.
unsafe impl Sync for Metric {}
// SAFETY: as above.
unsafe impl Sync for Library {}

const _: () = assert!(size_of::<Library>() == 8 + 2 * size_of::<usize>());
const _: () = assert!(size_of::<Metric>() == 6 * size_of::<usize>());
const _: () = assert!(SHORTEST == 5 * size_of::<usize>());
