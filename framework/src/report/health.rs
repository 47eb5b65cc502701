//! The health of a training stage: its figures over the epochs, and what they say in plain words.

use std::collections::BTreeSet;

use super::{
    chart::{Chart, Line},
    text::{escape, number},
};
use crate::{collapse::Evidence, log::Entry};

/// The figures that have a place of their own, with their headings.
const KNOWN: [(&str, &str); 5] = [
    ("effective_rank", "Effective rank"),
    ("instance_accuracy", "Images told apart"),
    ("deviation", "Standard deviation of the features"),
    ("alignment", "Alignment (distance of two views)"),
    ("uniformity", "Uniformity (lower is more even)"),
];

/// A figure that is not drawn, as it is the same from the first epochs on.
const QUEUE_AGE: &str = "queue_age";

/// The measurements of `stage`, in order.
fn measured<'a>(log: &'a [Entry], stage: &str) -> Vec<&'a Entry> {
    let of = |entry: &&Entry| matches!(entry, Entry::Health { stage: of, .. } if of == stage);
    log.iter().filter(of).collect()
}

/// A chart for each figure that was measured.
pub fn charts(log: &[Entry], stage: &str) -> Vec<Chart> {
    let entries = measured(log, stage);
    let Some(Entry::Health { width, .. }) = entries.last() else {
        return Vec::new();
    };
    let names: BTreeSet<&str> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Health { measures, .. } => Some(measures.keys().map(String::as_str)),
            _ => None,
        })
        .flatten()
        .collect();
    let others = names
        .iter()
        .filter(|name| **name != QUEUE_AGE && KNOWN.iter().all(|(known, _)| known != *name))
        .map(|name| (*name, *name));
    let wanted = KNOWN.into_iter().chain(others);
    let even = 1.0 / (*width as f64).sqrt();
    wanted
        .enumerate()
        .map(|(i, (name, title))| Chart {
            title: title.to_owned(),
            across: "epoch".to_owned(),
            from_start: true,
            from_zero: !matches!(name, "uniformity"),
            unit: if name == "instance_accuracy" { "%" } else { "" }.to_owned(),
            lines: vec![Line {
                name: name.replace('_', " "),
                points: points(&entries, name),
                colour: i % 6,
                faint: false,
            }],
            level: match name {
                "effective_rank" => Some((*width as f64, format!("all {width}"))),
                "deviation" => Some((even, format!("even {}", number(even)))),
                _ => None,
            },
        })
        .filter(|chart| chart.lines.iter().any(|line| !line.points.is_empty()))
        .collect()
}

fn points(entries: &[&Entry], name: &str) -> Vec<(f64, f64)> {
    let point = |entry: &&Entry| match entry {
        Entry::Health {
            epoch, measures, ..
        } => Some((*epoch as f64, measures.get(name).copied().flatten()?)),
        _ => None,
    };
    entries.iter().filter_map(point).collect()
}

/// What the last measurement says, as a paragraph; empty where there is none.
pub fn verdict(log: &[Entry], stage: &str) -> String {
    let entries = measured(log, stage);
    let Some(Entry::Health {
        epoch,
        images,
        width,
        collapse,
        measures,
        ..
    }) = entries.last()
    else {
        return String::new();
    };
    let figure = |name: &str| measures.get(name).copied().flatten();
    let mut said = Vec::new();
    if let Some(rank) = figure("effective_rank") {
        said.push(format!("effective rank {} of {width}", number(rank)));
    }
    if let Some(told) = figure("instance_accuracy") {
        let told = number(told);
        said.push(format!(
            "{told} % are nearer to another view of theirs than to other images"
        ));
    }
    if let Some(deviation) = figure("deviation") {
        let share = 100.0 * deviation * (*width as f64).sqrt();
        said.push(format!("features spread at {share:.0} % of evenly"));
    }
    for name in ["alignment", "uniformity"] {
        said.extend(figure(name).map(|value| format!("{name} {}", number(value))));
    }
    said.extend(figure(QUEUE_AGE).map(|age| format!("keys up to {} steps old", number(age))));
    let judgement = match collapse {
        Some(reason) => format!("<strong>Collapsed:</strong> {}.", escape(reason)),
        None if Evidence::of(entries[entries.len() - 1]).together() => {
            "The features lie together, as those of a fresh network do before its running statistics settle.".to_owned()
        }
        None => "No sign of collapse.".to_owned(),
    };
    let facts = match said.is_empty() {
        true => String::new(),
        false => format!("{}. ", escape(&said.join(", "))),
    };
    format!(
        "<p class=\"note\">Health after epoch {epoch}, of {images} images: {facts}{judgement}</p>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Measures;

    fn entry(epoch: usize, rank: f64, collapse: Option<&str>) -> Entry {
        let figures = [
            ("effective_rank", rank),
            ("instance_accuracy", 87.5),
            ("deviation", 0.05),
            ("queue_age", 4.0),
            ("kNN", 61.0),
        ];
        let figures = figures.map(|(name, value)| (name.to_owned(), Some(value)));
        Entry::Health {
            stage: "a".to_owned(),
            epoch,
            step: 10 * epoch as u64,
            images: 512,
            width: 100,
            collapse: collapse.map(str::to_owned),
            measures: Measures::from(figures),
        }
    }

    #[test]
    fn the_last_measurement_in_words() {
        let log = [entry(0, 3.0, None), entry(7, 41.23, None)];
        assert_eq!(
            verdict(&log, "a"),
            "<p class=\"note\">Health after epoch 7, of 512 images: effective rank 41.2 of 100, 87.5 % are nearer to \
             another view of theirs than to other images, features spread at 50 % of evenly, keys up to 4 steps old. \
             No sign of collapse.</p>"
        );
        let log = [entry(7, 1.01, None)];
        assert!(verdict(&log, "a").contains("The features lie together"));
        let log = [entry(7, 1.0, Some("one < line"))];
        assert!(verdict(&log, "a").contains("<strong>Collapsed:</strong> one &lt; line."));
        assert_eq!(verdict(&log, "b"), "");
    }

    #[test]
    fn a_chart_for_each_figure_with_its_level() {
        let log = [entry(0, 3.0, None), entry(7, 41.0, None)];
        let charts = charts(&log, "a");
        let titles: Vec<_> = charts.iter().map(|chart| chart.title.as_str()).collect();
        let [(_, rank), (_, told), (_, deviation), ..] = KNOWN;
        assert_eq!(titles, [rank, told, deviation, "kNN"]);
        assert_eq!(charts[0].lines[0].points, [(0.0, 3.0), (7.0, 41.0)]);
        assert_eq!(charts[0].level.as_ref().unwrap().0, 100.0);
        assert!((charts[2].level.as_ref().unwrap().0 - 0.1).abs() < 1e-12);
        assert!(super::charts(&log, "b").is_empty());
    }
}
