//! What a file of `torch.save` can hold, as plain data.
//!
//! Dictionaries keep their order, since the order of a state dict is that of the network's parameters and optimizers
//! count parameters by it. Keys are values: an optimizer's state has integer keys.

use crate::{Array, Dtype};

/// A saved value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Integer(i64),
    /// A larger integer: two's complement, little-endian, as short as can be.
    BigInteger(Vec<u8>),
    /// A floating-point number, also one of NumPy's.
    Float(f64),
    /// A string; also a path or a device.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A tuple; also `torch.Size`.
    Tuple(Vec<Value>),
    /// A set, frozen or not, in the file's order.
    Set(Vec<Value>),
    /// A dictionary; also `argparse.Namespace` and the like.
    Dict(Vec<(Value, Value)>),
    /// An `OrderedDict`, such as a state dict.
    OrderedDict(Vec<(Value, Value)>),
    /// A tensor, a parameter, or an array of NumPy.
    Array(Array),
    /// An element type itself, such as `torch.float32`.
    Dtype(Dtype),
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A dictionary with string keys.
    pub fn dict<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        let entries = entries.into_iter();
        Self::Dict(entries.map(|(k, v)| (Self::text(k), v)).collect())
    }

    /// An `OrderedDict` with string keys, as state dicts are.
    pub fn ordered_dict<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        match Self::dict(entries) {
            Self::Dict(entries) => Self::OrderedDict(entries),
            other => other,
        }
    }

    /// The entries of a dictionary of either kind, in order.
    pub fn entries(&self) -> Option<&[(Value, Value)]> {
        match self {
            Self::Dict(entries) | Self::OrderedDict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entry of a dictionary under a string key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut entries = self.entries()?.iter();
        let found = entries.find(|(k, _)| k.as_text() == Some(key));
        found.map(|(_, value)| value)
    }

    /// The elements of a list, tuple or set.
    pub fn elements(&self) -> Option<&[Value]> {
        match self {
            Self::List(elements) | Self::Tuple(elements) | Self::Set(elements) => Some(elements),
            _ => None,
        }
    }

    /// The string, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one of at most 64 bits.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            _ => None,
        }
    }

    /// The number, if it is a floating-point number or an integer that fits one exactly.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(float) => Some(*float),
            Self::Integer(integer) if integer.unsigned_abs() <= 1 << 53 => Some(*integer as f64),
            _ => None,
        }
    }

    /// The array, if it is one.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_string_keys_only() {
        let value = Value::Dict(vec![
            (Value::Integer(0), Value::None),
            (Value::text("lr"), Value::Float(0.5)),
        ]);
        assert_eq!(value.get("lr").and_then(Value::as_float), Some(0.5));
        assert_eq!(value.get("0"), None);
        assert_eq!(Value::None.get("lr"), None);
        assert_eq!(Value::Integer((1 << 53) + 1).as_float(), None);
    }
}
