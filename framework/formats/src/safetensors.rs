//! safetensors files: a header of JSON, then the arrays.
//!
//! The `safetensors` crate parses the header and checks that the arrays fill the file without gaps. A key that occurs
//! twice is refused here: parsers of JSON disagree on which of the two counts, so that such a file would mean different
//! weights to different programs. Arrays are read one by one, so that the file is never in memory twice.

mod unique;

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Cursor, ErrorKind, Read, Seek, Write},
    path::Path,
};

use safetensors::{
    Dtype as Code,
    tensor::{Metadata, TensorInfo},
};
use serde_json::json;

use self::unique::Unique;
use crate::{
    Array, Dtype,
    error::{Error, visible},
    stranger::{ENOUGH, stranger},
    zip::{length, read_at},
};

/// The longest header that is believed, in bytes: room for a hundred thousand arrays.
const HEADER_LIMIT: u64 = 16 << 20;
/// The bytes before the header, which tell its length.
const PREFIX: u64 = 8;
/// The key of the free text among those of the arrays.
const METADATA: &str = "__metadata__";

/// Each element type and its code in the format.
const CODES: [(Dtype, Code, &str); 15] = [
    (Dtype::F64, Code::F64, "F64"),
    (Dtype::F32, Code::F32, "F32"),
    (Dtype::F16, Code::F16, "F16"),
    (Dtype::BF16, Code::BF16, "BF16"),
    (Dtype::F8E4M3, Code::F8_E4M3, "F8_E4M3"),
    (Dtype::F8E5M2, Code::F8_E5M2, "F8_E5M2"),
    (Dtype::I64, Code::I64, "I64"),
    (Dtype::I32, Code::I32, "I32"),
    (Dtype::I16, Code::I16, "I16"),
    (Dtype::I8, Code::I8, "I8"),
    (Dtype::U64, Code::U64, "U64"),
    (Dtype::U32, Code::U32, "U32"),
    (Dtype::U16, Code::U16, "U16"),
    (Dtype::U8, Code::U8, "U8"),
    (Dtype::Bool, Code::BOOL, "BOOL"),
];

/// The content of a safetensors file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// The free text of the header.
    pub metadata: BTreeMap<String, String>,
    /// The arrays by name, in the order in which their bytes lie in the file.
    pub arrays: Vec<(String, Array)>,
}

impl File {
    /// The array of this name.
    pub fn get(&self, name: &str) -> Option<&Array> {
        let found = self.arrays.iter().find(|(n, _)| n == name);
        found.map(|(_, array)| array)
    }
}

/// Reads the file at `path`.
///
/// # Errors
/// The file cannot be read, is damaged, is no safetensors file, or has a key twice or an unknown element type.
pub fn read(path: &Path) -> Result<File, Error> {
    let file = crate::open(path).map_err(|e| e.at(path))?;
    read_from(file).map_err(|e| e.at(path))
}

/// Reads a file with this content.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8]) -> Result<File, Error> {
    read_from(Cursor::new(bytes))
}

fn read_from(mut source: impl Read + Seek) -> Result<File, Error> {
    let length = length(&mut source)?;
    let start = read_at(&mut source, 0, length.min(ENOUGH))?;
    // Some lengths of a header look like the start of something else; the brace behind them settles that.
    if start.get(PREFIX as usize) != Some(&b'{')
        && let Some((what, remedy)) = stranger(&start)
    {
        return Err(Error::content(format!("is no file of weights, but {what}")).remedy(remedy));
    }
    if length < PREFIX {
        return Err(damaged(format!("it has only {length} bytes")));
    }
    let prefix = read_at(&mut source, 0, PREFIX)?;
    let header_length =
        u64::from_le_bytes(prefix.try_into().expect("as many bytes were asked for"));
    if header_length > HEADER_LIMIT {
        return Err(damaged("it does not start with the length of a header"));
    }
    if header_length > length - PREFIX {
        return Err(damaged(format!(
            "its header of {header_length} bytes is cut off"
        )));
    }
    let header = read_at(&mut source, PREFIX, header_length)?;
    let wrong =
        |e: serde_json::Error| damaged(format!("its header is wrong: {}", visible(&e.to_string())));
    let Unique = serde_json::from_slice(&header).map_err(wrong)?;
    // Offsets and sizes are checked with it.
    let header: Metadata = serde_json::from_slice(&header).map_err(wrong)?;
    let start = PREFIX + header_length;
    let size = header.data_len() as u64;
    if size != length - start {
        return Err(damaged(format!(
            "its arrays have {size} bytes, and there are {} for them",
            length - start
        )));
    }
    let mut infos: Vec<_> = header.tensors().into_iter().collect();
    infos.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
    let arrays = infos
        .into_iter()
        .map(|(name, info)| {
            let array = array(&mut source, start, info)
                .map_err(|reason| damaged(format!("its array `{}` {reason}", visible(&name))))?;
            Ok((name, array))
        })
        .collect::<Result<_, Error>>()?;
    let metadata = header.metadata().iter().flatten();
    Ok(File {
        metadata: metadata.map(|(k, v)| (k.clone(), v.clone())).collect(),
        arrays,
    })
}

