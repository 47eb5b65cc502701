//! The command line.

use std::process::ExitCode;

/// Runs the program: parses the command line and does what it says.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
