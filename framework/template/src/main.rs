//! The program: smallfry's command line with the stock plugins and those of this crate.
// Names a crate of plugins that is a dependency but not linked.
#![warn(unused_crate_dependencies)]

use smallfry_plugins as _; // links the stock plugins
use {{crate}} as _; // links those of this crate

fn main() -> std::process::ExitCode {
    smallfry::cli::main()
}
