//! Processes that are threads of one program, for tests.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Communicator;

/// One of several threads that take part as processes would.
pub struct Threads {
    rank: usize,
    size: usize,
    table: Arc<Table>,
}

/// What lies on the table of one exchange.
#[derive(Default)]
struct Table {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What each has put there.
    given: Vec<Option<Vec<u8>>>,
    /// All of it, until each has taken it.
    whole: Option<Arc<Vec<Vec<u8>>>>,
    taken: usize,
    /// Whether one of them is gone before its time.
    broken: bool,
}

impl Threads {
    /// `size` of them, in their order.
    pub fn of(size: usize) -> Vec<Self> {
        let table = Arc::new(Table::default());
        let place = |rank| Self {
            rank,
            size,
            table: Arc::clone(&table),
        };
        (0..size).map(place).collect()
    }

    /// Waits until somebody does something.
    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.table.changed.wait(state);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!state.broken, "another process is gone");
        state
    }

    /// What all give, once they all have.
    fn exchange(&self, own: Vec<u8>) -> Arc<Vec<Vec<u8>>> {
        let mut state = self
            .table
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while state.whole.is_some() {
            state = self.wait(state);
        }
        state.given.resize(self.size, None);
        state.given[self.rank] = Some(own);
        if state.given.iter().all(Option::is_some) {
            let whole = state.given.drain(..).flatten().collect();
            state.whole = Some(Arc::new(whole));
            self.table.changed.notify_all();
        }
        let whole = loop {
            match &state.whole {
                Some(whole) => break Arc::clone(whole),
                None => state = self.wait(state),
            }
        };
        state.taken += 1;
        if state.taken == self.size {
            (state.taken, state.whole) = (0, None);
            self.table.changed.notify_all();
        }
        whole
    }
}

impl Drop for Threads {
    /// Who waits for one that panicked would wait for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = (self.table.state.lock()).unwrap_or_else(PoisonError::into_inner);
            state.broken = true;
            self.table.changed.notify_all();
        }
    }
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

fn put(bytes: &[u8], numbers: &mut [f32]) {
    let (words, _) = bytes.as_chunks::<4>();
    assert_eq!(words.len(), numbers.len(), "processes disagree on a length");
    for (number, &word) in numbers.iter_mut().zip(words) {
        *number = f32::from_le_bytes(word);
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn broadcast(&self, bytes: &mut [u8]) {
        let own = if self.rank == 0 {
            bytes.to_vec()
        } else {
            Vec::new()
        };
        bytes.copy_from_slice(&self.exchange(own)[0]);
    }

    fn gather(&self, own: &[u8]) -> Vec<u8> {
        let all = self.exchange(own.to_vec());
        assert!(all.iter().all(|given| given.len() == own.len()));
        all.concat()
    }

    fn all_gather(&self, own: &[f32], all: &mut [f32]) {
        put(&self.gather(&bytes(own)), all);
    }

    fn all_to_all(&self, send: &[f32], sent: &[usize], receive: &mut [f32], received: &[usize]) {
        // Lengths first, so that a disagreement is seen.
        let mut message: Vec<u8> = sent
            .iter()
            .flat_map(|&n| (n as u64).to_le_bytes())
            .collect();
        message.extend(bytes(send));
        let all = self.exchange(message);
        let mut to = 0;
        for (message, &wanted) in all.iter().zip(received) {
            let (lengths, numbers) = message.split_at(8 * self.size);
            let (lengths, _) = lengths.as_chunks::<8>();
            let length = |of: usize| u64::from_le_bytes(lengths[of]) as usize;
            let begin: usize = (0..self.rank).map(length).sum();
            assert_eq!(length(self.rank), wanted, "processes disagree on a length");
            let numbers = &numbers[4 * begin..4 * (begin + wanted)];
            put(numbers, &mut receive[to..to + wanted]);
            to += wanted;
        }
    }

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
}
