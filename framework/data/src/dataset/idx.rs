//! The IDX format of MNIST and Fashion-MNIST, plain or gzipped.
//!
//! A file is a magic number whose last byte is the number of dimensions, the dimensions as big-endian 32-bit numbers,
//! and bytes. Grey images become RGB with three equal channels.

use std::path::Path;

use super::{
    Dataset, LoadError, OpenError,
    file::{DataFile, FETCH, file_name},
};
use crate::image::Image;

/// Magic number of a file of images: unsigned bytes, three dimensions.
const IMAGES: u32 = 0x0803;

/// Magic number of a file of labels: unsigned bytes, one dimension.
const LABELS: u32 = 0x0801;

/// The remedy for a file of another format.
const FORMAT: &str = "give an IDX file such as train-images-idx3-ubyte.gz";

/// Grey images of one size with labels, held in memory.
#[derive(Clone, Debug)]
pub struct Idx {
    name: String,
    classes: Vec<String>,
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Idx {
    /// Reads a file of images and the file of their labels.
    ///
    /// # Errors
    /// A file is missing, of another format or damaged, or the two do not belong together.
    pub fn open(images: &Path, labels: &Path) -> Result<Self, OpenError> {
        let mut file = DataFile::open(images, FORMAT)?;
        let header = file.header::<16>()?;
        let field = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if field(0) != IMAGES {
            return Err(file.error(
                format!(
                    "starts with {:#010x} where a file of images starts with {IMAGES:#010x}",
                    field(0)
                ),
                FORMAT,
            ));
        }
        let (count, height, width) = (field(4), field(8), field(12));
        if count == 0 || width == 0 || height == 0 {
            return Err(file.error("holds no pixels", FETCH));
        }
        let size = [count, height, width]
            .iter()
            .try_fold(1u64, |size, &side| size.checked_mul(u64::from(side)))
            .ok_or_else(|| file.error("claims more bytes than there can be", FETCH))?;
        let pixels = file.rest(size)?;

        let mut file = DataFile::open(labels, FORMAT)?;
        let header = file.header::<8>()?;
        let magic = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        if magic != LABELS {
            return Err(file.error(
                format!(
                    "starts with {magic:#010x} where a file of labels starts with {LABELS:#010x}"
                ),
                FORMAT,
            ));
        }
        let labelled = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if labelled != count {
            return Err(file.error(
                format!("holds {labelled} labels for {count} images"),
                "give the labels that belong to the images",
            ));
        }
        let labels = file.rest(u64::from(count))?;
        let classes = usize::from(labels.iter().max().copied().unwrap_or(0)) + 1;
        Ok(Self {
            name: file_name(images),
            classes: (0..classes).map(|class| class.to_string()).collect(),
            width: width as usize,
            height: height as usize,
            pixels,
            labels,
        })
    }
}

impl Dataset for Idx {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, sample: usize) -> Option<u32> {
        Some(u32::from(self.labels[sample]))
    }

    fn name(&self, sample: usize) -> String {
        format!("{}#{sample}", self.name)
    }

    fn load(&self, sample: usize) -> Result<Image, LoadError> {
        let size = self.width * self.height;
        let grey = &self.pixels[sample * size..(sample + 1) * size];
        let mut image = Image::scratch(self.width, self.height);
        for (pixel, &grey) in image.pixels.chunks_exact_mut(3).zip(grey) {
            pixel.fill(grey);
        }
        Ok(image)
    }

    fn fingerprint(&self) -> Result<String, LoadError> {
        let mut hash = blake3::Hasher::new();
        for side in [self.len(), self.height, self.width] {
            hash.update(&(side as u64).to_le_bytes());
        }
        hash.update(&self.pixels).update(&self.labels);
        Ok(hash.finalize().to_hex().to_string())
    }
}
