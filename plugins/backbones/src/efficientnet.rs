//! EfficientNet (Tan and Le, 2019) in the form of the reference, a port of the original with its names, and the Lite0
//! network for mobile processors.
//!
//! What a newcomer gets wrong: padding is TensorFlow's, uneven where the stride is 2, and worked out once for the size
//! that the network was designed for, even when images have another; squeeze-excite is a quarter of the width of the
//! block's input, not of its hidden layer; batch norm has epsilon 1e-3 and moves its statistics by 1 % a batch; weights
//! start uniformly, as PyTorch's layers do.

use smallfry::{
    Backbone, Context, Encoder, Head, Invalid,
    backbone::Preprocessing,
    executed::{Classifier, Executed, with_head},
    nn::{
        init::Init,
        network::{
            Activation::{self, Identity, Relu6, Swish},
            Block, ConvNorm, Convolution, Gate, InvertedResidual, Network, Norm, Padding,
            SqueezeExcite,
        },
    },
    plugin,
};

/// A member of the family: its plugin, and the factors that make it of the base network.
macro_rules! member {
    (
        $about:literal, $name:ident as $word:ident:
        width $width:literal, depth $depth:literal, native $native:literal, dropout $dropout:literal, $kind:expr
    ) => {
        plugin! {
            #[doc = $about]
            pub struct $name as $word: Backbone {
                /// Factor on the channel counts, above 0 and at most 8.
                width: f64 = $width,
                /// Factor on the number of blocks in each stage, above 0 and at most 8.
                depth: f64 = $depth,
                /// Dropout of the features in training, at least 0 and below 1.
                dropout: f32 = $dropout,
                /// Probability that a sample skips the last block in training; it rises to this from 0 at the first
                /// block. At least 0 and below 1.
                drop_connect: f32 = 0.2,
            }

            fn build(self, _: &Context) -> Result<Box<dyn Backbone>, Invalid> {
                self.member().checked()
            }
        }

        impl $name {
            /// The network without a head.
            pub fn network(&self) -> Network {
                self.member().body()
            }

            fn member(&self) -> EfficientNet {
                EfficientNet {
                    kind: $kind,
                    native: $native,
                    width: self.width,
                    depth: self.depth,
                    dropout: self.dropout,
                    drop_connect: self.drop_connect,
                }
            }
        }
    };
}

member!(
    " EfficientNet-B0: 4.0 million weights, 1280 features",
    EfficientNetB0 as efficientnet_b0: width 1.0, depth 1.0, native 224, dropout 0.2, Kind::Full
);
member!(
    " EfficientNet-B1: 6.5 million weights, 1280 features",
    EfficientNetB1 as efficientnet_b1: width 1.0, depth 1.1, native 240, dropout 0.2, Kind::Full
);
member!(
    " EfficientNet-B2: 7.7 million weights, 1408 features",
    EfficientNetB2 as efficientnet_b2: width 1.1, depth 1.2, native 260, dropout 0.3, Kind::Full
);
member!(
    " EfficientNet-B3: 10.7 million weights, 1536 features",
    EfficientNetB3 as efficientnet_b3: width 1.2, depth 1.4, native 300, dropout 0.3, Kind::Full
);
member!(
    " EfficientNet-Lite0, without squeeze-excite: 3.4 million weights, 1280 features",
    EfficientNetLite0 as efficientnet_lite0: width 1.0, depth 1.0, native 224, dropout 0.2, Kind::Lite
);

/// Which blocks a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Swish and squeeze-excite.
    Full,
    /// ReLU6 and no squeeze-excite, for processors that compute in integers.
    Lite,
}

/// One stage: blocks, side of the depthwise kernel, stride of the first block, expansion of the input width, output
/// channels.
type Row = (usize, usize, usize, usize, usize);

/// The stages of the base network (table 1 of the paper).
const STAGES: [Row; 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];
/// Channels of the stem and of the last convolution.
const STEM: usize = 32;
const FEATURES: usize = 1280;
/// Squeeze-excite has a hidden layer of this share of the block's input.
const SQUEEZE: f64 = 0.25;
/// The largest factor on width or depth.
const MOST: f64 = 8.0;

/// A member of the family with its parameters.
#[derive(Clone, Copy, Debug)]
struct EfficientNet {
    kind: Kind,
    /// Side in pixels of the images that padding is worked out for.
    native: usize,
    width: f64,
    depth: f64,
    dropout: f32,
    drop_connect: f32,
}

impl Backbone for EfficientNet {
    fn width(&self) -> usize {
        self.channels(FEATURES)
    }

    fn preprocessing(&self) -> Preprocessing {
        match self.kind {
            // The project feeds all members 224 pixels, whatever their native size.
            Kind::Full => Preprocessing::IMAGENET,
            // (pixel − 127) / 128, on the scale where 255 is 1.
            Kind::Lite => Preprocessing {
                bicubic: true,
                mean: [127.0 / 255.0; 3],
                deviation: [128.0 / 255.0; 3],
                ..Preprocessing::IMAGENET
            },
        }
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        Box::new(Executed::of(self.with_head(head), seed))
    }

    fn network(&self, head: &Head) -> Option<Network> {
        Some(self.with_head(head))
    }
}

impl EfficientNet {
    fn checked(self) -> Result<Box<dyn Backbone>, Invalid> {
        for (name, factor) in [("width", self.width), ("depth", self.depth)] {
            if !(factor > 0.0 && factor <= MOST) {
                return Err(Invalid::new(name, "must be above 0 and at most 8"));
            }
        }
        for (name, p) in [
            ("dropout", self.dropout),
            ("drop_connect", self.drop_connect),
        ] {
            if !(0.0..1.0).contains(&p) {
                return Err(Invalid::new(name, "must be at least 0 and below 1"));
            }
        }
        Ok(Box::new(self))
    }

