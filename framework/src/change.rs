//! What has changed in a configuration since a checkpoint was written, and whether training may go on all the same.
//!
//! A change is a parameter by its path in the experiment file, such as `pretrain.schedule.epochs`. The user allows
//! changes by path; some cannot work whatever the user says, and each of those has its reason.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    fingerprint,
    source::syntax::{Body, Value},
};

/// A parameter that is other than it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its path, from the name of its stage on.
    pub path: String,
    /// What it was; empty where it was not there.
    pub before: String,
    /// What it is; empty where it is no longer there.
    pub after: String,
}

/// What a stage was gone on with otherwise than it was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Name of the stage.
    pub stage: String,
    /// Optimiser steps that were done, over all epochs.
    pub step: u64,
    /// The parameters.
    pub changes: Vec<Change>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str| match text {
            "" => "nothing".to_owned(),
            text => text.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let (before, after) = (text(&self.before), text(&self.after));
        write!(f, "{}: {before} became {after}", self.path)
    }
}

/// Parameters that no training can go on with when they change, and why. A whole path, without the stage.
const FIXED: [(&str, &str); 9] = [
    (
        "seed",
        "every image order and random number follows from it",
    ),
    (
        "manifest",
        "the data set holds other images than the epoch at hand was begun with",
    ),
    ("backbone", "the saved weights are those of another network"),
    ("objective", "the saved state is that of another method"),
    ("optimizer", "the saved state is that of another optimizer"),
    (
        "batch",
        "the place in an epoch is counted in batches of that size",
    ),
    (
        "accumulate",
        "the place in an epoch is counted in steps of that many batches",
    ),
    ("initial", "training has begun, from what it was given then"),
    (
        "views",
        "the objective's state belongs to that number of views",
    ),
];

/// The parameters of stage `stage` that differ between the fingerprints `before` and `after`.
pub fn changes(stage: &str, before: &str, after: &str) -> Vec<Change> {
    let (before, after) = (parameters(before), parameters(after));
    let mut paths: Vec<_> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    let text =
        |of: &BTreeMap<String, String>, path: &str| of.get(path).cloned().unwrap_or_default();
    let pairs = paths.into_iter().map(|path| Change {
        path: format!("{stage}.{path}"),
        before: text(&before, path),
        after: text(&after, path),
    });
    pairs
        .filter(|change| change.before != change.after)
        .collect()
}

