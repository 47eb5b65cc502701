//! ResNet (He et al., 2016), ResNeXt and wide ResNets, in torchvision's form and under its names.
//!
//! Stem, four stages of residual blocks, global average pool. The first block of a stage halves the map (but in stage 1)
//! with its first 3×3 convolution: in a bottleneck that is the middle one, not the first 1×1 as in the paper. It has
//! a 1×1 convolution on its shortcut where the shortcut's size changes. The last batch norm of a block starts at weight
//! 1, not 0. Wide networks widen only the inside of their bottlenecks, so their features are as many as ResNet-50's.

use smallfry::{
    Backbone, Context, Encoder, Head, Invalid,
    backbone::Preprocessing,
    executed::{Classifier, Executed, with_head},
    nn::{
        init::Init,
        network::{
            Activation::{self, Identity, Relu},
            Block, ConvNorm, Convolution, Network, Norm, Padding, Residual,
        },
    },
    plugin,
};

/// A member of the family: its plugin and its trunk.
macro_rules! member {
    ($about:literal, $name:ident as $word:ident: $trunk:expr) => {
        plugin! {
            #[doc = $about]
            pub struct $name as $word: Backbone {
                /// Factor on the channel counts of the stages, above 0 and at most 8; the stem keeps its 64.
                width: f64 = 1.0,
            }

            fn build(self, _: &Context) -> Result<Box<dyn Backbone>, Invalid> {
                let network = ResNet(self.trunk());
                match self.width > 0.0 && self.width <= 8.0 && network.0.fits() {
                    true => Ok(Box::new(network)),
                    false => Err(Invalid::new(
                        "width",
                        "must be above 0, at most 8, and leave every group a channel",
                    )),
                }
            }
        }

        impl $name {
            /// The network without a head.
            pub fn network(&self) -> Network {
                self.trunk().network()
            }

            fn trunk(&self) -> Trunk {
                Trunk {
                    width: self.width,
                    ..$trunk
                }
            }
        }
    };
}

member!(" ResNet-18: 11.2 million weights, 512 features", ResNet18 as resnet18: Trunk::basic([2, 2, 2, 2]));
member!(" ResNet-34: 21.3 million weights, 512 features", ResNet34 as resnet34: Trunk::basic([3, 4, 6, 3]));
member!(" ResNet-50: 23.5 million weights, 2048 features", ResNet50 as resnet50: Trunk::RESNET_50);
member!(
    " ResNet-101: 42.5 million weights, 2048 features",
    ResNet101 as resnet101: Trunk::bottleneck([3, 4, 23, 3], 1, 64)
);
member!(
    " ResNet-152: 58.1 million weights, 2048 features",
    ResNet152 as resnet152: Trunk::bottleneck([3, 8, 36, 3], 1, 64)
);
member!(
    " ResNeXt-50, 32 groups of 4: 23.0 million weights, 2048 features",
    ResNeXt50 as resnext50_32x4d: Trunk::bottleneck([3, 4, 6, 3], 32, 4)
);
member!(
    " ResNeXt-101, 32 groups of 8: 86.7 million weights, 2048 features",
    ResNeXt101 as resnext101_32x8d: Trunk::bottleneck([3, 4, 23, 3], 32, 8)
);
member!(
    " ResNeXt-152, 32 groups of 8: 120.3 million weights, 2048 features",
    ResNeXt152 as resnext152_32x8d: Trunk::bottleneck([3, 8, 36, 3], 32, 8)
);
member!(
    " Wide ResNet-50: 66.8 million weights, 2048 features",
    WideResNet50 as wide_resnet50_2: Trunk::bottleneck([3, 4, 6, 3], 1, 128)
);
member!(
    " Wide ResNet-101: 124.8 million weights, 2048 features",
    WideResNet101 as wide_resnet101_2: Trunk::bottleneck([3, 4, 23, 3], 1, 128)
);

/// Channels of the stages of the narrowest network; those of a bottleneck's middle where it has groups of 64.
const STAGES: [usize; 4] = [64, 128, 256, 512];
/// Output channels of a bottleneck for each of its stage's.
const EXPANSION: usize = 4;

/// Everything before the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trunk {
    /// Number of blocks in each stage.
    pub blocks: [usize; 4],
    /// Blocks are bottlenecks of three convolutions; of two otherwise.
    pub bottleneck: bool,
    /// Groups of the middle convolution of a bottleneck.
    pub groups: usize,
    /// Channels of a group in the first stage.
    pub base: usize,
    /// Factor on the channels of the stages.
    pub width: f64,
    /// Channels of the stem.
    pub stem: usize,
    /// Before all names.
    pub prefix: &'static str,
}

impl Trunk {
    /// ResNet-50, which the teachers are made of.
    pub const RESNET_50: Self = Self::bottleneck([3, 4, 6, 3], 1, 64);

    const fn basic(blocks: [usize; 4]) -> Self {
        Self {
            bottleneck: false,
            ..Self::bottleneck(blocks, 1, 64)
        }
    }

    const fn bottleneck(blocks: [usize; 4], groups: usize, base: usize) -> Self {
        Self {
            blocks,
            bottleneck: true,
            groups,
            base,
            width: 1.0,
            stem: STAGES[0],
            prefix: "",
        }
    }

    /// Channels of a stage before expansion.
    fn planes(&self, stage: usize) -> usize {
        (STAGES[stage] as f64 * self.width) as usize
    }

    /// Channels of the middle of a bottleneck.
    fn inner(&self, stage: usize) -> usize {
        self.planes(stage) * self.base / STAGES[0] * self.groups
    }

