//! Notices an exchange that does not come back.
//!
//! A process that hangs, was stopped or cannot be reached any more leaves the others waiting for ever, and no launcher
//! sees anything amiss. What ends by itself can be started again.

use std::{
    ffi::OsString,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// The environment variable with the limit in seconds.
pub const VARIABLE: &str = "SMALLFRY_COLLECTIVE_LIMIT";

/// The limit where the variable is not set.
const DEFAULT: Duration = Duration::from_secs(600);

/// How often within the limit it looks.
const LOOKS: u32 = 16;

/// How long an exchange may take.
///
/// # Errors
/// A text for the user: the environment variable holds no time.
#[cfg(feature = "mpi")]
pub fn limit() -> Result<Duration, String> {
    parsed(std::env::var_os(VARIABLE))
}

fn parsed(text: Option<OsString>) -> Result<Duration, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(DEFAULT);
    };
    let text = text.to_string_lossy();
    let seconds = text.trim().parse().ok();
    let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let wrong =
        || format!("`{VARIABLE}` is `{text}`, but must be seconds above 0, such as 600 or 2.5");
    limit.filter(|limit| !limit.is_zero()).ok_or_else(wrong)
}

/// Watches the exchanges of a process, of which there is one at a time.
pub struct Watchdog {
    current: Arc<Mutex<Current>>,
}

/// What is going on.
#[derive(Default)]
struct Current {
    operation: Option<&'static str>,
    /// How many there were, so that one is told from the next.
    number: u64,
}

impl Watchdog {
    /// Calls `late` with the name of an exchange that takes longer than `limit`.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn start(limit: Duration, late: impl FnOnce(&str) + Send + 'static) -> io::Result<Self> {
        let current = Arc::<Mutex<Current>>::default();
        let watched = Arc::downgrade(&current);
        let interval = (limit / LOOKS).max(Duration::from_millis(1));
        let watch = move || {
            let (mut last, mut waited) = (0, Duration::ZERO);
            loop {
                // Looks are counted, not the time between: a process that was stopped has not been waiting meanwhile.
                thread::sleep(interval);
                let Some(current) = watched.upgrade() else {
                    return;
                };
                let (operation, number) = {
                    let current = lock(&current);
                    (current.operation, current.number)
                };
                match operation {
                    Some(operation) if number == last => {
                        waited += interval;
                        if waited >= limit {
                            return late(operation);
                        }
                    }
                    _ => (last, waited) = (number, Duration::ZERO),
                }
            }
        };
        thread::Builder::new()
            .name("watchdog".into())
            .spawn(watch)?;
        Ok(Self { current })
    }

    /// Does `work`, which has to end within the limit.
    pub fn over<T>(&self, operation: &'static str, work: impl FnOnce() -> T) -> T {
        {
            let mut current = lock(&self.current);
            current.operation = Some(operation);
            current.number += 1;
        }
        let result = work();
        lock(&self.current).operation = None;
        result
    }
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn limits_are_seconds() {
        let parsed = |text: &str| parsed(Some(text.into()));
        for (text, expected) in [("60", 60_000), (" 2.5", 2500), ("1e3", 1_000_000)] {
            assert_eq!(parsed(text), Ok(Duration::from_millis(expected)));
        }
        assert_eq!(parsed(""), Ok(DEFAULT));
        assert_eq!(super::parsed(None), Ok(DEFAULT));
        for wrong in ["0", "-1", "10 s", "inf", "NaN", "long", "1e-12", "1e300"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_exchange_that_does_not_end_is_named() {
        let (named, name) = mpsc::channel();
        let late = move |operation: &str| named.send(operation.to_owned()).unwrap();
        let watchdog = Watchdog::start(Duration::from_millis(50), late).unwrap();
        for _ in 0..1000 {
            watchdog.over("short", || {});
        }
        // It waits for what only its being late brings about.
        assert_eq!(watchdog.over("long", || name.recv().unwrap()), "long");
    }

    #[test]
    fn what_is_over_is_never_late() {
        let (named, name) = mpsc::channel::<()>();
        let late = move |operation: &str| panic!("{operation} is late: {named:?}");
        let watchdog = Watchdog::start(Duration::from_millis(20), late).unwrap();
        watchdog.over("short", || {});
        drop(watchdog);
        // The thread ends, and with it the sender, once there is nothing to watch.
        assert!(name.recv().is_err());
    }
}
