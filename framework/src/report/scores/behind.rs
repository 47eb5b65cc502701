//! What lies behind scores: curves over the k of neighbours, and lists of the values of classes.

use std::collections::BTreeMap;

use super::{
    super::{
        chart::{Chart, Line},
        text::{escape, number},
    },
    Block, Column,
};
use crate::results::ScoreRecord;

/// Values of a list that are shown; the rest is counted.
const LISTED: usize = 1000;

/// Points of a curve that are worth a chart.
const CURVE: usize = 3;

/// The charts and lists of the scores of `columns`.
pub(super) fn section(columns: &[Column<'_>], blocks: &[Block<'_>]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in blocks.iter().flat_map(|block| &block.names) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let figures = names.iter().map(|name| {
        let metrics = blocks.iter().filter(|block| block.names.contains(name));
        let metrics: Vec<_> = metrics.map(|block| block.metric).collect();
        chart(columns, &metrics, name).figure()
    });
    let figures: String = figures.collect();
    let lists: String = columns
        .iter()
        .flat_map(|column| column.scores.iter().map(move |score| (column, score)))
        .map(|(column, score)| list(column, score))
        .collect();
    let charts = match figures.is_empty() {
        true => String::new(),
        false => format!("<div class=\"charts\">{figures}</div>"),
    };
    match lists.is_empty() {
        true => charts,
        false => format!("{charts}<div class=\"lists\">{lists}</div>"),
    }
}

/// The curves behind the score `name` of `metrics`, such as the accuracy for each k; empty where there are none.
fn chart(columns: &[Column<'_>], metrics: &[&str], name: &str) -> Chart {
    let mut unit = String::new();
    let mut lines = Vec::new();
    for metric in metrics {
        for column in columns {
            let Some(score) = column.find(metric, name) else {
                continue;
            };
            unit.clone_from(&score.unit);
            for (space, points) in curves(&score.table) {
                if points.len() < CURVE {
                    continue;
                }
                let parts = [
                    (columns.len() > 1 || metrics.len() == 1).then(|| column.stage.to_owned()),
                    (metrics.len() > 1).then(|| peculiar(metric, metrics)),
                    (!space.is_empty()).then_some(space),
                ];
                let parts: Vec<_> = parts.into_iter().flatten().collect();
                lines.push(Line {
                    name: parts.join(", "),
                    points,
                    colour: lines.len(),
                    faint: false,
                });
            }
        }
    }
    Chart {
        title: name.to_owned(),
        across: "k".to_owned(),
        unit,
        lines,
        ..Chart::default()
    }
}

/// What tells `metric` from the other `metrics`: the parameters that not all of them have, all of it where there are none.
fn peculiar(metric: &str, metrics: &[&str]) -> String {
    fn parameters(metric: &str) -> Option<impl Iterator<Item = &str>> {
        let (_, parameters) = metric.split_once('(')?;
        Some(parameters.strip_suffix(')')?.split(", "))
    }
    let shared = |one: &str| {
        let mut all = metrics.iter().map(|metric| parameters(metric));
        all.all(|mut other| other.as_mut().is_some_and(|other| other.any(|o| o == one)))
    };
    let own = parameters(metric).into_iter().flatten();
    let own: Vec<_> = own.filter(|parameter| !shared(parameter)).collect();
    match own.is_empty() {
        true => metric.to_owned(),
        false => own.join(", "),
    }
}

/// The values behind `score` as a list to open, where they are no curve.
fn list(column: &Column<'_>, score: &ScoreRecord) -> String {
    let curve = curves(&score.table)
        .values()
        .any(|curve| curve.len() >= CURVE);
    if score.table.len() < 2 || curve {
        return String::new();
    }
    let rows = score.table.iter().take(LISTED).map(|(name, value)| {
        let value = value.map_or("–".to_owned(), number);
        let name = escape(name.trim_matches('`'));
        format!("<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>")
    });
    let rows: String = rows.collect();
    let more = match score.table.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => {
            format!("<p class=\"note\">and {more} more, in <code>results.json</code></p>")
        }
    };
    let unit = match score.unit.as_str() {
        "" => String::new(),
        unit => format!(" [{}]", escape(unit)),
    };
    format!(
        "<details><summary>{}{unit} <span class=\"note\">{}, {} values</span></summary>\
         <div class=\"list\"><table class=\"single\"><tbody>{rows}</tbody></table></div>{more}</details>",
        escape(&score.name),
        escape(column.stage),
        score.table.len()
    )
}

