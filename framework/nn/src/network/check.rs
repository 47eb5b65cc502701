//! Whether a description can be run, and the sizes of its tensors.

use std::{collections::BTreeSet, fmt};

use super::{
    Activation, Block, ConvNorm, Convolution, InvertedResidual, Network, Norm, Residual, Tokens,
};
use crate::layer::Size;

/// Why a network cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible {
    /// Position of the block at fault.
    pub block: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} of the network: {}", self.block, self.reason)
    }
}

impl std::error::Error for Impossible {}

impl Network {
    /// The size of every block's output for images of `height` × `width` pixels; pooled rows have height and width 1.
    ///
    /// # Errors
    /// If the blocks do not fit each other, a number is out of its range, two tensors share a name, or a kernel is
    /// larger than the padded tensor that it meets.
    pub fn outputs(&self, height: usize, width: usize) -> Result<Vec<Size>, Impossible> {
        let mut names = BTreeSet::new();
        for spec in self.tensors() {
            if let Some(name) = names.replace(spec.name) {
                let reason = format!("two tensors are named `{name}`");
                return Err(Impossible { block: 0, reason });
            }
        }
        let mut place = Place {
            size: Size {
                height,
                width,
                channels: 3,
            },
            form: Form::Map,
        };
        let mut sizes = Vec::with_capacity(self.blocks.len());
        for (block, description) in self.blocks.iter().enumerate() {
            let next = place.after(description);
            place = next.map_err(|reason| Impossible { block, reason })?;
            sizes.push(place.size);
        }
        if place.form != Form::Rows {
            return Err(Impossible {
                block: self.blocks.len().saturating_sub(1),
                reason:
                    "the network must end in rows, behind a global average pool or the first token"
                        .into(),
            });
        }
        Ok(sizes)
    }
}

/// What the tensor between two blocks is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Pixels in rows and columns.
    Map,
    /// Tokens of a transformer.
    Tokens,
    /// One row for an image.
    Rows,
}

impl Form {
    /// What `block` takes and gives.
    fn of(block: &Block) -> [Self; 2] {
        match block {
            Block::ConvNorm(_)
            | Block::InvertedResidual(_)
            | Block::Residual(_)
            | Block::MaxPool { .. } => [Form::Map, Form::Map],
            Block::GlobalAveragePool { .. } => [Form::Map, Form::Rows],
            Block::PatchEmbedding(_) => [Form::Map, Form::Tokens],
            Block::TransformerLayer(layer) => match layer.tokens {
                Tokens::All => [Form::Tokens, Form::Tokens],
                Tokens::First => [Form::Tokens, Form::Rows],
            },
            Block::Linear(_)
            | Block::RowNorm(_)
            | Block::LayerNorm(_)
            | Block::UnitLength
            | Block::Kept(_) => [Form::Rows, Form::Rows],
        }
    }
}

/// What stands between two blocks.
#[derive(Clone, Copy)]
struct Place {
    size: Size,
    form: Form,
}

impl Place {
    fn after(self, block: &Block) -> Result<Self, String> {
        require(!self.size.is_empty(), || "its input is empty".into())?;
        let [takes, form] = Form::of(block);
        require(takes == self.form, || {
            match (takes, self.form) {
                (Form::Rows, Form::Map) => "it needs rows: put a global average pool before it",
                (Form::Rows, _) => {
                    "it needs rows: let the layer before it give the first token only"
                }
                (Form::Tokens, _) => "it needs tokens: put a patch embedding before it",
                (Form::Map, Form::Tokens) => "only transformer layers may follow a patch embedding",
                (Form::Map, _) => "only layers on rows may follow rows",
            }
            .into()
        })?;
        let size = match block {
            Block::ConvNorm(conv) => conv_norm(conv, self.size)?,
            Block::InvertedResidual(block) => inverted_residual(block, self.size)?,
            Block::Residual(block) => residual(block, self.size)?,
            Block::MaxPool {
                kernel,
                stride,
                padding,
            } => {
                require(*kernel > 0 && *stride > 0 && 2 * padding <= *kernel, || {
                    "a pool needs a kernel and a stride above 0 and at most half a kernel of padding".into()
                })?;
                let side = |n| windows(n, 2 * padding, *kernel, *stride);
                Size {
                    height: side(self.size.height)?,
                    width: side(self.size.width)?,
                    ..self.size
                }
            }
            Block::GlobalAveragePool { dropout } => {
                probability("dropout", *dropout)?;
                Size {
                    height: 1,
                    width: 1,
                    ..self.size
                }
            }
            Block::Linear(linear) => {
                probability("dropout", linear.dropout)?;
                channels(&linear.name, linear.input, self.size)?;
                require(linear.output > 0, || {
                    format!("`{}` has no outputs", linear.name)
                })?;
                Size {
                    channels: linear.output,
                    ..self.size
                }
            }
            Block::RowNorm(row) => {
                norm(&row.norm)?;
                channels(&row.norm.name, row.channels, self.size)?;
                self.size
            }
            Block::PatchEmbedding(embedding) => embedding.after(self.size)?,
            Block::TransformerLayer(layer) => layer.after(self.size)?,
            Block::LayerNorm(norm) => {
                norm.check(self.size)?;
                self.size
            }
            Block::UnitLength | Block::Kept(_) => self.size,
        };
        Ok(Self { size, form })
    }
}

