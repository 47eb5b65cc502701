//! The interface between smallfry and metrics in shared libraries.
//!
//! [`raw`] mirrors `include/smallfry_metric.h`, the contract for every language. A metric in Rust implements [`Metric`]
//! and is exported with [`export_metrics!`]; its crate needs `crate-type = ["cdylib"]` and panics that unwind, which
//! become error messages.
//!
//! ```
//! use std::ffi::CStr;
//! use smallfry_metric_sdk::{Features, Metric, Params, export_metrics};
//!
//! export_metrics![MeanNorm];
//!
//! struct MeanNorm;
//!
//! impl Metric for MeanNorm {
//!     const NAME: &'static CStr = c"MeanNorm";
//!     const ABOUT: &'static CStr = c"Mean length of the test features";
//!
//!     fn evaluate(params: Params<'_>, _: Option<Features<'_>>, test: Features<'_>) -> Result<f64, String> {
//!         let [scale] = params.read([("scale", 1.0)])?;
//!         let length = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
//!         Ok(scale * test.rows().map(length).sum::<f64>() / test.rows().len() as f64)
//!     }
//! }
//! # fn main() {}
//! ```

pub mod raw;

use std::{
    borrow::Cow,
    ffi::CStr,
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
};

/// A metric written in Rust.
pub trait Metric {
    /// Its name in experiment files.
    const NAME: &'static CStr;

    /// What it is, in one line.
    const ABOUT: &'static CStr;

    /// Its unit, such as `%`; empty for a pure number.
    const UNIT: &'static CStr = c"";

    /// Whether more is better.
    const HIGHER_IS_BETTER: bool = true;

    /// Computes the value from the features to judge, `test`, and those to learn from, where the experiment names them.
    ///
    /// # Errors
    /// Says what the features lack or which parameter is wrong.
    fn evaluate(
        params: Params<'_>,
        train: Option<Features<'_>>,
        test: Features<'_>,
    ) -> Result<f64, String>;

    /// Whether [`evaluate_all`](Self::evaluate_all) is called in place of [`evaluate`](Self::evaluate); programs built
    /// before it was added call `evaluate` all the same.
    const TAKES_ALL: bool = false;

    /// Computes the value from everything there is: further views of the images, names of the classes, a seed.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    fn evaluate_all(params: Params<'_>, evaluation: &Evaluation<'_>) -> Result<f64, String> {
        Self::evaluate(params, evaluation.train, evaluation.test)
    }
}

/// All that a metric may learn from.
#[derive(Clone, Debug)]
pub struct Evaluation<'a> {
    /// Features to learn from, where the experiment names such a set.
    pub train: Option<Features<'a>>,
    /// Features to judge.
    pub test: Features<'a>,
    /// Features of further views of the images of `test`, row by row; none where the set has one file for an image.
    pub views: Vec<Features<'a>>,
    /// Names of the classes, by label.
    pub classes: Vec<Cow<'a, str>>,
    /// Seed of anything that is sampled.
    pub seed: u64,
}

impl Evaluation<'_> {
    /// # Safety
    /// `raw` follows the contract of the header for the duration of `'a`, of the result.
    unsafe fn from_raw<'a>(raw: &'a raw::Evaluation) -> Evaluation<'a> {
        let views = match raw.view_count {
            0 => &[],
            // SAFETY: the header promises `view_count` sets.
            count => unsafe { slice::from_raw_parts(raw.views, count) },
        };
        let classes = match raw.class_count {
            0 => &[],
            // SAFETY: the header promises `class_count` names.
            count => unsafe { slice::from_raw_parts(raw.classes, count) },
        };
        // SAFETY: the header promises features everywhere, and a final NUL in each name.
        unsafe {
            Evaluation {
                train: raw.train.as_ref().map(|train| Features::from_raw(train)),
                test: Features::from_raw(&*raw.test),
                views: views.iter().map(|view| Features::from_raw(view)).collect(),
                classes: classes
                    .iter()
                    .map(|name| CStr::from_ptr(*name).to_string_lossy())
                    .collect(),
                seed: raw.seed,
            }
        }
    }
}

/// The features of a data set, one row per image.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    /// Width of a feature.
    pub columns: usize,
    /// All rows, one after the other.
    pub values: &'a [f32],
    /// The label of each row, or nothing where the set has no classes.
    pub labels: Option<&'a [i64]>,
}

impl<'a> Features<'a> {
    /// The feature of each image.
    pub fn rows(&self) -> slice::ChunksExact<'a, f32> {
        self.values.chunks_exact(self.columns.max(1))
    }

    /// # Safety
    /// `raw` follows the contract of the header, and what it points to lives for `'a`.
    unsafe fn from_raw(raw: &raw::Features) -> Self {
        let list = |count| if count == 0 { None } else { Some(count) };
        let values = match list(raw.rows * raw.columns) {
            None => &[],
            // SAFETY: the header promises `rows * columns` numbers.
            Some(count) => unsafe { slice::from_raw_parts(raw.values, count) },
        };
        let labels = (!raw.labels.is_null()).then(|| match list(raw.rows) {
            None => &[][..],
            // SAFETY: the header promises a label for each row.
            Some(count) => unsafe { slice::from_raw_parts(raw.labels, count) },
        });
        Self {
            columns: raw.columns,
            values,
            labels,
        }
    }
}

/// The numbers that the experiment file gives to the metric.
#[derive(Clone, Copy)]
pub struct Params<'a>(&'a [raw::Param]);

