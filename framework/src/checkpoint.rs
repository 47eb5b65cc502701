//! Checkpoints: one safetensors file with everything a run needs to go on, and weights from files of others.
//!
//! A file holds the tensors of every encoder under its reference name behind the encoder's own
//! (`encoder_q.conv_stem.weight`), the learner's buffers (`queue`, `queue_ptr`), the optimiser's state
//! (`optimizer.momentum.encoder_q.conv_stem.weight`) and, as metadata, where the run stood. It holds no time and no
//! fact about the machine, and its order is fixed, so equal states are equal bytes. A checksum tells
//! damage of a single bit.

mod atomic;
pub mod cadence;
mod fill;
pub mod held;
pub mod layout;
mod origin;
mod read;
mod space;
mod store;
pub(crate) mod torch;
mod weights;
mod write;

use std::collections::BTreeMap;

pub use atomic::{Partial, remove_partial, write_atomically};
pub(crate) use fill::{Differences, fill, tensors};
pub use origin::Weights;
pub use read::read;
pub(crate) use read::{Container, container};
pub use space::free_space;
pub use store::{Mark, Store};
pub use weights::{Loaded, load_backbone, take_backbone, take_encoder};
pub(crate) use write::copy;
pub use write::write;

/// The value of the metadata key `format` in files that this version writes.
pub const FORMAT: &str = "smallfry-checkpoint-1";

/// Tensors by name, and what is known about them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Texts by key, such as `epoch`, `seed` and `config`.
    pub metadata: BTreeMap<String, String>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// A named array.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first; empty for a single number.
    pub shape: Vec<usize>,
    /// Row-major contents.
    pub values: Values,
}

/// The contents of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Numbers, `F32` in the file.
    Float(Vec<f32>),
    /// Integers, `I64` in the file.
    Integer(Vec<i64>),
}

impl Tensor {
    /// A tensor of numbers.
    pub fn float(shape: Vec<usize>, values: Vec<f32>) -> Self {
        Self {
            shape,
            values: Values::Float(values),
        }
    }

    /// A tensor of integers.
    pub fn integer(shape: Vec<usize>, values: Vec<i64>) -> Self {
        Self {
            shape,
            values: Values::Integer(values),
        }
    }

    /// Element type and sizes, as messages show them: `F32 [128, 64]`.
    pub fn describe(&self) -> String {
        let dtype = match self.values {
            Values::Float(_) => "F32",
            Values::Integer(_) => "I64",
        };
        format!("{dtype} {:?}", self.shape)
    }
}

impl Checkpoint {
    /// Whether it says that it is one of this program.
    fn own(&self) -> bool {
        self.metadata.get("format").map(String::as_str) == Some(FORMAT)
    }

    /// A number from the metadata.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.metadata.get(key)?.parse().ok()
    }
}
