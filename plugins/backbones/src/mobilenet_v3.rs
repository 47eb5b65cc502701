//! MobileNetV3 (Howard et al., 2019, tables 1 and 2), as the reference of small contrastive models has it.
//!
//! What differs from torchvision's: the squeeze-excite layers are linear and a quarter of the hidden width, squeeze-excite
//! acts before the activation (after it in a block that does not expand), the layer called `classifier` belongs to the
//! backbone, and every convolution starts with deviation √(2 / (k² · outputs)), depthwise ones included.

use smallfry::{
    Backbone, Context, Encoder, Head, Invalid,
    backbone::Preprocessing,
    executed::{Classifier, Executed, with_head},
    nn::{
        init::Init,
        network::{
            Activation::{self, HardSwish, Identity, Relu},
            Block, ConvNorm, Convolution, Gate, InvertedResidual, Linear, Network, Norm, Padding,
            SqueezeExcite,
        },
    },
    plugin,
};

plugin! {
    /// MobileNetV3-Small: 1.5 million weights, 1024 features
    pub struct MobileNetV3Small as mobilenetv3_small: Backbone {
        /// Factor on all channel counts, above 0.
        width: f64 = 1.0,
        /// Dropout of the features in training, at least 0 and below 1.
        dropout: f32 = 0.2,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Backbone>, Invalid> {
        self.member().checked()
    }
}

impl MobileNetV3Small {
    /// The network without a head.
    pub fn network(&self) -> Network {
        self.member().body()
    }

    fn member(&self) -> MobileNetV3 {
        MobileNetV3 {
            architecture: SMALL,
            width: self.width,
            dropout: self.dropout,
        }
    }
}

plugin! {
    /// MobileNetV3-Large: 4.2 million weights, 1280 features
    pub struct MobileNetV3Large as mobilenetv3_large: Backbone {
        /// Factor on all channel counts, above 0.
        width: f64 = 1.0,
        /// Dropout of the features in training, at least 0 and below 1.
        dropout: f32 = 0.2,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Backbone>, Invalid> {
        self.member().checked()
    }
}

impl MobileNetV3Large {
    /// The network without a head.
    pub fn network(&self) -> Network {
        self.member().body()
    }

    fn member(&self) -> MobileNetV3 {
        MobileNetV3 {
            architecture: LARGE,
            width: self.width,
            dropout: self.dropout,
        }
    }
}

/// One block: side of the depthwise kernel, expansion of the input width, output channels, whether it gates channels by
/// squeeze-excite, activation, stride.
type Row = (usize, f64, usize, bool, Activation, usize);

/// A member of the family.
#[derive(Clone, Copy, Debug)]
struct Architecture {
    blocks: &'static [Row],
    features: usize,
}

const SMALL: Architecture = Architecture {
    blocks: &[
        (3, 1.0, 16, true, Relu, 2),
        (3, 4.5, 24, false, Relu, 2),
        (3, 3.67, 24, false, Relu, 1),
        (5, 4.0, 40, true, HardSwish, 2),
        (5, 6.0, 40, true, HardSwish, 1),
        (5, 6.0, 40, true, HardSwish, 1),
        (5, 3.0, 48, true, HardSwish, 1),
        (5, 3.0, 48, true, HardSwish, 1),
        (5, 6.0, 96, true, HardSwish, 2),
        (5, 6.0, 96, true, HardSwish, 1),
        (5, 6.0, 96, true, HardSwish, 1),
    ],
    features: 1024,
};

const LARGE: Architecture = Architecture {
    blocks: &[
        (3, 1.0, 16, false, Relu, 1),
        (3, 4.0, 24, false, Relu, 2),
        (3, 3.0, 24, false, Relu, 1),
        (5, 3.0, 40, true, Relu, 2),
        (5, 3.0, 40, true, Relu, 1),
        (5, 3.0, 40, true, Relu, 1),
        (3, 6.0, 80, false, HardSwish, 2),
        (3, 2.5, 80, false, HardSwish, 1),
        (3, 2.3, 80, false, HardSwish, 1),
        (3, 2.3, 80, false, HardSwish, 1),
        (3, 6.0, 112, true, HardSwish, 1),
        (3, 6.0, 112, true, HardSwish, 1),
        (5, 6.0, 160, true, HardSwish, 2),
        (5, 6.0, 160, true, HardSwish, 1),
        (5, 6.0, 160, true, HardSwish, 1),
    ],
    features: 1280,
};

/// Channels of the stem.
const STEM: usize = 16;

/// A member of the family with its parameters.
struct MobileNetV3 {
    architecture: Architecture,
    width: f64,
    dropout: f32,
}

impl Backbone for MobileNetV3 {
    fn width(&self) -> usize {
        // A narrow network keeps the full width of its features, as in the paper.
        match self.architecture.features {
            features if self.width > 1.0 => rounded(features as f64 * self.width),
            features => features,
        }
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

/// How the weights of all linear layers start.
const LINEAR: Init = Init::Normal(0.01);
/// How all biases start.
const ZERO: Init = Init::Constant(0.0);

impl MobileNetV3 {
    fn checked(self) -> Result<Box<dyn Backbone>, Invalid> {
        if !(self.width > 0.0 && self.width <= 8.0) {
            return Err(Invalid::new("width", "must be above 0 and at most 8"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Invalid::new("dropout", "must be at least 0 and below 1"));
        }
        Ok(Box::new(self))
    }

    fn with_head(&self, head: &Head) -> Network {
        let classifier = Classifier {
            weight: LINEAR,
            bias: ZERO,
        };
        with_head(self.body(), classifier, head)
    }

    fn body(&self) -> Network {
        let mut input = rounded(STEM as f64 * self.width);
        let mut blocks = vec![Block::ConvNorm(conv_norm(
            ["features.0.0", "features.0.1"].map(str::to_owned),
            [3, input],
            [3, 2, 1],
            HardSwish,
        ))];
        let mut hidden = input;
        for (i, &(kernel, expansion, output, gates, activation, stride)) in
            self.architecture.blocks.iter().enumerate()
        {
            let output = rounded(output as f64 * self.width);
            hidden = rounded(input as f64 * expansion);
            let name = |slot: usize| format!("features.{}.conv.{slot}", i + 1);
            // Without expansion the depthwise part starts at slot 0, and the activation comes before squeeze-excite.
            let expands = hidden != input;
            let slots = if expands { [3, 5, 7] } else { [0, 3, 4] };
            let [depthwise, gate, project] = slots;
            blocks.push(Block::InvertedResidual(InvertedResidual {
                expand: expands
                    .then(|| conv_norm([name(0), name(1)], [input, hidden], [1, 1, 1], activation)),
                depthwise: conv_norm(
                    [name(depthwise), name(depthwise + 1)],
                    [hidden, hidden],
                    [kernel, stride, hidden],
                    activation,
                ),
                squeeze_excite: gates.then(|| SqueezeExcite {
                    reduce: format!("{}.fc.0", name(gate)),
                    expand: format!("{}.fc.2", name(gate)),
                    width: rounded((hidden / 4) as f64),
                    activation: Relu,
                    gate: Gate::HardSigmoid,
                    convolutional: false,
                    after_activation: !expands,
                    init: LINEAR,
                    bias_init: ZERO,
                }),
                project: conv_norm(
                    [name(project), name(project + 1)],
                    [hidden, output],
                    [1, 1, 1],
                    Identity,
                ),
                shortcut: stride == 1 && input == output,
                drop_connect: 0.0,
            }));
            input = output;
        }
        blocks.extend([
            Block::ConvNorm(conv_norm(
                ["conv.0", "conv.1"].map(str::to_owned),
                [input, hidden],
                [1, 1, 1],
                HardSwish,
            )),
            Block::GlobalAveragePool { dropout: 0.0 },
            Block::Linear(Linear {
                name: "classifier.0".into(),
                input: hidden,
                output: self.width(),
                bias: true,
                activation: HardSwish,
                dropout: self.dropout,
                init: LINEAR,
                bias_init: ZERO,
            }),
        ]);
        Network { blocks }
    }
}

/// A convolution and its batch norm by their names; kernel, stride and groups in one array.
fn conv_norm(
    [convolution, norm]: [String; 2],
    [input, output]: [usize; 2],
    [kernel, stride, groups]: [usize; 3],
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
            groups,
            init: Init::FanOut,
        },
        norm: Norm::new(norm),
        activation,
    }
}

/// The nearest multiple of 8, at least 8 and never below 90 % of `channels`.
fn rounded(channels: f64) -> usize {
    let near = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (near as f64) < 0.9 * channels {
        near + 8
    } else {
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(architecture: Architecture, width: f64) -> usize {
        let network = MobileNetV3 {
            architecture,
            width,
            dropout: 0.2,
        }
        .body();
        network.outputs(224, 224).unwrap();
        let tensors = network.tensors();
        tensors
            .iter()
            .filter(|spec| spec.role == smallfry::nn::network::Role::Weight)
            .map(|spec| spec.len())
            .sum()
    }

    #[test]
    fn the_reference_s_numbers_of_weights() {
        assert_eq!(weights(SMALL, 1.0), 1_517_856);
        assert_eq!(weights(LARGE, 1.0), 4_202_032);
    }

    #[test]
    fn any_width_gives_a_network() {
        let sizes = [0.1, 0.35, 0.75, 1.0, 1.25, 2.0].map(|width| weights(SMALL, width));
        assert!(sizes.is_sorted());
        for width in [0.5, 1.5] {
            weights(LARGE, width);
        }
    }

    #[test]
    fn channels_round_as_in_the_reference() {
        for (channels, expected) in [
            (72.0, 72),
            (88.08, 88),
            (4.0, 8),
            (18.0, 24),
            (60.0, 64),
            (20.0, 24),
        ] {
            assert_eq!(rounded(channels), expected, "{channels}");
        }
    }
}
