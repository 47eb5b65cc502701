//! Experiment files with overrides: no panic and no hang, every mistake can be printed, and what is good resolves to itself.
//!
//! An override stands in a line of its own behind a line `----`.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use smallfry::{diagnostic::Diagnostic, experiment, plan::Plan, source::Source};
use smallfry_plugins as _; // links the stock plugins

fn plan(text: &str, overrides: &[String]) -> Result<Plan, Vec<Diagnostic>> {
    let source = Source::new("fuzzed.ron", text);
    experiment::parse(source, Path::new("/nowhere"), "fuzzed", overrides)
}

fuzz_target!(|input: &str| {
    let (text, changes) = input.split_once("\n----\n").unwrap_or((input, ""));
    let overrides: Vec<_> = changes.lines().map(str::to_owned).collect();
    match plan(text, &overrides) {
        Ok(first) => {
            let second = plan(&first.resolved, &[]).unwrap_or_else(|errors| panic!("{}", errors[0]));
            assert_eq!(first.resolved, second.resolved);
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal says why");
            for error in errors {
                assert!(!error.to_string().is_empty());
            }
        }
    }
});
