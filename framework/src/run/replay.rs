//! Makes the stage of a kept step again and repeats the step.

use std::path::Path;

use super::prepare::{self, Prepared};
use crate::{
    experiment,
    failure::Failure,
    train::replay::{Kept, Replay},
};

/// Repeats the step that ended the run in `folder`.
///
/// # Errors
/// The run kept no such step, the files are damaged or of another set-up, or the stage cannot be made again.
pub fn replay(folder: &Path) -> Result<Replay, Failure> {
    let kept = Kept::read(folder)?;
    let plan = experiment::load(&kept.root.join("resolved.ron"), &[])?;
    let stages = prepare::all(&plan)?;
    let training = stages.iter().find_map(|stage| match stage {
        Prepared::Pretrain { training, .. } if training.stage.name == kept.stage() => {
            Some(training)
        }
        _ => None,
    });
    let training = training.ok_or_else(|| {
        Failure::mistake(format!("the experiment has no stage `{}`", kept.stage()))
    })?;
    kept.repeat(training)
}
