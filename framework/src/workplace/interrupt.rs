//! Stopping on Ctrl-C: the first finishes the step at hand, the second ends the program at once.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// Whether the user wants the run to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    flag: Arc<AtomicBool>,
}

impl Interrupt {
    /// The one of this process, set by Ctrl-C and by the system's request to end.
    ///
    /// # Errors
    /// The system refuses to report signals.
    pub fn of_process() -> io::Result<Self> {
        static INTERRUPT: OnceLock<Interrupt> = OnceLock::new();
        if let Some(interrupt) = INTERRUPT.get() {
            return Ok(interrupt.clone());
        }
        let interrupt = INTERRUPT.get_or_init(Self::default).clone();
        for signal in [SIGINT, SIGTERM] {
            // In this order: a signal that finds the flag set ends the program, and only then is the flag set.
            flag::register_conditional_shutdown(signal, 128 + signal, interrupt.flag.clone())?;
            flag::register(signal, interrupt.flag.clone())?;
        }
        Ok(interrupt)
    }

    /// Whether the run should stop.
    pub fn requested(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}
