//! Optimisers: how gradients change weights.

use smallfry_nn::Parameters;

use crate::registry::kind;

/// A rule of descent with its constants.
pub trait Optimizer: Send + Sync {
    /// The learning rate that a schedule scales.
    fn rate(&self) -> f64;

    /// A learning rate and the batch that it is known to suit: advice on others follows in proportion. None where there
    /// is no such rule.
    fn reference_rate(&self) -> Option<(f64, usize)> {
        None
    }

    /// The rule's state for parameters like these.
    fn start(&self, parameters: &Parameters) -> Box<dyn Descent>;
}

kind!(Optimizer, "optimizer");

/// An optimiser at work on the parameters of one encoder.
pub trait Descent: Send {
    /// Changes the trained values along their gradients.
    fn step(&mut self, parameters: &mut Parameters, rate: f64);

    /// State arenas by name, each laid out as the parameters' values, to save.
    fn state(&self) -> Vec<(&'static str, &[f32])>;

    /// State arenas by name, to restore.
    fn state_mut(&mut self) -> Vec<(&'static str, &mut Vec<f32>)>;
}
