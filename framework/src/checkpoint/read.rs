//! Reading a checkpoint that may come from anywhere.
//!
//! What a file is shows in its first bytes, not in its name: safetensors, or one of the containers of `torch.save`.
//! Nothing in it is run, nothing is allocated far beyond its own size, and every promise of its header is checked before
//! it is used. Files of others may hold half or double precision; both become `f32`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::Metadata};

use super::{Checkpoint, Tensor, torch};
use crate::failure::{Failure, disk};

/// The longest header that is believed, in bytes: room for hundreds of thousands of tensors.
const HEADER_LIMIT: u64 = 64 << 20;

/// Reads the file at `path`.
///
/// # Errors
/// The file is missing, no checkpoint, damaged, names code that it wants run, or holds an element type that weights do
/// not have; the message names the path and what is wrong.
pub fn read(path: &Path) -> Result<Checkpoint, Failure> {
    match container(path)? {
        Container::Safetensors => safetensors(path),
        Container::Torch => torch::read(path),
    }
}

/// What a checkpoint lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    /// A safetensors file.
    Safetensors,
    /// A file of `torch.save`, of whatever age.
    Torch,
}

/// What the file at `path` is, from its first bytes; a file that is neither passes for safetensors, whose reader says
/// what is wrong.
///
/// # Errors
/// It is no file, or cannot be read.
pub(crate) fn container(path: &Path) -> Result<Container, Failure> {
    let (file, _) = open(path)?;
    let mut start = Vec::new();
    file.take(512)
        .read_to_end(&mut start)
        .map_err(|error| disk("read", path, &error))?;
    // A header's length may look like the start of a pickle; the brace behind it settles that.
    let pickle = start.first() == Some(&0x80) && start.get(8) != Some(&b'{');
    let tar = start.get(257..262) == Some(b"ustar");
    Ok(match start.starts_with(b"PK") || pickle || tar {
        true => Container::Torch,
        false => Container::Safetensors,
    })
}

fn safetensors(path: &Path) -> Result<Checkpoint, Failure> {
    let bytes = contents(path)?;
    let damaged = |reason: String| {
        Failure::mistake(format!(
            "{} is no whole safetensors file: {reason}",
            path.display()
        ))
        .help("give a checkpoint that smallfry wrote, or another safetensors file of weights")
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(reason(&e)))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(reason(&e)))?;
    let tensors = file
        .iter()
        .map(|(name, view)| {
            let tensor = convert(view.dtype(), view.shape(), view.data())
                .map_err(|reason| damaged(format!("tensor `{}` {reason}", visible(name))))?;
            Ok((name.to_owned(), tensor))
        })
        .collect::<Result<_, Failure>>()?;
    Ok(Checkpoint {
        metadata: metadata(&header),
        tensors,
    })
}

/// A plain file and its length in bytes.
fn open(path: &Path) -> Result<(File, u64), Failure> {
    let failed = |error| disk("read", path, &error);
    // A pipe or a device would block here or never end.
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(Failure::mistake(format!("{} is no file", path.display())));
    }
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((file, length))
}

/// The bytes of a plain file whose header's length is plausible.
fn contents(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| disk("read", path, &error);
    let (mut file, length) = open(path)?;
    let mut prefix = [0; 8];
    let foreign = |reason: String| {
        Failure::mistake(format!("{} is no checkpoint: {reason}", path.display())).help(
            "checkpoints are safetensors files, such as those in a run's `checkpoints` folder, and files of `torch.save`",
        )
    };
    if length < 8 {
        return Err(foreign(format!("it has only {length} bytes")));
    }
    file.read_exact(&mut prefix).map_err(failed)?;
    let header = u64::from_le_bytes(prefix);
    if header > HEADER_LIMIT {
        return Err(foreign(
            "it does not start like a safetensors file".to_owned(),
        ));
    }
    if header > length - 8 {
        return Err(foreign(format!(
            "its header of {header} bytes is cut off after {}",
            length - 8
        )));
    }
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(length as usize)
        .map_err(|_| Failure::fault(format!("{length} bytes of memory for {}", path.display())))?;
    // `take`, because the file may still grow under our hands.
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn metadata(header: &Metadata) -> BTreeMap<String, String> {
    let metadata = header.metadata().iter().flatten();
    metadata.map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn reason(error: &SafeTensorError) -> String {
    use SafeTensorError::*;
    match error {
        HeaderTooSmall | InvalidHeaderLength => "its header is cut off".to_owned(),
        HeaderTooLarge => "its header is too long".to_owned(),
        InvalidHeader(_) | InvalidHeaderStart | InvalidHeaderDeserialization(_) => {
            "its header is not the JSON of the format".to_owned()
        }
        MetadataIncompleteBuffer => "its data end too early or too late".to_owned(),
        InvalidOffset(name) => {
            format!("tensor `{}` lies outside its data", visible(name))
        }
        TensorInvalidInfo => "a tensor's size is not that of its data".to_owned(),
        other => visible(&other.to_string()),
    }
}

/// `text` without control characters and of bounded length: it comes from the file and goes to a terminal.
pub(super) fn visible(text: &str) -> String {
    let mut visible: String = text
        .chars()
        .take(120)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(120).is_some() {
        visible.push('…');
    }
    visible
}

fn convert(dtype: Dtype, shape: &[usize], data: &[u8]) -> Result<Tensor, String> {
    let shape = shape.to_vec();
    Ok(match dtype {
        Dtype::F32 => Tensor::float(shape, map(data, f32::from_le_bytes)),
        Dtype::F64 => Tensor::float(shape, map(data, |b| f64::from_le_bytes(b) as f32)),
        Dtype::F16 => Tensor::float(shape, map(data, |b| half(u16::from_le_bytes(b)))),
        Dtype::BF16 => Tensor::float(
            shape,
            map(data, |b| {
                f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)
            }),
        ),
        Dtype::I64 => Tensor::integer(shape, map(data, i64::from_le_bytes)),
        Dtype::I32 => Tensor::integer(shape, map(data, |b| i64::from(i32::from_le_bytes(b)))),
        other => return Err(format!("has element type {other:?}, which no weights have")),
    })
}

/// `data` in pieces of `N` bytes; the format has checked that it is a multiple.
fn map<T, const N: usize>(data: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.chunks_exact(N)
        .map(|piece| from(piece.try_into().expect("chunks have N bytes")))
        .collect()
}

/// An IEEE half-precision number, exactly.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
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
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(visible(&"x".repeat(200)).chars().count(), 121);
    }
}
