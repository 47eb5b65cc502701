//! Loads a library and reads its table.
//!
//! Nothing of a table is believed before it is checked: first the version, which says what the rest means, then the size
//! of an entry, which says which fields there are.

use std::{
    error::Error,
    ffi::{CStr, c_char},
    fmt, fs, io,
    mem::{ManuallyDrop, offset_of},
    path::Path,
};

use libloading::Library;
use smallfry_metric_sdk::raw;

use super::{Description, elf};

/// More metrics than any library has: a larger count is damage.
const MOST: usize = 10_000;

/// Why a file is not a usable metric library.
#[derive(Debug)]
pub enum LoadError {
    /// It cannot be found or read.
    Path(io::Error),
    /// Its end is missing.
    Cut {
        /// Bytes that its headers promise.
        promised: u64,
    },
    /// The system's loader refuses it.
    Open(libloading::Error),
    /// It has not the interface's symbol.
    Symbol,
    /// It was built for another version of the interface.
    Abi {
        /// That version.
        found: u32,
    },
    /// Its entries are too short.
    Size {
        /// Their size in bytes.
        found: u32,
    },
    /// Its number of metrics is absurd, or the table is missing.
    Table {
        /// That number.
        count: usize,
    },
    /// An entry is broken.
    Entry {
        /// Its position.
        index: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => write!(f, "cannot be opened: {error}"),
            Self::Cut { promised } => write!(
                f,
                "is no loadable library: it is cut short, its headers promise {promised} bytes"
            ),
            Self::Open(error) => match error.source() {
                Some(source) => write!(f, "is no loadable library: {source}"),
                None => write!(f, "is no loadable library: {error}"),
            },
            Self::Symbol => write!(f, "exports no metrics (symbol `smallfry_metrics`)"),
            Self::Abi { found } => write!(
                f,
                "is built for metric interface {found}, this program has {}",
                raw::ABI
            ),
            Self::Size { found } => write!(
                f,
                "has metric entries of {found} bytes, too short for metric interface {}",
                raw::ABI
            ),
            Self::Table { count } => write!(f, "has a broken table of {count} metrics"),
            Self::Entry { index, fault } => write!(f, "has a broken metric {index}: {fault}"),
        }
    }
}

impl Error for LoadError {}

/// A loaded library. It stays loaded until the program ends.
pub struct MetricLibrary {
    metrics: Vec<DynamicMetric>,
    _library: ManuallyDrop<Library>,
}

/// A metric of a loaded library.
#[derive(Debug)]
pub struct DynamicMetric {
    /// Its name in experiment files.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Whether more is better.
    pub higher_is_better: bool,
    pub(super) evaluate: raw::Evaluate,
    pub(super) evaluate_all: Option<raw::EvaluateAll>,
}

impl MetricLibrary {
    /// Loads the library at `path` and reads its table. This runs the library's initialisers.
    ///
    /// # Errors
    /// It is no library, or not one of this interface.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        // An absolute path, or the system's library folders would be searched.
        let path = fs::canonicalize(path).map_err(LoadError::Path)?;
        if let Some(promised) = elf::missing_end(&path).map_err(LoadError::Path)? {
            return Err(LoadError::Cut { promised });
        }
        // SAFETY: the user named the file as code to run.
        let library = ManuallyDrop::new(unsafe { open(&path) }.map_err(LoadError::Open)?);
        // SAFETY: the header fixes the type of what the symbol names; its first two fields are the same in all
        // versions, and nothing else is read before they are right.
        let table = unsafe { library.get::<*const raw::Library>(raw::SYMBOL) };
        let table = *table.map_err(|_| LoadError::Symbol)?;
        // SAFETY: a symbol's address is that of a static of the library, which is never unloaded.
        let table: &'static raw::Library = unsafe { table.as_ref() }.ok_or(LoadError::Symbol)?;
        if table.abi != raw::ABI {
            return Err(LoadError::Abi { found: table.abi });
        }
        if (table.size as usize) < raw::SHORTEST
            || !(table.size as usize).is_multiple_of(align_of::<raw::Metric>())
        {
            return Err(LoadError::Size { found: table.size });
        }
        if table.metrics.is_null() || table.count == 0 || table.count > MOST {
            return Err(LoadError::Table { count: table.count });
        }
        let metrics = (0..table.count).map(|index| {
            // SAFETY: version, entry size and count were checked above, the index is below the count.
            unsafe { entry(table, index) }
        });
        Ok(Self {
            metrics: metrics.collect::<Result<_, _>>()?,
            _library: library,
        })
    }

    /// The library's metrics.
    pub fn metrics(&self) -> &[DynamicMetric] {
        &self.metrics
    }
}

/// # Safety
/// The file's initialisers run.
#[cfg(unix)]
unsafe fn open(path: &Path) -> Result<Library, libloading::Error> {
    use libloading::os::unix;
    // `RTLD_NOW`: an undefined symbol is an error here, not the end of the program in the middle of a run.
    // SAFETY: the caller knows that initialisers run.
    unsafe { unix::Library::open(Some(path), unix::RTLD_NOW | unix::RTLD_LOCAL) }.map(Library::from)
}

/// # Safety
/// The file's initialisers run.
#[cfg(not(unix))]
unsafe fn open(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: the caller knows that initialisers run.
    unsafe { Library::new(path) }
}

/// # Safety
/// `table` is a checked table of this version, and `index` is below its count.
unsafe fn entry(table: &'static raw::Library, index: usize) -> Result<DynamicMetric, LoadError> {
    let fault = |fault| LoadError::Entry { index, fault };
    // SAFETY: entries lie `size` bytes apart, so this one starts within the table.
    let metric = unsafe {
        let start = table.metrics.byte_add(index * table.size as usize);
        start.cast::<raw::Metric>()
    };
    // SAFETY: each of these fields lies within the shortest entry, and the entry is never changed or freed.
    let (name, about, unit, higher_is_better, evaluate) = unsafe {
        (
            (*metric).name,
            (*metric).about,
            (*metric).unit,
            (*metric).higher_is_better,
            (*metric).evaluate,
        )
    };
    let whole = offset_of!(raw::Metric, evaluate_all) + size_of::<Option<raw::EvaluateAll>>();
    let evaluate_all = match table.size as usize >= whole {
        // SAFETY: the entry is long enough to have the field.
        true => unsafe { (*metric).evaluate_all },
        false => None,
    };
    let text = |pointer: *const c_char, missing| {
        if pointer.is_null() {
            return Err(fault(missing));
        }
        // SAFETY: the header promises texts with a final NUL, and the library is never unloaded.
        let text: &'static CStr = unsafe { CStr::from_ptr(pointer) };
        text.to_str().map_err(|_| fault("its text is not UTF-8"))
    };
    Ok(DynamicMetric {
        name: text(name, "it has no name")?,
        about: text(about, "it has no description")?,
        unit: text(unit, "it has no unit, not even an empty one")?,
        higher_is_better: higher_is_better != 0,
        evaluate: evaluate.ok_or_else(|| fault("it has no function"))?,
        evaluate_all,
    })
}

impl DynamicMetric {
    /// What its table says of it.
    pub fn describe(&self) -> Description {
        Description {
            name: self.name.to_owned(),
            about: self.about.to_owned(),
            unit: self.unit.to_owned(),
            higher_is_better: self.higher_is_better,
        }
    }
}
