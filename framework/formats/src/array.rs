//! A tensor as it lies in a file: element type, shape, bytes.
//!
//! The bytes are row-major, contiguous and little-endian, whatever strides the file had. Conversions are exact or say
//! that they are not possible, with one stated exception: [`Array::to_f32`] rounds double precision.

use crate::{Dtype, error::Error};

/// A dense array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// The element type.
    pub dtype: Dtype,
    /// Lengths of the dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements, row-major, contiguous, little-endian: `product(shape) * dtype.size()` bytes.
    pub bytes: Vec<u8>,
}

impl Array {
    /// An array of single precision.
    ///
    /// # Panics
    /// If `values` has another length than `shape`.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Self {
        Self::checked(Dtype::F32, shape, encode(values, |v| v.to_le_bytes()))
    }

    /// An array of double precision.
    ///
    /// # Panics
    /// If `values` has another length than `shape`.
    pub fn from_f64(shape: &[usize], values: &[f64]) -> Self {
        Self::checked(Dtype::F64, shape, encode(values, |v| v.to_le_bytes()))
    }

    /// An array of 64-bit integers.
    ///
    /// # Panics
    /// If `values` has another length than `shape`.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Self {
        Self::checked(Dtype::I64, shape, encode(values, |v| v.to_le_bytes()))
    }

    fn checked(dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Self {
        assert_eq!(
            shape.iter().product::<usize>() * dtype.size(),
            bytes.len(),
            "the shape {shape:?} and the number of values"
        );
        let shape = shape.to_vec();
        Self {
            dtype,
            shape,
            bytes,
        }
    }

    /// Number of bytes that the shape asks for, if it is a number.
    pub(crate) fn expected_bytes(&self) -> Option<usize> {
        let mut lengths = self.shape.iter();
        lengths.try_fold(self.dtype.size(), |n, &d| n.checked_mul(d))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements of a floating type, as single precision: exact for `F32`, `F16`, `BF16` and the eight-bit types
    /// (NaN stays NaN), rounded to nearest for `F64`.
    ///
    /// # Errors
    /// The elements are integers, truth values or complex.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        Ok(match self.dtype {
            Dtype::F32 => self.map(f32::from_le_bytes),
            Dtype::F64 => self.map(|b| f64::from_le_bytes(b) as f32),
            Dtype::F16 => self.map(|b| half(u16::from_le_bytes(b))),
            Dtype::BF16 => self.map(|b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Dtype::F8E4M3 => self.map(|[b]| small::<4>(b)),
            Dtype::F8E5M2 => self.map(|[b]| small::<5>(b)),
            _ => return Err(self.refuse("floating-point numbers")),
        })
    }

    /// The elements of a floating type or an integer type of at most 32 bits, exactly, as double precision.
    ///
    /// # Errors
    /// The elements are 64-bit integers, truth values or complex.
    pub fn to_f64(&self) -> Result<Vec<f64>, Error> {
        Ok(match self.dtype {
            Dtype::F64 => self.map(f64::from_le_bytes),
            Dtype::I64 | Dtype::U64 | Dtype::Bool => {
                return Err(self.refuse("numbers that fit double precision"));
            }
            Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U32 | Dtype::U16 | Dtype::U8 => {
                let integers = self.to_i64()?;
                integers.into_iter().map(|i| i as f64).collect()
            }
            _ => self.to_f32()?.into_iter().map(f64::from).collect(),
        })
    }

    /// The elements of an integer type, exactly; truth values as 0 and 1.
    ///
    /// # Errors
    /// The elements are no integers, or one is above `i64::MAX`.
    pub fn to_i64(&self) -> Result<Vec<i64>, Error> {
        Ok(match self.dtype {
            Dtype::I64 => self.map(i64::from_le_bytes),
            Dtype::I32 => self.map(|b| i32::from_le_bytes(b).into()),
            Dtype::I16 => self.map(|b| i16::from_le_bytes(b).into()),
            Dtype::I8 => self.map(|b| i8::from_le_bytes(b).into()),
            Dtype::U32 => self.map(|b| u32::from_le_bytes(b).into()),
            Dtype::U16 => self.map(|b| u16::from_le_bytes(b).into()),
            Dtype::U8 => self.map(|[b]| b.into()),
            Dtype::Bool => self.map(|[b]| i64::from(b != 0)),
            Dtype::U64 => self
                .map(u64::from_le_bytes)
                .into_iter()
                .map(i64::try_from)
                .collect::<Result<_, _>>()
                .map_err(|_| self.refuse("integers below 2^63"))?,
            _ => return Err(self.refuse("integers")),
        })
    }

    /// Each element through `from`, whose parameter has the size of an element.
    fn map<T, const N: usize>(&self, from: impl Fn([u8; N]) -> T) -> Vec<T> {
        debug_assert_eq!(N, self.dtype.size());
        self.bytes
            .chunks_exact(N)
            .map(|piece| from(piece.try_into().expect("chunks have N bytes")))
            .collect()
    }

    fn refuse(&self, wanted: &str) -> Error {
        Error::content(format!(
            "has an array of element type {} and shape {:?} where {wanted} are wanted",
            self.dtype, self.shape
        ))
        .remedy("check that the file is of the network it is used for")
    }
}

