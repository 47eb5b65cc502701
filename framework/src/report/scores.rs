//! The scores of all evaluations: a table for those that share metrics, and what lies behind the scores under it.
//!
//! Evaluations stand side by side only where something can be compared; others would be columns of dashes. A metric that
//! could not be computed stands in the table with its reason.

mod behind;

use super::text::escape;
use crate::results::{Results, ScoreRecord, StageOutcome};

/// An evaluation as a column.
struct Column<'a> {
    stage: &'a str,
    weights: &'a str,
    samples: usize,
    scores: &'a [ScoreRecord],
    refused: &'a [(String, String)],
}

/// A metric and the names of its scores, none where no evaluation could compute it.
struct Block<'a> {
    metric: &'a str,
    names: Vec<&'a str>,
}

/// The section of scores; a note where there are none yet.
pub fn section(results: &Results) -> String {
    let columns = results.stages.iter().filter_map(|result| {
        let StageOutcome::Evaluate {
            weights,
            test,
            scores,
            refused,
            ..
        } = &result.outcome
        else {
            return None;
        };
        Some(Column {
            stage: &result.stage,
            weights,
            samples: test.samples,
            scores,
            refused,
        })
    });
    let groups = groups(columns.collect());
    if groups.is_empty() {
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
    let groups: String = groups.iter().map(|columns| group(columns)).collect();
    format!("<section><h2>Scores</h2>{groups}</section>")
}

/// Columns that have metrics in common, directly or by way of others, in the order in which they come up.
fn groups<'a>(columns: Vec<Column<'a>>) -> Vec<Vec<Column<'a>>> {
    let mut groups: Vec<Vec<Column<'a>>> = Vec::new();
    for column in columns {
        let related = |group: &Vec<Column<'a>>| {
            let mut metrics = group.iter().flat_map(Column::metrics);
            metrics.any(|metric| column.metrics().any(|own| own == metric))
        };
        let place = groups.iter().position(related).unwrap_or(groups.len());
        let (joined, apart): (Vec<_>, Vec<_>) = groups.into_iter().partition(related);
        groups = apart;
        let joined = joined.into_iter().flatten().chain([column]).collect();
        groups.insert(place, joined);
    }
    groups
}

impl Column<'_> {
    /// The metrics that were asked for, those that were refused among them.
    fn metrics(&self) -> impl Iterator<Item = &str> {
        let computed = self.scores.iter().map(|score| score.metric.as_str());
        computed.chain(self.refused.iter().map(|(metric, _)| metric.as_str()))
    }

    fn find(&self, metric: &str, name: &str) -> Option<&ScoreRecord> {
        let mut scores = self.scores.iter();
        scores.find(|score| score.metric == metric && score.name == name)
    }

    /// Why `metric` could not be computed, if it could not.
    fn refusal(&self, metric: &str) -> Option<&str> {
        let refused = self.refused.iter().find(|(name, _)| name == metric);
        refused.map(|(_, reason)| reason.as_str())
    }
}

