//! The curves of a training stage.

use std::collections::BTreeMap;

use super::{
    chart::{Chart, Line},
    health,
    text::{escape, number},
};
use crate::log::{Entry, Measures, Timing};

/// What a chart can show of a moment.
struct Moment<'a> {
    epoch: f64,
    loss: Option<f64>,
    lr: f64,
    measures: &'a Measures,
    whole: bool,
}

/// The section of the stage that `start` begins.
pub fn section(start: &Entry, log: &[Entry], timings: &[Timing]) -> String {
    let Entry::Start {
        stage: name,
        samples,
        epochs,
        steps_per_epoch,
        chance_loss,
        ..
    } = start
    else {
        return String::new();
    };
    let moments: Vec<_> = log
        .iter()
        .filter_map(|entry| moment(entry, name, *steps_per_epoch))
        .collect();
    let done = moments.iter().filter(|m| m.whole).count();
    let mut charts = vec![loss(&moments, *chance_loss)];
    charts.extend(measures(&moments));
    charts.extend(health::charts(log, name));
    charts.push(rate(&moments));
    charts.extend(speed(timings, name));
    let last = moments.iter().rev().find(|moment| moment.whole);
    let mut facts = vec![
        ("images", samples.to_string()),
        ("epochs", format!("{done} of {epochs}")),
        ("steps", format!("{steps_per_epoch} per epoch")),
    ];
    if let Some(loss) = last.and_then(|moment| moment.loss) {
        facts.push(("loss", number(loss)));
    }
    let time: f64 = timings
        .iter()
        .filter(|t| t.stage == *name)
        .map(|t| t.seconds)
        .sum();
    if time > 0.0 {
        let time = std::time::Duration::from_secs_f64(time);
        facts.push(("time", crate::workplace::progress::clock(time)));
    }
    let facts: String = facts
        .iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(value)))
        .collect();
    let figures: String = charts.iter().map(Chart::figure).collect();
    format!(
        "<section><h2>Training <em>{}</em></h2><dl class=\"facts\">{facts}</dl>{}<div class=\"charts\">{figures}</div></section>",
        escape(name),
        health::verdict(log, name)
    )
}

fn moment<'a>(entry: &'a Entry, name: &str, steps_per_epoch: usize) -> Option<Moment<'a>> {
    let (stage, step, loss, lr, measures, whole) = match entry {
        Entry::Start { .. }
        | Entry::Change { .. }
        | Entry::Health { .. }
        | Entry::Classifiers { .. }
        | Entry::Probe { .. } => return None,
        Entry::Step {
            stage,
            step,
            loss,
            lr,
            measures,
            ..
        } => (stage, step, loss, lr, measures, false),
        Entry::Epoch {
            stage,
            step,
            loss,
            lr,
            measures,
            ..
        } => (stage, step, loss, lr, measures, true),
    };
    (stage == name).then(|| Moment {
        epoch: *step as f64 / steps_per_epoch.max(1) as f64,
        loss: *loss,
        lr: *lr,
        measures,
        whole,
    })
}

/// Two lines of a figure: its course within epochs, pale, and the means of epochs.
fn lines(
    moments: &[Moment],
    name: &str,
    colour: usize,
    value: impl Fn(&Moment) -> Option<f64>,
) -> Vec<Line> {
    let points = |whole: bool| -> Vec<_> {
        let chosen = moments.iter().filter(|moment| moment.whole == whole);
        chosen
            .filter_map(|moment| Some((moment.epoch, value(moment)?)))
            .collect()
    };
    let line = |name: &str, points, faint| Line {
        name: name.to_owned(),
        points,
        colour,
        faint,
    };
    vec![
        line("", points(false), true),
        line(name, points(true), false),
    ]
}

fn loss(moments: &[Moment], chance: Option<f64>) -> Chart {
    Chart {
        title: "Loss".to_owned(),
        across: "epoch".to_owned(),
        from_start: true,
        lines: lines(moments, "loss", 0, |moment| moment.loss),
        level: chance.map(|loss| (loss, format!("chance {}", number(loss)))),
        ..Chart::default()
    }
}

/// A chart of all accuracies, and one for each other figure.
fn measures(moments: &[Moment]) -> Vec<Chart> {
    let mut names = BTreeMap::new();
    for moment in moments {
        for name in moment.measures.keys() {
            names.insert(name.as_str(), name.starts_with("acc"));
        }
    }
    let chart = |title: String, unit: &str| Chart {
        title,
        across: "epoch".to_owned(),
        from_start: true,
        unit: unit.to_owned(),
        from_zero: true,
        ..Chart::default()
    };
    let mut accuracy = chart("Accuracy of telling instances apart".to_owned(), "%");
    let mut charts = Vec::new();
    for (name, is_accuracy) in names {
        let value = |moment: &Moment| moment.measures.get(name).copied().flatten();
        if is_accuracy {
            let colour = accuracy.lines.len() / 2;
            let title = name.replacen("acc", "top ", 1);
            accuracy.lines.extend(lines(moments, &title, colour, value));
        } else {
            let title = match name {
                "grad_norm" => "Length of the gradient".to_owned(),
                other => other.replace('_', " "),
            };
            let mut other = chart(title, "");
            other.from_zero = false;
            other.lines = lines(moments, name, 0, value);
            charts.push(other);
        }
    }
    charts.insert(0, accuracy);
    charts
}

fn rate(moments: &[Moment]) -> Chart {
    let whole = moments.iter().filter(|moment| moment.whole);
    Chart {
        title: "Learning rate".to_owned(),
        across: "epoch".to_owned(),
        from_start: true,
        lines: vec![Line {
            name: "learning rate".to_owned(),
            points: whole.map(|moment| (moment.epoch, moment.lr)).collect(),
            colour: 3,
            faint: false,
        }],
        from_zero: true,
        ..Chart::default()
    }
}

fn speed(timings: &[Timing], stage: &str) -> [Chart; 2] {
    let chart = |title: &str, unit: &str, colour, value: fn(&Timing) -> f64| Chart {
        title: title.to_owned(),
        across: "epoch".to_owned(),
        from_start: true,
        unit: unit.to_owned(),
        lines: vec![Line {
            name: unit.to_owned(),
            points: timings
                .iter()
                .filter(|timing| timing.stage == stage)
                .map(|timing| (timing.epoch as f64, value(timing)))
                .collect(),
            colour,
            faint: false,
        }],
        from_zero: true,
        ..Chart::default()
    };
    [
        chart("Speed", "images/s", 2, |timing| timing.images_per_second),
        chart("Waiting for images", "% of the time", 1, |timing| {
            100.0 * timing.waiting
        }),
    ]
}
