//! Random numbers by counter: element `i` of a stream is a function of the stream's key and `i`.
//!
//! There is no generator to advance, so any number of threads may draw any elements in any order, and backward draws the
//! same mask as forward without its being stored.

/// The key of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The stream of `name` under `seed`.
    pub fn of(seed: u64, name: &str) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Self(mix(mix(seed) ^ hash))
    }

    /// The stream of the block at `position` in the pass keyed by `draw`.
    pub fn of_block(draw: u64, position: usize) -> Self {
        Self(mix(mix(draw) ^ mix(position as u64 + 1)))
    }

    /// Element `i`, 64 random bits.
    pub fn at(self, i: u64) -> u64 {
        mix(self.0.wrapping_add(i.wrapping_mul(GOLDEN)))
    }
}

/// 64 bits as a number in [0, 1).
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The output function of splitmix64, on the state after one step.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(GOLDEN);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
