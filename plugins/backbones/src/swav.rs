//! SwAV's ResNet-50 of four widths (Caron et al., 2020), as a teacher of SEED (Fang et al., 2021).
//!
//! Unlike other wide ResNets these widen the stem as well, and their features. The projection head belongs to
//! the network: a teacher's embeddings are its output, divided by their length. Prototypes are weights of a published file
//! that SEED has no use for; with `prototypes` they are kept, so that such a file fits as a whole.

use smallfry::{
    Backbone, Context, Encoder, Head, Invalid,
    backbone::{HeadLayer, Preprocessing},
    executed::{Executed, with_head},
    nn::{
        init::Init,
        network::{
            Activation::{Identity, Relu},
            Network, Role, Spec,
        },
    },
    plugin,
};

use crate::resnet::Trunk;

/// A member of the family: its plugin, its width and the hidden width of its head.
macro_rules! member {
    ($about:literal, $name:ident as $word:ident: $width:literal, $hidden:literal) => {
        plugin! {
            #[doc = $about]
            pub struct $name as $word: Backbone {
                /// Width of the embeddings that its own head gives; with 0 it has no head.
                output_dim: usize = 128,
                /// Width between the two layers of the head; with 0 the head is one layer.
                hidden_mlp: usize = $hidden,
                /// Batch norm after the first of the two layers; the published network of width 5 has none.
                batch_norm: bool = $width != 5,
                /// Embeddings are divided by their length.
                normalize: bool = true,
                /// How many prototypes the weights hold: one number, or one for each of several sets. They are kept but
                /// not computed with.
                prototypes: Vec<usize> = vec![],
            }

            fn build(self, _: &Context) -> Result<Box<dyn Backbone>, Invalid> {
                Swav {
                    width: $width,
                    output: self.output_dim,
                    hidden: self.hidden_mlp,
                    batch_norm: self.batch_norm,
                    normalize: self.normalize,
                    prototypes: self.prototypes,
                }
                .checked()
            }
        }
    };
}

member!(" SwAV's ResNet-50 with its head: 28.0 million weights, 2048 features", SwavResNet50 as swav_resnet50: 1, 2048);
member!(
    " SwAV's ResNet-50 of twice the width with its head: 128.5 million weights, 4096 features",
    SwavResNet50W2 as swav_resnet50w2: 2, 8192
);
member!(
    " SwAV's ResNet-50 of 4 times the width with its head: 443.6 million weights, 8192 features",
    SwavResNet50W4 as swav_resnet50w4: 4, 8192
);
member!(
    " SwAV's ResNet-50 of 5 times the width with its head: 692.6 million weights, 10240 features",
    SwavResNet50W5 as swav_resnet50w5: 5, 10240
);

/// A member of the family with its parameters.
#[derive(Clone, Debug)]
struct Swav {
    width: usize,
    output: usize,
    hidden: usize,
    batch_norm: bool,
    normalize: bool,
    prototypes: Vec<usize>,
}

impl Swav {
    fn checked(self) -> Result<Box<dyn Backbone>, Invalid> {
        if self.prototypes.contains(&0) {
            return Err(Invalid::new("prototypes", "must be above 0"));
        }
        if self.output == 0 && !self.prototypes.is_empty() {
            return Err(
                Invalid::new("prototypes", "need a head").help("give `output_dim` a width above 0")
            );
        }
        Ok(Box::new(self))
    }

    fn trunk(&self) -> Trunk {
        Trunk {
            width: self.width as f64,
            stem: self.width * Trunk::RESNET_50.stem,
            ..Trunk::RESNET_50
        }
    }

    fn with_head(&self, head: &Head) -> Network {
        let trunk = self.trunk();
        with_head(trunk.network(), trunk.classifier(), head)
    }

    /// The prototypes; several sets are numbered.
    fn kept(&self) -> Vec<Spec> {
        let width = self.output;
        let named = |name: String, count: usize| Spec {
            name,
            shape: vec![count, width],
            role: Role::Frozen,
            init: Init::FanIn { fan_in: width },
        };
        match *self.prototypes {
            [count] => vec![named("prototypes.weight".into(), count)],
            _ => {
                let sets = self.prototypes.iter().enumerate();
                sets.map(|(i, &count)| named(format!("prototypes.prototypes{i}.weight"), count))
                    .collect()
            }
        }
    }
}

impl Backbone for Swav {
    fn width(&self) -> usize {
        self.trunk().features()
    }

    fn preprocessing(&self) -> Preprocessing {
        Preprocessing::IMAGENET
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        Box::new(Executed::of(self.with_head(head), seed))
    }

    fn network(&self, head: &Head) -> Option<Network> {
        Some(self.with_head(head))
    }

    fn own_head(&self) -> Option<Head> {
        let layer = |name: &str, output, activation| HeadLayer {
            name: name.into(),
            output,
            norm: None,
            activation,
            dropout: 0.0,
            own_init: false,
        };
        let layers = match (self.output, self.hidden) {
            (0, _) => Vec::new(),
            (output, 0) => vec![layer("projection_head", output, Identity)],
            (output, hidden) => {
                let mut first = layer("projection_head.0", hidden, Relu);
                let last = if self.batch_norm {
                    first.norm = Some("projection_head.1".into());
                    "projection_head.3"
                } else {
                    "projection_head.2"
                };
                vec![first, layer(last, output, Identity)]
            }
        };
        Some(Head {
            layers,
            unit_length: self.normalize,
            kept: self.kept(),
        })
    }
}
