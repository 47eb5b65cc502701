//! The whole program with MPI, for `tests/processes` to start several of.
//!
//! The ordinary program is built without, beside it.

use std::process::ExitCode;

use smallfry_plugins as _; // links the stock plugins

fn main() -> ExitCode {
    smallfry::cli::main()
}
