//! Where a run works: its folder, the display of its progress, and the wish of its user to stop.

pub mod folder;
pub mod interrupt;
pub mod progress;

use std::sync::Arc;

use smallfry_data::Dataset;

use crate::distributed::{Communicator, command::Command};
use folder::RunFolder;
use interrupt::Interrupt;
use progress::Display;

/// What to do with a run folder that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Leave it alone and say so.
    #[default]
    Refuse,
    /// Go on from its last checkpoint.
    Resume,
    /// Remove what the earlier run wrote and start again.
    Overwrite,
}

/// Where progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Nowhere.
    #[default]
    Silent,
    /// On stderr: a moving bar on a terminal, a line for each epoch elsewhere.
    Stderr,
}

/// Where a stage works.
pub struct Workplace<'a> {
    /// The run folder.
    pub folder: &'a RunFolder,
    /// Where progress is shown.
    pub display: &'a mut Display,
    /// Whether the user wants to stop.
    pub interrupt: &'a Interrupt,
    /// Whether an earlier run is gone on with.
    pub resume: bool,
    /// Remarks for the user.
    pub notes: &'a mut Vec<String>,
    /// The processes of the run.
    pub communicator: &'a Arc<dyn Communicator>,
    /// Number of the stage at hand.
    pub stage: usize,
    /// The data sets of the stage, by the numbers that other processes have for them; none in the place of one that they have
    /// not.
    pub sets: &'a [Option<Arc<dyn Dataset>>],
    /// Paths of parameters that may have changed since the earlier run.
    pub allow: &'a [String],
}

impl Workplace<'_> {
    /// Has the other processes assist the stage at hand.
    pub fn engage(&self) {
        Command::Stage(self.stage as u64).give(&**self.communicator);
    }

    /// Tells the user something, now and with the results.
    pub fn note(&mut self, text: String) {
        self.display.note(&text);
        self.notes.push(text);
    }
}
