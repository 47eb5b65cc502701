//! All tensors of a network under their reference names.
//!
//! Trained values and their gradients lie in two arenas of the same layout, so that an optimiser step or a momentum
//! update is one pass over flat memory. Running statistics and counters are kept beside them: they are saved with a
//! checkpoint but neither trained nor averaged.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use rayon::prelude::*;

use crate::network::{Network, Role, Spec};

/// Numbers that a task clears.
const CHUNK: usize = 1 << 17;

/// The tensors of one network.
#[derive(Clone, Debug)]
pub struct Parameters {
    specs: Vec<Spec>,
    places: Vec<Range<usize>>,
    index: BTreeMap<String, usize>,
    values: Vec<f32>,
    gradients: Vec<f32>,
    statistics: Vec<f32>,
    counters: Vec<u64>,
    /// Whether every gradient is zero for sure.
    clear: bool,
    /// Gradients of earlier passes.
    aside: Vec<f32>,
    version: u64,
}

/// The contents of one state-dict entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values<'a> {
    /// Row-major numbers.
    Float(&'a [f32]),
    /// A counter.
    Integer(u64),
}

impl Parameters {
    /// Zeroed tensors for the entries of `specs`, in their order.
    ///
    /// # Panics
    /// If two entries have the same name.
    pub fn new(specs: Vec<Spec>) -> Self {
        let (mut weights, mut statistics, mut counters) = (0, 0, 0);
        let mut places = Vec::with_capacity(specs.len());
        let mut index = BTreeMap::new();
        for (i, spec) in specs.iter().enumerate() {
            let total = match spec.role {
                Role::Weight | Role::Frozen => &mut weights,
                Role::Statistic => &mut statistics,
                Role::Counter => &mut counters,
            };
            places.push(*total..*total + spec.len());
            *total += spec.len();
            assert!(
                index.insert(spec.name.clone(), i).is_none(),
                "two tensors are named `{}`",
                spec.name
            );
        }
        Self {
            places,
            index,
            values: vec![0.0; weights],
            gradients: vec![0.0; weights],
            clear: true,
            aside: Vec::new(),
            statistics: vec![0.0; statistics],
            counters: vec![0; counters],
            version: unused_version(),
            specs,
        }
    }

    /// The tensors of `network`, started from `seed`.
    pub fn initialised(network: &Network, seed: u64) -> Self {
        let mut parameters = Self::new(network.tensors());
        parameters.initialise(seed);
        parameters
    }

    /// Every entry, in state-dict order.
    pub fn specs(&self) -> &[Spec] {
        &self.specs
    }

