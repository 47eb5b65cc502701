//! `diff A B`: what differs between two experiment files once they are resolved.
//!
//! Not a difference of lines: defaults are filled in, bases are followed, and the order of fields, comments and layout do
//! not count. Paths are those that overrides use, so that a line can be pasted behind `smallfry run A`.

use std::{fmt::Write, path::Path};

use serde::Serialize;

use super::{Refusal, to_json};
use crate::{compare, experiment, failure::Failure};

/// A setting that is not the same.
#[derive(Serialize)]
struct Difference {
    path: String,
    /// In the first file; none where it has no such setting.
    first: Option<String>,
    /// In the second.
    second: Option<String>,
}

pub(super) fn diff(first: &Path, second: &Path, json: bool) -> Result<String, Refusal> {
    let (mut settings, mut mistakes) = (Vec::new(), Vec::new());
    for file in [first, second] {
        match experiment::load(file, &[]) {
            Ok(plan) => settings.push(compare::settings(&plan.resolved)?),
            Err(errors) => mistakes.extend(errors),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes.into());
    }
    let [before, after] = settings.as_slice() else {
        return Err(Failure::fault("two files were not read").into());
    };
    let differences = differences(before, after);
    let text = match json {
        true => to_json(&differences),
        false => told(&differences),
    };
    match differences.is_empty() {
        true => Ok(text),
        false => Err(Refusal::Verdict(text)),
    }
}

fn differences(first: &[(String, String)], second: &[(String, String)]) -> Vec<Difference> {
    let of = |settings: &[(String, String)], path: &str| {
        let found = settings.iter().find(|(own, _)| own == path);
        found.map(|(_, value)| value.clone())
    };
    let mut paths: Vec<&String> = first.iter().map(|(path, _)| path).collect();
    for (path, _) in second {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let pairs = paths.into_iter().map(|path| Difference {
        first: of(first, path),
        second: of(second, path),
        path: path.clone(),
    });
    pairs.filter(|pair| pair.first != pair.second).collect()
}

fn told(differences: &[Difference]) -> String {
    let mut text = String::new();
    for Difference {
        path,
        first,
        second,
    } in differences
    {
        for (sign, value) in [('-', first), ('+', second)] {
            if let Some(value) = value {
                let _ = writeln!(text, "{sign} {path}={value}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_paired_by_path() {
        let settings = |text: &[(&str, &str)]| -> Vec<(String, String)> {
            let owned = text
                .iter()
                .map(|(path, value)| ((*path).to_owned(), (*value).to_owned()));
            owned.collect()
        };
        let first = settings(&[("seed", "1"), ("a.b", "2"), ("a.c", "3")]);
        let second = settings(&[("a.d", "5"), ("a.b", "4"), ("seed", "1")]);
        assert_eq!(
            told(&differences(&first, &second)),
            "- a.b=2\n+ a.b=4\n- a.c=3\n+ a.d=5\n"
        );
        assert_eq!(told(&differences(&first, &first)), "");
    }
}
