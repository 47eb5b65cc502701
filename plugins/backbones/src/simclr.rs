//! SimCLR's ResNet-50 (Chen et al., 2020), as a teacher of SEED (Fang et al., 2021).
//!
//! All names begin with `module.`, since the reference keeps torchvision's network as a part called so. The projection
//! head belongs to the network: a teacher's embeddings are its output, divided by their length. What is published has
//! 128 of them.

use smallfry::{
    Backbone, Context, Encoder, Head, Invalid,
    backbone::{HeadLayer, Preprocessing},
    executed::{Executed, with_head},
    nn::network::{
        Activation::{Identity, Relu},
        Network,
    },
    plugin,
};

use crate::resnet::Trunk;

plugin! {
    /// SimCLR's ResNet-50 with its head: 28.0 million weights, 2048 features
    pub struct SimClrResNet50 as simclr_resnet50: Backbone {
        /// Width of the embeddings that its own head gives, above 0.
        output_dim: usize = 128,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Backbone>, Invalid> {
        match self.output_dim {
            0 => Err(Invalid::new("output_dim", "must be above 0")),
            _ => Ok(Box::new(self)),
        }
    }
}

/// The network without a head.
const TRUNK: Trunk = Trunk {
    prefix: "module.",
    ..Trunk::RESNET_50
};

impl SimClrResNet50 {
    fn with_head(head: &Head) -> Network {
        with_head(TRUNK.network(), TRUNK.classifier(), head)
    }
}

impl Backbone for SimClrResNet50 {
    fn width(&self) -> usize {
        TRUNK.features()
    }

    fn preprocessing(&self) -> Preprocessing {
        Preprocessing::IMAGENET
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        Box::new(Executed::of(Self::with_head(head), seed))
    }

    fn network(&self, head: &Head) -> Option<Network> {
        Some(Self::with_head(head))
    }

    fn own_head(&self) -> Option<Head> {
        Some(Head {
            layers: vec![
                HeadLayer {
                    name: "module.fc.0".into(),
                    output: TRUNK.features(),
                    norm: Some("module.fc.1".into()),
                    activation: Relu,
                    dropout: 0.0,
                    own_init: false,
                },
                HeadLayer {
                    name: "module.fc.3".into(),
                    output: self.output_dim,
                    norm: None,
                    activation: Identity,
                    dropout: 0.0,
                    own_init: false,
                },
            ],
            unit_length: true,
            ..Head::default()
        })
    }
}
