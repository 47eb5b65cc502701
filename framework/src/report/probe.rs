//! The section of a stage of classifiers: their curves while it goes on, and a table over seeds when it is done.

use super::{
    chart::{Chart, Line},
    text::{escape, number},
};
use crate::{
    log::{Entry, Measures},
    results::probe::{Outcome, Record, spread},
};

/// Figures of the log that have a chart: name, title, unit, and whether it begins at 0.
const CHARTS: [(&str, &str, &str, bool); 4] = [
    ("acc1", "Accuracy on test images", "%", true),
    ("acc5", "Class among the first five, test images", "%", true),
    ("loss", "Loss while learning", "", true),
    ("test_loss", "Loss on test images", "", true),
];

/// The section of the stage that `start` begins; `outcome` is what it came to, where it is done.
pub fn section(start: &Entry, log: &[Entry], outcome: Option<&Outcome>) -> String {
    let Entry::Classifiers {
        stage: name,
        samples,
        tested,
        classes,
        epochs,
        labels,
        ..
    } = start
    else {
        return String::new();
    };
    let lines: Vec<(usize, &Measures)> = log
        .iter()
        .filter_map(|entry| match entry {
            Entry::Probe {
                stage,
                epoch,
                measures,
                ..
            } if stage == name => Some((*epoch, measures)),
            _ => None,
        })
        .collect();
    let facts: String = [
        ("training images", samples.to_string()),
        ("test images", tested.to_string()),
        ("classes", classes.to_string()),
        ("classifiers", labels.len().to_string()),
        ("epochs", format!("{} of {epochs}", lines.len())),
    ]
    .iter()
    .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>"))
    .collect();
    let chance = 100.0 / *classes as f64;
    let figures: String = CHARTS
        .iter()
        .map(|&(figure, title, unit, from_zero)| {
            let level = match figure {
                "acc1" => Some((chance, format!("chance {}", number(chance)))),
                _ => None,
            };
            let chart = Chart {
                title: title.to_owned(),
                across: "epoch".to_owned(),
                unit: unit.to_owned(),
                from_zero,
                from_start: true,
                level,
                lines: curves(&lines, figure, labels),
            };
            chart.figure()
        })
        .collect();
    format!(
        "<section><h2>Classifiers <em>{}</em></h2><dl class=\"facts\">{facts}</dl>{}<div class=\"charts\">{figures}</div></section>",
        escape(name),
        outcome.map_or(String::new(), table)
    )
}

/// A line for each rate and kind of features: the mean over seeds, and each seed pale behind it.
fn curves(lines: &[(usize, &Measures)], figure: &str, labels: &[String]) -> Vec<Line> {
    let setting = |label: &str| match label.rsplit_once(", seed ") {
        Some((setting, _)) => setting.to_owned(),
        None => label.to_owned(),
    };
    let value = |measures: &Measures, label: &str| {
        let name = format!("{figure} {label}");
        measures.get(&name).copied().flatten()
    };
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for label in labels {
        let name = setting(label);
        match groups.iter_mut().find(|(of, _)| *of == name) {
            Some((_, members)) => members.push(label),
            None => groups.push((name, vec![label])),
        }
    }
    let mut curves = Vec::new();
    for (colour, (name, members)) in groups.into_iter().enumerate() {
        if members.len() > 1 {
            for label in &members {
                let points = lines
                    .iter()
                    .filter_map(|(epoch, measures)| Some((*epoch as f64, value(measures, label)?)));
                curves.push(Line {
                    name: String::new(),
                    points: points.collect(),
                    colour,
                    faint: true,
                });
            }
        }
        let mean = |measures: &Measures| {
            let values: Vec<_> = members.iter().map(|label| value(measures, label)).collect();
            spread(&values).0
        };
        let points = lines
            .iter()
            .filter_map(|(epoch, measures)| Some((*epoch as f64, mean(measures)?)));
        curves.push(Line {
            name,
            points: points.collect(),
            colour,
            faint: false,
        });
    }
    curves
}

