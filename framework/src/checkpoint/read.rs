//! Reading a checkpoint that may come from anywhere.
//!
//! What a file is shows in its first bytes, not in its name: safetensors, or one of the containers of `torch.save`.
//! Nothing in it is run, nothing is allocated far beyond its own size, and every promise of its header is checked before
//! it is used. Files of others may hold half or double precision; both become `f32`. What this program wrote must be what
//! it wrote, by the checksum in its header; files that have none are of before there was one.

use std::{fs::File, io::Read, path::Path};

use smallfry_formats::{Array, Dtype, Error, Kind, visible};

use super::{
    Checkpoint, Tensor, torch,
    write::{CHECKSUM, checksum},
};
use crate::failure::{Failure, disk};

/// Reads the file at `path`.
///
/// # Errors
/// The file is missing, no checkpoint, damaged (also one of this program in a single bit), names code that it wants run, or holds an element type that weights do
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
    let mut start = Vec::new();
    open(path)?
        .take(512)
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
    let file = smallfry_formats::safetensors::read(path).map_err(|e| refused(path, &e))?;
    let tensors = file.arrays.into_iter().map(|(name, array)| {
        let tensor = tensor(array).map_err(|reason| {
            let name = visible(&name);
            Failure::mistake(format!("{}: tensor `{name}` {reason}", path.display()))
                .help("give a file of weights")
        })?;
        Ok((name, tensor))
    });
    let mut checkpoint = Checkpoint {
        tensors: tensors.collect::<Result<_, Failure>>()?,
        metadata: file.metadata,
    };
    if !checkpoint.own() {
        return Ok(checkpoint);
    }
    match checkpoint.metadata.remove(CHECKSUM) {
        Some(written) if written != checksum(&checkpoint) => {
            Err(Failure::mistake(format!(
                "{} is damaged: its contents are not those that were written, by their checksum",
                path.display()
            ))
            .help(format!(
                "put a copy of the file back; if it was changed on purpose, take `{CHECKSUM}` out of its metadata"
            )))
        }
        _ => Ok(checkpoint),
    }
}

/// Why a file of weights cannot be read.
pub(super) fn refused(path: &Path, error: &Error) -> Failure {
    let message = format!("{} {}", path.display(), error.problem());
    match error.kind() {
        Kind::Disk => Failure::fault(message).help(error.help()),
        Kind::Content | Kind::Code => Failure::mistake(message).help(error.help()),
    }
}

/// An array as weights are: numbers in single precision, integers in 64 bits.
pub(super) fn tensor(array: Array) -> Result<Tensor, String> {
    let float = matches!(
        array.dtype,
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F8E4M3 | Dtype::F8E5M2
    );
    let refused = |_| {
        format!(
            "has element type {}, which no weights have",
            array.dtype.name()
        )
    };
    Ok(match float {
        true => Tensor::float(array.shape.clone(), array.to_f32().map_err(refused)?),
        false => Tensor::integer(array.shape.clone(), array.to_i64().map_err(refused)?),
    })
}

/// A plain file.
fn open(path: &Path) -> Result<File, Failure> {
    let failed = |error| disk("read", path, &error);
    // A pipe or a device would block here or never end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Failure::mistake(format!("{} is no file", path.display())));
    }
    File::open(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precisions_become_single_and_others_are_refused() {
        let array = |dtype, bytes: &[u8]| Array {
            dtype,
            shape: vec![],
            bytes: bytes.to_vec(),
        };
        let half = tensor(array(Dtype::BF16, &[0x80, 0x3f])).unwrap();
        assert_eq!(half, Tensor::float(vec![], vec![1.0]));
        let byte = tensor(array(Dtype::U8, &[200])).unwrap();
        assert_eq!(byte, Tensor::integer(vec![], vec![200]));
        let complex = tensor(array(Dtype::Complex64, &[0; 8])).unwrap_err();
        assert!(complex.contains("complex64"), "{complex}");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(visible(&"x".repeat(200)).chars().count(), 121);
    }
}
