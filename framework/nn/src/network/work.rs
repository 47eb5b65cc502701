//! What a pass over a network costs at least: multiplications and numbers moved.
//!
//! These are counts of the description, whatever the executor does: recomputation is not in them, nor are tensors inside
//! a block. A roofline sets them against what a machine can do.

use super::{Block, Convolution, Impossible, Network, Tokens};
use crate::layer::Size;

/// What one block's forward pass costs for one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Multiplications with an addition, in convolutions, fully connected layers and attention.
    pub multiply_adds: usize,
    /// Numbers of the input.
    pub input: usize,
    /// Numbers of the output.
    pub output: usize,
}

impl Network {
    /// The cost of every block for an image of `height` × `width` pixels.
    ///
    /// # Errors
    /// If the network cannot be run on images of that size.
    pub fn work(&self, height: usize, width: usize) -> Result<Vec<Work>, Impossible> {
        let mut input = Size {
            height,
            width,
            channels: 3,
        };
        let outputs = self.outputs(height, width)?;
        let work = self.blocks.iter().zip(outputs).map(|(block, output)| {
            let work = Work {
                multiply_adds: multiply_adds(block, input, output),
                input: input.len(),
                output: output.len(),
            };
            input = output;
            work
        });
        Ok(work.collect())
    }
}

fn multiply_adds(block: &Block, input: Size, output: Size) -> usize {
    match block {
        Block::ConvNorm(conv) => convolution(&conv.convolution, input).1,
        Block::InvertedResidual(block) => {
            let (mut size, mut sum) = (input, 0);
            for conv in block.expand.iter().chain([&block.depthwise]) {
                let (after, work) = convolution(&conv.convolution, size);
                (size, sum) = (after, sum + work);
            }
            let gate = block.squeeze_excite.as_ref();
            sum += gate.map_or(0, |gate| 2 * gate.width * size.channels);
            sum + convolution(&block.project.convolution, size).1
        }
        Block::Residual(block) => {
            let (mut size, mut sum) = (input, 0);
            for conv in &block.path {
                let (after, work) = convolution(&conv.convolution, size);
                (size, sum) = (after, sum + work);
            }
            let shortcut = block.downsample.as_ref();
            sum + shortcut.map_or(0, |conv| convolution(&conv.convolution, input).1)
        }
        Block::Linear(linear) => linear.input * linear.output,
        Block::PatchEmbedding(embedding) => {
            (embedding.tokens() - 1) * embedding.depth() * embedding.width
        }
        Block::TransformerLayer(layer) => {
            let (tokens, width, inner) = (
                input.height * input.width,
                layer.width(),
                layer.attention.inner(),
            );
            // Tokens that go on; keys and values are needed of all.
            let kept = match layer.tokens {
                Tokens::All => tokens,
                Tokens::First => 1,
            };
            let attention = width * inner * (2 * tokens + kept)
                + 2 * kept * tokens * inner
                + kept * inner * width;
            attention + 2 * kept * width * layer.hidden.width
        }
        Block::MaxPool { .. }
        | Block::GlobalAveragePool { .. }
        | Block::RowNorm(_)
        | Block::UnitLength
        | Block::LayerNorm(_)
        | Block::Kept(_) => {
            debug_assert!(output.len() <= input.len());
            0
        }
    }
}

/// The size after a convolution, and its multiplications.
fn convolution(c: &Convolution, input: Size) -> (Size, usize) {
    let output = input.after(c);
    (
        output,
        output.len() * c.kernel * c.kernel * (c.input / c.groups),
    )
}
