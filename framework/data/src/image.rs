//! Eight-bit RGB images and rectangles in them.

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

impl Image {
    /// An image of arbitrary content in a recycled buffer, for an operation that writes every pixel.
    pub(crate) fn scratch(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: crate::buffer::take(3 * width * height),
        }
    }

    /// A black image.
    pub fn black(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![0; 3 * width * height],
        }
    }

    /// An image whose three channels are one grey plane, `[height, width]`.
    ///
    /// # Panics
    /// The plane has not `width * height` bytes.
    pub fn from_grey(width: usize, height: usize, grey: &[u8]) -> Self {
        assert_eq!(grey.len(), width * height, "one byte a pixel");
        Self {
            width,
            height,
            pixels: grey.iter().flat_map(|&value| [value; 3]).collect(),
        }
    }

    /// The whole image as a rectangle.
    pub fn whole(&self) -> Rectangle {
        Rectangle {
            top: 0,
            left: 0,
            height: self.height,
            width: self.width,
        }
    }

    /// One row, `3 * width` bytes.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.pixels[3 * self.width * y..3 * self.width * (y + 1)]
    }

    /// Gives the pixel buffer back to the thread's pool.
    pub fn recycle(self) {
        crate::buffer::give(self.pixels);
    }
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Rectangle {
    /// The part `inner`, given relative to this rectangle, in the coordinates of this rectangle's image.
    ///
    /// # Panics
    /// `inner` sticks out.
    pub fn part(self, inner: Rectangle) -> Rectangle {
        assert!(
            inner.top + inner.height <= self.height && inner.left + inner.width <= self.width,
            "a crop must lie within its image: {inner:?} of {self:?}"
        );
        Rectangle {
            top: self.top + inner.top,
            left: self.left + inner.left,
            ..inner
        }
    }
}
