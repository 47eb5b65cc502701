//! A sweep: one experiment for every combination of values of some of its settings, and the table of what they come to.
//!
//! Every combination is a run of its own, in a folder named by its values, so that everything that can be done with a
//! run can be done with it. Runs that differ in their seeds alone stand in one row of the table, as mean and standard
//! deviation.

mod table;

use std::collections::BTreeSet;

use ron::value::RawValue;
use serde::Serialize;

use crate::{
    diagnostic::Diagnostic,
    source::{
        COMMAND_LINE, Source,
        syntax::{Body, Value},
    },
};

pub use table::{Cell, Figure, Reading, Row, rows, text};

/// The most combinations of a sweep; more are a mistake in the command.
pub const MOST: usize = 1000;

/// The most characters of a value in the name of a folder.
const LONGEST: usize = 40;

/// A setting and the values that it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Axis {
    /// Its path, as in overrides.
    pub path: String,
    /// The values, as in overrides.
    pub values: Vec<String>,
}

/// A combination of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The name of its run folder, made of the values.
    pub name: String,
    /// A value for each axis.
    pub values: Vec<String>,
    /// The overrides that give it.
    pub overrides: Vec<String>,
}

/// Reads axes of the form `path=value,value,..`; commas within brackets and quotes separate nothing.
///
/// # Errors
/// Everything that is wrong with them.
pub fn axes(texts: &[String]) -> Result<Vec<Axis>, Vec<Diagnostic>> {
    let (mut axes, mut errors) = (Vec::<Axis>::new(), Vec::new());
    for text in texts {
        match axis(text) {
            Ok(axis) if axes.iter().any(|other| other.path == axis.path) => errors.push(
                said(text, 0, axis.path.len(), "the setting is swept twice")
                    .help("give all its values at once, separated by commas"),
            ),
            Ok(axis) => axes.push(axis),
            Err(error) => errors.push(error),
        }
    }
    let points = axes.iter().try_fold(1usize, |product, axis| {
        product.checked_mul(axis.values.len())
    });
    if errors.is_empty() && points.is_none_or(|points| points > MOST) {
        let message = format!("the sweep has more than {MOST} combinations");
        errors.push(Diagnostic::whole(COMMAND_LINE, message));
    }
    match errors.is_empty() {
        true => Ok(axes),
        false => Err(errors),
    }
}

fn axis(text: &str) -> Result<Axis, Diagnostic> {
    let example = "for example, `--sweep pretrain.objective.temperature=0.05,0.1,0.2`";
    let Some((path, given)) = text.split_once('=') else {
        let message = "a sweep has the form `path.to.field=value,value,..`";
        return Err(said(text, 0, text.len(), message).help(example));
    };
    let start = path.len() + 1;
    let values = values(given);
    if let Some(empty) = values.iter().find(|value| value.1.is_empty()) {
        let at = (start + empty.0).min(text.len() - 1);
        return Err(said(text, at, 1, "a value is missing here").help(example));
    }
    let mut known = BTreeSet::new();
    for (at, value) in &values {
        if !known.insert(*value) {
            let message = format!("the value `{value}` is given twice");
            return Err(said(text, start + at, value.len(), &message));
        }
    }
    Ok(Axis {
        path: path.to_owned(),
        values: values
            .into_iter()
            .map(|(_, value)| value.to_owned())
            .collect(),
    })
}

fn said(text: &str, at: usize, length: usize, message: &str) -> Diagnostic {
    Source::new(COMMAND_LINE, text).error(&(at..at + length), message)
}

/// The values of a list without its brackets, each with its place.
fn values(given: &str) -> Vec<(usize, &str)> {
    let list = format!("[{given}]");
    if RawValue::from_ron(&list).is_ok()
        && let Body::Items(items) = Value::parse(&list, 0..list.len()).body
        && !items.is_empty()
    {
        let place =
            |item: std::ops::Range<usize>| (item.start - 1, &given[item.start - 1..item.end - 1]);
        return items.into_iter().map(place).collect();
    }
    // Texts whose quotes the shell has taken, such as paths.
    let mut at = 0;
    let mut values = Vec::new();
    for part in given.split(',') {
        let blanks = part.len() - part.trim_start().len();
        values.push((at + blanks, part.trim()));
        at += part.len() + 1;
    }
    values
}

/// The short names of axes: the last name of the path where that tells them apart, else the path.
pub fn keys(axes: &[Axis]) -> Vec<String> {
    let last = |axis: &Axis| axis.path.rsplit('.').next().unwrap_or_default().to_owned();
    let key = |axis: &Axis| {
        let own = last(axis);
        match axes.iter().filter(|other| last(other) == own).count() {
            1 => own,
            _ => axis.path.clone(),
        }
    };
    axes.iter().map(key).collect()
}

