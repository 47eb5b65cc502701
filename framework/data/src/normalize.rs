//! Normalisation: from bytes to the floats a network reads.
//!
//! The values are those of torchvision's `ToTensor` and `Normalize` in single precision, `(byte / 255 - mean) /
//! deviation` with each step rounded. The layout is NHWC, unlike torchvision's.

use crate::{
    kernel::{
        Level,
        normalize::{Divisor, Table, compute, look_up, normalized},
    },
    view::{Replacement, View},
};

/// Channel means and deviations to normalise with.
#[derive(Clone, Debug)]
pub struct Normalization {
    mean: [f32; 3],
    deviation: [Divisor; 3],
    table: Table,
    /// Whether the vector arithmetic returns exactly the table, as it does for ImageNet's constants.
    computable: bool,
}

/// Mean of the ImageNet training images, red, green, blue, as a part of 255.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];

/// Standard deviation of the ImageNet training images, likewise.
pub const IMAGENET_DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

impl Normalization {
    /// Normalisation by channel means and deviations, both as parts of 255.
    ///
    /// # Panics
    /// A deviation is not above 0.
    pub fn new(mean: [f32; 3], deviation: [f32; 3]) -> Self {
        assert!(
            deviation.iter().all(|&d| d > 0.0),
            "a standard deviation is above 0"
        );
        let table: Table = std::array::from_fn(|c| {
            std::array::from_fn(|byte| (byte as f32 / 255.0 - mean[c]) / deviation[c])
        });
        let divisors = deviation.map(Divisor::new);
        let full = Divisor::new(255.0);
        let computable = (0..3).all(|c| {
            (0..=255u8).all(|byte| {
                let value = normalized(byte, full, mean[c], divisors[c]);
                value.to_bits() == table[c][usize::from(byte)].to_bits()
            })
        });
        Self {
            mean,
            deviation: divisors,
            table,
            computable,
        }
    }

    /// ImageNet's constants.
    pub fn imagenet() -> Self {
        Self::new(IMAGENET_MEAN, IMAGENET_DEVIATION)
    }

    /// Writes a view, `[height, width, 3]`, to `out`; hidden pixels become what replaces them.
    ///
    /// # Panics
    /// `out` has another length than the view.
    pub fn write(&self, view: &mut View<'_>, out: &mut [f32]) {
        let image = view.image();
        assert_eq!(
            out.len(),
            image.pixels.len(),
            "a slot has the size of its view"
        );
        // Without fused multiply-add in hardware the table is faster.
        if self.computable && Level::current() > Level::Portable {
            compute(&image.pixels, out, &self.mean, &self.deviation);
        } else {
            look_up(&image.pixels, out, &self.table);
        }
        let means = match view.replaced() {
            Some(replaced) if replaced.contains(&Some(Replacement::Mean)) => channel_means(out),
            _ => [0.0; 3],
        };
        for (pixel, replaced) in out
            .chunks_exact_mut(3)
            .zip(view.replaced().unwrap_or_default())
        {
            match replaced {
                None => {}
                Some(Replacement::Zero) => pixel.fill(0.0),
                Some(Replacement::Mean) => pixel.copy_from_slice(&means),
            }
        }
    }
}

/// Sums of each channel that are kept apart, times the channels.
const LANES: usize = 24;

/// The mean of each channel of `[pixels, 3]`.
fn channel_means(values: &[f32]) -> [f32; 3] {
    // Many sums beside each other, as additions to one sum wait for each other.
    let mut lanes = [0.0f64; LANES];
    for block in values.chunks(LANES) {
        for (sum, &value) in lanes.iter_mut().zip(block) {
            *sum += f64::from(value);
        }
    }
    let mut sums = [0.0; 3];
    for (i, sum) in lanes.iter().enumerate() {
        sums[i % 3] += sum;
    }
    sums.map(|sum| (sum / (values.len() / 3) as f64) as f32)
}

impl Default for Normalization {
    fn default() -> Self {
        Self::imagenet()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;

    #[test]
    fn every_byte_gets_the_rounded_steps_at_every_level() {
        let normalization = Normalization::imagenet();
        assert!(normalization.computable);
        let grey: Vec<u8> = (0..=255).chain(0..=255).chain(0..3).collect();
        let image = Image::from_grey(grey.len(), 1, &grey);
        for level in Level::available() {
            let mut out = vec![f32::NAN; image.pixels.len()];
            level.with(|| normalization.write(&mut View::of(&image), &mut out));
            for (pixel, &byte) in out.chunks(3).zip(&grey) {
                for c in 0..3 {
                    let expected =
                        (f32::from(byte) / 255.0 - IMAGENET_MEAN[c]) / IMAGENET_DEVIATION[c];
                    assert_eq!(pixel[c].to_bits(), expected.to_bits());
                }
            }
        }
    }

    #[test]
    fn hidden_pixels_become_zero_or_the_mean_of_the_view() {
        let image = Image::from_grey(4, 1, &[10, 20, 30, 100]);
        let mut view = View::of(&image);
        view.hide(&[true, false, false, false], Replacement::Zero);
        view.hide(&[false, false, true, false], Replacement::Mean);
        let normalization = Normalization::new([0.0; 3], [1.0 / 255.0, 2.0 / 255.0, 1.0]);
        let mut out = [1.0; 12];
        normalization.write(&mut view, &mut out);
        // The mean over all four bytes is 40, whether they are hidden or not.
        let expected = [
            [0.0; 3],
            [20.0, 10.0, 20.0 / 255.0],
            [40.0, 20.0, 40.0 / 255.0],
            [100.0, 50.0, 100.0 / 255.0],
        ];
        for (value, expected) in out.iter().zip(expected.as_flattened()) {
            assert!((value - expected).abs() < 1e-4, "{value} {expected}");
        }
    }
}
