//! `replay FOLDER`: repeats the step that ended a run because its figures were no numbers.

use std::path::Path;

use super::Refusal;
use crate::{failure::Failure, run::replay};

pub(super) fn replay(folder: &Path) -> Result<String, Refusal> {
    let replay = replay::replay(folder)?;
    match replay.same {
        true => Ok(replay.text),
        false => Err(Failure::fault(replay.text.trim_end())
            .help("another build or machine rounds otherwise; repeat the step where it was taken")
            .into()),
    }
}