/// Mean and standard deviation over seeds, a row for each rate and kind of features; the best accuracy stands out.
fn table(outcome: &Outcome) -> String {
    let groups = outcome.groups();
    let accuracy =
        |records: &[&Record]| spread(&records.iter().map(|r| r.acc1).collect::<Vec<_>>());
    let means = groups.iter().filter_map(|(_, records)| accuracy(records).0);
    let best = means.reduce(f64::max).filter(|_| groups.len() > 1);
    let rows: String = groups
        .iter()
        .map(|(setting, records)| {
            let values = |figure: fn(&Record) -> Option<f64>| {
                reading(
                    &records
                        .iter()
                        .map(|record| figure(record))
                        .collect::<Vec<_>>(),
                )
            };
            let class = match best.is_some() && accuracy(records).0 == best {
                true => " class=\"best\"",
                false => "",
            };
            format!(
                "<tr><th scope=\"row\">{}{}</th><td{class}>{}</td><td>{}</td><td>{}</td></tr>",
                escape(setting),
                diverged(records),
                values(|record| record.acc1),
                values(|record| record.acc5),
                values(|record| record.best_acc1),
            )
        })
        .collect();
    let note = match groups.iter().any(|(_, records)| records.len() > 1) {
        true => "Mean and standard deviation over seeds, in percent.",
        false => "In percent.",
    };
    format!(
        "<div class=\"scroll\"><table><thead><tr><th></th><th>Acc@1<small>last epoch</small></th>\
         <th>Acc@5<small>last epoch</small></th><th>Acc@1<small>best epoch of each</small></th></tr></thead>\
         <tbody>{rows}</tbody></table></div><p class=\"note\">{note}</p>"
    )
}

/// Mean and standard deviation as a cell shows them.
fn reading(values: &[Option<f64>]) -> String {
    match spread(values) {
        (Some(mean), Some(deviation)) => format!("{mean:.2} ± {deviation:.2}"),
        (Some(mean), None) => format!("{mean:.2}"),
        (None, _) => "–".to_owned(),
    }
}

/// Where classifiers of a row diverged.
fn diverged(records: &[&Record]) -> String {
    let epochs = records.iter().filter_map(|record| record.diverged);
    let epochs: Vec<_> = epochs.map(|epoch| format!("epoch {epoch}")).collect();
    match epochs.is_empty() {
        true => String::new(),
        false => format!("<small>diverged in {}</small>", epochs.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(labels: &[&str]) -> Entry {
        Entry::Classifiers {
            stage: "a<b".to_owned(),
            samples: 10,
            tested: 4,
            classes: 2,
            epochs: 3,
            steps_per_epoch: 2,
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
        }
    }

    fn line(epoch: usize, values: &[(&str, f64)]) -> Entry {
        Entry::Probe {
            stage: "a<b".to_owned(),
            epoch,
            step: 2 * epoch as u64,
            factor: 1.0,
            replaced: Vec::new(),
            measures: values
                .iter()
                .map(|&(name, value)| (name.to_owned(), Some(value)))
                .collect(),
        }
    }

    #[test]
    fn seeds_have_one_line_with_each_behind_it() {
        let labels = ["lr 1, seed 1", "lr 1, seed 2", "lr 2, seed 1"].map(str::to_owned);
        let log = [
            line(
                1,
                &[("acc1 lr 1, seed 1", 40.0), ("acc1 lr 1, seed 2", 60.0)],
            ),
            line(2, &[("acc1 lr 1, seed 1", 50.0)]),
        ];
        let lines: Vec<_> = log
            .iter()
            .filter_map(|entry| match entry {
                Entry::Probe {
                    epoch, measures, ..
                } => Some((*epoch, measures)),
                _ => None,
            })
            .collect();
        let curves = curves(&lines, "acc1", &labels);
        let of = |i: usize| (curves[i].name.as_str(), curves[i].faint, curves[i].colour);
        assert_eq!(of(0), ("", true, 0));
        assert_eq!(of(2), ("lr 1", false, 0));
        assert_eq!(of(3), ("lr 2", false, 1));
        assert_eq!(curves[0].points, [(1.0, 40.0), (2.0, 50.0)]);
        // A mean over seeds is one of all of them.
        assert_eq!(curves[2].points, [(1.0, 50.0)]);
    }

    #[test]
    fn names_from_files_are_escaped() {
        let html = section(&start(&["lr 1"]), &[line(1, &[("acc1 lr 1", 50.0)])], None);
        assert!(html.contains("a&lt;b") && !html.contains("a<b"));
        assert!(html.contains("1 of 3") && html.contains("chance 50"));
    }
}