    /// Whether every convolution has a channel.
    fn fits(&self) -> bool {
        self.planes(0) > 0 && self.inner(0) > 0
    }

    /// Width of the features.
    pub fn features(&self) -> usize {
        self.planes(3) * if self.bottleneck { EXPANSION } else { 1 }
    }

    /// How the layer `fc` starts.
    pub fn classifier(&self) -> Classifier {
        let default = Init::FanIn {
            fan_in: self.features(),
        };
        Classifier {
            weight: default,
            bias: default,
        }
    }

    /// The network without a head.
    pub fn network(&self) -> Network {
        let mut input = self.stem;
        let mut blocks = vec![
            Block::ConvNorm(self.conv_norm(["conv1", "bn1"], [3, input], [7, 2, 1], Relu)),
            Block::MaxPool {
                kernel: 3,
                stride: 2,
                padding: 1,
            },
        ];
        for (stage, &count) in self.blocks.iter().enumerate() {
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let residual = self.block(stage, block, input, stride);
                input = residual
                    .path
                    .last()
                    .map_or(input, |last| last.convolution.output);
                blocks.push(Block::Residual(residual));
            }
        }
        blocks.push(Block::GlobalAveragePool { dropout: 0.0 });
        Network { blocks }
    }

    fn block(&self, stage: usize, block: usize, input: usize, stride: usize) -> Residual {
        let part = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
        let unit = |number: usize, channels, shape, activation| {
            let names = [part(&format!("conv{number}")), part(&format!("bn{number}"))];
            self.conv_norm(
                names.each_ref().map(String::as_str),
                channels,
                shape,
                activation,
            )
        };
        let planes = self.planes(stage);
        let (path, output) = if self.bottleneck {
            let (inner, output) = (self.inner(stage), EXPANSION * planes);
            let path = vec![
                unit(1, [input, inner], [1, 1, 1], Relu),
                unit(2, [inner, inner], [3, stride, self.groups], Relu),
                unit(3, [inner, output], [1, 1, 1], Identity),
            ];
            (path, output)
        } else {
            let path = vec![
                unit(1, [input, planes], [3, stride, 1], Relu),
                unit(2, [planes, planes], [3, 1, 1], Identity),
            ];
            (path, planes)
        };
        // Later blocks have the size of the first one's output.
        let changes = block == 0 && (stride > 1 || input != output);
        Residual {
            path,
            downsample: changes.then(|| {
                let names = [part("downsample.0"), part("downsample.1")];
                self.conv_norm(
                    names.each_ref().map(String::as_str),
                    [input, output],
                    [1, stride, 1],
                    Identity,
                )
            }),
            activation: Relu,
        }
    }

    /// A convolution and its batch norm by their names; kernel, stride and groups in one array.
    fn conv_norm(
        &self,
        names: [&str; 2],
        [input, output]: [usize; 2],
        [kernel, stride, groups]: [usize; 3],
        activation: Activation,
    ) -> ConvNorm {
        let [convolution, norm] = names.map(|name| format!("{}{name}", self.prefix));
        ConvNorm {
            convolution: Convolution {
                name: convolution,
                input,
                output,
                kernel,
                stride,
                padding: Padding::even(kernel / 2),
                groups,
                init: Init::FanOut,
            },
            norm: Norm::new(norm),
            activation,
        }
    }
}

/// A member of the family.
struct ResNet(Trunk);

impl ResNet {
    fn with_head(&self, head: &Head) -> Network {
        with_head(self.0.network(), self.0.classifier(), head)
    }
}

impl Backbone for ResNet {
    fn width(&self) -> usize {
        self.0.features()
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
}

#[cfg(test)]
mod tests {
    use smallfry::Plugin;

    use super::*;

    #[test]
    fn a_block_changes_size_on_its_shortcut_only_where_the_path_does() {
        let shortcuts = |trunk: Trunk| -> Vec<bool> {
            let blocks = trunk.network().blocks;
            let shortcuts = blocks.iter().filter_map(|block| match block {
                Block::Residual(block) => Some(block.downsample.is_some()),
                _ => None,
            });
            shortcuts.collect()
        };
        assert_eq!(
            shortcuts(Trunk::basic([2, 2, 2, 2])),
            [false, false, true, false, true, false, true, false]
        );
        let bottlenecks = shortcuts(Trunk::RESNET_50);
        let with: Vec<_> = (0..16).filter(|i| bottlenecks[*i]).collect();
        assert_eq!(with, [0, 3, 7, 13]);
        // A narrow first stage no longer has the stem's channels.
        let narrow = Trunk {
            width: 0.5,
            ..Trunk::basic([2, 2, 2, 2])
        };
        assert!(shortcuts(narrow)[0]);
    }

    #[test]
    fn any_width_gives_a_network_or_a_refusal() {
        let here = Context {
            folder: ".".as_ref(),
        };
        for width in [0.02, 0.1, 0.37, 1.0, 2.5] {
            let basic = ResNet18 { width }
                .build(&here)
                .expect("one channel is left");
            let network = basic.network(&Head::default()).expect("it is described");
            assert_eq!(network.outputs(64, 64).map(|sizes| sizes.len()), Ok(11));
            assert_eq!(network.width(), basic.width());
        }
        // Groups of 4 · width channels.
        for width in [0.25, 0.5, 1.3] {
            let network = ResNeXt50 { width }.network();
            assert!(network.outputs(64, 64).is_ok(), "{width}");
        }
        for width in [0.0, -1.0, 9.0, f64::NAN, 0.2] {
            assert!(ResNeXt50 { width }.build(&here).is_err(), "{width}");
        }
    }
}
