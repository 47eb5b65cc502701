//! The check that a frozen backbone is frozen: weights, statistics and counters keep their bits.
//!
//! The reference compares tensors with the pre-trained file after the first epoch. A hash costs a fraction of a second,
//! so it is taken after every epoch, and covers statistics too: a batch norm that follows its batches is the usual way
//! to train a little of what was meant to be frozen.

use smallfry_nn::{Parameters, parameter::Values};

use crate::{Encoder, failure::Failure};

/// What a frozen backbone held in the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    hash: blake3::Hash,
}

impl Frozen {
    /// Remembers what `encoder` holds.
    pub fn of(encoder: &dyn Encoder) -> Self {
        Self {
            hash: hash(&encoder.parameters()),
        }
    }

    /// Makes sure that `encoder` holds the same still.
    ///
    /// # Errors
    /// A tensor changed.
    pub fn check(&self, encoder: &dyn Encoder) -> Result<(), Failure> {
        match hash(&encoder.parameters()) == self.hash {
            true => Ok(()),
            false => Err(Failure::fault(
                "the backbone changed while classifiers were trained on it, though it is frozen",
            )
            .help("its `embed` must leave weights and running statistics as they are")),
        }
    }
}

fn hash(parameters: &Parameters) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::new();
    for i in 0..parameters.specs().len() {
        bytes.clear();
        match parameters.get(i) {
            Values::Float(values) => {
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Values::Integer(value) => bytes.extend(value.to_le_bytes()),
        }
        hasher.update(&bytes);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use smallfry_nn::{
        Network,
        init::Init,
        network::{Activation, Block, ConvNorm, Convolution, Norm, Padding},
    };

    use super::*;
    use crate::{encoder::ImageBatch, executed::Executed};

    fn encoder() -> Executed {
        let conv = ConvNorm {
            convolution: Convolution {
                name: "conv".into(),
                input: 3,
                output: 4,
                kernel: 3,
                stride: 1,
                padding: Padding::even(1),
                groups: 1,
                init: Init::FanOut,
            },
            norm: Norm::new("norm"),
            activation: Activation::Relu,
        };
        let network = Network {
            blocks: vec![
                Block::ConvNorm(conv),
                Block::GlobalAveragePool { dropout: 0.0 },
            ],
        };
        Executed::of(network, 1)
    }

    fn images() -> Arc<ImageBatch> {
        Arc::new(ImageBatch {
            batch: 2,
            height: 4,
            width: 4,
            values: (0..96).map(|i| (i as f32).sin()).collect(),
        })
    }

    #[test]
    fn features_leave_it_alone_and_training_does_not() {
        let mut encoder = encoder();
        let frozen = Frozen::of(&encoder);
        encoder.embed(&images());
        assert_eq!(frozen.check(&encoder), Ok(()));
        // No weight moves in this pass, but statistics follow the batch.
        encoder.momentum(&images(), 0);
        let failure = frozen.check(&encoder).unwrap_err();
        assert!(failure.message.contains("frozen"), "{failure}");
    }

    #[test]
    fn one_bit_is_enough() {
        let encoder = encoder();
        let frozen = Frozen::of(&encoder);
        let last = encoder.parameters().values().len() - 1;
        encoder.parameters().values_mut()[last] += 1e-7;
        assert!(frozen.check(&encoder).is_err());
    }
}