impl<'a> Params<'a> {
    /// # Safety
    /// `count` parameters lie at `first`, for `'a`.
    unsafe fn from_raw(first: *const raw::Param, count: usize) -> Self {
        Self(match count {
            0 => &[],
            // SAFETY: as the caller promises.
            _ => unsafe { slice::from_raw_parts(first, count) },
        })
    }

    /// Reads the named numbers, each with its default.
    ///
    /// # Errors
    /// A name that is not among them was given.
    pub fn read<const N: usize>(&self, fields: [(&str, f64); N]) -> Result<[f64; N], String> {
        let mut values = fields.map(|(_, default)| default);
        for param in self.0 {
            // SAFETY: the header promises a name with a final NUL.
            let name = unsafe { CStr::from_ptr(param.name) }.to_string_lossy();
            match fields.iter().position(|(field, _)| *field == name) {
                Some(at) => values[at] = param.value,
                None => return Err(format!("no parameter is named `{name}`")),
            }
        }
        Ok(values)
    }
}

/// The table entry of a metric; for the expansion of [`export_metrics!`].
#[doc(hidden)]
pub const fn entry<M: Metric>() -> raw::Metric {
    raw::Metric {
        name: M::NAME.as_ptr(),
        about: M::ABOUT.as_ptr(),
        unit: M::UNIT.as_ptr(),
        higher_is_better: M::HIGHER_IS_BETTER as i32,
        evaluate: Some(evaluate::<M>),
        evaluate_all: if M::TAKES_ALL {
            Some(evaluate_all::<M>)
        } else {
            None
        },
    }
}

/// The C function of a metric.
///
/// # Safety
/// The caller follows the contract of the header.
unsafe extern "C" fn evaluate<M: Metric>(
    params: *const raw::Param,
    param_count: usize,
    train: *const raw::Features,
    test: *const raw::Features,
    value: *mut f64,
    error: *mut raw::Error,
) -> i32 {
    let compute = || {
        // SAFETY: `train` is null or features, `test` is features, both valid for this call.
        let (train, test) = unsafe {
            let train = train.as_ref().map(|train| Features::from_raw(train));
            (train, Features::from_raw(&*test))
        };
        // SAFETY: the header promises `param_count` parameters.
        M::evaluate(
            unsafe { Params::from_raw(params, param_count) },
            train,
            test,
        )
    };
    // SAFETY: the header promises room for the value, and an error with the room that it states.
    unsafe { answer(compute, value, error) }
}

/// The C function of a metric that takes everything.
///
/// # Safety
/// The caller follows the contract of the header.
unsafe extern "C" fn evaluate_all<M: Metric>(
    params: *const raw::Param,
    param_count: usize,
    evaluation: *const raw::Evaluation,
    value: *mut f64,
    error: *mut raw::Error,
) -> i32 {
    let compute = || {
        // SAFETY: an evaluation that is valid for this call; every host that calls this function has all of its fields.
        let evaluation = unsafe { Evaluation::from_raw(&*evaluation) };
        // SAFETY: the header promises `param_count` parameters.
        M::evaluate_all(
            unsafe { Params::from_raw(params, param_count) },
            &evaluation,
        )
    };
    // SAFETY: the header promises room for the value, and an error with the room that it states.
    unsafe { answer(compute, value, error) }
}

/// Runs a metric and hands over what it gives; a panic is an error.
///
/// # Safety
/// There is room at `value`, and as much as `error` states at `error`.
unsafe fn answer(
    compute: impl FnOnce() -> Result<f64, String>,
    value: *mut f64,
    error: *mut raw::Error,
) -> i32 {
    let message = match catch_unwind(AssertUnwindSafe(compute)) {
        Ok(Ok(result)) => {
            // SAFETY: the caller promises room for the value.
            unsafe { value.write(result) };
            return 0;
        }
        Ok(Err(message)) => message,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .copied()
                .or(panic.downcast_ref::<String>().map(String::as_str));
            format!("panicked: {}", text.unwrap_or("no message"))
        }
    };
    // SAFETY: the caller promises an error with the room that it states.
    unsafe { (*error).write(&message) };
    1
}

impl raw::Error {
    /// Copies the message, cut to the room there is, with a final NUL.
    ///
    /// # Safety
    /// `text` has `capacity` bytes of room.
    unsafe fn write(&mut self, message: &str) {
        let Some(room) = self.capacity.checked_sub(1) else {
            return;
        };
        let mut length = message.len().min(room);
        while !message.is_char_boundary(length) {
            length -= 1;
        }
        // SAFETY: `length` and the NUL behind it fit into `capacity`.
        unsafe {
            message
                .as_ptr()
                .copy_to_nonoverlapping(self.text.cast(), length);
            *self.text.add(length) = 0;
        }
    }
}

/// Makes the named [`Metric`] types the metrics of this library.
#[macro_export]
macro_rules! export_metrics {
    ($($metric:ty),+ $(,)?) => {
        const _: () = {
            static METRICS: &[$crate::raw::Metric] = &[$($crate::entry::<$metric>()),+];

            #[unsafe(export_name = "smallfry_metrics")]
            static LIBRARY: $crate::raw::Library = $crate::raw::Library {
                abi: $crate::raw::ABI,
                size: size_of::<$crate::raw::Metric>() as u32,
                count: METRICS.len(),
                metrics: METRICS.as_ptr().cast(),
            };
        };
    };
}
