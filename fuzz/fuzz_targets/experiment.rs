//! Experiment files with overrides.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smallfry_plugins as _; // links the stock plugins

#[path = "../experiment.rs"]
mod experiment;

fuzz_target!(|input: &str| experiment::check(input));
