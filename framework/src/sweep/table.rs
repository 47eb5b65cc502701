//! What the runs of a sweep came to: a row for each combination, runs that differ in their seeds alone together.

use std::fmt::Write;

use serde::Serialize;

use super::{Axis, Point, keys};
use crate::{
    results::{Results, StageOutcome},
    text::digits,
};

/// The axis whose runs stand in one row.
const SEED: &str = "seed";

/// A number that runs have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// Name of the stage.
    pub stage: String,
    /// What it is, such as `loss`.
    pub name: String,
    /// Its unit; empty for a pure number.
    pub unit: String,
    /// Whether more is better, where that can be said.
    pub higher_is_better: Option<bool>,
}

/// A number of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// What it is.
    #[serde(flatten)]
    pub figure: Figure,
    /// The number.
    pub value: f64,
}

/// A number of the runs of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// What it is.
    #[serde(flatten)]
    pub figure: Figure,
    /// Mean over the runs that have it.
    pub mean: f64,
    /// Standard deviation of a sample, of two runs or more.
    pub deviation: Option<f64>,
    /// Runs that have it.
    pub runs: usize,
}

/// Runs that differ in their seeds alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The values but the seed, in the order of the axes.
    pub values: Vec<String>,
    /// The numbers.
    pub figures: Vec<Cell>,
}

impl Reading {
    /// The numbers that a table shows of a run: the last loss of trainings, the scores of other stages.
    pub fn all(results: &Results) -> Vec<Self> {
        let mut readings = Vec::new();
        for result in &results.stages {
            if let StageOutcome::Pretrain {
                loss: Some(loss), ..
            } = &result.outcome
            {
                readings.push(Self {
                    figure: Figure {
                        stage: result.stage.clone(),
                        name: "loss".to_owned(),
                        unit: String::new(),
                        higher_is_better: None,
                    },
                    value: *loss,
                });
            }
            for score in result.outcome.scores() {
                readings.extend(score.value.map(|value| Self {
                    figure: Figure {
                        stage: result.stage.clone(),
                        name: score.name.clone(),
                        unit: score.unit.clone(),
                        higher_is_better: Some(score.higher_is_better),
                    },
                    value,
                }));
            }
        }
        readings
    }
}

/// The rows of a sweep of which `runs` tells what each combination came to so far.
pub fn rows(axes: &[Axis], runs: &[(Point, Vec<Reading>)]) -> Vec<Row> {
    let values = |point: &Point| -> Vec<String> {
        let pairs = axes.iter().zip(&point.values);
        let others = pairs.filter(|(axis, _)| axis.path != SEED);
        others.map(|(_, value)| value.clone()).collect()
    };
    let mut rows: Vec<(Vec<String>, Vec<&Reading>)> = Vec::new();
    for (point, readings) in runs {
        let values = values(point);
        let row = match rows.iter().position(|row| row.0 == values) {
            Some(row) => row,
            None => {
                rows.push((values, Vec::new()));
                rows.len() - 1
            }
        };
        rows[row].1.extend(readings);
    }
    let row = |(values, readings): (Vec<String>, Vec<&Reading>)| Row {
        figures: figures(readings.iter().copied())
            .into_iter()
            .map(|figure| cell(figure, &readings))
            .collect(),
        values,
    };
    rows.into_iter().map(row).collect()
}

/// Every figure once, in the order in which they first come up.
fn figures<'a>(readings: impl Iterator<Item = &'a Reading>) -> Vec<&'a Figure> {
    let mut figures: Vec<&Figure> = Vec::new();
    for reading in readings {
        if !figures.contains(&&reading.figure) {
            figures.push(&reading.figure);
        }
    }
    figures
}

