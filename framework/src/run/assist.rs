//! A run by several processes: the first runs it, the others assist its training.

use std::sync::Arc;

use smallfry_nn::kernel::simd::Level;

use super::prepare::{self, Prepared};
use crate::{
    distributed::{Communicator, collective::gather_texts, command::Command},
    evaluate::crew,
    failure::Failure,
    fingerprint,
    plan::Plan,
    workplace::interrupt::Interrupt,
};

/// Starts every status that is of a process which is ready.
const READY: &str = "ready ";

/// What must be the same in all processes, so that they come to the same numbers.
fn ready(stages: &[Prepared]) -> String {
    let prints: Vec<_> = stages.iter().map(Prepared::fingerprint).collect();
    format!(
        "{READY}{} {:?} {}",
        env!("CARGO_PKG_VERSION"),
        Level::current(),
        fingerprint::hash(&prints.join("\n"))
    )
}

/// Makes sure that all processes have the same experiment before them. This one's `stages` are prepared, or there is a
/// reason why not.
///
/// # Errors
/// Says which process is not ready, and why.
fn agree(
    stages: Result<&[Prepared], &str>,
    communicator: &dyn Communicator,
) -> Result<(), Failure> {
    let own = match stages {
        Ok(stages) => ready(stages),
        Err(reason) => reason.to_owned(),
    };
    let all = gather_texts(communicator, &own);
    let count = all.len();
    for (rank, status) in all.iter().enumerate() {
        let Some(found) = status.strip_prefix(READY) else {
            return Err(Failure::mistake(format!(
                "process {rank} of {count} is not ready: {status}"
            )));
        };
        let first = all[0].strip_prefix(READY).unwrap_or_default();
        if found == first {
            continue;
        }
        let [version, level, _] = words(found);
        let [own_version, own_level, _] = words(first);
        return Err(if version != own_version {
            Failure::mistake(format!(
                "process {rank} of {count} is version {version} of smallfry, the first is {own_version}"
            ))
            .help("start the same program on all machines")
        } else if level != own_level {
            Failure::mistake(format!(
                "process {rank} of {count} computes with {level}, the first with {own_level}: their roundings differ"
            ))
            .help("give all the lesser one, such as `SMALLFRY_SIMD=avx2`")
        } else {
            Failure::mistake(format!(
                "process {rank} of {count} has other data or another experiment file before it than the first"
            ))
            .help("the same files must lie at the same paths on all machines")
        });
    }
    Ok(())
}

/// The first three words of a status.
fn words(status: &str) -> [&str; 3] {
    let mut words = status.split(' ');
    std::array::from_fn(|_| words.next().unwrap_or_default())
}

/// The first process's side of [`agree`]; also whether training can be shared out as `stages` have it.
///
/// # Errors
/// A stage cannot be shared out, or a process is not ready.
pub(super) fn gather(stages: &[Prepared], communicator: &dyn Communicator) -> Result<(), Failure> {
    let processes = communicator.size();
    if processes == 1 {
        return Ok(());
    }
    for stage in stages {
        if let Prepared::Pretrain { training, .. } = stage {
            let (stage, batch) = (training.stage, training.setup.batch);
            if !batch.is_multiple_of(processes) {
                let wrong =
                    format!("a batch of {batch} cannot be shared out among {processes} processes");
                let error = stage.site.error("batch", wrong);
                let nearest = batch.next_multiple_of(processes);
                return Err(error
                    .help(format!("give a multiple, such as `batch: {nearest}`"))
                    .into());
            }
            let objective = &stage.objective;
            objective
                .check_processes(processes)
                .map_err(|invalid| objective.diagnose(&invalid))?;
        }
    }
    Command::Prepare.give(communicator);
    agree(Ok(stages), communicator)
}

/// Assists the run of the plan that `load` gives, until the first process says that there is nothing more to do.
///
/// # Errors
/// This process cannot do its part. The first process is told of everything else and tells the user.
pub fn assist(
    load: impl FnOnce() -> Result<Plan, String>,
    communicator: &Arc<dyn Communicator>,
) -> Result<(), Failure> {
    // A signal that reaches all processes is the first one's to act on.
    Interrupt::of_process()
        .map_err(|error| Failure::fault(format!("cannot listen for Ctrl-C: {error}")))?;
    if Command::take(&**communicator) == Command::Leave {
        return Ok(());
    }
    let plan = load();
    let stages = plan
        .as_ref()
        .map_err(String::clone)
        .and_then(|plan| prepare::all(plan).map_err(|failure| failure.to_string()));
    let status = stages.as_deref().map_err(String::as_str);
    // The first process tells of it.
    let _ = agree(status, &**communicator);
    let mut command = Command::take(&**communicator);
    let Ok(stages) = &stages else {
        return Ok(());
    };
    loop {
        command = match command {
            Command::Stage(number) => match stages.get(number as usize) {
                Some(Prepared::Pretrain { training, data }) => {
                    training.assist(data, communicator)?
                }
                _ => return Ok(()),
            },
            Command::Extract { stage, set } => {
                let stage = stages.get(stage as usize);
                match stage.and_then(Prepared::extractable) {
                    Some(extractable) => crew::assist(&extractable, set, &**communicator),
                    None => return Ok(()),
                }
            }
            Command::Done => Command::take(&**communicator),
            _ => return Ok(()),
        };
    }
}
