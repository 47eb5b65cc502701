//! Element types, and what each is called in the three naming schemes that files use.
//!
//! PyTorch has a storage class for the older types (`FloatStorage`); the newer ones have a dtype name only and lie in
//! storages counted in bytes.

use std::fmt;

/// The element type of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE double precision.
    F64,
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an `F32`.
    BF16,
    /// Eight bits with four of exponent and three of fraction, no infinities, one NaN.
    F8E4M3,
    /// Eight bits with five of exponent and two of fraction.
    F8E5M2,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 64 bits.
    U64,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 8 bits.
    U8,
    /// One byte, 0 or 1.
    Bool,
    /// Two `F32`, real and imaginary.
    Complex64,
    /// Two `F64`, real and imaginary.
    Complex128,
}

/// Dtype, name in PyTorch, class of its storages if it has one.
const NAMES: [(Dtype, &str, Option<&str>); 17] = [
    (Dtype::F64, "float64", Some("DoubleStorage")),
    (Dtype::F32, "float32", Some("FloatStorage")),
    (Dtype::F16, "float16", Some("HalfStorage")),
    (Dtype::BF16, "bfloat16", Some("BFloat16Storage")),
    (Dtype::F8E4M3, "float8_e4m3fn", None),
    (Dtype::F8E5M2, "float8_e5m2", None),
    (Dtype::I64, "int64", Some("LongStorage")),
    (Dtype::I32, "int32", Some("IntStorage")),
    (Dtype::I16, "int16", Some("ShortStorage")),
    (Dtype::I8, "int8", Some("CharStorage")),
    (Dtype::U64, "uint64", None),
    (Dtype::U32, "uint32", None),
    (Dtype::U16, "uint16", None),
    (Dtype::U8, "uint8", Some("ByteStorage")),
    (Dtype::Bool, "bool", Some("BoolStorage")),
    (Dtype::Complex64, "complex64", Some("ComplexFloatStorage")),
    (
        Dtype::Complex128,
        "complex128",
        Some("ComplexDoubleStorage"),
    ),
];

impl Dtype {
    /// Size of an element in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Complex128 => 16,
            Self::F64 | Self::I64 | Self::U64 | Self::Complex64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::F8E4M3 | Self::F8E5M2 | Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The name that PyTorch gives it, such as `float32`.
    pub fn name(self) -> &'static str {
        self.names().1
    }

    /// The dtype of a name of PyTorch, such as `float32`.
    pub fn of_name(name: &str) -> Option<Self> {
        let found = NAMES.iter().find(|(_, n, _)| *n == name);
        found.map(|(dtype, ..)| *dtype)
    }

    /// The class of PyTorch's storages of it, if there is one.
    pub(crate) fn storage_class(self) -> Option<&'static str> {
        self.names().2
    }

    /// The dtype of a storage class of PyTorch, such as `FloatStorage`.
    pub(crate) fn of_storage_class(class: &str) -> Option<Self> {
        let found = NAMES.iter().find(|(.., c)| *c == Some(class));
        found.map(|(dtype, ..)| *dtype)
    }

    fn names(self) -> &'static (Self, &'static str, Option<&'static str>) {
        NAMES
            .iter()
            .find(|(dtype, ..)| *dtype == self)
            .expect("the table has every dtype")
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for (dtype, name, class) in NAMES {
            assert_eq!(Dtype::of_name(name), Some(dtype));
            assert_eq!(dtype.name(), name);
            if let Some(class) = class {
                assert_eq!(Dtype::of_storage_class(class), Some(dtype));
            }
        }
        assert_eq!(Dtype::of_name("float"), None);
    }
}
