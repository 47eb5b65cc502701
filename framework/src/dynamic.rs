//! Metrics in shared libraries, used through the metric plugin [`Dynamic`].
//!
//! The contract is `metric-sdk/include/smallfry_metric.h`. A library is code that runs with all rights of the program;
//! what can be checked is checked when it is loaded, before any long work. It is never unloaded: a library may leave
//! threads or thread-locals behind, and names in its table are then honestly `'static`.

mod library;

use std::collections::BTreeMap;

pub use library::{DynamicMetric, LoadError, MetricLibrary};

use crate::{
    Context, Invalid, Metric,
    metric::{Evaluation, FeatureSet, Score},
    plugin,
    tensor::values,
};

plugin! {
    /// A metric from a shared library
    pub struct Dynamic: Metric {
        /// The library's file, relative to the experiment file.
        library: String = String::new(),
        /// The metric's name; may be left out where the library has only one.
        metric: Option<String> = None,
        /// The metric's parameters, numbers by name: `{"scale": 2.0}`.
        params: BTreeMap<String, f64> = BTreeMap::new(),
    }

    fn build(self, context: &Context) -> Result<Box<dyn Metric>, Invalid> {
        if self.library.is_empty() {
            return Err(Invalid::new("library", "must be given"));
        }
        if let Some(name) = self.params.keys().find(|name| name.contains('\0')) {
            return Err(Invalid::new("params", format!("{name:?} cannot be a name")));
        }
        let library = MetricLibrary::open(&context.path(&self.library))
            .map_err(|error| Invalid::new("library", error))?;
        let names: Vec<_> = library.metrics().iter().map(|metric| metric.name).collect();
        let index = match &self.metric {
            Some(name) => names.iter().position(|other| other == name),
            None => (names.len() == 1).then_some(0),
        };
        let index = index.ok_or_else(|| {
            Invalid::new("metric", format!("must be one of {}", names.join(", ")))
        })?;
        Ok(Box::new(Loaded { library, index, params: self.params }))
    }
}

/// A metric of a loaded library with its parameters.
struct Loaded {
    library: MetricLibrary,
    index: usize,
    params: BTreeMap<String, f64>,
}

impl Metric for Loaded {
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let metric = &self.library.metrics()[self.index];
        let train = evaluation.train.map(Table::read);
        let test = Table::read(evaluation.test);
        let value = metric.evaluate(&self.params, train.as_ref(), &test)?;
        if !value.is_finite() {
            return Err(format!("{} gave {value}", metric.name));
        }
        Ok(vec![Score {
            name: metric.name.to_owned(),
            value,
            unit: metric.unit,
            higher_is_better: metric.higher_is_better,
            error: None,
            setting: String::new(),
            table: Vec::new(),
        }])
    }
}

/// The features of a whole set, as a library sees them.
pub struct Table {
    columns: usize,
    values: Vec<f32>,
    labels: Option<Vec<i64>>,
}

impl Table {
    /// Reads a whole set into memory.
    pub fn read(set: &dyn FeatureSet) -> Self {
        /// Rows that are read at once.
        const ROWS: usize = 1024;
        let mut all = Vec::with_capacity(set.rows() * set.width());
        for start in (0..set.rows()).step_by(ROWS) {
            let rows = start..(start + ROWS).min(set.rows());
            all.extend_from_slice(&values(&set.read(rows)));
        }
        let labels = set.labels();
        Self {
            columns: set.width(),
            values: all,
            labels: labels.map(|labels| labels.iter().map(|label| i64::from(*label)).collect()),
        }
    }
}
