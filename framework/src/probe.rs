//! Linear evaluation and transfer: classifiers on the features of an encoder.

pub mod bank;
pub mod figures;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallfry_data::Dataset;

use crate::{
    evaluate::{self, Given},
    failure::Failure,
    plan::Probe,
    run::{
        fingerprint,
        prepare::{Place, Source},
        results::{ScoreRecord, SetRecord},
    },
    train::Workplace,
};

/// A stage of classifiers that is ready to run.
pub struct Prepared<'a> {
    /// The stage.
    pub stage: &'a Probe,
    /// Everything that the result depends on, as text.
    pub config: String,
    /// Where the weights will come from.
    pub source: Source,
    seed: u64,
    train: Arc<dyn Dataset>,
    test: Arc<dyn Dataset>,
}

/// What the stage came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The network, with its parameters.
    pub backbone: String,
    /// Where the weights came from.
    pub weights: String,
    /// The samples that the classifiers learnt from.
    pub train: SetRecord,
    /// The samples that they were tested on.
    pub test: SetRecord,
}

impl<'a> Prepared<'a> {
    /// Readies `stage`, which stands at `place`.
    ///
    /// # Errors
    /// Its weights are missing or of another network.
    pub(crate) fn new(stage: &'a Probe, place: &Place<'_, 'a>) -> Result<Self, Failure> {
        let (source, weights) = place.source(&stage.subject)?;
        let mut config = String::new();
        fingerprint::field(&mut config, "seed", &place.seed.to_string());
        config += &fingerprint::subject(&stage.subject, &weights);
        fingerprint::field(&mut config, "train", &place.identity(&stage.train));
        fingerprint::field(&mut config, "test", &place.identity(&stage.test));
        Ok(Self {
            stage,
            config,
            source,
            seed: place.seed,
            train: place.images(&stage.train),
            test: place.images(&stage.test),
        })
    }

    /// Does the work.
    ///
    /// # Errors
    /// The weights do not fit, or the user stops.
    pub fn run(&self, given: &Given, _workplace: &mut Workplace) -> Result<Outcome, Failure> {
        let (_encoder, weights) = evaluate::encoder(&self.stage.subject, given)?;
        let samples = self.train.len() + self.test.len();
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
