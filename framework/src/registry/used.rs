//! Which plugins a file turned out to use, and where they come from: what a receipt tells of them.
//!
//! A plugin can be built within another, from the file or from a default that no file names, so whoever reads a file asks
//! for all plugins that are built on this thread meanwhile.

use std::{cell::RefCell, collections::BTreeSet};

use serde::Serialize;

use super::{Entry, Kind};

/// A plugin and its crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Used {
    /// The kind's name in listings.
    pub kind: &'static str,
    /// The word in experiment files.
    pub name: &'static str,
    /// The crate that registered it.
    #[serde(rename = "crate")]
    pub origin: &'static str,
    /// That crate's version.
    pub version: &'static str,
}

thread_local! {
    /// The plugins that were built on this thread, while somebody asks.
    static BUILT: RefCell<Option<BTreeSet<Used>>> = const { RefCell::new(None) };
}

/// Calls `read`; gives also the plugins that it built on this thread, by kind and name.
pub(crate) fn using<T>(read: impl FnOnce() -> T) -> (T, Vec<Used>) {
    let before = BUILT.replace(Some(BTreeSet::new()));
    let result = read();
    let built = BUILT.replace(before).unwrap_or_default();
    (result, built.into_iter().collect())
}

/// Notes that the plugin of `entry` was built.
pub(super) fn note<K: Kind + ?Sized>(entry: &Entry<K>) {
    let used = Used {
        kind: K::LABEL,
        name: entry.name,
        origin: entry.origin,
        version: entry.version,
    };
    BUILT.with_borrow_mut(|built| built.as_mut().is_some_and(|built| built.insert(used)));
}