/// The array that `info` describes; `start` is where the header ends.
fn array(source: &mut (impl Read + Seek), start: u64, info: &TensorInfo) -> Result<Array, String> {
    let known = CODES.iter().find(|(_, code, _)| *code == info.dtype);
    let &(dtype, ..) = known.ok_or_else(|| {
        format!(
            "has the element type {}, which weights do not have",
            info.dtype
        )
    })?;
    let shape = info.shape.clone();
    // Zero lengths count as one, so that no order of multiplying the shape overflows.
    let most = shape
        .iter()
        .try_fold(dtype.size(), |n, &d| n.checked_mul(d.max(1)));
    if most.is_none() {
        return Err("has an absurd shape".to_owned());
    }
    let (first, end) = info.data_offsets;
    let bytes = read_at(source, start + first as u64, (end - first) as u64)
        .map_err(|e| e.problem().to_owned())?;
    Ok(Array {
        dtype,
        shape,
        bytes,
    })
}

/// Writes a safetensors file; the same content gives the same bytes.
///
/// Arrays of larger elements come first, so that each lies at a multiple of its element size, and otherwise in the
/// order given.
///
/// # Errors
/// Writing fails, an element type does not exist in the format, a name occurs twice or is reserved, or an array's bytes
/// are not those of its shape.
pub fn write(file: &File, out: &mut impl Write) -> io::Result<()> {
    let invalid = |reason: String| io::Error::new(ErrorKind::InvalidInput, reason);
    let mut arrays: Vec<&(String, Array)> = file.arrays.iter().collect();
    arrays.sort_by_key(|(_, array)| std::cmp::Reverse(array.dtype.size()));
    let mut header = serde_json::Map::new();
    if !file.metadata.is_empty() {
        header.insert(METADATA.to_owned(), json!(file.metadata));
    }
    let mut position = 0;
    for (name, array) in &arrays {
        let known = CODES.iter().find(|(dtype, ..)| *dtype == array.dtype);
        let (_, _, code) = known
            .ok_or_else(|| invalid(format!("safetensors files have no {} arrays", array.dtype)))?;
        if array.expected_bytes() != Some(array.bytes.len()) {
            return Err(invalid(format!(
                "the bytes of the array `{name}` are not those of its shape"
            )));
        }
        let end = position + array.bytes.len();
        let entry = json!({
            "dtype": code,
            "shape": array.shape,
            "data_offsets": [position, end],
        });
        if name == METADATA || header.insert(name.clone(), entry).is_some() {
            return Err(invalid(format!(
                "the name `{name}` is reserved or occurs twice"
            )));
        }
        position = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(PREFIX as usize), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, array) in arrays {
        out.write_all(&array.bytes)?;
    }
    Ok(())
}

