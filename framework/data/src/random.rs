//! Counter-based random numbers: any sample's stream can be had without drawing the ones before it.

/// A stream of random numbers, fixed by the key it was made from.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of a key, such as `[seed, epoch, sample, view, operation]`.
    pub fn new(key: &[u64]) -> Self {
        let mut state = 0x243F_6A88_85A3_08D3;
        for &part in key {
            state = mix(state ^ part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        }
        Self { state }
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// The finaliser of splitmix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
