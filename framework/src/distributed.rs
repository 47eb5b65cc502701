//! Several processes that train together, on one machine or on many.
//!
//! The first process is the program as it always is: it reads and writes the run folder, decides when to stop and
//! prints. The others assist it: they load their part of every batch, compute its share of the gradient, and take the
//! same step. What they come to does not depend on how many they are: sums are taken in the order of the processes, not
//! in whatever order messages arrive, and what one process does with `groups` parts of a batch, as many processes do
//! with a part each, to the same bytes.
//!
//! A process that fails ends all: training goes on from the last checkpoint, by the same command with `--resume`.

pub mod collective;
pub mod command;
pub mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(any(test, feature = "mpi"))]
mod pieces;
pub mod threads;
#[cfg(any(test, feature = "mpi"))]
mod watchdog;
mod world;

use std::{process, sync::Arc};

pub use world::{World, open};

/// What processes exchange. Every process calls the same methods in the same order.
///
/// None of them fails: where a message cannot get through, or another process is gone, the implementation says so and
/// ends the whole job, since no process could go on alone.
pub trait Communicator: Send + Sync {
    /// The number of this process, from 0. The first is the one that reads and writes the run folder.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// Gives every process the bytes of the first. Others wait for it however long it takes, as the first may be at
    /// work alone.
    fn broadcast(&self, bytes: &mut [u8]);

    /// Gives every process the bytes of all, in the order of the processes; each gives as many.
    fn gather(&self, own: &[u8]) -> Vec<u8>;

    /// Gives every process the numbers of all, in the order of the processes; each gives as many, `all.len() / size()`.
    fn all_gather(&self, own: &[f32], all: &mut [f32]);

    /// Sends `sent[r]` numbers of `send`, in the order of the processes, to process r, and puts what each process sends
    /// to this one, `received[r]` numbers, into `receive` in the order of the processes. Each process gives as many in
    /// all.
    fn all_to_all(&self, send: &[f32], sent: &[usize], receive: &mut [f32], received: &[usize]);

    /// Ends all processes at once with an exit code, without their having a say in it.
    fn abort(&self, code: i32) -> !;
}

/// One process alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Local;

/// One process alone, for whoever wants to share it.
pub fn alone() -> Arc<dyn Communicator> {
    Arc::new(Local)
}

impl Communicator for Local {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn broadcast(&self, _: &mut [u8]) {}

    fn gather(&self, own: &[u8]) -> Vec<u8> {
        own.to_vec()
    }

    fn all_gather(&self, own: &[f32], all: &mut [f32]) {
        all.copy_from_slice(own);
    }

    fn all_to_all(&self, send: &[f32], _: &[usize], receive: &mut [f32], _: &[usize]) {
        receive.copy_from_slice(send);
    }

    fn abort(&self, code: i32) -> ! {
        process::exit(code)
    }
}
