//! The candidates that a loss compares with, in single or half precision.
//!
//! A queue in half precision takes half the memory. It is never made single precision as a whole: the losses walk it in
//! chunks, and each chunk is converted as it is read.

use std::{borrow::Cow, ops::Range};

use dfdx::shapes::HasShape;

use crate::tensor::{Features, Plain, values};

/// The candidates of a loss, a vector a row.
#[derive(Clone, Copy)]
pub enum Candidates<'a> {
    /// In single precision.
    Full(&'a Plain<Features>),
    /// In half precision.
    Half(&'a HalfRows),
}

impl<'a> From<&'a Plain<Features>> for Candidates<'a> {
    fn from(rows: &'a Plain<Features>) -> Self {
        Self::Full(rows)
    }
}

impl<'a> From<&'a HalfRows> for Candidates<'a> {
    fn from(rows: &'a HalfRows) -> Self {
        Self::Half(rows)
    }
}

impl<'a> Candidates<'a> {
    /// Their number and width.
    pub fn shape(self) -> Features {
        match self {
            Self::Full(rows) => *rows.shape(),
            Self::Half(rows) => rows.shape(),
        }
    }

    /// The numbers, row after row.
    pub fn vectors(self) -> Vectors<'a> {
        match self {
            Self::Full(rows) => Vectors::Full(values(rows)),
            Self::Half(rows) => Vectors::Half(rows),
        }
    }
}

/// The numbers of candidates in host memory.
pub enum Vectors<'a> {
    /// In single precision.
    Full(Cow<'a, [f32]>),
    /// In half precision.
    Half(&'a HalfRows),
}

impl Vectors<'_> {
    /// The numbers in `range`; `scratch` is used where they must be converted.
    pub fn read<'s>(&'s self, range: Range<usize>, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        match self {
            Self::Full(all) => &all[range],
            Self::Half(rows) => {
                scratch.resize(range.len(), 0.0);
                widen(&rows.bits[range], scratch);
                scratch
            }
        }
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Full(all) => all.len(),
            Self::Half(rows) => rows.bits.len(),
        }
    }
}

/// Rows of numbers in half precision (IEEE 754 binary16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfRows {
    bits: Vec<u16>,
    width: usize,
}

impl HalfRows {
    /// The rows of `width` numbers in `rows`, each number the nearest in half precision.
    ///
    /// # Panics
    /// If `width` is 0.
    pub fn of(rows: &[f32], width: usize) -> Self {
        assert!(width > 0, "a row has a width");
        Self {
            bits: rows.iter().copied().map(narrowed).collect(),
            width,
        }
    }

    /// Number of rows, and their width.
    pub fn shape(&self) -> Features {
        (self.bits.len() / self.width, self.width)
    }

    /// Overwrites rows from `first` on.
    ///
    /// # Panics
    /// If `rows` does not fit.
    pub fn replace(&mut self, first: usize, rows: &[f32]) {
        let start = first * self.width;
        let place = &mut self.bits[start..start + rows.len()];
        for (bits, &value) in place.iter_mut().zip(rows) {
            *bits = narrowed(value);
        }
    }

    /// All numbers in single precision, row after row.
    pub fn widened(&self) -> Vec<f32> {
        let mut all = vec![0.0; self.bits.len()];
        widen(&self.bits, &mut all);
        all
    }
}

/// The number in half precision nearest to `value`, the even one of two; beyond its range infinity.
fn narrowed(value: f32) -> u16 {
    let bits = value.to_bits();
    let (sign, size) = ((bits >> 16) as u16 & 0x8000, bits & 0x7fff_ffff);
    let half = if size > 0x7f80_0000 {
        0x7e00
    } else if size < 0x3880_0000 {
        // Below 2⁻¹⁴ numbers are multiples of 2⁻²⁴.
        (f32::from_bits(size) * 16_777_216.0).round_ties_even() as u16
    } else {
        // Adding just under half of the last place, and one more where it is odd, carries as rounding does.
        let rounded = size + 0x0fff + ((size >> 13) & 1);
        ((rounded.saturating_sub(0x3800_0000)) >> 13).min(0x7c00) as u16
    };
    sign | half
}

/// Numbers of half precision in single precision, exactly. Free of branches, so that it becomes vector code.
fn widen(half: &[u16], full: &mut [f32]) {
    // 2¹¹²: the difference of the exponents' biases. Numbers below 2⁻¹⁴ come out right, too.
    let scale = f32::from_bits(0x7780_0000);
    for (&half, full) in half.iter().zip(full) {
        let size = u32::from(half & 0x7fff);
        let value = (f32::from_bits(size << 13) * scale).to_bits();
        let infinite = if size >= 0x7c00 { 0x7f80_0000 } else { 0 };
        *full = f32::from_bits(value | infinite | u32::from(half & 0x8000) << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widened(half: u16) -> f32 {
        let mut full = [0.0];
        widen(&[half], &mut full);
        full[0]
    }

    #[test]
    fn every_number_of_half_precision_comes_back() {
        for half in 0..=u16::MAX {
            let full = widened(half);
            let (exponent, fraction) = (i32::from(half >> 10 & 31), f32::from(half & 0x3ff));
            let size = match exponent {
                0 => fraction * 2f32.powi(-24),
                31 if fraction > 0.0 => f32::NAN,
                31 => f32::INFINITY,
                _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
            };
            let expected = if half >> 15 == 1 { -size } else { size };
            match size.is_nan() {
                true => assert!(full.is_nan() && widened(narrowed(full)).is_nan()),
                false => {
                    assert_eq!(full.to_bits(), expected.to_bits(), "{half:#x}");
                    assert_eq!(narrowed(full), half);
                }
            }
        }
    }

    #[test]
    fn others_become_the_nearest_and_the_even_of_two() {
        for half in 0..0x7bffu16 {
            let (low, high) = (widened(half), widened(half + 1));
            let middle = low + (high - low) / 2.0;
            let even = half + (half & 1);
            assert_eq!(narrowed(middle), even, "{half:#x}");
            assert_eq!(narrowed(f32::from_bits(middle.to_bits() - 1)), half);
            assert_eq!(narrowed(f32::from_bits(middle.to_bits() + 1)), half + 1);
        }
        for (value, half) in [
            (65_519.996, 0x7bff),
            (65_520.0, 0x7c00),
            (f32::MAX, 0x7c00),
            (-f32::INFINITY, 0xfc00),
            (1e-30, 0),
            (-0.0, 0x8000),
        ] {
            assert_eq!(narrowed(value), half, "{value}");
        }
    }

    #[test]
    fn rows_are_replaced_and_read() {
        let mut rows = HalfRows::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2);
        rows.replace(1, &[0.5, -0.25]);
        assert_eq!(rows.shape(), (3, 2));
        assert_eq!(rows.widened(), [1.0, 2.0, 0.5, -0.25, 5.0, 6.0]);
        let mut scratch = Vec::new();
        let vectors = Candidates::from(&rows).vectors();
        assert_eq!(vectors.read(2..5, &mut scratch), [0.5, -0.25, 5.0]);
    }
}