/// Rows of a table as curves: `k = 5`, `5` and `cosine, k = 5` are positions on the curves ``, `` and `cosine`.
fn curves(table: &[(String, Option<f64>)]) -> BTreeMap<String, Vec<(f64, f64)>> {
    let mut curves: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (name, value) in table {
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (space, position) = name.split_at(name.len() - digits);
        if let (Ok(position), Some(value)) = (position.parse::<f64>(), value) {
            let space = space.trim_end_matches([' ', '=', 'k', ',', '@', '-']);
            curves
                .entry(space.to_owned())
                .or_default()
                .push((position, *value));
        }
    }
    for points in curves.values_mut() {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    curves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, value: f64) -> (String, Option<f64>) {
        (name.to_owned(), Some(value))
    }

    #[test]
    fn tables_become_curves() {
        let curves = curves(&[
            row("cosine, k = 3", 2.0),
            row("cosine, k = 1", 1.0),
            row("raw k=1", 5.0),
            row("7", 9.0),
            row("mean", 4.0),
        ]);
        assert_eq!(curves["cosine"], [(1.0, 1.0), (3.0, 2.0)]);
        assert_eq!(curves["raw"], [(1.0, 5.0)]);
        assert_eq!(curves[""], [(7.0, 9.0)]);
        assert_eq!(curves.len(), 3);
    }

    #[test]
    fn values_of_classes_become_a_list() {
        let score = ScoreRecord {
            metric: "Hits".to_owned(),
            name: "hits of a class".to_owned(),
            value: Some(1.5),
            unit: "%".to_owned(),
            higher_is_better: true,
            error: None,
            setting: String::new(),
            table: vec![row("`n01`", 1.0), row("`n<2`", 2.0), row("`3`", 1.5)],
        };
        let column = Column {
            stage: "static",
            weights: "",
            samples: 3,
            scores: &[],
            refused: &[],
        };
        let html = list(&column, &score);
        assert!(
            html.contains("<th scope=\"row\">n&lt;2</th><td>2</td>"),
            "{html}"
        );
        assert!(html.contains("static, 3 values"));
    }

    #[test]
    fn the_same_score_of_several_metrics_is_one_chart() {
        let score = |metric: &str, values: [f64; 3]| ScoreRecord {
            metric: metric.to_owned(),
            name: "best-NN".to_owned(),
            value: Some(1.0),
            unit: "%".to_owned(),
            higher_is_better: true,
            error: None,
            setting: String::new(),
            table: [1, 3, 5]
                .iter()
                .zip(values)
                .map(|(k, value)| row(&format!("k = {k}"), value))
                .collect(),
        };
        let scores = [
            score("Votes", [1.0, 2.0, 3.0]),
            score("Votes(a: 1, b: \"x\")", [3.0, 2.0, 1.0]),
            score("Votes(a: 1, b: \"y\")", [3.0, 3.0, 1.0]),
        ];
        let columns = [Column {
            stage: "near",
            weights: "",
            samples: 3,
            scores: &scores,
            refused: &[],
        }];
        let metrics: Vec<_> = scores.iter().map(|score| &*score.metric).collect();
        let lines = |metrics: &[&str]| {
            let lines = chart(&columns, metrics, "best-NN").lines.into_iter();
            lines
                .map(|line| (line.name, line.colour))
                .collect::<Vec<_>>()
        };
        let line = |name: &str, colour| (name.to_owned(), colour);
        assert_eq!(
            lines(&metrics[1..]),
            [line("b: \"x\"", 0), line("b: \"y\"", 1)]
        );
        assert_eq!(lines(&metrics)[0], line("Votes", 0));
        assert_eq!(lines(&metrics[..1]), [line("near", 0)]);
    }
}
