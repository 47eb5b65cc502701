//! Features by several processes: each takes one batch of a round, and the first puts them together.
//!
//! Batches are those of one process, so rows are the same to the bit. Only sets that lie on every machine are shared out, not
//! what an earlier stage wrote into the run folder.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallfry_data::Dataset;

use super::features::{Extent, Images};
use crate::{
    Encoder,
    distributed::{
        Communicator,
        collective::{gather_bytes, share, share_numbers},
        command::Command,
    },
    plan::Subject,
    workplace::Workplace,
};

/// What a stage extracts features of.
pub struct Extractable<'a> {
    /// The network.
    pub subject: &'a Subject,
    /// How images become its input.
    pub images: Images,
    /// The stage's sets; none in the place of one that only the first process has.
    pub sets: Vec<Option<Arc<dyn Dataset>>>,
}

/// The features of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Worked {
    /// For each view the rows, `[samples, width]`.
    pub features: Vec<Vec<f32>>,
    /// The sample of each row.
    pub samples: Vec<u32>,
    /// Samples that could not be read: name and reason.
    pub left_out: Vec<(String, String)>,
}

/// All of a batch but its features.
#[derive(Serialize, Deserialize)]
struct Header {
    views: usize,
    samples: Vec<u32>,
    left_out: Vec<(String, String)>,
}

impl Worked {
    /// The length of a header, the header, the features.
    fn bytes(&self) -> Vec<u8> {
        let header = Header {
            views: self.features.len(),
            samples: self.samples.clone(),
            left_out: self.left_out.clone(),
        };
        let header = serde_json::to_vec(&header).expect("a header is plain data");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        for view in &self.features {
            bytes.extend(view.iter().flat_map(|value| value.to_le_bytes()));
        }
        bytes
    }

    /// Nothing where `bytes` are none of a batch.
    fn of(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (header, rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        let Header {
            views,
            samples,
            left_out,
        } = serde_json::from_slice(header).ok()?;
        let words = rest.as_chunks::<4>().0;
        let values: Vec<_> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        let view = values.len().checked_div(views).unwrap_or(0);
        Some(Self {
            features: match view {
                0 => vec![Vec::new(); views],
                _ => values.chunks_exact(view).map(<[_]>::to_vec).collect(),
            },
            samples,
            left_out,
        })
    }
}

/// The processes that extract features together.
pub(super) struct Crew<'a>(&'a dyn Communicator);

impl<'a> Crew<'a> {
    /// Has the other processes assist the extraction of `extent` of `set` by `encoder`; none where this process does it
    /// alone.
    pub fn engage(
        set: &Arc<dyn Dataset>,
        extent: &Extent,
        encoder: &dyn Encoder,
        workplace: &Workplace<'a>,
    ) -> Option<Self> {
        let communicator = &**workplace.communicator;
        if communicator.size() == 1 {
            return None;
        }
        let same = |known: &Option<Arc<dyn Dataset>>| {
            known.as_ref().is_some_and(|known| Arc::ptr_eq(known, set))
        };
        let number = workplace.sets.iter().position(same)?;
        Command::Extract {
            stage: workplace.stage as u64,
            set: number as u64,
        }
        .give(communicator);
        let mut text = serde_json::to_vec(extent).expect("an extent is plain data");
        share(communicator, &mut text);
        share_weights(encoder, communicator);
        Some(Self(communicator))
    }

    /// How many batches a round has.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Has the others work on the round that begins with sample `first`.
    pub fn begin(&self, first: usize) {
        Command::Step {
            epoch: 0,
            index: first as u64,
        }
        .give(self.0);
    }

    /// The batches of the round, of which this process worked on the first.
    pub fn collect(&self, own: &Worked) -> Vec<Worked> {
        let all = gather_bytes(self.0, &own.bytes());
        all.iter()
            .map(|bytes| Worked::of(bytes).unwrap_or_default())
            .collect()
    }

    /// Lets the others go.
    pub fn leave(&self) {
        Command::Done.give(self.0);
    }
}

/// Gives every process the weights and statistics of the first one's encoder.
fn share_weights(encoder: &dyn Encoder, communicator: &dyn Communicator) {
    let mut parameters = encoder.parameters();
    share_numbers(communicator, parameters.values_mut());
    share_numbers(communicator, parameters.statistics_mut());
}

/// Works on its batches of set `set` until the first process says something else, which is the result.
pub(crate) fn assist(
    extractable: &Extractable<'_>,
    set: u64,
    communicator: &dyn Communicator,
) -> Command {
    let mut text = Vec::new();
    share(communicator, &mut text);
    let backbone = &extractable.subject.backbone.plugin;
    let encoder = backbone.encoder(&crate::Head::default(), 0);
    share_weights(&*encoder, communicator);
    let set = extractable.sets.get(set as usize).and_then(Option::as_ref);
    let extent: Option<Extent> = serde_json::from_slice(&text).ok();
    loop {
        let first = match Command::take(communicator) {
            Command::Step { index, .. } => index as usize,
            other => return other,
        };
        let worked = match (set, extent) {
            (Some(set), Some(extent)) => {
                let images = extractable.images;
                let first = first + images.batch * communicator.rank();
                images.work(&**set, first, &extent, &*encoder)
            }
            _ => Worked::default(),
        };
        gather_bytes(communicator, &worked.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_arrives_as_it_was_sent() {
        for worked in [
            Worked::default(),
            Worked {
                features: vec![vec![], vec![]],
                samples: vec![],
                left_out: vec![("a.png".into(), "is empty".into())],
            },
            Worked {
                features: vec![vec![1.0, -0.0, f32::MIN_POSITIVE, 4.0], vec![5.0; 4]],
                samples: vec![7, 9],
                left_out: vec![],
            },
        ] {
            assert_eq!(Worked::of(&worked.bytes()), Some(worked));
        }
        assert_eq!(Worked::of(&[1, 2]), None);
        assert_eq!(Worked::of(&[255; 20]), None);
    }
}
