//! Calls a metric of a loaded library.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, NulError},
    ptr,
};

use smallfry_metric_sdk::raw;

use super::{DynamicMetric, Table, Task};

/// Bytes of room for a library's error message.
const MESSAGE: usize = 512;

impl DynamicMetric {
    /// Calls the metric.
    ///
    /// # Errors
    /// The library's own message.
    pub fn evaluate(&self, params: &BTreeMap<String, f64>, task: &Task) -> Result<f64, String> {
        let names = c_texts(params.keys()).map_err(|error| error.to_string())?;
        let params: Vec<_> = names
            .iter()
            .zip(params.values())
            .map(|(name, &value)| raw::Param {
                name: name.as_ptr(),
                value,
            })
            .collect();
        let classes = c_texts(&task.classes).map_err(|error| error.to_string())?;
        let classes: Vec<_> = classes.iter().map(|class| class.as_ptr()).collect();
        let views: Vec<_> = task.views.iter().map(raw_features).collect();
        let train = task.train.as_ref().map(raw_features);
        let train = train.as_ref().map_or(ptr::null(), ptr::from_ref);
        let test = raw_features(&task.test);
        let mut text = [0u8; MESSAGE];
        let mut error = raw::Error {
            text: text.as_mut_ptr().cast(),
            capacity: text.len(),
        };
        let mut value = f64::NAN;
        let code = match self.evaluate_all {
            // SAFETY: every pointer is valid for the call, and the library promised this version of the interface.
            None => unsafe {
                (self.evaluate)(
                    params.as_ptr(),
                    params.len(),
                    train,
                    &test,
                    &mut value,
                    &mut error,
                )
            },
            Some(evaluate_all) => {
                let evaluation = raw::Evaluation {
                    size: size_of::<raw::Evaluation>(),
                    train,
                    test: &test,
                    views: views.as_ptr(),
                    view_count: views.len(),
                    classes: classes.as_ptr(),
                    class_count: classes.len(),
                    seed: task.seed,
                };
                // SAFETY: as above.
                unsafe {
                    evaluate_all(
                        params.as_ptr(),
                        params.len(),
                        &evaluation,
                        &mut value,
                        &mut error,
                    )
                }
            }
        };
        if code == 0 {
            return Ok(value);
        }
        // A message without its final NUL has no end that could be trusted.
        let message = CStr::from_bytes_until_nul(&text).unwrap_or_default();
        Err(match message.to_string_lossy() {
            message if message.is_empty() => format!("failed with code {code} and no message"),
            message => message.into_owned(),
        })
    }
}

/// Texts with a final NUL.
fn c_texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Vec<CString>, NulError> {
    let texts = texts.into_iter();
    texts.map(|text| CString::new(text.as_ref())).collect()
}

fn raw_features(table: &Table) -> raw::Features {
    raw::Features {
        rows: table.rows,
        columns: table.columns,
        values: table.values.as_ptr(),
        labels: table
            .labels
            .as_ref()
            .map_or(ptr::null(), |labels| labels.as_ptr()),
    }
}
