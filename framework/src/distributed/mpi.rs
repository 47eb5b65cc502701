//! Processes that a launcher of MPI started, on one machine or on many.
//!
//! MPI may be called by one thread at a time. It is started and ended by one and the same thread, which is why the
//! [`Engine`] stays there; what exchanges messages goes anywhere. No failure of MPI can be mended by a process alone,
//! so each ends the job.

use std::{
    error::Error,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use ferrompi::{Mpi, ThreadLevel};
use signal_hook::low_level;

use super::{
    Communicator,
    pieces::Pieces,
    watchdog::{self, Watchdog},
};
use crate::failure::Failure;

/// The most bytes or numbers in a call, whose counts and places are 32-bit numbers with a sign.
const MOST: usize = 1 << 30;

/// Exit code of a job of which a process panicked.
const PANICKED: i32 = 70;
/// Exit code of a job whose messages do not get through.
const FAILED: i32 = 74;
/// Exit code of a process that waited too long for another.
const LATE: i32 = 75;

/// How long the end of a job may take, before a process ends by itself.
const LAST: Duration = Duration::from_secs(10);

/// MPI while it runs; ends it when dropped.
pub struct Engine {
    mpi: Option<Mpi>,
    communicator: Arc<Pieces<World>>,
}

impl Engine {
    /// Starts MPI.
    ///
    /// # Errors
    /// MPI does not start, or the user's limit of an exchange is none.
    pub fn start() -> Result<Self, Failure> {
        // Before MPI: the mistake is the same in all processes.
        let limit = watchdog::limit().map_err(|message| {
            Failure::mistake(message).help(format!("unset {}", watchdog::VARIABLE))
        })?;
        let refused = |error| Failure::fault(format!("MPI does not start: {error}"));
        let mpi = Mpi::init_thread(ThreadLevel::Serialized).map_err(refused)?;
        // Messages of a communicator of one's own meet no others.
        let calls = mpi.world().duplicate().map_err(refused)?;
        let (rank, size) = (calls.rank() as usize, calls.size() as usize);
        let late = move |operation: &str| {
            complain(&format!(
                "process {rank} of {size}: {operation} takes longer than {limit:?}; another process hangs, is far \
                 behind or cannot be reached\n  = help: if it is only slow, set {} to more seconds",
                watchdog::VARIABLE
            ));
            // Without what MPI has registered to be done at an exit, which could wait for the other process.
            low_level::exit(LATE)
        };
        let watchdog = Watchdog::start(limit, late)
            .map_err(|error| Failure::fault(format!("cannot start a thread: {error}")))?;
        let world = World {
            rank,
            size,
            calls: Mutex::new(calls),
            watchdog,
        };
        Ok(Self {
            mpi: Some(mpi),
            communicator: Arc::new(Pieces::new(world, MOST)),
        })
    }

    /// What the processes exchange messages by.
    pub fn communicator(&self) -> Arc<dyn Communicator> {
        self.communicator.clone()
    }

    /// The name of the library, such as `Open MPI v4.1.4`.
    pub fn library() -> String {
        let version = Mpi::library_version().unwrap_or_default();
        let name = version.split([',', '\n', '\0']).next().unwrap_or_default();
        name.trim().to_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The end of MPI waits for all processes, and they may be waiting for this one's part in an exchange. It is not
        // for the hook of panics to say: it also sees those that are caught, as of a decoder on a damaged image.
        if thread::panicking() {
            self.communicator.abort(PANICKED);
        }
        let mpi = self.mpi.take();
        let world = self.communicator.inner();
        match world.rank {
            // Nobody works on without the first.
            0 => world.watchdog.over("the end of MPI", || drop(mpi)),
            // The first may be at work alone.
            _ => drop(mpi),
        }
    }
}

/// All processes of the job.
struct World {
    rank: usize,
    size: usize,
    calls: Mutex<ferrompi::Communicator>,
    watchdog: Watchdog,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, ferrompi::Communicator> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of an exchange; a failure ends the job.
    fn done(&self, operation: &str, result: Exchanged) {
        if let Err(error) = result {
            let Self { rank, size, .. } = self;
            complain(&format!(
                "process {rank} of {size}: {operation} failed: {error}"
            ));
            self.abort(FAILED);
        }
    }

    /// Makes calls that have to end within the limit.
    fn exchange(
        &self,
        operation: &'static str,
        calls: impl FnOnce(&ferrompi::Communicator) -> Exchanged,
    ) {
        let result = self.watchdog.over(operation, || calls(&self.lock()));
        self.done(operation, result);
    }

    /// Ends the job unless each process gives as many.
    ///
    /// MPI trusts its callers in this, and may put a message that is longer than the others where other things lie.
    fn each_gives(&self, calls: &ferrompi::Communicator, length: usize) -> Exchanged {
        let mut lengths = vec![0; self.size];
        calls.allgather(&[length as u64], &mut lengths)?;
        agree(&lengths, &vec![length as u64; self.size])
    }
}

impl Communicator for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn broadcast(&self, bytes: &mut [u8]) {
        let mut broadcast = || {
            let calls = self.lock();
            let mut length = [bytes.len() as u64];
            calls.broadcast(&mut length, 0)?;
            agree(&length, &[bytes.len() as u64])?;
            Ok(calls.broadcast(bytes, 0)?)
        };
        let result = broadcast();
        self.done("broadcast", result);
    }

    fn gather(&self, own: &[u8]) -> Vec<u8> {
        let mut all = vec![0; self.size * own.len()];
        self.exchange("gather", |calls| {
            self.each_gives(calls, own.len())?;
            Ok(calls.allgather(own, &mut all)?)
        });
        all
    }

    fn all_gather(&self, own: &[f32], all: &mut [f32]) {
        self.exchange("all-gather", |calls| {
            self.each_gives(calls, own.len())?;
            Ok(calls.allgather(own, all)?)
        });
    }

    fn all_to_all(&self, send: &[f32], sent: &[usize], receive: &mut [f32], received: &[usize]) {
        self.exchange("all-to-all", |calls| {
            let [gives, gets] = [sent, received].map(wide);
            let mut given = vec![0; self.size];
            calls.alltoall(&gives, &mut given)?;
            agree(&given, &gets)?;
            let [(sent, from), (received, to)] = [sent, received].map(places);
            Ok(calls.alltoallv(send, &sent, &from, receive, &received, &to)?)
        });
    }

    fn abort(&self, code: i32) -> ! {
        // Should the others not be reached, this one ends all the same; its launcher sees to them.
        let last = move || {
            thread::sleep(LAST);
            low_level::exit(code)
        };
        let _ = thread::Builder::new().spawn(last);
        // Another thread may be at a call, which must not be made twice at a time, and MPI may have ended.
        if let Ok(calls) = self.calls.try_lock()
            && !Mpi::is_finalized()
        {
            calls.abort(code);
        }
        low_level::exit(code)
    }
}

