//! Fused passes over the parameter arena.

/// The constants of a step of stochastic gradient descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub rate: f32,
    /// Share of the last velocity that is kept.
    pub momentum: f32,
    /// Weight decay, added to the gradient.
    pub decay: f32,
}