fn damaged(reason: impl fmt::Display) -> Error {
    Error::content(format!("is no whole safetensors file: {reason}"))
        .remedy("fetch or write the file again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> File {
        let wide = Array::from_f32(&[2, 2], &[1.0, -2.0, 0.5, f32::MIN_POSITIVE]);
        let truths = Array {
            dtype: Dtype::Bool,
            shape: vec![3],
            bytes: vec![1, 0, 1],
        };
        File {
            metadata: [("format", "pt"), ("a", "\"quoted\"")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            arrays: vec![
                ("count".to_owned(), Array::from_i64(&[], &[7])),
                ("w".to_owned(), wide),
                ("none".to_owned(), Array::from_f32(&[0, 3], &[])),
                ("truths".to_owned(), truths),
            ],
        }
    }

    fn bytes_of(file: &File) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(file, &mut bytes).unwrap();
        bytes
    }

    /// A file of the format with this header and data.
    fn raw(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 1);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = bytes_of(&example());
        let read = read_bytes(&bytes).unwrap();
        assert_eq!(bytes_of(&read), bytes);
        assert_eq!(read.metadata, example().metadata);
        for (name, array) in example().arrays {
            assert_eq!(read.get(&name), Some(&array));
        }
        // The crate that everybody reads with agrees.
        let other = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(other.tensor("truths").unwrap().data(), [1, 0, 1]);
        assert_eq!(other.len(), 4);
    }

    #[test]
    fn truncated_and_flipped_files_do_not_panic() {
        let bytes = bytes_of(&example());
        for length in 0..bytes.len() {
            assert!(read_bytes(&bytes[..length]).is_err());
        }
        assert!(read_bytes(&[&bytes[..], b"x"].concat()).is_err());
        let mut flipped = bytes.clone();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                flipped[at] ^= 1 << bit;
                let _ = read_bytes(&flipped);
                flipped[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        let one = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        assert!(read_bytes(&raw(&format!(r#"{{"w":{one}}}"#), 4)).is_ok());
        for (what, header, data, reason) in [
            (
                "twice",
                format!(r#"{{"w":{one},"w":{one}}}"#),
                4,
                "key `w` twice",
            ),
            (
                "twice, spelt differently",
                format!(r#"{{"w":{one},"\u0077":{one}}}"#),
                4,
                "key `w` twice",
            ),
            (
                "free text twice",
                format!(r#"{{"__metadata__":{{"a":"1","a":"2"}},"w":{one}}}"#),
                4,
                "key `a` twice",
            ),
            (
                "shape twice",
                r#"{"w":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}"#.to_owned(),
                4,
                "key `shape` twice",
            ),
            (
                "product overflows",
                r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#
                    .to_owned(),
                0,
                "header is wrong",
            ),
            (
                "product overflows but for a zero",
                r#"{"w":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}"#
                    .to_owned(),
                0,
                "absurd shape",
            ),
            (
                "offsets turned round",
                r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#.to_owned(),
                4,
                "header is wrong",
            ),
            (
                "offset overflows",
                r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}}"#
                    .to_owned(),
                4,
                "header is wrong",
            ),
            (
                "negative length",
                r#"{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#.to_owned(),
                4,
                "header is wrong",
            ),
            (
                "foreign type",
                r#"{"w":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#.to_owned(),
                1,
                "element type F4",
            ),
            ("a hole", format!(r#"{{"w":{one}}}"#), 5, "there are 5"),
            (
                "two arrays in one place",
                format!(r#"{{"v":{one},"w":{one}}}"#),
                4,
                "header is wrong",
            ),
            ("no object", "[]".to_owned(), 0, "header is wrong"),
            ("deep", "[".repeat(100_000), 0, "header is wrong"),
        ] {
            let error = read_bytes(&raw(&header, data)).expect_err(what);
            assert!(error.problem().contains(reason), "{what}: {error}");
        }
        let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        assert!(read_bytes(&huge).is_err());
    }

    #[test]
    fn what_does_not_fit_the_format_is_not_written() {
        let mut array = Array::from_f32(&[1], &[1.0]);
        let refused = |arrays: Vec<(&str, &Array)>| {
            let arrays = arrays.into_iter();
            let file = File {
                arrays: arrays.map(|(n, a)| (n.to_owned(), a.clone())).collect(),
                ..File::default()
            };
            write(&file, &mut Vec::new()).is_err()
        };
        assert!(!refused(vec![("w", &array)]));
        assert!(refused(vec![("w", &array), ("w", &array)]));
        assert!(refused(vec![(METADATA, &array)]));
        array.bytes.pop();
        assert!(refused(vec![("w", &array)]));
        let complex = Array {
            dtype: Dtype::Complex64,
            shape: vec![],
            bytes: vec![0; 8],
        };
        assert!(refused(vec![("w", &complex)]));
    }
}
