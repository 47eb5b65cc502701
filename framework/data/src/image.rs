//! Eight-bit RGB images.

/// An RGB image, `[height, width, 3]`, one byte a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Row-major interleaved pixels, `3 * width * height` bytes.
    pub pixels: Vec<u8>,
}