    fn with_head(&self, head: &Head) -> Network {
        let default = Init::FanIn {
            fan_in: self.width(),
        };
        let classifier = Classifier {
            weight: default,
            bias: default,
        };
        with_head(self.body(), classifier, head)
    }

    /// The scaled number of channels: the nearest multiple of 8, at least 8 and never below 90 % of the exact one.
    fn channels(&self, base: usize) -> usize {
        let exact = base as f64 * self.width;
        let near = ((exact + 4.0) as usize / 8 * 8).max(8);
        if (near as f64) < 0.9 * exact {
            near + 8
        } else {
            near
        }
    }

    fn repeats(&self, base: usize) -> usize {
        (base as f64 * self.depth).ceil() as usize
    }

    fn body(&self) -> Network {
        let activation = match self.kind {
            Kind::Full => Swish,
            Kind::Lite => Relu6,
        };
        let count: usize = STAGES.iter().map(|stage| self.repeats(stage.0)).sum();
        let mut side = self.native;
        let mut input = self.channels(STEM);
        let mut blocks = vec![Block::ConvNorm(conv_norm(
            ["_conv_stem", "_bn0"].map(str::to_owned),
            [3, input],
            [3, 2, 1],
            &mut side,
            activation,
        ))];
        for (repeats, kernel, first_stride, expansion, output) in STAGES {
            let output = self.channels(output);
            for repeat in 0..self.repeats(repeats) {
                let position = blocks.len() - 1;
                let stride = if repeat == 0 { first_stride } else { 1 };
                // The first block of a stage has no shortcut, even where it would fit.
                let shortcut = repeat > 0;
                let share = position as f64 / count as f64;
                blocks.push(Block::InvertedResidual(InvertedResidual {
                    shortcut,
                    drop_connect: if shortcut {
                        (f64::from(self.drop_connect) * share) as f32
                    } else {
                        0.0
                    },
                    ..self.block(
                        position,
                        [input, output],
                        expansion,
                        [kernel, stride],
                        &mut side,
                    )
                }));
                input = output;
            }
        }
        blocks.extend([
            Block::ConvNorm(conv_norm(
                ["_conv_head", "_bn1"].map(str::to_owned),
                [input, self.width()],
                [1, 1, 1],
                &mut side,
                activation,
            )),
            Block::GlobalAveragePool {
                dropout: self.dropout,
            },
        ]);
        Network { blocks }
    }

    /// The block at `position` without its shortcut; `side` goes from its input's to its output's.
    fn block(
        &self,
        position: usize,
        [input, output]: [usize; 2],
        expansion: usize,
        [kernel, stride]: [usize; 2],
        side: &mut usize,
    ) -> InvertedResidual {
        let (activation, gates) = match self.kind {
            Kind::Full => (Swish, true),
            Kind::Lite => (Relu6, false),
        };
        let hidden = input * expansion;
        let name = |part: &str| format!("_blocks.{position}.{part}");
        // Each of the two layers gets its own fan-in from the executor.
        let rule = Init::FanIn { fan_in: hidden };
        InvertedResidual {
            expand: (expansion > 1).then(|| {
                conv_norm(
                    [name("_expand_conv"), name("_bn0")],
                    [input, hidden],
                    [1, 1, 1],
                    side,
                    activation,
                )
            }),
            depthwise: conv_norm(
                [name("_depthwise_conv"), name("_bn1")],
                [hidden, hidden],
                [kernel, stride, hidden],
                side,
                activation,
            ),
            squeeze_excite: gates.then(|| SqueezeExcite {
                reduce: name("_se_reduce"),
                expand: name("_se_expand"),
                width: ((input as f64 * SQUEEZE) as usize).max(1),
                activation: Swish,
                gate: Gate::Sigmoid,
                convolutional: true,
                after_activation: true,
                init: rule,
                bias_init: rule,
            }),
            project: conv_norm(
                [name("_project_conv"), name("_bn2")],
                [hidden, output],
                [1, 1, 1],
                side,
                Identity,
            ),
            shortcut: false,
            drop_connect: 0.0,
        }
    }
}

/// A convolution and its batch norm by their names; kernel, stride and groups in one array. `side` goes from its
/// input's to its output's.
fn conv_norm(
    [convolution, norm]: [String; 2],
    [input, output]: [usize; 2],
    [kernel, stride, groups]: [usize; 3],
    side: &mut usize,
    activation: Activation,
) -> ConvNorm {
    let padding = same_padding(*side, kernel, stride);
    *side = side.div_ceil(stride);
    ConvNorm {
        convolution: Convolution {
            name: convolution,
            input,
            output,
            kernel,
            stride,
            padding,
            groups,
            init: Init::FanIn {
                fan_in: input / groups * kernel * kernel,
            },
        },
        norm: Norm {
            name: norm,
            epsilon: 1e-3,
            momentum: 0.01,
        },
        activation,
    }
}

/// TensorFlow's padding `SAME` for images of `side` pixels: an odd pixel goes to the right and below.
fn same_padding(side: usize, kernel: usize, stride: usize) -> Padding {
    let outputs = side.div_ceil(stride);
    let total = ((outputs - 1) * stride + kernel).saturating_sub(side);
    let (before, after) = (total / 2, total - total / 2);
    Padding {
        top: before,
        left: before,
        bottom: after,
        right: after,
    }
}
