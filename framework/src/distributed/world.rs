//! The processes that take part in this run.

use std::{marker::PhantomData, sync::Arc};

use super::{
    Communicator, alone,
    launch::{self, Launch},
};
use crate::failure::Failure;

/// All processes of a run, for as long as this is kept.
///
/// To drop it waits until all processes do, unless a panic is under way, which ends all of them with exit code 70. A
/// process that gives up alone, and not as all the others do at the same point, ends the run by
/// [`Communicator::abort`].
pub struct World {
    /// What they exchange messages by.
    pub communicator: Arc<dyn Communicator>,
    #[cfg(feature = "mpi")]
    _engine: Option<super::mpi::Engine>,
    /// The thread that started an engine has to end it.
    thread: PhantomData<*const ()>,
}

impl World {
    /// This process alone.
    pub fn alone() -> Self {
        Self {
            communicator: alone(),
            #[cfg(feature = "mpi")]
            _engine: None,
            thread: PhantomData,
        }
    }
}

/// The processes that a launcher started together with this one; this one alone where it started no others.
///
/// # Errors
/// There are others, and this program was built without MPI, or with another MPI than the launcher's; MPI does not
/// start; an environment variable is wrong.
pub fn open() -> Result<World, Failure> {
    match launch::detect() {
        Some(launch) if launch.size > 1 => several(launch),
        // An engine would do nothing for one process.
        _ => Ok(World::alone()),
    }
}

#[cfg(not(feature = "mpi"))]
fn several(launch: Launch) -> Result<World, Failure> {
    let Launch { launcher, size, .. } = launch;
    let message = format!(
        "started as one of {size} processes by {launcher}, but this program was built without MPI"
    );
    Err(Failure::mistake(message).help("build it with `cargo build --release --features mpi`"))
}

#[cfg(feature = "mpi")]
fn several(launch: Launch) -> Result<World, Failure> {
    use super::mpi::Engine;
    let engine = Engine::start()?;
    let communicator = engine.communicator();
    let Launch { launcher, size, .. } = launch;
    // The processes of another launcher are strangers to the library, and each would believe that it is alone.
    if communicator.size() != size {
        let message = format!(
            "started as one of {size} processes by {launcher}, but {} counts {}: launcher and library are not of the \
             same MPI",
            Engine::library(),
            communicator.size()
        );
        return Err(Failure::mistake(message).help(
            "start the program with the launcher of the MPI that it was built with, under Slurm with `srun --mpi=pmix`",
        ));
    }
    Ok(World {
        communicator,
        _engine: Some(engine),
        thread: PhantomData,
    })
}

#[cfg(all(test, not(feature = "mpi")))]
mod tests {
    use super::*;

    #[test]
    fn several_processes_need_mpi() {
        let launch = Launch {
            launcher: "Open MPI",
            rank: 1,
            size: 4,
        };
        let failure = several(launch).err().expect("it is refused");
        assert_eq!(failure.exit_code(), 2);
        assert_eq!(
            failure.to_string(),
            "started as one of 4 processes by Open MPI, but this program was built without MPI\n  \
             = help: build it with `cargo build --release --features mpi`"
        );
    }
}
