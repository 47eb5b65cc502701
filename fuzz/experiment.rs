//! What must hold of any text as an experiment file: no panic and no hang, every mistake can be printed, and what is good
//! resolves to itself. Used by the fuzz target and, on inputs that it found, by `tests/tests/fuzzed_experiments.rs`.

use std::path::Path;

use smallfry::{diagnostic::Diagnostic, experiment, plan::Plan, source::Source};

fn plan(text: &str, overrides: &[String]) -> Result<Plan, Vec<Diagnostic>> {
    let source = Source::new("fuzzed.ron", text);
    // A folder that is there wherever this runs; no data are looked for.
    experiment::parse(source, Path::new("/"), "fuzzed", overrides)
}

/// Checks a file with overrides, each in a line of its own behind a line `----`.
///
/// # Panics
/// If anything of it does not hold.
pub fn check(input: &str) {
    let (text, changes) = input.split_once("\n----\n").unwrap_or((input, ""));
    let overrides: Vec<_> = changes.lines().map(str::to_owned).collect();
    match plan(text, &overrides) {
        Ok(first) => {
            let second = plan(&first.resolved, &[]).unwrap_or_else(|errors| {
                panic!("{}\nin what it resolves to:\n{}", errors[0], first.resolved)
            });
            assert_eq!(first.resolved, second.resolved);
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal says why");
            for error in errors {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}