/// The bytes of all values, one after another.
fn encode<T: Copy, const N: usize>(values: &[T], to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    // Filled in place: this becomes a copy of memory, unlike collecting byte by byte.
    let mut bytes = vec![0; N * values.len()];
    for (piece, &value) in bytes.chunks_exact_mut(N).zip(values) {
        piece.copy_from_slice(&to(value));
    }
    bytes
}

/// An IEEE half-precision number, exactly.
fn half(bits: u16) -> f32 {
    minifloat(bits & 0x8000 != 0, bits >> 10 & 0x1f, bits & 0x3ff, 10, 15)
}

/// An eight-bit number with `EXPONENT` bits of exponent, exactly.
fn small<const EXPONENT: u32>(bits: u8) -> f32 {
    let fraction_bits = 7 - EXPONENT;
    let exponent = u16::from(bits >> fraction_bits) & ((1 << EXPONENT) - 1);
    let fraction = u16::from(bits) & ((1 << fraction_bits) - 1);
    let negative = bits & 0x80 != 0;
    if EXPONENT == 5 {
        return minifloat(negative, exponent, fraction, 2, 15);
    }
    if bits & 0x7f == 0x7f {
        return f32::NAN;
    }
    // The highest exponent is an ordinary one; one more bit of exponent keeps it from meaning infinity.
    let sign = if negative { -1.0 } else { 1.0 };
    sign * finite(exponent, fraction, 3, 7)
}

/// A number of IEEE's kind, whose exponent of all ones means infinity or NaN.
fn minifloat(negative: bool, exponent: u16, fraction: u16, fraction_bits: i32, bias: i32) -> f32 {
    let sign = if negative { -1.0 } else { 1.0 };
    sign * match (exponent, fraction) {
        (31, 0) => f32::INFINITY,
        (31, _) => f32::NAN,
        _ => finite(exponent, fraction, fraction_bits, bias),
    }
}

fn finite(exponent: u16, fraction: u16, fraction_bits: i32, bias: i32) -> f32 {
    let (hidden, exponent) = match exponent {
        0 => (0.0, 1),
        _ => (2f32.powi(fraction_bits), i32::from(exponent)),
    };
    (hidden + f32::from(fraction)) * 2f32.powi(exponent - bias - fraction_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_exact() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x0001, 5.9604645e-8),
            (0x03ff, 6.097555e-5),
            (0x0400, 6.1035156e-5),
            (0x3c00, 1.0),
            (0x3555, 0.33325195),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), value, "{bits:#06x}");
        }
        assert!(half(0x7e00).is_nan());
        assert!(half(0x8000).is_sign_negative());
    }

    #[test]
    fn eight_bits_are_exact() {
        for (bits, value) in [
            (0x01, 2f32.powi(-9)),
            (0x08, 2f32.powi(-6)),
            (0x38, 1.0),
            (0x7e, 448.0),
            (0xfe, -448.0),
        ] {
            assert_eq!(small::<4>(bits), value, "{bits:#04x}");
        }
        assert!(small::<4>(0xff).is_nan());
        for (bits, value) in [
            (0x01, 2f32.powi(-16)),
            (0x3c, 1.0),
            (0x7b, 57344.0),
            (0xfc, f32::NEG_INFINITY),
        ] {
            assert_eq!(small::<5>(bits), value, "{bits:#04x}");
        }
        assert!(small::<5>(0x7f).is_nan());
    }

    #[test]
    fn conversions_are_exact_or_refused() {
        let floats = Array::from_f32(&[2], &[1.5, -0.0]);
        assert_eq!(floats.to_f64().unwrap(), [1.5, -0.0]);
        assert!(floats.to_i64().is_err());
        let integers = Array::from_i64(&[], &[i64::MIN]);
        assert_eq!(integers.to_i64().unwrap(), [i64::MIN]);
        assert!(integers.to_f32().is_err() && integers.to_f64().is_err());
        let mut unsigned = Array {
            dtype: Dtype::U64,
            ..integers
        };
        assert!(unsigned.to_i64().is_err());
        unsigned.bytes[7] = 0x7f;
        assert_eq!(unsigned.to_i64().unwrap(), [0x7f00_0000_0000_0000]);
    }
}