/// Whether an exchange succeeded.
type Exchanged = Result<(), Box<dyn Error>>;

/// An error if any process gives another length than it should.
fn agree(lengths: &[u64], wanted: &[u64]) -> Exchanged {
    let mut both = lengths.iter().zip(wanted).enumerate();
    match both.find(|(_, (length, wanted))| length != wanted) {
        Some((process, (length, wanted))) => {
            Err(format!("process {process} gives {length} where {wanted} are awaited").into())
        }
        None => Ok(()),
    }
}

/// Lengths as they are sent.
fn wide(lengths: &[usize]) -> Vec<u64> {
    lengths.iter().map(|&length| length as u64).collect()
}

/// Lengths, and where each begins, as MPI takes them.
fn places(lengths: &[usize]) -> (Vec<i32>, Vec<i32>) {
    let short = |number: usize| i32::try_from(number).expect("pieces are short");
    let begins = lengths.iter().scan(0, |begin, length| {
        let own = *begin;
        *begin += length;
        Some(short(own))
    });
    (
        lengths.iter().map(|&length| short(length)).collect(),
        begins.collect(),
    )
}

/// Tells the user why the job ends.
fn complain(message: &str) {
    // In one write, so that lines of several processes do not mix. A closed stderr is no reason to panic.
    let _ = io::stderr().write_all(format!("error: {message}\n").as_bytes());
}