/// Makes sure that a training of stage `stage` that has begun its `epoch`-th epoch can go on with `changes`, and that
/// `allowed` names each.
///
/// # Errors
/// Says what cannot change, or how to allow what can.
pub fn permit(
    stage: &str,
    changes: &[Change],
    allowed: &[String],
    epoch: usize,
) -> Result<(), Failure> {
    let mut reasons = Vec::new();
    for change in changes {
        let path = &change.path[stage.len() + 1..];
        let whole =
            |part: &str| path == part || (part == "backbone" && path.starts_with("backbone."));
        let fixed = FIXED.iter().find(|(part, _)| whole(part));
        if let Some((_, reason)) = fixed {
            reasons.push(format!("{change}: {reason}"));
        } else if path == "epochs" && change.after.parse::<usize>().is_ok_and(|n| n < epoch) {
            reasons.push(format!("{change}: epoch {epoch} has begun"));
        }
    }
    if !reasons.is_empty() {
        return Err(Failure::mistake(format!(
            "training cannot go on with a change:\n{}",
            reasons.join("\n")
        ))
        .help("undo the change to go on, start again with --overwrite, or give the experiment another name"));
    }
    let missing: Vec<_> = changes
        .iter()
        .filter(|change| !allowed.iter().any(|name| covers(name, &change.path)))
        .map(|change| format!("--allow-change {}", quoted(&change.path)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::mistake("the change is not allowed by name".to_owned()).help(format!(
        "undo the change, or go on with it by {}; or start again with --overwrite, or give the experiment another name",
        missing.join(" ")
    )))
}

/// Whether `name` is `path` or a part that `path` lies in.
fn covers(name: &str, path: &str) -> bool {
    let rest = path.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// As it can be typed in a shell.
fn quoted(path: &str) -> String {
    match path.contains(' ') {
        true => format!("'{path}'"),
        false => path.to_owned(),
    }
}

/// Everything that a fingerprint says, by path. A struct is found under its own path by its name.
fn parameters(fingerprint: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut views: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in fingerprint::fields(fingerprint) {
        match name.strip_prefix("view ") {
            // The augmentations of a view stand one after the other.
            Some(number) => views.entry(number.to_owned()).or_default().push(value),
            None => insert(&mut all, name, &value),
        }
    }
    all.insert("views".to_owned(), views.len().to_string());
    let mut lists = views.into_values().map(|list| list.join(", "));
    if let Some(first) = lists.next() {
        // Views that are alike stand in the file once.
        let others: Vec<_> = lists.collect();
        let alike = others.iter().all(|other| *other == first);
        let text = match alike {
            true => first,
            false => std::iter::once(first)
                .chain(others)
                .collect::<Vec<_>>()
                .join("; "),
        };
        all.insert("view".to_owned(), text);
    }
    all
}

fn insert(all: &mut BTreeMap<String, String>, path: String, text: &str) {
    let value = Value::parse(text, 0..text.len());
    match (&value.body, &value.name) {
        (Body::Fields(fields), name) => {
            for field in fields {
                let inner = format!("{path}.{}", &text[field.name.clone()]);
                insert(all, inner, &text[field.value.clone()]);
            }
            let name = name.as_ref().map_or("", |name| &text[name.clone()]);
            all.insert(path, name.to_owned());
        }
        // `SGD()`, `SGD` and a struct with fields are all found by their names.
        (Body::Items(items), Some(name)) if items.is_empty() => {
            all.insert(path, text[name.clone()].to_owned());
        }
        _ => {
            all.insert(path, text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "seed: 1\ndata: Folder(\n    path: \"a\",\n)\nmanifest: 8 samples, 00\nbackbone: \
        resnet18\nobjective: MoCo(\n    dim: 128,\n    temperature: 0.2,\n)\nview 1: Crop(\n    size: 32,\n)\nview 1: \
        Flip\nview 2: Crop(\n    size: 32,\n)\nview 2: Flip\noptimizer: SGD(\n    lr: 0.03,\n)\nschedule: \
        Cosine\nepochs: 10\nbatch: 8\n";

    fn paths(replaced: &[(&str, &str)]) -> Vec<String> {
        let after = replaced.iter().fold(BEFORE.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        let changes = changes("train", BEFORE, &after);
        changes
            .into_iter()
            .map(|change| change.to_string())
            .collect()
    }

    #[test]
    fn changes_are_found_by_path() {
        for (replaced, expected) in [
            (&[][..], &[][..]),
            (
                &[("epochs: 10", "epochs: 20"), ("0.03", "0.1")],
                &[
                    "train.epochs: 10 became 20",
                    "train.optimizer.lr: 0.03 became 0.1",
                ],
            ),
            (
                &[("temperature: 0.2,", "m: 0.9,")],
                &[
                    "train.objective.m: nothing became 0.9",
                    "train.objective.temperature: 0.2 became nothing",
                ],
            ),
            (
                &[("schedule: Cosine", "schedule: Steps(\n    at: [3, 4],\n)")],
                &[
                    "train.schedule: Cosine became Steps",
                    "train.schedule.at: nothing became [3, 4]",
                ],
            ),
            (
                &[("Flip", "Blur")],
                &["train.view: Crop( size: 32, ), Flip became Crop( size: 32, ), Blur"],
            ),
        ] {
            assert_eq!(paths(replaced), expected);
        }
    }

    #[test]
    fn changes_are_allowed_by_name_and_some_never() {
        let check = |replaced: &[(&str, &str)], allowed: &[&str]| {
            let after = replaced
                .iter()
                .fold(BEFORE.to_owned(), |text, (from, to)| text.replace(from, to));
            let allowed: Vec<_> = allowed.iter().map(|&name| name.to_owned()).collect();
            permit("train", &changes("train", BEFORE, &after), &allowed, 4)
                .map_err(|failure| failure.to_string())
        };
        let longer = &[("epochs: 10", "epochs: 20")][..];
        assert_eq!(check(longer, &["train.epochs"]), Ok(()));
        assert_eq!(check(longer, &["train"]), Ok(()));
        for allowed in [&[][..], &["train.epoch"], &["epochs"], &["train.epochs.x"]] {
            let refused = check(longer, allowed).unwrap_err();
            assert!(refused.contains("--allow-change train.epochs"), "{refused}");
        }
        let both = &[("0.03", "0.1"), ("temperature: 0.2", "temperature: 0.1")][..];
        assert_eq!(
            check(both, &["train.optimizer", "train.objective.temperature"]),
            Ok(())
        );
        let refused = check(both, &["train.optimizer"]).unwrap_err();
        assert!(
            refused.contains("by --allow-change train.objective.temperature;"),
            "{refused}"
        );
        for (from, to, reason) in [
            ("seed: 1", "seed: 2", "every image order"),
            ("resnet18", "resnet50", "another network"),
            ("MoCo", "SEED", "another method"),
            ("SGD", "AdamW", "another optimizer"),
            ("batch: 8", "batch: 16", "in batches of that size"),
            ("samples, 00", "samples, 01", "other images"),
            ("epochs: 10", "epochs: 3", "epoch 4 has begun"),
        ] {
            let refused = check(&[(from, to)], &["train"]).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        assert_eq!(
            check(&[("epochs: 10", "epochs: 4")], &["train.epochs"]),
            Ok(())
        );
    }
}
