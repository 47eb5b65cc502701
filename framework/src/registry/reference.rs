//! From the name of a plugin in a text to the plugin.

use std::{
    cell::Cell,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Built, Context, Kind, entries, find, kind_of, one, used};
use crate::{
    diagnostic::Diagnostic,
    source::{
        Source,
        explain::suggest,
        syntax::{Body, Value},
    },
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

/// The word for a plugin whose relative paths start elsewhere: `In("../shared", ImageFolder(path: "photos"))`.
const ELSEWHERE: &str = "In";

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
        None if word == ELSEWHERE => in_folder(context, source, &value),
        None => Err(vec![unknown::<K>(source, name, word)]),
    }
}

/// As [`build_at`], with relative paths that start at `folder`, seen from the folder of `context`.
pub(crate) fn build_in<K: Kind + ?Sized>(
    context: &Context,
    folder: &Path,
    source: &Arc<Source>,
    at: &Range<usize>,
) -> Result<Built<K>, Vec<Diagnostic>> {
    let asked = PATHS.get();
    let inner = Context {
        folder: &context.folder.join(folder),
    };
    let mut built = build_at::<K>(&inner, source, at)?;
    // What has no path is the same everywhere.
    if PATHS.get() != asked {
        let folder = crate::source::quoted(&folder.to_string_lossy());
        for text in [&mut built.resolved, &mut built.line] {
            *text = format!("{ELSEWHERE}({folder}, {text})");
        }
    }
    Ok(built)
}

thread_local! {
    /// How many paths plugins asked for, on this thread.
    static PATHS: Cell<u64> = const { Cell::new(0) };
}

/// Notes that a plugin asked where a path leads.
pub(super) fn path_asked() {
    PATHS.set(PATHS.get() + 1);
}

fn in_folder<K: Kind + ?Sized>(
    context: &Context,
    source: &Arc<Source>,
    value: &Value,
) -> Result<Built<K>, Vec<Diagnostic>> {
    if let Body::Items(items) = &value.body
        && let [folder, plugin] = items.as_slice()
        && let Ok(folder) = source.parse::<PathBuf>(folder)
    {
        return build_in(context, &folder, source, plugin);
    }
    let message = format!("`{ELSEWHERE}` takes a folder and {}", one(K::LABEL));
    let example = format!("for example, `{ELSEWHERE}(\"../shared\", Name(parameter: value, ..))`");
    Err(vec![source.error(&value.range, message).help(example)])
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
