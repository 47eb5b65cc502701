//! Dense convolutions, planned for one batch shape by the method that suits them.
//!
//! Maps smaller than the kernel go by products of whole images ([`unrolled`]), 3×3 of stride 1 by [`winograd`], 1×1 by
//! products of the pixels' rows ([`pointwise`]), everything else by products over the segments of padded bands
//! ([`direct`]). All of them work operands out while they read them.

use super::Size;
use crate::{
    kernel::{Level, dense::Operand, gemm::packed_len},
    network::{Activation, Convolution as Description},
    parameter::Parameters,
};

mod direct;
mod pointwise;
#[cfg(test)]
mod tests;
mod unrolled;
mod winograd;

use direct::Direct;
use pointwise::Pointwise;
use unrolled::Unrolled;
use winograd::Winograd;

/// Output channels that are packed and multiplied together.
const PANEL: usize = 64;

/// A convolution planned for one batch shape.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    batch: usize,
    output: Size,
    method: Method,
}

#[derive(Clone, Debug)]
enum Method {
    Winograd(Winograd),
    Pointwise(Pointwise),
    Unrolled(Unrolled),
    Direct(Direct),
}

/// What happens to the products of a forward pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folded<'a> {
    /// Factor of every output channel.
    pub scale: &'a [f32],
    /// Start value of every output channel.
    pub shift: &'a [f32],
    /// Applied at the end.
    pub activation: Activation,
}

/// Weights as a method multiplies by them, kept from pass to pass as long as the parameters stay what they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    version: Option<u64>,
    values: Vec<f32>,
}

impl Prepared {
    /// Room for `len` numbers of prepared weights, whether they are still to be written, and the scratch that is left.
    fn room<'a>(
        kept: Option<&'a mut Self>,
        parameters: &Parameters,
        len: usize,
        scratch: &'a mut [f32],
    ) -> (&'a mut [f32], bool, &'a mut [f32]) {
        let Some(kept) = kept else {
            let (room, rest) = scratch.split_at_mut(len);
            return (room, true, rest);
        };
        let version = Some(parameters.version());
        let stale = kept.version != version;
        if stale {
            kept.values.resize(len, 0.0);
            kept.version = version;
        }
        (&mut kept.values, stale, scratch)
    }
}

/// What an input gradient is added to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sum<'a> {
    /// Nothing: dx = …
    Set,
    /// What is there: dx += …
    Add,
    /// Another tensor: dx = tensor + …
    With(&'a [f32]),
}

/// Does `$body` with the method at hand.
macro_rules! method {
    ($self:ident, $method:ident, $body:expr) => {
        match &$self.method {
            Method::Winograd($method) => $body,
            Method::Pointwise($method) => $body,
            Method::Unrolled($method) => $body,
            Method::Direct($method) => $body,
        }
    };
}

impl Convolution {
    /// The convolution that `c` describes, for `batch` images of size `input`, giving size `output`.
    pub fn new(
        c: &Description,
        batch: usize,
        input: Size,
        output: Size,
        parameters: &Parameters,
    ) -> Self {
        Self::on(Level::current(), c, batch, input, output, parameters)
    }

    /// As [`new`](Self::new), for an instruction set.
    fn on(
        level: Level,
        c: &Description,
        batch: usize,
        input: Size,
        output: Size,
        parameters: &Parameters,
    ) -> Self {
        let weight = parameters.weight_place(&format!("{}.weight", c.name));
        let method = if Unrolled::takes(c, input) {
            Method::Unrolled(Unrolled::new(level, c, batch, input, output, weight))
        } else if Winograd::takes(c, batch, input) {
            Method::Winograd(Winograd::new(level, c, batch, input, weight))
        } else if Pointwise::takes(c) {
            Method::Pointwise(Pointwise::new(level, c, batch, input, output, weight))
        } else {
            Method::Direct(Direct::new(level, c, batch, input, output, weight))
        };
        Self {
            batch,
            output,
            method,
        }
    }

    /// The size of its output.
    pub fn output(&self) -> Size {
        self.output
    }

    /// Numbers of its output for the whole batch.
    pub fn output_len(&self) -> usize {
        self.batch * self.output.len()
    }

    /// Floats of scratch for a forward pass.
    pub fn forward_scratch(&self) -> usize {
        method!(self, method, method.forward_scratch())
    }

    /// Floats of scratch for a backward pass.
    pub fn backward_scratch(&self) -> usize {
        method!(self, method, method.backward_scratch())
    }

    /// y = x ∗ w. `done` is told of every piece of rows as soon as it is complete, with the position of its first number; calls with the same element of `partial`
    /// come in a fixed order.
    pub fn forward<T: Send>(
        &self,
        parameters: &Parameters,
        x: Operand<'_>,
        y: &mut [f32],
        scratch: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        method!(
            self,
            method,
            method.forward(parameters, x, y, None, None, scratch, partial, done)
        );
    }

    /// y = activation(x ∗ w · scale + shift) of inference, where the same weights serve many batches; `kept` belongs to
    /// this convolution and this way of folding alone.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    pub fn infer(
        &self,
        parameters: &Parameters,
        x: &[f32],
        y: &mut [f32],
        folded: Folded<'_>,
        kept: &mut Prepared,
        scratch: &mut [f32],
        done: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        // Inference takes no statistics, so the slices have nothing to report to.
        let (x, partial) = (Operand::Plain(x), &mut [(); 8]);
        let (folded, kept) = (Some(folded), Some(kept));
        let done = |(): &mut (), first: usize, y: &mut [f32]| done(first, y);
        method!(
            self,
            method,
            method.forward(parameters, x, y, folded, kept, scratch, partial, done)
        );
    }

    /// The gradient of the input: dx = dy ∗ flipped weights, added to `sum`; `done` as in [`forward`](Self::forward).
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of a pass and who is told of it"
    )]
    pub fn input_gradient<T: Send>(
        &self,
        parameters: &Parameters,
        dy: Operand<'_>,
        dx: &mut [f32],
        sum: Sum<'_>,
        scratch: &mut [f32],
        partial: &mut [T],
        done: impl Fn(&mut T, usize, &mut [f32]) + Sync,
    ) {
        method!(
            self,
            method,
            method.input_gradient(parameters, dy, dx, sum, scratch, partial, done)
        );
    }

    /// Adds the gradient of the weights.
    pub fn weight_gradient(
        &self,
        parameters: &mut Parameters,
        x: Operand<'_>,
        dy: Operand<'_>,
        scratch: &mut [f32],
    ) {
        method!(
            self,
            method,
            method.weight_gradient(parameters, x, dy, scratch)
        );
    }
}

/// Numbers that the matrix `[k, n]` takes when packed in blocks of [`PANEL`] columns.
fn packed_blocks(k: usize, n: usize) -> usize {
    n.div_ceil(PANEL) * packed_len(k, PANEL)
}
