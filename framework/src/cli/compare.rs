//! `compare RUN RUN ..`: what differs between runs.

use std::path::PathBuf;

use super::{Refusal, to_json};

pub(super) fn compare(folders: &[PathBuf], json: bool) -> Result<String, Refusal> {
    let comparison = crate::compare::compare(folders)?;
    Ok(match json {
        true => to_json(&comparison),
        false => comparison.to_string(),
    })
}