/// All combinations, the last axis fastest.
pub fn points(axes: &[Axis]) -> Vec<Point> {
    let keys = keys(axes);
    let mut points = vec![Point {
        name: String::new(),
        values: Vec::new(),
        overrides: Vec::new(),
    }];
    for (axis, key) in axes.iter().zip(&keys) {
        let words = words(&axis.values);
        let longer = |point: &Point| {
            let point = point.clone();
            let ways = axis.values.iter().zip(&words).map(move |(value, word)| {
                let mut longer = point.clone();
                let between = if longer.name.is_empty() { "" } else { "+" };
                longer.name += &format!("{between}{}-{word}", word_of(key));
                longer.values.push(value.clone());
                longer.overrides.push(format!("{}={value}", axis.path));
                longer
            });
            ways.collect::<Vec<_>>()
        };
        points = points.iter().flat_map(longer).collect();
    }
    points
}

/// Values as parts of a folder's name, no two alike.
fn words(values: &[String]) -> Vec<String> {
    let words: Vec<_> = values.iter().map(|value| word_of(value)).collect();
    let number = |(i, word): (usize, &String)| {
        // A case that a file system may not tell apart counts as none.
        let same = |other: &&String| other.to_lowercase() == word.to_lowercase();
        match words.iter().filter(same).count() {
            1 if !word.is_empty() => word.clone(),
            _ => format!("{word}-{}", i + 1)
                .trim_start_matches('-')
                .to_owned(),
        }
    };
    words.iter().enumerate().map(number).collect()
}

fn word_of(text: &str) -> String {
    let mut word = String::new();
    for c in text.chars() {
        match c {
            c if c.is_alphanumeric() || "_.+".contains(c) => word.push(c),
            '-' => word.push('-'),
            _ if word.ends_with('-') => {}
            _ => word.push('-'),
        }
    }
    let short: String = word.trim_end_matches('-').chars().take(LONGEST).collect();
    match text.starts_with('-') {
        true => short,
        false => short.trim_start_matches(['-', '.']).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<Point> {
        let texts: Vec<_> = texts.iter().map(|&text| text.to_owned()).collect();
        points(&axes(&texts).unwrap_or_else(|errors| panic!("{}", errors[0])))
    }

    #[test]
    fn every_combination_has_a_name() {
        let names = |texts: &[&str]| -> Vec<String> {
            all(texts).into_iter().map(|point| point.name).collect()
        };
        assert_eq!(
            names(&["pretrain.objective.temperature=0.05,0.1", "seed=1, 2"]),
            [
                "temperature-0.05+seed-1",
                "temperature-0.05+seed-2",
                "temperature-0.1+seed-1",
                "temperature-0.1+seed-2"
            ]
        );
        assert_eq!(
            names(&["a.objective=MoCo(queue: 4, dim: 2),SEED", "x=-1"]),
            ["objective-MoCo-queue-4-dim-2+x--1", "objective-SEED+x--1"]
        );
        assert_eq!(names(&["p=../a b,/c"]), ["p-a-b", "p-c"]);
        assert_eq!(names(&["p=(1, 2),(1,2)"]), ["p-1-2-1", "p-1-2-2"]);
        assert_eq!(names(&["a.lr=1", "b.lr=2"]), ["a.lr-1+b.lr-2"]);
        let overrides = &all(&["a.pair=(0.1, 1.0),(0.2, 1.0)"])[1].overrides;
        assert_eq!(overrides, &["a.pair=(0.2, 1.0)"]);
    }

    #[test]
    fn mistakes_are_shown_in_the_sweep() {
        let refused = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|&text| text.to_owned()).collect();
            axes(&texts).expect_err("it is wrong")[0].to_string()
        };
        for (texts, message) in [
            (&["seed"][..], "a sweep has the form"),
            (&["seed="], "a value is missing here"),
            (&["seed=1,,2"], "a value is missing here"),
            (&["seed=1,2,1"], "the value `1` is given twice"),
            (&["seed=1", "seed=2"], "the setting is swept twice"),
        ] {
            assert!(refused(texts).starts_with(message), "{}", refused(texts));
        }
        let hundred: Vec<_> = (0..100).map(|i| i.to_string()).collect();
        let long = |name: &str| format!("{name}={}", hundred.join(","));
        let many = refused(&[&long("a"), &long("b")]);
        assert!(
            many.starts_with("the sweep has more than 1000 combinations"),
            "{many}"
        );
    }
}
