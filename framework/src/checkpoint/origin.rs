//! Where weights come from, as an experiment file says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where weights come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "weights")]
pub enum Weights {
    /// The initialisation that a training stage of this file starts from.
    Untrained,
    /// The last checkpoint of a training stage of this file.
    Stage(String),
    /// A checkpoint file.
    File(PathBuf),
}
