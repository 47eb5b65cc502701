//! A comparison as text: columns of equal width, a run each.

use std::fmt::Write;

use super::{Comparison, Figure, Reading, Row};
use crate::text::digits;

/// The most characters of a setting that are shown.
const WIDEST: usize = 60;

pub(super) fn text(comparison: &Comparison) -> String {
    let runs = names(comparison);
    let mut text = String::new();
    section(&mut text, "settings", &runs, &comparison.settings);
    section(&mut text, "made with", &runs, &comparison.origins);
    figures(&mut text, &runs, &comparison.figures);
    for note in &comparison.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// The folders' own names where these tell the runs apart, else the folders.
fn names(comparison: &Comparison) -> Vec<String> {
    let short: Vec<_> = comparison
        .runs
        .iter()
        .map(|run| {
            run.file_name()
                .unwrap_or(run.as_os_str())
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let apart = short
        .iter()
        .enumerate()
        .all(|(i, name)| !short[..i].contains(name));
    match apart {
        true => short,
        false => comparison
            .runs
            .iter()
            .map(|run| run.display().to_string())
            .collect(),
    }
}

fn section(text: &mut String, title: &str, runs: &[String], rows: &[Row]) {
    if rows.is_empty() {
        let _ = writeln!(text, "{title}: no difference\n");
        return;
    }
    let mut lines = vec![heading(title, runs)];
    for row in rows {
        let values = row
            .values
            .iter()
            .map(|value| shortened(value.as_deref().unwrap_or("-")));
        lines.push(std::iter::once(row.name.clone()).chain(values).collect());
    }
    align(text, &lines, false);
}

fn heading(title: &str, runs: &[String]) -> Vec<String> {
    std::iter::once(title.to_owned())
        .chain(runs.iter().cloned())
        .collect()
}

fn shortened(value: &str) -> String {
    match value.chars().count() > WIDEST {
        true => value.chars().take(WIDEST - 1).chain(['…']).collect(),
        false => value.to_owned(),
    }
}

fn figures(text: &mut String, runs: &[String], figures: &[Figure]) {
    if figures.is_empty() {
        text.push_str("no numbers yet\n\n");
        return;
    }
    let seeds = figures.iter().any(|figure| figure.over_seeds.is_some());
    let mut lines = vec![heading("numbers", runs)];
    if seeds {
        lines[0].push("over seeds".to_owned());
    }
    for figure in figures {
        let mut line = vec![format!("{} {}", figure.stage, figure.name)];
        for (i, reading) in figure.readings.iter().enumerate() {
            let mut cell = reading.map_or("-".to_owned(), |reading| value(reading, &figure.unit));
            if i > 0 {
                cell += &change(figure, i);
            }
            line.push(cell);
        }
        if let Some((mean, deviation)) = figure.over_seeds {
            line.push(format!(
                "{} ± {deviation:.2}",
                value(
                    Reading {
                        value: mean,
                        error: None
                    },
                    &figure.unit
                )
            ));
        } else if seeds {
            line.push(String::new());
        }
        lines.push(line);
    }
    align(text, &lines, true);
}

fn value(reading: Reading, unit: &str) -> String {
    let mut text = match unit {
        "%" => format!("{} %", digits(reading.value, 2)),
        "" => number(reading.value),
        unit => format!("{} {unit}", number(reading.value)),
    };
    if let Some(error) = reading.error {
        let _ = write!(text, " ± {}", digits(error, 2));
    }
    text
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.2}"),
        _ => digits(value, 4),
    }
}

/// The difference to the first run, and whether it is more than chance gives.
fn change(figure: &Figure, run: usize) -> String {
    let Some(difference) = figure.differences[run] else {
        return String::new();
    };
    let size = match figure.unit.as_str() {
        "%" => format!("{:.2}", difference.abs()),
        _ => number(difference.abs()),
    };
    // What rounds to nothing has no sign.
    let nothing = size.chars().all(|c| "0.".contains(c));
    let sign = match difference < 0.0 && !nothing {
        true => '-',
        false => '+',
    };
    let verdict = match figure.standard_errors[run] {
        None => String::new(),
        Some(errors) if errors <= 1.0 => ", within the standard error".to_owned(),
        Some(errors) => format!(", {errors:.1} standard errors"),
    };
    format!(" ({sign}{size}{verdict})")
}

fn align(text: &mut String, lines: &[Vec<String>], right: bool) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for line in lines {
        let mut row = String::new();
        for (i, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match right && i > 0 {
                true => write!(row, "  {cell:>width$}"),
                false if i > 0 => write!(row, "  {cell:<width$}"),
                false => write!(row, "{cell:<width$}"),
            };
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text.push('\n');
}
