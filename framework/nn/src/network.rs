//! What a network is made of: blocks with the parameter names of the reference state dicts.
//!
//! A description is plain data. Names are the dotted paths of the reference implementations, so a reference checkpoint
//! loads without a table, and [`Network::tensors`] lists the entries in the order of the reference state dict.

mod check;
mod tensors;
mod transformer;
mod work;

pub use check::Impossible;
pub use transformer::{Attention, Hidden, LayerNorm, PatchEmbedding, Tokens, TransformerLayer};
pub use work::Work;

use crate::init::Init;

/// A pointwise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x.
    Identity,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// x · min(max(x + 3, 0), 6) / 6 (MobileNetV3, equation 1).
    HardSwish,
    /// x · sigmoid(x).
    Swish,
}

/// The function that turns squeeze-excite's output into a factor between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// min(max(x + 3, 0), 6) / 6.
    HardSigmoid,
    /// 1 / (1 + exp(−x)).
    Sigmoid,
}

/// Zero padding in pixels; EfficientNet pads unevenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same padding on all four sides.
    pub const fn even(pixels: usize) -> Self {
        Self {
            top: pixels,
            left: pixels,
            bottom: pixels,
            right: pixels,
        }
    }
}

/// Batch normalisation of the channels of the tensor before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Prefix of `weight`, `bias`, `running_mean`, `running_var`, `num_batches_tracked`.
    pub name: String,
    /// Added to the variance.
    pub epsilon: f32,
    /// Share of the new batch in the running statistics.
    pub momentum: f32,
}

impl Norm {
    /// PyTorch's defaults: epsilon 1e-5, momentum 0.1.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            epsilon: 1e-5,
            momentum: 0.1,
        }
    }
}

/// A bias-free two-dimensional convolution; its weight is `[output, input / groups, kernel, kernel]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Convolution {
    /// Prefix of `weight`.
    pub name: String,
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Step in both directions.
    pub stride: usize,
    /// Zero padding.
    pub padding: Padding,
    /// Groups; equal to `input` for a depthwise convolution.
    pub groups: usize,
    /// How the weight starts.
    pub init: Init,
}

/// A convolution, its batch norm and its activation.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvNorm {
    /// The convolution.
    pub convolution: Convolution,
    /// The batch norm after it.
    pub norm: Norm,
    /// The activation after that.
    pub activation: Activation,
}

/// Channel gating by two fully connected layers on the global average.
#[derive(Clone, Debug, PartialEq)]
pub struct SqueezeExcite {
    /// Prefix of the first layer's `weight` and `bias`.
    pub reduce: String,
    /// Prefix of the second layer's `weight` and `bias`.
    pub expand: String,
    /// Width between the two layers.
    pub width: usize,
    /// Activation between the two layers.
    pub activation: Activation,
    /// The gate after the second layer.
    pub gate: Gate,
    /// The weights are 1×1 convolutions (four dimensions) instead of linear layers (two).
    pub convolutional: bool,
    /// The gate acts after the depthwise activation (before it otherwise).
    pub after_activation: bool,
    /// How weights and biases start.
    pub init: Init,
    /// How the biases start.
    pub bias_init: Init,
}

/// MobileNet's block: expand 1×1, depthwise k×k, squeeze-excite, project 1×1, shortcut.
#[derive(Clone, Debug, PartialEq)]
pub struct InvertedResidual {
    /// The 1×1 convolution that widens, absent where the block does not expand.
    pub expand: Option<ConvNorm>,
    /// The depthwise convolution.
    pub depthwise: ConvNorm,
    /// Gating of the hidden channels.
    pub squeeze_excite: Option<SqueezeExcite>,
    /// The 1×1 convolution that narrows; without activation.
    pub project: ConvNorm,
    /// The input is added to the output.
    pub shortcut: bool,
    /// Probability that a sample skips the block in training (stochastic depth); only with a shortcut.
    pub drop_connect: f32,
}

