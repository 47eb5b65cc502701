//! What the log tells of a stage of classifiers.

use std::collections::BTreeSet;

use super::state::Fortune;
use crate::{
    failure::Failure,
    log::{Entry, Measures},
    results::probe::{Label, Names, Record},
};

/// What the lines of a stage tell.
pub struct Told {
    /// Every classifier.
    pub classifiers: Vec<Record>,
    /// Images that were replaced in any epoch: name and reason.
    pub replaced: Vec<(String, String)>,
}

/// What the lines of `log` tell of `stage`, whose classifiers fared as `fortunes` say.
///
/// # Errors
/// The log has no line of an epoch that the stage has trained.
pub fn told(
    log: &[Entry],
    stage: &str,
    labels: &[Label],
    fortunes: &[Fortune],
) -> Result<Told, Failure> {
    let mut epochs: Vec<(usize, &Measures)> = Vec::new();
    let mut replaced = BTreeSet::new();
    for entry in log {
        if let Entry::Probe {
            stage: of,
            epoch,
            measures,
            replaced: more,
            ..
        } = entry
            && of == stage
        {
            epochs.push((*epoch, measures));
            replaced.extend(more.iter().cloned());
        }
    }
    let line = |epoch: usize| {
        let found = epochs.iter().find(|(of, _)| *of == epoch);
        let found = found.map(|(_, measures)| *measures);
        found.ok_or_else(|| {
            Failure::fault(format!(
                "the log has no line of epoch {epoch} of stage `{stage}`"
            ))
        })
    };
    let last = line(epochs.len())?;
    let names = Names::of(labels);
    let mut records = Vec::new();
    for (i, (label, fortune)) in labels.iter().zip(fortunes).enumerate() {
        let best = line(fortune.best_epoch)?;
        let figure = |line: &Measures, name| line.get(&names.measure(name, i)).copied().flatten();
        let usable = |value: Option<f64>| value.filter(|_| fortune.diverged.is_none());
        records.push(Record {
            rate: label.rate,
            unit_length: label.unit_length,
            seed: label.seed,
            diverged: fortune.diverged,
            loss: usable(figure(last, "loss")),
            acc1: usable(figure(last, "acc1")),
            acc5: usable(figure(last, "acc5")),
            best_epoch: fortune.best_epoch,
            best_acc1: figure(best, "acc1"),
            best_acc5: figure(best, "acc5"),
        });
    }
    Ok(Told {
        classifiers: records,
        replaced: replaced.into_iter().collect(),
    })
}