/// Every metric of `columns` with its scores, in the order in which they come up.
fn blocks<'a>(columns: &'a [Column<'a>]) -> Vec<Block<'a>> {
    let mut blocks: Vec<Block<'a>> = Vec::new();
    for metric in columns.iter().flat_map(Column::metrics) {
        if blocks.iter().any(|block| block.metric == metric) {
            continue;
        }
        let mut names = Vec::new();
        for score in columns.iter().flat_map(|column| column.scores) {
            if score.metric == metric && !names.contains(&score.name.as_str()) {
                names.push(score.name.as_str());
            }
        }
        blocks.push(Block { metric, names });
    }
    blocks
}

/// A table and what lies behind its scores.
fn group(columns: &[Column<'_>]) -> String {
    let (style, note) = match columns.len() {
        1 => (" class=\"single\"".to_owned(), ""),
        // Where the page is narrower, the table moves under it.
        count => (
            format!(" style=\"min-width:{}px\"", 150 + 130 * count),
            "<p class=\"note\">Figures with a sign are differences from the first column.</p>",
        ),
    };
    let heads = columns.iter().map(|column| {
        format!(
            "<th>{}<small>{}</small><small>{} images</small></th>",
            escape(column.stage),
            escape(column.weights),
            column.samples
        )
    });
    let heads: String = heads.collect();
    let blocks = blocks(columns);
    let rows: String = blocks.iter().map(|block| rows(columns, block)).collect();
    format!(
        "<div class=\"scroll\"><table{style}><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{note}{}",
        behind::section(columns, &blocks)
    )
}

/// The rows of a metric, under its name.
fn rows(columns: &[Column<'_>], block: &Block<'_>) -> String {
    let Block { metric, names } = block;
    let mut html = format!(
        "<tr class=\"metric\"><th scope=\"rowgroup\" colspan=\"{}\">{}</th></tr>",
        columns.len() + 1,
        escape(metric)
    );
    let refusals = columns.iter().map(|column| column.refusal(metric));
    let refusals: Vec<_> = refusals.collect();
    if refusals.iter().any(Option::is_some) {
        let cells = refusals.iter().map(|reason| match reason {
            Some(reason) => format!("<td class=\"refused\">{}</td>", escape(reason)),
            None => "<td></td>".to_owned(),
        });
        let cells: String = cells.collect();
        html += &format!("<tr><th scope=\"row\">not computed</th>{cells}</tr>");
    }
    for name in names {
        let first = columns[0].find(metric, name);
        let best = best(columns, metric, name);
        let cells = columns
            .iter()
            .map(|column| cell(column.find(metric, name), first, best));
        let cells: String = cells.collect();
        html += &format!("<tr><th scope=\"row\">{}</th>{cells}</tr>", escape(name));
    }
    html
}

/// The best value of a row, where there is more than one.
fn best(columns: &[Column<'_>], metric: &str, name: &str) -> Option<f64> {
    let scores = columns
        .iter()
        .filter_map(|column| column.find(metric, name));
    let scores: Vec<_> = scores.collect();
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
        // As many decimals as the value itself is shown with.
        let decimals = if score.unit == "%" { 2 } else { 4 };
        notes.push(format!("{:+.decimals$}", value - base));
    }
    let notes: String = notes
        .iter()
        .map(|note| format!("<small>{}</small>", escape(note)))
        .collect();
    format!("<td{class}>{}{notes}</td>", escape(&score.reading()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{SetRecord, StageResult};

    fn score(metric: &str, name: &str, value: f64) -> ScoreRecord {
        ScoreRecord {
            metric: metric.to_owned(),
            name: name.to_owned(),
            value: Some(value),
            unit: "%".to_owned(),
            higher_is_better: true,
            error: None,
            setting: String::new(),
            table: Vec::new(),
        }
    }

    /// Name, scores and refused metrics of a stage.
    type Judged<'a> = (&'a str, Vec<ScoreRecord>, &'a [(&'a str, &'a str)]);

    fn page(stages: &[Judged]) -> String {
        let mut results = Results::new("x");
        for (stage, scores, refused) in stages {
            let refused = refused
                .iter()
                .map(|(m, r)| (m.to_string(), r.to_string()))
                .collect();
            results.stages.push(StageResult {
                stage: stage.to_string(),
                hash: String::new(),
                outcome: StageOutcome::Evaluate {
                    backbone: "Net".to_owned(),
                    weights: "untrained".to_owned(),
                    train: None,
                    test: SetRecord {
                        data: "Set".to_owned(),
                        samples: 4,
                        left_out: Vec::new(),
                    },
                    scores: scores.clone(),
                    refused,
                    original: Vec::new(),
                },
            });
        }
        section(&results)
    }

    #[test]
    fn evaluations_stand_side_by_side_where_they_share_a_metric() {
        let a = ("a", vec![score("Hits", "hit", 50.0)], &[][..]);
        let b = ("b", vec![score("Votes", "vote", 50.0)], &[][..]);
        let c = (
            "c",
            vec![score("Hits", "hit", 75.0), score("Votes", "vote", 25.0)],
            &[][..],
        );
        let apart = page(&[a.clone(), b.clone()]);
        assert_eq!(apart.matches("<table class=\"single\">").count(), 2);
        assert!(!apart.contains("<td>–</td>"));
        let joined = page(&[a, b, c]);
        assert_eq!(joined.matches("<table").count(), 1);
        assert!(joined.contains("<td class=\"best\">75.00 %<small>+25.00</small></td>"));
    }

    #[test]
    fn a_refused_metric_stands_with_its_reason() {
        let refused = &[("Spread", "too <few> images")][..];
        let html = page(&[("a", vec![score("Hits", "hit", 50.0)], refused)]);
        assert!(html.contains("not computed"));
        assert!(html.contains("<td class=\"refused\">too &lt;few&gt; images</td>"));
        let alone = page(&[("a", Vec::new(), refused)]);
        assert_eq!(alone.matches("<tr>").count(), 2, "{alone}");
    }
}
