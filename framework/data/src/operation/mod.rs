//! Image operations that return the bytes Pillow returns.
//!
//! The published models were trained on, and are scored with, pixels that Pillow made. Pillow's arithmetic has its own
//! roundings (fixed-point resampling with eight bits between the passes, truncated blending, an eight-bit HSV round
//! trip, a Gaussian made of boxes); the golden tests compare every operation byte by byte.

pub mod blur;
pub mod color;
pub mod crop;
pub mod overlap;
pub mod patch;
pub mod resize;
