//! Writing a value as `torch.save` does.
//!
//! The pickle keeps to protocol 2 and to the instructions and names that `torch.load(weights_only=True)` accepts, so that
//! nobody has to trust the file to open it. Fixed dates and no serial number make the bytes a function of the value.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Write},
};

use super::Value;
use crate::{
    Array, Dtype,
    zip::write::{ALIGNMENT, Writer},
};

pub(super) fn write(value: &Value, archive_name: &str, out: &mut impl Write) -> io::Result<()> {
    if archive_name.is_empty() || archive_name.contains('/') {
        return Err(invalid("the name of the archive must be one of a folder"));
    }
    let mut pickle = Pickle::default();
    pickle.bytes.extend([0x80, 2]);
    pickle.value(value)?;
    pickle.bytes.push(b'.');
    let mut container = Writer::new(out);
    let mut record =
        |name: &str, bytes: &[u8]| container.record(&format!("{archive_name}/{name}"), bytes);
    record("data.pkl", &pickle.bytes)?;
    record(".format_version", b"1")?;
    record(".storage_alignment", ALIGNMENT.to_string().as_bytes())?;
    record("byteorder", b"little")?;
    for (key, array) in pickle.storages.iter().enumerate() {
        record(&format!("data/{key}"), &array.bytes)?;
    }
    record("version", b"3\n")?;
    container.finish()?;
    Ok(())
}

/// The instructions of a pickle.
#[derive(Default)]
struct Pickle<'a> {
    bytes: Vec<u8>,
    /// The arrays, whose places are the names of their storages.
    storages: Vec<&'a Array>,
    /// Where names and words that recur are stored.
    memo: HashMap<&'static [u8], u32>,
}

impl<'a> Pickle<'a> {
    fn value(&mut self, value: &'a Value) -> io::Result<()> {
        match value {
            Value::None => self.bytes.push(b'N'),
            Value::Bool(true) => self.bytes.push(0x88),
            Value::Bool(false) => self.bytes.push(0x89),
            Value::Integer(integer) => self.integer(*integer),
            Value::BigInteger(bytes) => {
                let length = u8::try_from(bytes.len())
                    .map_err(|_| invalid("an integer has more than 255 bytes"))?;
                self.bytes.extend([0x8a, length]);
                self.bytes.extend(bytes);
            }
            Value::Float(float) => {
                self.bytes.push(b'G');
                self.bytes.extend(float.to_be_bytes());
            }
            Value::Text(text) => self.text(text)?,
            Value::Bytes(bytes) => {
                // Protocol 2 has no bytes: they are spelt as text, one character each.
                self.recurring(b"c_codecs\nencode\n");
                self.text(&bytes.iter().map(|&b| char::from(b)).collect::<String>())?;
                self.recurring(b"X\x06\x00\x00\x00latin1");
                self.bytes.extend(b"\x86R");
            }
            Value::List(elements) => self.list(elements)?,
            Value::Tuple(elements) => match elements.len() {
                0 => self.bytes.push(b')'),
                short @ 1..=3 => {
                    self.values(elements)?;
                    self.bytes.push(0x84 + short as u8);
                }
                _ => {
                    self.bytes.push(b'(');
                    self.values(elements)?;
                    self.bytes.push(b't');
                }
            },
            Value::Set(elements) => {
                self.recurring(b"c__builtin__\nset\n");
                self.list(elements)?;
                self.bytes.extend(b"\x85R");
            }
            Value::Dict(entries) => {
                self.bytes.push(b'}');
                self.entries(entries)?;
            }
            Value::OrderedDict(entries) => {
                self.ordered_dict();
                self.entries(entries)?;
            }
            Value::Array(array) => self.tensor(array)?,
            Value::Dtype(dtype) => self.dtype(*dtype),
        }
        Ok(())
    }

    fn values(&mut self, elements: &'a [Value]) -> io::Result<()> {
        elements.iter().try_for_each(|element| self.value(element))
    }

