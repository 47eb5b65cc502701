//! What processes tell each other of a batch: each its share of loss and figures, and which images were replaced.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{batches::ViewBatch, machine::Figures};
use crate::distributed::{Communicator, collective::gather_texts};

/// What one process has of a batch. Numbers are their bits: some may be none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Share {
    loss: u32,
    /// Whether its gradient so far is of numbers.
    finite: bool,
    measures: Vec<(String, u64)>,
    /// Figures of each of its rows.
    rows: BTreeMap<String, Vec<u64>>,
    replaced: Vec<(String, String)>,
}

/// What a batch came to, over all processes.
pub(super) struct Whole {
    /// The mean loss.
    pub loss: f32,
    /// Whether every process's gradient so far is of numbers.
    pub finite: bool,
    /// The other figures, means over the batch.
    pub measures: Figures,
    /// Names and reasons of other processes' replaced images.
    pub replaced: Vec<(String, String)>,
}

/// The means over a batch of which this process has `batch`, with a share in loss and measures, and a gradient that is
/// `finite` or not.
pub(super) fn whole(
    communicator: &dyn Communicator,
    batch: &ViewBatch,
    loss: f32,
    measures: Figures,
    finite: bool,
) -> Whole {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    if communicator.size() == 1 {
        let rows = batch.measures.iter();
        return Whole {
            loss,
            finite,
            measures: (measures.into_iter())
                .chain(rows.map(|(name, values)| (*name, mean(values))))
                .collect(),
            replaced: Vec::new(),
        };
    }
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect();
    let own = Share {
        loss: loss.to_bits(),
        finite,
        measures: (measures.iter())
            .map(|(name, value)| ((*name).to_owned(), value.to_bits()))
            .collect(),
        rows: (batch.measures.iter())
            .map(|(name, values)| ((*name).to_owned(), bits(values)))
            .collect(),
        replaced: batch.replaced.clone(),
    };
    let text = serde_json::to_string(&own).expect("a share is plain data");
    let shares: Vec<Share> = gather_texts(communicator, &text)
        .iter()
        .map(|text| serde_json::from_str(text).unwrap_or_default())
        .collect();
    let losses = shares.iter().map(|share| f32::from_bits(share.loss));
    let measures = measures.iter().map(|(name, _)| {
        let of = |share: &Share| {
            share
                .measures
                .iter()
                .find(|(known, _)| known == name)
                .cloned()
        };
        let values = shares.iter().filter_map(of);
        (*name, values.map(|(_, bits)| f64::from_bits(bits)).sum())
    });
    let rows = batch.measures.iter().map(|(name, _)| {
        let values = shares
            .iter()
            .filter_map(|share| share.rows.get(*name))
            .flatten();
        let values: Vec<_> = values.map(|&bits| f64::from_bits(bits)).collect();
        (*name, mean(&values))
    });
    Whole {
        loss: losses.fold(0.0, |sum, loss| sum + loss),
        finite: shares.iter().all(|share| share.finite),
        measures: measures.chain(rows).collect(),
        replaced: (shares.iter().enumerate())
            .filter(|(rank, _)| *rank != communicator.rank())
            .flat_map(|(_, share)| share.replaced.clone())
            .collect(),
    }
}
