//! `isolated-metric PARENT`: the process that an isolated metric is called in; not for people.

use super::Refusal;
use crate::{dynamic::isolated, failure::Failure};

pub(super) fn serve(parent: u32) -> Result<String, Refusal> {
    match isolated::serve(parent) {
        Ok(()) => Ok(String::new()),
        Err(error) => Err(Failure::fault(format!("cannot serve a metric: {error}")).into()),
    }
}