    /// The position of an entry.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// The contents of entry `i`.
    pub fn get(&self, i: usize) -> Values<'_> {
        let place = self.places[i].clone();
        match self.specs[i].role {
            Role::Weight | Role::Frozen => Values::Float(&self.values[place]),
            Role::Statistic => Values::Float(&self.statistics[place]),
            Role::Counter => Values::Integer(self.counters[place.start]),
        }
    }

    /// A number that parameters of other content do not have: it changes with every access that may change weights or
    /// statistics, and is the same for clones. What was worked out from the parameters is good as long as it stays.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn renew(&mut self) {
        self.version = unused_version();
    }

    /// The numbers of entry `i`; a counter has none.
    pub fn floats_mut(&mut self, i: usize) -> &mut [f32] {
        self.renew();
        let place = self.places[i].clone();
        match self.specs[i].role {
            Role::Weight | Role::Frozen => &mut self.values[place],
            Role::Statistic => &mut self.statistics[place],
            Role::Counter => &mut [],
        }
    }

    /// Sets counter `i`; other entries are left alone.
    pub fn set_counter(&mut self, i: usize, value: u64) {
        if self.specs[i].role == Role::Counter {
            self.counters[self.places[i].start] = value;
        }
    }

    /// The numbers of a trained tensor.
    ///
    /// # Panics
    /// If there is no such tensor: names come from the network that made these parameters.
    pub fn weight(&self, name: &str) -> &[f32] {
        &self.values[self.weight_place(name)]
    }

    /// The gradient of a trained tensor.
    ///
    /// # Panics
    /// As [`weight`](Self::weight).
    pub fn gradient(&self, name: &str) -> &[f32] {
        &self.gradients[self.weight_place(name)]
    }

    /// Where a trained tensor lies in [`values`](Self::values) and [`gradients`](Self::gradients).
    ///
    /// # Panics
    /// As [`weight`](Self::weight).
    pub fn weight_place(&self, name: &str) -> Range<usize> {
        let i = self
            .position(name)
            .unwrap_or_else(|| panic!("no tensor is named `{name}`"));
        assert!(
            matches!(self.specs[i].role, Role::Weight | Role::Frozen),
            "`{name}` is not trained"
        );
        self.places[i].clone()
    }

    /// Where a running statistic lies in [`statistics`](Self::statistics).
    ///
    /// # Panics
    /// As [`weight`](Self::weight).
    pub fn statistic_place(&self, name: &str) -> Range<usize> {
        let i = self
            .position(name)
            .unwrap_or_else(|| panic!("no tensor is named `{name}`"));
        assert_eq!(
            self.specs[i].role,
            Role::Statistic,
            "`{name}` is not a statistic"
        );
        self.places[i].clone()
    }

    /// Where a counter lies in [`counters_mut`](Self::counters_mut).
    ///
    /// # Panics
    /// As [`weight`](Self::weight).
    pub fn counter_place(&self, name: &str) -> usize {
        let i = self
            .position(name)
            .unwrap_or_else(|| panic!("no tensor is named `{name}`"));
        assert_eq!(
            self.specs[i].role,
            Role::Counter,
            "`{name}` is not a counter"
        );
        self.places[i].start
    }

    /// The parts of [`values`](Self::values) that an optimiser may change: everything but frozen tensors, in order,
    /// neighbours joined.
    pub fn trained_ranges(&self) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (spec, place) in self.specs.iter().zip(&self.places) {
            if spec.role == Role::Weight {
                match ranges.last_mut() {
                    Some(last) if last.end == place.start => last.end = place.end,
                    _ => ranges.push(place.clone()),
                }
            }
        }
        ranges
    }

    /// Counters.
    pub fn counters(&self) -> &[u64] {
        &self.counters
    }

    /// The arena of trained values.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The arena of trained values, to change.
    pub fn values_mut(&mut self) -> &mut [f32] {
        self.renew();
        &mut self.values
    }

    /// The arena of gradients, laid out as [`values`](Self::values).
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// The values to read and the gradients to add to, at once.
    pub fn values_and_gradients_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        self.renew();
        self.clear = false;
        (&mut self.values, &mut self.gradients)
    }

    /// Running statistics.
    pub fn statistics(&self) -> &[f32] {
        &self.statistics
    }

    /// Running statistics, to change.
    pub fn statistics_mut(&mut self) -> &mut [f32] {
        self.renew();
        &mut self.statistics
    }

    /// Counters, to change.
    pub fn counters_mut(&mut self) -> &mut [u64] {
        &mut self.counters
    }

    /// Sets every gradient to zero.
    pub fn clear_gradients(&mut self) {
        self.gradients
            .par_chunks_mut(CHUNK)
            .for_each(|chunk| chunk.fill(0.0));
        self.clear = true;
    }

    /// Lets a pass begin from gradients of zero, so that what it adds is one number a weight, however it comes by it;
    /// [`take_gradients_back`](Self::take_gradients_back) adds those of earlier passes. False where there are none, and
    /// nothing is to be taken back.
    pub fn set_gradients_aside(&mut self) -> bool {
        if self.clear {
            return false;
        }
        self.aside.resize(self.gradients.len(), 0.0);
        std::mem::swap(&mut self.aside, &mut self.gradients);
        self.clear_gradients();
        true
    }

    /// Adds the gradients that were set aside.
    pub fn take_gradients_back(&mut self) {
        let earlier = self.aside.par_chunks(CHUNK);
        (self.gradients.par_chunks_mut(CHUNK).zip(earlier)).for_each(|(own, earlier)| {
            for (own, earlier) in own.iter_mut().zip(earlier) {
                *own += earlier;
            }
        });
        self.clear = false;
    }
}

fn unused_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
