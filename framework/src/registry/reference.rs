//! From the name of a plugin in a text to the plugin.

use std::{ops::Range, sync::Arc};

use super::{Built, Context, Kind, entries, find, kind_of, one, used};
use crate::{
    diagnostic::Diagnostic,
    source::{Source, explain::suggest, syntax::Value},
};

/// Builds the plugin that `text` describes, as `Name` or `Name(parameter: value, ..)`.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse<K: Kind + ?Sized>(context: &Context, text: &str) -> Result<Built<K>, Vec<Diagnostic>> {
    let source = Arc::new(Source::new("text", text));
    source.check_syntax().map_err(|error| vec![error])?;
    build_at(context, &source, &source.all())
}

/// Builds the plugin that the range `at` of `source` describes.
pub(crate) fn build_at<K: Kind + ?Sized>(
    context: &Context,
    source: &Arc<Source>,
    at: &Range<usize>,
) -> Result<Built<K>, Vec<Diagnostic>> {
    let value = Value::parse(source.text(), at.clone());
    let label = K::LABEL;
    let Some(name) = &value.name else {
        return Err(vec![source.error(
            &value.range,
            format!(
                "expected {}, as `Name` or `Name(parameter: value, ..)`",
                one(label)
            ),
        )]);
    };
    let word = source.slice(name);
    match find::<K>(word) {
        Some(entry) => (entry.build)(context, source, &value).inspect(|_| used::note(entry)),
        None => Err(vec![unknown::<K>(source, name, word)]),
    }
}

fn unknown<K: Kind + ?Sized>(source: &Source, place: &Range<usize>, word: &str) -> Diagnostic {
    let label = K::LABEL;
    let error = source.error(place, format!("no {label} is named `{word}`"));
    let names: Vec<_> = entries::<K>().iter().map(|entry| entry.name).collect();
    if names.is_empty() {
        return error.help(no_plugins(label));
    }
    match kind_of(word) {
        Some(other) => error.help(format!(
            "`{word}` is {}; {} is expected here",
            one(other),
            one(label)
        )),
        None => error.help(suggest(word, &names)),
    }
}

/// What to do where no plugin of a kind is linked.
pub(crate) fn no_plugins(label: &str) -> String {
    format!(
        "no {label}s are linked into this program; add `use some_plugins as _;` to its `main.rs`"
    )
}
