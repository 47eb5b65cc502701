//! ResNet (He et al., 2016) with basic blocks, in torchvision's form and under its names.
//!
//! Stem, four stages of residual blocks, global average pool. The first block of a stage halves the map with its first
//! convolution (but in stage 1) and has a 1×1 convolution on its shortcut. The last batch norm of a block starts at
//! weight 1, not 0.

use smallfry::{
    Backbone, Context, Encoder, Head, Invalid,
    backbone::Preprocessing,
    executed::{Classifier, Executed},
    nn::{
        init::Init,
        network::{
            Activation::{self, Identity, Relu},
            Block, ConvNorm, Convolution, Network, Norm, Padding, Residual,
        },
    },
    plugin,
};

plugin! {
    /// ResNet-18: 11.2 million weights, 512 features
    pub struct ResNet18 as resnet18: Backbone {}

    fn build(self, _: &Context) -> Result<Box<dyn Backbone>, Invalid> {
        Ok(Box::new(ResNet { blocks: [2, 2, 2, 2] }))
    }
}

impl ResNet18 {
    /// The network without a head.
    pub fn network(&self) -> Network {
        ResNet {
            blocks: [2, 2, 2, 2],
        }
        .network()
    }
}

plugin! {
    /// ResNet-34: 21.3 million weights, 512 features
    pub struct ResNet34 as resnet34: Backbone {}

    fn build(self, _: &Context) -> Result<Box<dyn Backbone>, Invalid> {
        Ok(Box::new(ResNet { blocks: [3, 4, 6, 3] }))
    }
}

impl ResNet34 {
    /// The network without a head.
    pub fn network(&self) -> Network {
        ResNet {
            blocks: [3, 4, 6, 3],
        }
        .network()
    }
}

/// A member of the family.
struct ResNet {
    /// Number of blocks in each stage.
    blocks: [usize; 4],
}

/// Channels of the stem and of each stage.
const STAGES: [usize; 4] = [64, 128, 256, 512];

impl Backbone for ResNet {
    fn width(&self) -> usize {
        STAGES[3]
    }

    fn preprocessing(&self) -> Preprocessing {
        Preprocessing::IMAGENET
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        let fan_in = self.width();
        let classifier = Classifier {
            weight: Init::FanIn { fan_in },
            bias: Init::FanIn { fan_in },
        };
        Box::new(Executed::new(self.network(), classifier, head, seed))
    }
}

impl ResNet {
    fn network(&self) -> Network {
        let mut input = STAGES[0];
        let mut blocks = vec![
            Block::ConvNorm(conv_norm(
                ["conv1", "bn1"].map(str::to_owned),
                [3, input],
                [7, 2],
                Relu,
            )),
            Block::MaxPool {
                kernel: 3,
                stride: 2,
                padding: 1,
            },
        ];
        for (stage, (&output, &count)) in STAGES.iter().zip(&self.blocks).enumerate() {
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
                blocks.push(Block::Residual(Residual {
                    path: vec![
                        conv_norm(
                            [name("conv1"), name("bn1")],
                            [input, output],
                            [3, stride],
                            Relu,
                        ),
                        conv_norm(
                            [name("conv2"), name("bn2")],
                            [output, output],
                            [3, 1],
                            Identity,
                        ),
                    ],
                    downsample: (stride > 1 || input != output).then(|| {
                        conv_norm(
                            [name("downsample.0"), name("downsample.1")],
                            [input, output],
                            [1, stride],
                            Identity,
                        )
                    }),
                    activation: Relu,
                }));
                input = output;
            }
        }
        blocks.push(Block::GlobalAveragePool { dropout: 0.0 });
        Network { blocks }
    }
}

/// A convolution and its batch norm by their names; kernel and stride in one array.
fn conv_norm(
    [convolution, norm]: [String; 2],
    [input, output]: [usize; 2],
    [kernel, stride]: [usize; 2],
    activation: Activation,
) -> ConvNorm {
    ConvNorm {
        convolution: Convolution {
            name: convolution,
            input,
            output,
            kernel,
            stride,
            padding: Padding::even(kernel / 2),
            groups: 1,
            init: Init::FanOut,
        },
        norm: Norm::new(norm),
        activation,
    }
}

#[cfg(test)]
mod tests {
    use smallfry::nn::network::Role;

    use super::*;

    #[test]
    fn the_reference_s_numbers_of_weights() {
        for (blocks, expected) in [([2, 2, 2, 2], 11_176_512), ([3, 4, 6, 3], 21_284_672)] {
            let network = ResNet { blocks }.network();
            network.outputs(224, 224).unwrap();
            let tensors = network.tensors();
            let weights = tensors.iter().filter(|spec| spec.role == Role::Weight);
            assert_eq!(weights.map(|spec| spec.len()).sum::<usize>(), expected);
        }
    }
}
