//! The parts of a vision transformer (Dosovitskiy et al., 2021), normalised before every part.
//!
//! Between these blocks a tensor is `[batch, 1, tokens, width]`: the first token is the class token, the others are
//! patches, row by row. The last layer of a network whose features are the class token works out nothing else
//! ([`Tokens::First`]): its output is rows `[batch, width]`.

use super::{Role, Spec};
use crate::{init::Init, layer::Size};

/// Normalisation of every row to mean 0 and variance 1, and a factor and an addend for each of its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// Prefix of `weight` and `bias`.
    pub name: String,
    /// Width of the rows.
    pub width: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

impl LayerNorm {
    /// PyTorch's default: epsilon 1e-5.
    pub fn new(name: impl Into<String>, width: usize) -> Self {
        Self {
            name: name.into(),
            width,
            epsilon: 1e-5,
        }
    }
}

/// Images cut into square patches, each mapped to a token; a class token before them, positions added to all.
///
/// A patch is read row by row, pixel by pixel, channels fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchEmbedding {
    /// Prefix of the map's `weight` `[width, 3 · patch²]` and `bias`.
    pub projection: String,
    /// The positions, `[1, tokens, width]`.
    pub positions: String,
    /// The class token, `[1, 1, width]`.
    pub class_token: String,
    /// Side of the images in pixels; a table of positions is for one size.
    pub image: usize,
    /// Side of a patch in pixels; divides that of the images.
    pub patch: usize,
    /// Numbers of a token.
    pub width: usize,
    /// Probability of zeroing a number in training, after the addition.
    pub dropout: f32,
    /// The map from patches to tokens stays as it starts (Chen et al., 2021, section 4.2).
    pub frozen: bool,
}

impl PatchEmbedding {
    /// Number of tokens of an image, the class token included.
    pub fn tokens(&self) -> usize {
        (self.image / self.patch).pow(2) + 1
    }

    /// Numbers of a patch.
    pub(crate) fn depth(&self) -> usize {
        3 * self.patch * self.patch
    }

    pub(super) fn tensors(&self) -> [Spec; 4] {
        let role = if self.frozen {
            Role::Frozen
        } else {
            Role::Weight
        };
        let fan_in = self.depth();
        let init = Init::FanIn { fan_in };
        let drawn = Init::Normal(1.0);
        let (tokens, width) = (self.tokens(), self.width);
        [
            spec(&self.positions, vec![1, tokens, width], Role::Weight, drawn),
            spec(&self.class_token, vec![1, 1, width], Role::Weight, drawn),
            spec(
                &format!("{}.weight", self.projection),
                vec![width, fan_in],
                role,
                init,
            ),
            spec(
                &format!("{}.bias", self.projection),
                vec![width],
                role,
                init,
            ),
        ]
    }

    pub(super) fn after(&self, size: Size) -> Result<Size, String> {
        let divides = self.patch > 0
            && self.width > 0
            && self.image > 0
            && self.image.is_multiple_of(self.patch);
        if !divides {
            return Err("patches must have a size that divides that of the images".into());
        }
        if (size.height, size.width) != (self.image, self.image) || size.channels != 3 {
            return Err(format!(
                "images must have {side} × {side} pixels, as `{}` has {} places, but they have {} × {}",
                self.positions,
                self.tokens(),
                size.height,
                size.width,
                side = self.image,
            ));
        }
        probability(self.dropout)?;
        Ok(Size {
            height: 1,
            width: self.tokens(),
            channels: self.width,
        })
    }
}

/// Which tokens leave a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// All.
    All,
    /// The first, as a row; the others serve as keys and values only.
    First,
}

/// Multi-head self-attention; queries, keys and values are one map without bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// The norm before it.
    pub norm: LayerNorm,
    /// Prefix of `weight` `[3 · heads · head_width, width]`: queries, keys, values, each head by head.
    pub qkv: String,
    /// Prefix of the output map's `weight` `[width, heads · head_width]` and `bias`.
    pub output: String,
    /// Number of heads.
    pub heads: usize,
    /// Width of a head.
    pub head_width: usize,
}