/// ResNet's block: convolutions on the main path, a shortcut, an addition and a ReLU.
#[derive(Clone, Debug, PartialEq)]
pub struct Residual {
    /// The main path, in order; the last has [`Activation::Identity`].
    pub path: Vec<ConvNorm>,
    /// The 1×1 convolution of the shortcut; none is the identity.
    pub downsample: Option<ConvNorm>,
    /// The activation after the addition.
    pub activation: Activation,
}

/// A fully connected layer on `[batch, input]`; its weight is `[output, input]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Prefix of `weight` and `bias`.
    pub name: String,
    /// Input width.
    pub input: usize,
    /// Output width.
    pub output: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// The activation after it.
    pub activation: Activation,
    /// Probability of zeroing an output in training.
    pub dropout: f32,
    /// How the weight starts.
    pub init: Init,
    /// How the bias starts.
    pub bias_init: Init,
}

/// Batch normalisation of rows, and the activation after it.
#[derive(Clone, Debug, PartialEq)]
pub struct RowNorm {
    /// The batch norm.
    pub norm: Norm,
    /// Width of the rows.
    pub channels: usize,
    /// The activation after it.
    pub activation: Activation,
}

/// One step of a network.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a network has a few dozen of them, made once"
)]
pub enum Block {
    /// Convolution, batch norm, activation.
    ConvNorm(ConvNorm),
    /// MobileNet's block.
    InvertedResidual(InvertedResidual),
    /// ResNet's block.
    Residual(Residual),
    /// Maximum over a window; padding counts as minus infinity.
    MaxPool {
        /// Side of the window.
        kernel: usize,
        /// Step in both directions.
        stride: usize,
        /// Padding on all sides.
        padding: usize,
    },
    /// Mean over all pixels: `[batch, height, width, channels]` to `[batch, channels]`.
    GlobalAveragePool {
        /// Probability of zeroing a channel of a sample in training, after the mean.
        dropout: f32,
    },
    /// A fully connected layer.
    Linear(Linear),
    /// Batch normalisation of rows.
    RowNorm(RowNorm),
    /// Every row divided by its Euclidean length, or by 1e-12 where that is more.
    UnitLength,
    /// Images to tokens, the entry of a vision transformer.
    PatchEmbedding(PatchEmbedding),
    /// Attention and two fully connected layers on tokens.
    TransformerLayer(TransformerLayer),
    /// Layer normalisation of rows.
    LayerNorm(LayerNorm),
    /// Rows go through unchanged; the tensors belong to the state dict without a part in the pass, as SwAV's prototypes.
    Kept(Vec<Spec>),
}

/// A network from images `[batch, height, width, 3]` to rows `[batch, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The blocks, in order.
    pub blocks: Vec<Block>,
}

/// What an entry of a state dict is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Trained.
    Weight,
    /// Stored with the weights but never trained (a frozen embedding).
    Frozen,
    /// Running statistic of a batch norm.
    Statistic,
    /// Number of batches seen by a batch norm, one integer.
    Counter,
}

/// One entry of a state dict.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Reference name.
    pub name: String,
    /// Sizes, outermost first, as in the reference; empty for a counter.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// How it starts.
    pub init: Init,
}

impl Spec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Network {
    /// The width of the output rows: that of the last block that sets one.
    pub fn width(&self) -> usize {
        let widths = self.blocks.iter().rev().find_map(|block| match block {
            Block::ConvNorm(conv) => Some(conv.convolution.output),
            Block::InvertedResidual(block) => Some(block.project.convolution.output),
            Block::Residual(block) => block.path.last().map(|conv| conv.convolution.output),
            Block::Linear(linear) => Some(linear.output),
            Block::RowNorm(norm) => Some(norm.channels),
            Block::PatchEmbedding(embedding) => Some(embedding.width),
            Block::TransformerLayer(layer) => Some(layer.width()),
            Block::LayerNorm(norm) => Some(norm.width),
            Block::MaxPool { .. }
            | Block::GlobalAveragePool { .. }
            | Block::UnitLength
            | Block::Kept(_) => None,
        });
        widths.unwrap_or(3)
    }
}
