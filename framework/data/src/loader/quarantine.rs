//! The list of samples that cannot be read.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::dataset::LoadError;

/// Unreadable samples by number.
///
/// A sample in it is not tried again. That saves time only: trying again would fail again, so what a batch holds does
/// not depend on who came first.
#[derive(Default)]
pub(super) struct Quarantine(Mutex<BTreeMap<usize, LoadError>>);

impl Quarantine {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, LoadError>> {
        // Nothing that runs under the lock can leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn contains(&self, sample: usize) -> bool {
        self.lock().contains_key(&sample)
    }

    pub(super) fn add(&self, sample: usize, error: LoadError) {
        self.lock().entry(sample).or_insert(error);
    }

    pub(super) fn list(&self) -> Vec<(usize, LoadError)> {
        let map = self.lock();
        map.iter().map(|(&s, error)| (s, error.clone())).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}
