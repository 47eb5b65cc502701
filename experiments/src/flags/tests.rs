//! What the tests of every command line do.

use std::{collections::BTreeMap, path::Path};

use smallfry::{cli::Foreign, compare, experiment as file, source::Source};

use super::*;

/// Words as a shell splits them; `''` is the empty one.
pub fn words(text: &str) -> Vec<String> {
    let words = text.split_whitespace();
    words
        .map(|word| if word == "''" { "" } else { word })
        .map(str::to_owned)
        .collect()
}

/// Words as a shell would be given them.
pub fn told(words: &[String]) -> String {
    let words = words
        .iter()
        .map(|word| if word.is_empty() { "''" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// The settings of the stage that flags come to, after the whole way through an experiment file.
pub fn settings(foreign: &Foreign, flags: &str) -> BTreeMap<String, String> {
    let text = (foreign.experiment)(&words(flags))
        .unwrap_or_else(|failure| panic!("{flags}: {failure}"))
        .text;
    let plan = file::parse(
        Source::new("flags.ron", text.clone()),
        Path::new("."),
        foreign.verb,
        &[],
    );
    let plan = plan.unwrap_or_else(|errors| panic!("{}\n{text}", errors[0]));
    let settings = compare::settings(&plan.resolved).unwrap_or_else(|failure| panic!("{failure}"));
    let own = settings
        .into_iter()
        .filter_map(|(path, value)| Some((path.strip_prefix("pretrain.")?.to_owned(), value)));
    own.collect()
}

/// Checks that flags come to settings that come to the same flags.
pub fn round(foreign: &Foreign, command: &str) {
    let settings = settings(foreign, command);
    let back = (foreign.command)(&settings).expect("it is the program's own");
    assert_eq!(told(&back), command);
    assert_eq!(self::settings(foreign, &told(&back)), settings);
}

/// Checks that `flags` are refused with exit code 2 and `message`.
pub fn refused(foreign: &Foreign, flags: &str, message: &str) {
    let failure = match (foreign.experiment)(&words(flags)) {
        Err(failure) => failure,
        Ok(translation) => panic!("{flags}: {}", translation.text),
    };
    assert_eq!(failure.exit_code(), 2);
    assert!(failure.to_string().contains(message), "{flags}: {failure}");
}

/// Checks that every flag of `table` is known by each of its names, alone and beside `others`; `value` has those that no
/// rule finds.
pub fn every_flag(
    foreign: &Foreign,
    table: &Table,
    others: &str,
    value: impl Fn(&str) -> Option<&'static str>,
) {
    for (names, takes, default, meaning) in table.flags {
        for name in *names {
            let value = match (takes, meaning) {
                (Takes::Nothing, _) => "",
                _ if value(names[0]).is_some() => value(names[0]).unwrap_or_default(),
                (_, Meaning::Only(value, _)) => value,
                (Takes::Numbers, _) => "3 5",
                _ if default.parse::<f64>().is_ok() => "1",
                _ => "7",
            };
            (foreign.experiment)(&words(&format!("{name} {value} {others}")))
                .unwrap_or_else(|failure| panic!("{name}: {failure}"));
        }
    }
}
