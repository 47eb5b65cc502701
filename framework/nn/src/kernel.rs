//! Vector kernels with run-time dispatch.
//!
//! One binary for the oldest x86-64 holds every kernel three times: for AVX-512, for AVX2 with FMA, and for the
//! baseline of the architecture. [`simd`] explains how one generic source becomes three machine codes and how the
//! choice is made. Nothing here starts threads: a kernel is one thread's work, and layers decide how work is cut.
//!
//! What a newcomer would get wrong: results of two [`simd::Level`]s differ in the last bits, because sums are taken in
//! another order. They are the same bits for the same level, whatever the number of threads.

pub mod activation;
mod columns;
pub mod dense;
pub mod depthwise;
pub mod double;
pub mod elementwise;
pub mod gelu;
pub mod gemm;
pub mod layer_norm;
pub mod mask;
pub mod peak;
pub mod pool;
pub mod simd;
pub mod softmax;
pub mod stem;
pub mod winograd;

pub use simd::Level;
