//! Training as one of several processes, beside the first: the same steps on another part of every batch, and no file.

use std::sync::Arc;

use smallfry_data::{
    Dataset,
    loader::{Cursor, Part},
};

use super::{
    Training,
    batches::{Batches, ViewBatch},
    machine::Machine,
    state,
};
use crate::{
    distributed::{Communicator, collective::gather_texts, command::Command},
    failure::Failure,
};

/// The part of every batch that this process has.
pub(super) fn part(communicator: &dyn Communicator) -> Part {
    Part {
        index: communicator.rank(),
        count: communicator.size(),
    }
}

/// Makes sure that all processes are at the same state.
///
/// # Errors
/// One is not: something in its place counts otherwise.
pub(super) fn compare(machine: &Machine, communicator: &dyn Communicator) -> Result<(), Failure> {
    if communicator.size() == 1 {
        return Ok(());
    }
    let hashes = gather_texts(communicator, &machine.state_hash());
    match hashes.iter().position(|hash| *hash != hashes[0]) {
        None => Ok(()),
        Some(rank) => Err(Failure::fault(format!(
            "process {rank} of {} has come to other weights than the first; its processor or its memory may be at fault",
            hashes.len()
        ))
        .help("go on with --resume, without that machine")),
    }
}

impl Training<'_> {
    /// Takes the steps that the first process tells this one to take; what it says at last: that the stage is done, or
    /// that all is.
    ///
    /// # Errors
    /// The loader cannot start.
    pub fn assist(
        &self,
        data: &Arc<dyn Dataset>,
        communicator: &Arc<dyn Communicator>,
    ) -> Result<Command, Failure> {
        let mut machine = self.machine(communicator)?;
        let Machine {
            learner, descents, ..
        } = &mut machine;
        state::share(&mut **learner, descents, &**communicator)?;
        let mut batches: Option<Batches> = None;
        loop {
            let (epoch, index) = match Command::take(&**communicator) {
                Command::Step { epoch, index } => (epoch as usize, index as usize),
                Command::Compare => match compare(&machine, &**communicator) {
                    Ok(()) => continue,
                    // The first process says so.
                    Err(_) => return Ok(Command::take(&**communicator)),
                },
                other => return Ok(other),
            };
            let batches = match &mut batches {
                Some(batches) => batches,
                None => batches.insert(Batches::start(
                    self.stage,
                    self.setup.seed,
                    data.clone(),
                    Cursor {
                        epoch: epoch as u64,
                        batch: index * self.stage.step.accumulate,
                    },
                    part(&**communicator),
                )?),
            };
            let mut source = |_, spent: Option<ViewBatch>| {
                if let Some(spent) = spent {
                    batches.recycle(spent);
                }
                batches.next().unwrap_or_else(|| {
                    Err(Failure::fault(format!(
                        "the loader ended epoch {} after {index} steps",
                        epoch + 1
                    )))
                })
            };
            let step = (epoch * self.steps_per_epoch() + index) as u64;
            let moment = self.moment(epoch, step);
            // Whatever goes wrong in a step goes wrong in all processes, and the first tells of it.
            let _ = machine.step(&mut source, moment, self.rate(epoch, index));
        }
    }
}
