//! `compare RUN RUN ..`: what differs between runs; the folder of a sweep stands for its runs.

use std::path::PathBuf;

use super::{Refusal, sweep, to_json};

pub(super) fn compare(folders: &[PathBuf], json: bool) -> Result<String, Refusal> {
    let mut runs = Vec::new();
    for folder in folders {
        match sweep::runs(folder)? {
            Some(swept) => runs.extend(swept),
            None => runs.push(folder.clone()),
        }
    }
    let comparison = crate::compare::compare(&runs)?;
    Ok(match json {
        true => to_json(&comparison),
        false => comparison.to_string(),
    })
}
