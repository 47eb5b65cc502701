//! The `smallfry` program: the framework's command line with the stock plugins.
#![warn(unused_crate_dependencies)]

mod flags;
mod moco;
mod seed;

use smallfry_plugins as _; // links the stock plugins

fn main() -> std::process::ExitCode {
    smallfry::cli::main_with(&[moco::MOCO, seed::SEED])
}
