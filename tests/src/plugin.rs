//! Plugins from their text, for tests that use them without an experiment file.

use std::path::Path;

use smallfry::{
    Context,
    registry::{Built, Kind, parse},
};

/// The plugin that `text` describes; paths in it start in the current folder.
///
/// # Panics
/// If the text is wrong.
pub fn build<K: Kind + ?Sized>(text: &str) -> Built<K> {
    let context = Context {
        folder: Path::new("."),
    };
    match parse(&context, text) {
        Ok(built) => built,
        Err(mistakes) => panic!("{}", mistakes[0]),
    }
}