fn cell(figure: &Figure, readings: &[&Reading]) -> Cell {
    let own = readings.iter().filter(|reading| reading.figure == *figure);
    let values: Vec<f64> = own.map(|reading| reading.value).collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Cell {
        figure: figure.clone(),
        mean,
        deviation: (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
        runs: values.len(),
    }
}

/// The rows as an aligned text; `*` stands at the best of each score.
pub fn text(axes: &[Axis], rows: &[Row]) -> String {
    let mut figures: Vec<&Figure> = Vec::new();
    for cell in rows.iter().flat_map(|row| &row.figures) {
        if !figures.contains(&&cell.figure) {
            figures.push(&cell.figure);
        }
    }
    let pairs = axes.iter().zip(keys(axes));
    let mut lines = vec![
        (pairs.filter(|(axis, _)| axis.path != SEED))
            .map(|(_, key)| key)
            .collect::<Vec<_>>(),
    ];
    let named = lines[0].len();
    lines[0].extend(figures.iter().map(|figure| {
        let name = format!("{} {}", figure.stage, figure.name);
        match figure.unit.as_str() {
            "" => name,
            unit => format!("{name} ({unit})"),
        }
    }));
    for row in rows {
        let mut line = row.values.clone();
        for figure in &figures {
            let own = row.figures.iter().find(|cell| cell.figure == **figure);
            line.push(own.map_or("-".to_owned(), |cell| shown(cell, rows)));
        }
        lines.push(line);
    }
    aligned(&lines, named)
}

fn shown(cell: &Cell, rows: &[Row]) -> String {
    let number = |value: f64| match cell.figure.unit.as_str() {
        "%" => digits(value, 2),
        _ => digits(value, 4),
    };
    let mut text = number(cell.mean);
    if let Some(deviation) = cell.deviation {
        let _ = write!(text, " ± {}", number(deviation));
    }
    let same = rows.iter().flat_map(|row| &row.figures);
    let means = same.filter(|other| other.figure == cell.figure);
    let better = |other: &Cell| match cell.figure.higher_is_better {
        Some(true) => other.mean > cell.mean,
        Some(false) => other.mean < cell.mean,
        None => true,
    };
    if rows.len() > 1 && !means.into_iter().any(better) {
        text.push_str(" *");
    } else {
        text.push_str("  ");
    }
    text
}

/// Columns of equal width, words at their left and numbers at their right.
fn aligned(lines: &[Vec<String>], words: usize) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (i, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let between = if i > 0 { "  " } else { "" };
            let _ = match i < words {
                true => write!(row, "{between}{cell:<width$}"),
                false => write!(row, "{between}{cell:>width$}"),
            };
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{axes, points};
    use super::*;

    #[test]
    fn seeds_stand_in_one_row() {
        let axes = axes(&["a.t=1,2".to_owned(), "seed=1,2,3".to_owned()]).expect("they are right");
        let figure = |name: &str, higher_is_better| Figure {
            stage: "s".to_owned(),
            name: name.to_owned(),
            unit: "%".to_owned(),
            higher_is_better,
        };
        let value = |point: &Point| -> f64 {
            let number = |i: usize| point.values[i].parse::<f64>().expect("it is a number");
            10.0 * number(0) + number(1)
        };
        let mut runs: Vec<_> = points(&axes)
            .into_iter()
            .map(|point| {
                let reading = |figure| Reading {
                    figure,
                    value: value(&point),
                };
                let readings = vec![
                    reading(figure("up", Some(true))),
                    reading(figure("down", Some(false))),
                    reading(figure("loss", None)),
                ];
                (point, readings)
            })
            .collect();
        // The last combination has not come to anything yet.
        runs[5].1.clear();
        let rows = rows(&axes, &runs);
        assert_eq!(rows.len(), 2);
        let (first, second) = (&rows[0].figures[0], &rows[1].figures[0]);
        // By hand: 11, 12, 13, and 21, 22.
        assert_eq!(
            (first.mean, first.deviation, first.runs),
            (12.0, Some(1.0), 3)
        );
        assert_eq!((second.mean, second.runs), (21.5, 2));
        assert_eq!(second.deviation, Some(0.5_f64.sqrt()));
        assert_eq!(
            text(&axes, &rows),
            "\
t        s up (%)      s down (%)      s loss (%)
1  12.00 ± 1.00    12.00 ± 1.00 *  12.00 ± 1.00
2  21.50 ± 0.71 *  21.50 ± 0.71    21.50 ± 0.71
"
        );
    }
}
