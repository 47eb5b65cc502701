//! The scores of all evaluations side by side.

use std::collections::BTreeMap;

use super::{
    chart::{Chart, Line},
    text::escape,
};
use crate::run::results::{Results, ScoreRecord, StageOutcome};

/// An evaluation as a column.
struct Column<'a> {
    stage: &'a str,
    weights: &'a str,
    samples: usize,
    scores: &'a [ScoreRecord],
}

/// The section of scores; a note where there are none yet.
pub fn section(results: &Results) -> String {
    let columns: Vec<_> = results
        .stages
        .iter()
        .filter_map(|result| match &result.outcome {
            StageOutcome::Evaluate {
                weights,
                test,
                scores,
                ..
            } => Some(Column {
                stage: &result.stage,
                weights,
                samples: test.samples,
                scores,
            }),
            _ => None,
        })
        .collect();
    if columns.is_empty() {
        // Classifiers and maps have sections of their own.
        let others = results.stages.iter().any(|result| {
            matches!(
                result.outcome,
                StageOutcome::Probe(_) | StageOutcome::Map(_)
            )
        });
        if others {
            return String::new();
        }
        return "<section><h2>Scores</h2><p class=\"note\">No evaluation is done yet.</p></section>".to_owned();
    }
    let mut html =
        String::from("<section><h2>Scores</h2><div class=\"scroll\"><table><thead><tr><th></th>");
    for column in &columns {
        html.push_str(&format!(
            "<th>{}<small>{}</small><small>{} images</small></th>",
            escape(column.stage),
            escape(column.weights),
            column.samples
        ));
    }
    html.push_str("</tr></thead><tbody>");
    let rows = rows(&columns);
    for (metric, name) in &rows {
        html.push_str(&format!(
            "<tr><th scope=\"row\">{}<small>{}</small></th>",
            escape(name),
            escape(metric)
        ));
        let best = best(&columns, metric, name);
        for column in &columns {
            html.push_str(&cell(
                find(column, metric, name),
                find(&columns[0], metric, name),
                best,
            ));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div><div class=\"charts\">");
    for (metric, name) in &rows {
        html.push_str(&behind(&columns, metric, name).figure());
    }
    html.push_str("</div></section>");
    html
}

/// Metric and name of every score, in the order in which they come up.
fn rows<'a>(columns: &[Column<'a>]) -> Vec<(&'a str, &'a str)> {
    let mut rows = Vec::new();
    for score in columns.iter().flat_map(|column| column.scores) {
        let row = (score.metric.as_str(), score.name.as_str());
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

fn find<'a>(column: &Column<'a>, metric: &str, name: &str) -> Option<&'a ScoreRecord> {
    column
        .scores
        .iter()
        .find(|score| score.metric == metric && score.name == name)
}

/// The best value of a row, where there is more than one.
fn best(columns: &[Column], metric: &str, name: &str) -> Option<f64> {
    let scores: Vec<_> = columns
        .iter()
        .filter_map(|column| find(column, metric, name))
        .collect();
    let values = scores.iter().filter_map(|score| score.value);
    if scores.len() < 2 {
        return None;
    }
    match scores[0].higher_is_better {
        true => values.reduce(f64::max),
        false => values.reduce(f64::min),
    }
}

fn cell(score: Option<&ScoreRecord>, first: Option<&ScoreRecord>, best: Option<f64>) -> String {
    let Some(score) = score else {
        return "<td>–</td>".to_owned();
    };
    let class = match best.is_some() && score.value == best {
        true => " class=\"best\"",
        false => "",
    };
    let mut notes = Vec::new();
    if !score.setting.is_empty() {
        notes.push(score.setting.clone());
    }
    if let (Some(value), Some(first)) = (score.value, first)
        && let Some(base) = first.value
        && !std::ptr::eq(score, first)
    {
        notes.push(format!("{:+.2}", value - base));
    }
    let notes: String = notes
        .iter()
        .map(|note| format!("<small>{}</small>", escape(note)))
        .collect();
    format!("<td{class}>{}{notes}</td>", escape(&score.reading()))
}

/// The values behind a score, such as the accuracy for each k, where their names are numbers.
fn behind(columns: &[Column], metric: &str, name: &str) -> Chart {
    let mut unit = String::new();
    let mut lines = Vec::new();
    for (colour, column) in columns.iter().enumerate() {
        let Some(score) = find(column, metric, name) else {
            continue;
        };
        unit.clone_from(&score.unit);
        for (space, points) in curves(&score.table) {
            if points.len() > 2 {
                let separator = if space.is_empty() { "" } else { ", " };
                lines.push(Line {
                    name: format!("{}{separator}{space}", column.stage),
                    points,
                    colour,
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

    #[test]
    fn tables_become_curves() {
        let row = |name: &str, value| (name.to_owned(), Some(value));
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
}