impl Attention {
    /// Width of all heads together.
    pub fn inner(&self) -> usize {
        self.heads * self.head_width
    }
}

/// Two fully connected layers with GELU between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Hidden {
    /// The norm before it.
    pub norm: LayerNorm,
    /// Prefix of the first layer's `weight` `[hidden, width]` and `bias`.
    pub expand: String,
    /// Prefix of the second layer's `weight` `[width, hidden]` and `bias`.
    pub project: String,
    /// Width between the two.
    pub width: usize,
}

/// A transformer's layer: x + attention(norm(x)), then y + hidden(norm(y)).
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerLayer {
    /// The first part.
    pub attention: Attention,
    /// The second part.
    pub hidden: Hidden,
    /// Probability of zeroing, in training, a number that leaves attention, GELU, or the second part.
    pub dropout: f32,
    /// The tokens that go on.
    pub tokens: Tokens,
}

impl TransformerLayer {
    /// Numbers of a token.
    pub fn width(&self) -> usize {
        self.attention.norm.width
    }

    pub(super) fn tensors(&self) -> Vec<Spec> {
        let (width, inner) = (self.width(), self.attention.inner());
        let mut list = Vec::with_capacity(11);
        list.extend(norm(&self.attention.norm));
        list.extend(
            map(&self.attention.qkv, 3 * inner, width)
                .into_iter()
                .take(1),
        );
        list.extend(map(&self.attention.output, width, inner));
        list.extend(norm(&self.hidden.norm));
        list.extend(map(&self.hidden.expand, self.hidden.width, width));
        list.extend(map(&self.hidden.project, width, self.hidden.width));
        list
    }

    pub(super) fn after(&self, size: Size) -> Result<Size, String> {
        for norm in [&self.attention.norm, &self.hidden.norm] {
            norm.check(size)?;
        }
        if self.attention.inner() == 0 || self.hidden.width == 0 {
            return Err(format!(
                "`{}` and `{}` need outputs",
                self.attention.qkv, self.hidden.expand
            ));
        }
        probability(self.dropout)?;
        Ok(match self.tokens {
            Tokens::All => size,
            Tokens::First => Size { width: 1, ..size },
        })
    }
}

impl LayerNorm {
    pub(super) fn tensors(&self) -> [Spec; 2] {
        norm(self)
    }

    pub(super) fn check(&self, size: Size) -> Result<(), String> {
        if self.width != size.channels {
            return Err(format!(
                "`{}` takes rows of {} numbers but gets {}",
                self.name, self.width, size.channels
            ));
        }
        if self.epsilon > 0.0 {
            Ok(())
        } else {
            Err(format!("`{}` needs an epsilon above 0", self.name))
        }
    }
}

fn probability(p: f32) -> Result<(), String> {
    if (0.0..1.0).contains(&p) {
        Ok(())
    } else {
        Err(format!(
            "`dropout` is {p}, but must be at least 0 and below 1"
        ))
    }
}

fn norm(norm: &LayerNorm) -> [Spec; 2] {
    [("weight", 1.0), ("bias", 0.0)].map(|(last, value)| {
        spec(
            &format!("{}.{last}", norm.name),
            vec![norm.width],
            Role::Weight,
            Init::Constant(value),
        )
    })
}

fn map(name: &str, output: usize, input: usize) -> [Spec; 2] {
    [("weight", vec![output, input]), ("bias", vec![output])].map(|(last, shape)| {
        spec(
            &format!("{name}.{last}"),
            shape,
            Role::Weight,
            Init::FanIn { fan_in: input },
        )
    })
}

fn spec(name: &str, shape: Vec<usize>, role: Role, init: Init) -> Spec {
    Spec {
        name: name.to_owned(),
        shape,
        role,
        init,
    }
}
