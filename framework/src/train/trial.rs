//! A few steps of a training that leave nothing behind: what a run will cost.
//!
//! The steps are real ones, on the stage's own first batches and views, with all its encoders and optimisers; only
//! weights from elsewhere are not loaded, as random ones cost the same. Times are those of this machine as busy as it
//! is now.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use smallfry_data::{
    Dataset,
    loader::{Cursor, Part},
};

use super::{
    Training,
    batches::{Batches, ViewBatch},
    machine::{Machine, Stopped},
    state,
};
use crate::{distributed::alone, failure::Failure, schedule::Progress};

/// What is known of a training before its first step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// The loss of encoders that tell nothing apart, where the objective has one.
    pub chance_loss: Option<f64>,
    /// Size of a checkpoint in bytes.
    pub checkpoint_bytes: u64,
    /// What the steps took; none where there were none.
    pub trial: Option<Trial>,
}

/// What steps that were tried took.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Steps that were timed.
    pub steps: usize,
    /// The median of their lengths, waiting for images included.
    pub step: Duration,
    /// Share of the time that was spent waiting for images, from 0 to 1.
    pub waiting: f64,
    /// The loss of the first step.
    pub loss: f64,
    /// The step, from 1, whose loss or gradient was no number.
    pub diverged: Option<usize>,
    /// The most memory that this process has had so far in bytes, where the system tells.
    pub peak_bytes: Option<u64>,
}

/// What `training` will cost, by `steps` timed steps after a first that fills caches.
///
/// # Errors
/// The objective does not fit, or an image cannot be loaded.
pub fn outlook(
    training: &Training,
    data: &Arc<dyn Dataset>,
    steps: usize,
) -> Result<Outlook, Failure> {
    let mut machine = training.machine(&alone())?;
    Ok(Outlook {
        chance_loss: machine.learner.chance_loss(),
        checkpoint_bytes: state::bytes(&*machine.learner, &machine.descents),
        trial: match steps {
            0 => None,
            _ => trial(training, &mut machine, data, steps)?,
        },
    })
}

/// None where the stage has not two steps to time.
fn trial(
    training: &Training,
    machine: &mut Machine,
    data: &Arc<dyn Dataset>,
    steps: usize,
) -> Result<Option<Trial>, Failure> {
    let stage = training.stage;
    let per_epoch = training.steps_per_epoch();
    let steps = steps.min((per_epoch * stage.epochs).saturating_sub(1));
    if steps == 0 {
        return Ok(None);
    }
    let seed = training.setup.seed;
    let mut batches = Batches::start(stage, seed, data.clone(), Cursor::default(), Part::WHOLE)?;
    let (mut times, mut waiting, mut first) = (Vec::new(), Duration::ZERO, f64::NAN);
    let mut diverged = None;
    for index in 0..=steps {
        let (epoch, step) = (index / per_epoch, index % per_epoch);
        let factor = stage.schedule.factor_at(Progress {
            epoch,
            epochs: stage.epochs,
            step,
            steps: per_epoch,
        });
        let begin = Instant::now();
        let mut waited = Duration::ZERO;
        let mut source = |_, spent: Option<ViewBatch>| {
            if let Some(spent) = spent {
                batches.recycle(spent);
            }
            let begin = Instant::now();
            let batch = batches.next();
            waited += begin.elapsed();
            batch.unwrap_or_else(|| Err(Failure::fault("the loader ended too soon")))
        };
        let moment = training.moment(epoch, index as u64);
        let rate = stage.optimizer.rate() * factor;
        match machine.step(&mut source, moment, rate) {
            Ok(step) if index == 0 => first = step.loss,
            Ok(_) => {}
            Err(Stopped::Failure(failure)) => return Err(failure),
            Err(Stopped::NotFinite(_)) => {
                diverged = Some(index + 1);
                break;
            }
        }
        // The first step plans the network and fills the loader's queue.
        if index > 0 {
            times.push(begin.elapsed());
            waiting += waited;
        }
    }
    let whole: Duration = times.iter().sum();
    times.sort();
    Ok(Some(Trial {
        steps: times.len(),
        step: times.get(times.len() / 2).copied().unwrap_or_default(),
        waiting: waiting.as_secs_f64() / whole.as_secs_f64().max(1e-9),
        loss: first,
        diverged,
        peak_bytes: peak_bytes(),
    }))
}

fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kilobytes)
}