    fn list(&mut self, elements: &'a [Value]) -> io::Result<()> {
        self.bytes.push(b']');
        if !elements.is_empty() {
            self.bytes.push(b'(');
            self.values(elements)?;
            self.bytes.push(b'e');
        }
        Ok(())
    }

    fn entries(&mut self, entries: &'a [(Value, Value)]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.bytes.push(b'(');
        for (key, value) in entries {
            self.value(key)?;
            self.value(value)?;
        }
        self.bytes.push(b'u');
        Ok(())
    }

    /// An empty `OrderedDict`.
    fn ordered_dict(&mut self) {
        self.recurring(b"ccollections\nOrderedDict\n");
        self.bytes.extend(b")R");
    }

    fn dtype(&mut self, dtype: Dtype) {
        self.bytes.extend(format!("ctorch\n{dtype}\n").into_bytes());
    }

    fn tensor(&mut self, array: &'a Array) -> io::Result<()> {
        if array.expected_bytes() != Some(array.bytes.len()) {
            return Err(invalid("an array's bytes are not those of its shape"));
        }
        let class = array.dtype.storage_class();
        self.recurring(match class {
            Some(_) => b"ctorch._utils\n_rebuild_tensor_v2\n",
            None => b"ctorch._utils\n_rebuild_tensor_v3\n",
        });
        self.bytes.extend(b"((");
        self.recurring(b"X\x07\x00\x00\x00storage");
        match class {
            Some(class) => self.bytes.extend(format!("ctorch\n{class}\n").into_bytes()),
            None => self.recurring(b"ctorch.storage\nUntypedStorage\n"),
        }
        self.text(&self.storages.len().to_string())?;
        self.recurring(b"X\x03\x00\x00\x00cpu");
        self.integer(match class {
            Some(_) => array.len() as i64,
            None => array.bytes.len() as i64,
        });
        self.bytes.extend(b"tQ");
        self.integer(0);
        self.lengths(&array.shape);
        let mut strides = vec![1; array.shape.len()];
        for i in (1..strides.len()).rev() {
            strides[i - 1] = strides[i] * array.shape[i].max(1);
        }
        self.lengths(&strides);
        // No gradient, no hooks.
        self.bytes.push(0x89);
        self.ordered_dict();
        if class.is_none() {
            self.dtype(array.dtype);
        }
        self.bytes.extend(b"tR");
        self.storages.push(array);
        Ok(())
    }

    fn lengths(&mut self, lengths: &[usize]) {
        self.bytes.push(b'(');
        for &length in lengths {
            self.integer(length as i64);
        }
        self.bytes.push(b't');
    }

    fn integer(&mut self, integer: i64) {
        match integer {
            0..=0xff => self.bytes.extend([b'K', integer as u8]),
            0x100..=0xffff => {
                self.bytes.push(b'M');
                self.bytes.extend((integer as u16).to_le_bytes());
            }
            _ => match i32::try_from(integer) {
                Ok(small) => {
                    self.bytes.push(b'J');
                    self.bytes.extend(small.to_le_bytes());
                }
                Err(_) => {
                    self.bytes.extend([0x8a, 8]);
                    self.bytes.extend(integer.to_le_bytes());
                }
            },
        }
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let length =
            u32::try_from(text.len()).map_err(|_| invalid("a text has more than 4 GiB"))?;
        self.bytes.push(b'X');
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(text.as_bytes());
        Ok(())
    }

    /// An instruction that pushes a constant, stored the first time and fetched from then on.
    fn recurring(&mut self, instruction: &'static [u8]) {
        let next = self.memo.len() as u32;
        match self.memo.get(instruction) {
            // There are fewer than 256 such constants.
            Some(&stored) => self.bytes.extend([b'h', stored as u8]),
            None => {
                self.memo.insert(instruction, next);
                self.bytes.extend(instruction);
                self.bytes.extend([b'q', next as u8]);
            }
        }
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, reason)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Limits, read_bytes},
        *,
    };

    fn bytes_of(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(value, "archive", &mut bytes).unwrap();
        bytes
    }

    /// Numbers that look random.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (self.0 >> 33) % n
        }

        fn bytes(&mut self, length: u64) -> Vec<u8> {
            (0..length).map(|_| self.below(256) as u8).collect()
        }

        fn array(&mut self) -> Array {
            const DTYPES: [Dtype; 6] = [
                Dtype::F32,
                Dtype::F64,
                Dtype::I64,
                Dtype::BF16,
                Dtype::U16,
                Dtype::F8E4M3,
            ];
            let shape: Vec<usize> = (0..self.below(4)).map(|_| self.below(5) as usize).collect();
            let dtype = DTYPES[self.below(6) as usize];
            let count = shape.iter().product::<usize>() * dtype.size();
            let bytes = self.bytes(count as u64);
            Array {
                dtype,
                shape,
                bytes,
            }
        }

        fn value(&mut self, depth: u32) -> Value {
            let kinds = if depth == 0 { 9 } else { 14 };
            let count = self.below(5);
            match self.below(kinds) {
                0 => Value::None,
                1 => Value::Bool(self.below(2) == 1),
                2 => {
                    let magnitude = self.below(1 << 30) as i64 * self.below(1 << 30) as i64;
                    Value::Integer(magnitude >> self.below(60))
                }
                3 => Value::Integer(-(self.below(1 << 30) as i64)),
                4 => Value::Float(self.below(1000) as f64 / 7.0),
                5 => Value::text(format!("näme-{count}")),
                6 => Value::Bytes(self.bytes(count)),
                7 => Value::Array(self.array()),
                8 => Value::Dtype(Dtype::F16),
                9 => Value::List((0..count).map(|_| self.value(depth - 1)).collect()),
                10 => Value::Tuple((0..count).map(|_| self.value(depth - 1)).collect()),
                11 => Value::Set((0..count).map(|i| Value::Integer(i as i64)).collect()),
                12 => Value::Dict(
                    (0..count)
                        .map(|i| (Value::Integer(i as i64), self.value(depth - 1)))
                        .collect(),
                ),
                _ => Value::ordered_dict(
                    (0..count).map(|i| (format!("k{i}"), self.value(depth - 1))),
                ),
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut random = Random(1);
        for _ in 0..500 {
            let value = random.value(4);
            let bytes = bytes_of(&value);
            assert_eq!(bytes, bytes_of(&value), "the bytes differ between writes");
            assert_eq!(read_bytes(&bytes, &Limits::default()), Ok(value));
        }
        for integer in [i64::MIN, i64::MAX, -1, 255, 256, 65_535, 65_536, 1 << 31] {
            let value = Value::Integer(integer);
            assert_eq!(read_bytes(&bytes_of(&value), &Limits::default()), Ok(value));
        }
        let big = Value::BigInteger(vec![0, 0, 0, 0, 0, 0, 0, 0, 0x40]);
        assert_eq!(read_bytes(&bytes_of(&big), &Limits::default()), Ok(big));
    }

    #[test]
    fn truncated_and_flipped_files_are_errors_or_values() {
        let value = Value::dict([
            ("epoch", Value::Integer(1)),
            (
                "state_dict",
                Value::ordered_dict([("w", Value::Array(Array::from_f32(&[2], &[1.0, 2.0])))]),
            ),
        ]);
        let bytes = bytes_of(&value);
        for length in 0..bytes.len() {
            assert!(read_bytes(&bytes[..length], &Limits::default()).is_err());
        }
        let mut flipped = bytes.clone();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                flipped[at] ^= 1 << bit;
                if let Ok(read) = read_bytes(&flipped, &Limits::default()) {
                    // Only bytes that carry nothing may change: padding, dates, versions.
                    assert_eq!(read, value, "bit {bit} of byte {at}");
                }
                flipped[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn arrays_that_contradict_their_shape_are_not_written() {
        let mut array = Array::from_f32(&[2], &[1.0, 2.0]);
        array.bytes.pop();
        let error = write(&Value::Array(array), "a", &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(write(&Value::None, "a/b", &mut Vec::new()).is_err());
    }
}
