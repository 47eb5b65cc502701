//! `vit_tiny`, the small vision transformer of the reference of small contrastive models.
//!
//! Called DeiT-Tiny there, but it is not: it has six heads of 64 on a width of 192 (DeiT-Tiny has three), queries, keys
//! and values without bias, and the map from patches to tokens stays at its random start, which keeps contrastive training
//! stable (Chen et al., 2021, section 4.2). Its weights fit no other DeiT-Tiny.

use smallfry::{
    Backbone, Context, Encoder, Head, Invalid,
    backbone::Preprocessing,
    executed::{Classifier, Executed, with_head},
    nn::{
        init::Init,
        network::{
            Attention, Block, Hidden, LayerNorm, Network, PatchEmbedding, Tokens, TransformerLayer,
        },
    },
    plugin,
};

plugin! {
    /// ViT-Tiny with 6 heads of 64: 7.3 million weights, 192 features
    pub struct VitTiny as vit_tiny: Backbone {
        /// Dropout behind embedding, attention and hidden layers in training, at least 0 and below 1.
        dropout: f32 = 0.1,
        /// Side of the images in pixels, a multiple of 16; weights of another size have another table of positions.
        image: usize = 224,
        /// Whether the map from patches to tokens stays at its random start.
        frozen: bool = true,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Backbone>, Invalid> {
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Invalid::new("dropout", "must be at least 0 and below 1"));
        }
        if !(PATCH..=1024).contains(&self.image) || !self.image.is_multiple_of(PATCH) {
            return Err(Invalid::new("image", "must be a multiple of 16, at most 1024"));
        }
        Ok(Box::new(self))
    }
}

/// Side of a patch in pixels.
const PATCH: usize = 16;
/// Numbers of a token.
const WIDTH: usize = 192;
/// Number of layers.
const LAYERS: usize = 12;
/// Number of heads of a layer.
const HEADS: usize = 6;
/// Width of a head.
const HEAD_WIDTH: usize = 64;
/// Width of the hidden layer of the second part.
const HIDDEN: usize = 768;

impl VitTiny {
    /// The network without a head.
    pub fn network(&self) -> Network {
        let layer = |i: usize| {
            let name = |last: &str| format!("transformer.layers.{i}.{last}");
            Block::TransformerLayer(TransformerLayer {
                attention: Attention {
                    norm: LayerNorm::new(name("0.norm"), WIDTH),
                    qkv: name("0.fn.to_qkv"),
                    output: name("0.fn.to_out.0"),
                    heads: HEADS,
                    head_width: HEAD_WIDTH,
                },
                hidden: Hidden {
                    norm: LayerNorm::new(name("1.norm"), WIDTH),
                    expand: name("1.fn.net.0"),
                    project: name("1.fn.net.3"),
                    width: HIDDEN,
                },
                dropout: self.dropout,
                // The features are the class token's, so the last layer has no use for the others' outputs.
                tokens: if i + 1 < LAYERS {
                    Tokens::All
                } else {
                    Tokens::First
                },
            })
        };
        let mut blocks = vec![Block::PatchEmbedding(PatchEmbedding {
            projection: "to_patch_embedding.1".into(),
            positions: "pos_embedding".into(),
            class_token: "cls_token".into(),
            image: self.image,
            patch: PATCH,
            width: WIDTH,
            dropout: self.dropout,
            frozen: self.frozen,
        })];
        blocks.extend((0..LAYERS).map(layer));
        blocks.push(Block::LayerNorm(LayerNorm::new("mlp_head.0", WIDTH)));
        Network { blocks }
    }
}

impl Backbone for VitTiny {
    fn width(&self) -> usize {
        WIDTH
    }

    fn preprocessing(&self) -> Preprocessing {
        let standard = Preprocessing::IMAGENET;
        Preprocessing {
            size: self.image,
            resize: self.image * standard.resize / standard.size,
            ..standard
        }
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        Box::new(Executed::new(self.network(), CLASSIFIER, head, seed))
    }

    fn network(&self, head: &Head) -> Option<Network> {
        Some(with_head(self.network(), CLASSIFIER, head))
    }
}

/// How the layer `fc` starts: as PyTorch's layers do.
const CLASSIFIER: Classifier = Classifier {
    weight: Init::FanIn { fan_in: WIDTH },
    bias: Init::FanIn { fan_in: WIDTH },
};

#[cfg(test)]
mod tests {
    use smallfry::nn::network::Role;

    use super::*;

    #[test]
    fn the_reference_s_numbers_of_weights() {
        let network = VitTiny::default().network();
        network.outputs(224, 224).unwrap();
        let tensors = network.tensors();
        let count = |role| -> usize {
            let of_role = tensors.iter().filter(|spec| spec.role == role);
            of_role.map(|spec| spec.len()).sum()
        };
        assert_eq!(count(Role::Frozen), 768 * 192 + 192);
        assert_eq!(count(Role::Weight) + count(Role::Frozen), 7_286_976);
        assert_eq!(count(Role::Weight), 7_332_328 - 192_000 - 1000);
        assert_eq!(tensors.len(), 138);
    }

    #[test]
    fn images_may_be_of_other_sizes_than_the_reference_s() {
        let small = VitTiny {
            image: 96,
            ..Default::default()
        };
        let network = small.network();
        assert!(network.outputs(96, 96).is_ok());
        assert!(network.outputs(224, 224).is_err());
        assert_eq!(network.tensors()[0].shape, [1, 37, 192]);
        assert_eq!(small.preprocessing().resize, 109);
    }
}
