//! What a stage of a map comes to.

use serde::{Deserialize, Serialize};

use super::{ScoreRecord, SetRecord};
use crate::{text::grouped, tsne::Algorithm};

/// What the stage came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The network, with its parameters.
    pub backbone: String,
    /// Where the weights came from.
    pub weights: String,
    /// The samples on the map.
    pub data: SetRecord,
    /// Views of each sample on the map beside it.
    pub views: usize,
    /// How forces were worked out.
    pub algorithm: Algorithm,
    /// The divergence of the map from the features, in nats; none where it is no number.
    pub divergence: Option<f64>,
    /// Files of the map in `maps/<stage>`.
    pub files: Vec<String>,
}

impl Outcome {
    /// The outcome in numbers.
    pub fn scores(&self) -> Vec<ScoreRecord> {
        vec![ScoreRecord {
            metric: "t-SNE".to_owned(),
            name: "divergence".to_owned(),
            value: self.divergence,
            unit: "nats".to_owned(),
            higher_is_better: false,
            error: None,
            setting: format!("{} points", self.data.samples * (self.views + 1)),
            table: Vec::new(),
        }]
    }

    /// What is worth knowing of the map, as a heading and its text.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let divergence = match self.divergence {
            Some(divergence) => format!("{divergence:.3} nats"),
            None => "not a number".to_owned(),
        };
        vec![
            ("backbone", self.backbone.clone()),
            ("weights", self.weights.clone()),
            ("images", grouped(self.data.samples)),
            ("views of each", self.views.to_string()),
            ("divergence of the map", divergence),
        ]
    }
}
