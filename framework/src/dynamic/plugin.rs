//! The plugin `Dynamic`: a metric of a library, called here or in a process of its own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
};

use serde::{Deserialize, Serialize};

use super::{Description, MetricLibrary, Task, hash};
use crate::{
    Context, Invalid, Metric,
    metric::{Evaluation, Needs, Score},
    plugin,
};

/// The longest time that a metric may be given, in seconds: a week.
const LONGEST: u64 = 7 * 24 * 3600;

/// The most memory that a metric may be given, in megabytes: what systems have addresses for.
const LARGEST: u64 = 1 << 26;

plugin! {
    /// A metric from a shared library
    pub struct Dynamic: Metric {
        /// The library's file, relative to the experiment file.
        library: String = String::new(),
        /// The metric's name; may be left out where the library has only one.
        metric: Option<String> = None,
        /// The metric's parameters, numbers by name: `{"scale": 2.0}`.
        params: BTreeMap<String, f64> = BTreeMap::new(),
        /// Loads and calls the library in a process of its own, where a crash is an error message:
        /// `(seconds: 60, memory_mb: 2048)`, the most time and memory for a call.
        isolated: Option<Limits> = None,
    }

    fn build(self, context: &Context) -> Result<Box<dyn Metric>, Invalid> {
        if self.library.is_empty() {
            return Err(Invalid::new("library", "must be given"));
        }
        if let Some(name) = self.params.keys().find(|name| name.contains('\0')) {
            return Err(Invalid::new("params", format!("{name:?} cannot be a name")));
        }
        let path = context.path(&self.library);
        let refuse = |reason: String| Invalid::new("library", reason);
        // The hash is that of what is loaded, as far as a file can be trusted to stay for a moment.
        let identity = match path.is_file() {
            true => hash(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?,
            false => String::new(),
        };
        let (place, known) = match &self.isolated {
            None => {
                let library = MetricLibrary::open(&path).map_err(|error| refuse(error.to_string()))?;
                let known = library.metrics().iter().map(|metric| metric.describe()).collect();
                (Place::Here(library), known)
            }
            Some(limits) => {
                limits.check()?;
                let known = inspect(&path, limits)?;
                (Place::Apart(path, limits.clone()), known)
            }
        };
        let index = choose(&known, self.metric.as_deref())?;
        let metric = known[index].clone();
        let unit = lasting(&metric.unit);
        Ok(Box::new(Loaded { place, index, metric, unit, identity, params: self.params }))
    }
}

/// How much a call of an isolated metric may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Wall-clock time of a call, from 1 second on.
    pub seconds: u64,
    /// Memory beyond the features themselves, in megabytes of address space, from 16 on; held to on Linux.
    pub memory_mb: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            seconds: 60,
            memory_mb: 2048,
        }
    }
}

impl Limits {
    fn check(&self) -> Result<(), Invalid> {
        if !(1..=LONGEST).contains(&self.seconds) {
            let reason = format!("`seconds` must be from 1 to {LONGEST}");
            return Err(Invalid::new("isolated", reason));
        }
        if !(16..=LARGEST).contains(&self.memory_mb) {
            let reason = format!("`memory_mb` must be from 16 to {LARGEST}");
            return Err(Invalid::new("isolated", reason));
        }
        Ok(())
    }
}

#[cfg(unix)]
pub(crate) fn inspect(path: &Path, limits: &Limits) -> Result<Vec<Description>, Invalid> {
    super::isolated::check().map_err(|reason| Invalid::new("isolated", reason))?;
    super::isolated::inspect(path, limits).map_err(|reason| Invalid::new("library", reason))
}

#[cfg(not(unix))]
pub(crate) fn inspect(_: &Path, _: &Limits) -> Result<Vec<Description>, Invalid> {
    let reason = "processes of their own for metrics are for Unix systems";
    Err(Invalid::new("isolated", reason).help("leave it out"))
}

/// The position of the metric named `name`, or of the only one.
fn choose(known: &[Description], name: Option<&str>) -> Result<usize, Invalid> {
    let index = match name {
        Some(name) => known.iter().position(|metric| metric.name == name),
        None => (known.len() == 1).then_some(0),
    };
    index.ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|metric| metric.name.as_str()).collect();
        Invalid::new("metric", format!("must be one of {}", names.join(", ")))
    })
}

/// `text` for the rest of the program, as scores want their units; each text is kept once.
fn lasting(text: &str) -> &'static str {
    static KEPT: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut kept = KEPT.lock().expect("no holder panics");
    match kept.iter().find(|known| **known == text) {
        Some(known) => known,
        None => {
            let text: &'static str = text.to_owned().leak();
            kept.push(text);
            text
        }
    }
}

/// A metric of a library with its parameters.
struct Loaded {
    place: Place,
    index: usize,
    metric: Description,
    unit: &'static str,
    /// The library's hash.
    identity: String,
    params: BTreeMap<String, f64>,
}

/// Where a library is loaded.
enum Place {
    /// In this process, for good.
    Here(MetricLibrary),
    /// In a process of its own, for each call.
    Apart(PathBuf, Limits),
}

impl Loaded {
    #[cfg(unix)]
    fn apart(
        &self,
        path: &Path,
        limits: &Limits,
        evaluation: &Evaluation<'_>,
    ) -> Result<f64, String> {
        // A run may take days between the check and the first call.
        if hash(path).ok().as_ref() != Some(&self.identity) {
            return Err("the library has changed since the run began".to_owned());
        }
        super::isolated::evaluate(path, self.index, &self.params, evaluation, limits)
    }

    #[cfg(not(unix))]
    fn apart(&self, _: &Path, _: &Limits, _: &Evaluation<'_>) -> Result<f64, String> {
        unreachable!("a metric is refused when it is built where there is no isolation")
    }
}

impl Metric for Loaded {
    /// A library does not say what it looks at, so it is given every view there is.
    fn needs(&self) -> Needs {
        Needs {
            most_views: usize::MAX,
            ..Needs::default()
        }
    }

    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let name = &self.metric.name;
        let value = match &self.place {
            Place::Here(library) => {
                library.metrics()[self.index].evaluate(&self.params, &Task::read(evaluation))
            }
            Place::Apart(path, limits) => self.apart(path, limits, evaluation),
        };
        let value = value.map_err(|reason| format!("{name}: {reason}"))?;
        if !value.is_finite() {
            return Err(format!("{name} gave {value}"));
        }
        Ok(vec![Score {
            name: name.clone(),
            value,
            unit: self.unit,
            higher_is_better: self.metric.higher_is_better,
            error: None,
            setting: String::new(),
            table: Vec::new(),
        }])
    }

    fn identity(&self) -> Option<String> {
        Some(format!("library {}", self.identity))
    }
}
