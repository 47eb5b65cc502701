//! Where something that came from an experiment file stands in it, for mistakes that are found later.

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc};

use super::{Source, syntax::Value};
use crate::diagnostic::Diagnostic;

/// The place of a plugin or stage, and of each of its fields.
#[derive(Clone, Default)]
pub struct Site {
    known: Option<Known>,
}

#[derive(Clone)]
struct Known {
    source: Arc<Source>,
    whole: Range<usize>,
    fields: BTreeMap<String, Range<usize>>,
}

impl Site {
    /// The place of things that are made in code and not read from a file.
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// The place of `value`.
    pub(crate) fn of(source: &Arc<Source>, value: &Value) -> Self {
        let fields = value
            .fields()
            .iter()
            .map(|field| (source.slice(&field.name).to_owned(), field.value.clone()))
            .collect();
        // A long value is shown by its name.
        let whole = value.name.clone().unwrap_or_else(|| value.range.clone());
        Self {
            known: Some(Known {
                source: Arc::clone(source),
                whole,
                fields,
            }),
        }
    }

    /// Whether the file gives a field.
    pub fn has(&self, field: &str) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| known.fields.contains_key(field))
    }

    /// A mistake about a field; where the file leaves the field to its default, about the whole.
    pub fn error(&self, field: &str, message: impl Into<String>) -> Diagnostic {
        match &self.known {
            None => Diagnostic::whole("(made in code)", message),
            Some(known) => {
                let place = known.fields.get(field).unwrap_or(&known.whole);
                known.source.error(place, message)
            }
        }
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.known {
            None => f.write_str("nowhere"),
            Some(known) => write!(f, "{}:{:?}", known.source.name(), known.whole),
        }
    }
}
