//! The tensors that cross plugin borders: run-time sizes, one element type, one device.

use dfdx::tensor::{NoneTape, OwnedTape, Tensor};

/// The device of every border tensor; the `cuda` feature makes it a GPU.
pub type Device = dfdx::tensor::AutoDevice;

/// The shape of a batch of embeddings, `[batch, width]`.
pub type Features = (usize, usize);

/// A tensor that records nothing.
pub type Plain<S> = Tensor<S, f32, Device, NoneTape>;

/// A tensor that carries the tape of the operations that made it.
pub type Traced<S> = Tensor<S, f32, Device, OwnedTape<f32, Device>>;