fn require(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

fn probability(name: &str, p: f32) -> Result<(), String> {
    require((0.0..1.0).contains(&p), || {
        format!("`{name}` is {p}, but must be at least 0 and below 1")
    })
}

fn channels(name: &str, expected: usize, size: Size) -> Result<(), String> {
    require(expected == size.channels, || {
        format!(
            "`{name}` takes {expected} channels but gets {}",
            size.channels
        )
    })
}

/// Positions of a window along an axis of `n` elements.
fn windows(n: usize, padding: usize, kernel: usize, stride: usize) -> Result<usize, String> {
    require(n + padding >= kernel, || {
        format!("a window of {kernel} does not fit into {n} pixels with {padding} of padding")
    })?;
    Ok((n + padding - kernel) / stride + 1)
}

fn convolution(c: &Convolution, size: Size) -> Result<Size, String> {
    let name = &c.name;
    channels(name, c.input, size)?;
    require(c.kernel > 0 && c.stride > 0 && c.output > 0, || {
        format!("`{name}` needs a kernel, a stride and outputs above 0")
    })?;
    let divides =
        c.groups > 0 && c.input.is_multiple_of(c.groups) && c.output.is_multiple_of(c.groups);
    require(divides, || {
        format!(
            "{} groups do not divide the {} inputs and {} outputs of `{name}`",
            c.groups, c.input, c.output
        )
    })?;
    let p = c.padding;
    require(
        [p.top, p.bottom, p.left, p.right]
            .iter()
            .all(|&p| p < c.kernel),
        || format!("`{name}` has windows that lie wholly in its padding"),
    )?;
    Ok(Size {
        height: windows(size.height, p.top + p.bottom, c.kernel, c.stride)?,
        width: windows(size.width, p.left + p.right, c.kernel, c.stride)?,
        channels: c.output,
    })
}

fn norm(norm: &Norm) -> Result<(), String> {
    require(norm.epsilon > 0.0, || {
        format!("`{}` needs an epsilon above 0", norm.name)
    })?;
    require((0.0..=1.0).contains(&norm.momentum), || {
        format!("the momentum of `{}` must be between 0 and 1", norm.name)
    })
}

fn conv_norm(conv: &ConvNorm, size: Size) -> Result<Size, String> {
    norm(&conv.norm)?;
    convolution(&conv.convolution, size)
}

fn inverted_residual(block: &InvertedResidual, size: Size) -> Result<Size, String> {
    let pointwise = |conv: &ConvNorm| {
        let c = &conv.convolution;
        let plain = c.kernel == 1 && c.stride == 1 && c.groups == 1;
        require(plain, || {
            format!(
                "`{}` must be a 1×1 convolution of stride 1 and one group",
                c.name
            )
        })
    };
    let mut hidden = size;
    if let Some(expand) = &block.expand {
        pointwise(expand)?;
        hidden = conv_norm(expand, size)?;
    }
    let c = &block.depthwise.convolution;
    require(c.groups == c.input && c.output == c.input, || {
        format!("`{}` must have one group for each channel", c.name)
    })?;
    let middle = conv_norm(&block.depthwise, hidden)?;
    if let Some(gating) = &block.squeeze_excite {
        require(gating.width > 0, || {
            format!("`{}` has no outputs", gating.reduce)
        })?;
    }
    pointwise(&block.project)?;
    identity(&block.project)?;
    let output = conv_norm(&block.project, middle)?;
    require(!block.shortcut || output == size, || {
        "a shortcut needs an output of the input's size".into()
    })?;
    probability("drop_connect", block.drop_connect)?;
    require(block.shortcut || block.drop_connect == 0.0, || {
        "`drop_connect` needs a shortcut".into()
    })?;
    Ok(output)
}

fn residual(block: &Residual, size: Size) -> Result<Size, String> {
    let mut output = size;
    for conv in &block.path {
        output = conv_norm(conv, output)?;
    }
    let last = block.path.last().ok_or("its path is empty")?;
    identity(last)?;
    let mut shortcut = size;
    if let Some(downsample) = &block.downsample {
        identity(downsample)?;
        shortcut = conv_norm(downsample, size)?;
    }
    require(shortcut == output, || {
        "its path and its shortcut give tensors of different sizes".into()
    })?;
    Ok(output)
}

fn identity(conv: &ConvNorm) -> Result<(), String> {
    require(conv.activation == Activation::Identity, || {
        format!(
            "`{}` must have no activation of its own",
            conv.convolution.name
        )
    })
}
