//! Writing a checkpoint.
//!
//! The header is made here and not by the `safetensors` crate, which keeps metadata in a hash map and so writes its
//! keys in another order every time. Tensors follow in the order of their names, each at a multiple of 8 bytes.
//!
//! The header of a run's state holds a checksum of everything else in the file: a bit that turned over on a disk or on the way leaves a
//! file that looks whole, and training would go on from wrong numbers.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use serde_json::{Value, json};

use super::{Checkpoint, Partial, Tensor, Values, free_space};
use crate::failure::{Failure, disk};

/// The metadata key of the [`checksum`].
pub(super) const CHECKSUM: &str = "checksum";

/// Writes `checkpoint` to `path`, whole or not at all.
///
/// # Errors
/// The folder is missing, full or not writable.
pub fn write(checkpoint: &Checkpoint, path: &Path) -> Result<(), Failure> {
    let bytes = checkpoint.tensors.values().map(size).sum::<usize>() as u64;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let free = free_space(folder.unwrap_or(Path::new(".")));
    // Known beforehand, it does not leave others without room for a while.
    if let Some(free) = free.filter(|&free| free < bytes) {
        return Err(Failure::fault(format!(
            "cannot write {}: it takes {}, {} are free",
            path.display(),
            megabytes(bytes),
            megabytes(free)
        ))
        .help("make room, then go on with --resume"));
    }
    let mut partial = Partial::create(path)?;
    stream(checkpoint, &mut partial).map_err(|error| disk("write", path, &error))?;
    partial.finish()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn stream(checkpoint: &Checkpoint, out: &mut impl Write) -> io::Result<()> {
    let order = order(&checkpoint.tensors);
    let sum = checkpoint.own().then(|| checksum(checkpoint));
    let mut header = header(checkpoint, &order, sum)?;
    // The format asks that data start at a multiple of 8 bytes; blanks are its padding.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    data(&order, out)
}

/// A hash of names, shapes, contents and metadata but for an earlier checksum: a function of what a checkpoint says, not
/// of how its file is laid out.
pub(super) fn checksum(checkpoint: &Checkpoint) -> String {
    let order = order(&checkpoint.tensors);
    let mut hasher = blake3::Hasher::new();
    header(checkpoint, &order, None)
        .and_then(|header| hasher.write_all(&header))
        .and_then(|()| data(&order, &mut hasher))
        .expect("a hasher takes anything");
    hasher.finalize().to_hex().to_string()
}

fn header(
    checkpoint: &Checkpoint,
    order: &[(&str, &Tensor)],
    checksum: Option<String>,
) -> io::Result<Vec<u8>> {
    let mut metadata = checkpoint.metadata.clone();
    metadata.remove(CHECKSUM);
    metadata.extend(checksum.map(|checksum| (CHECKSUM.to_owned(), checksum)));
    let mut header = BTreeMap::from([("__metadata__", json!(metadata))]);
    let mut end = 0;
    for (name, tensor) in order {
        let start = end;
        end += size(tensor);
        header.insert(name, entry(tensor, start, end));
    }
    Ok(serde_json::to_vec(&header)?)
}

fn data(order: &[(&str, &Tensor)], out: &mut impl Write) -> io::Result<()> {
    for (_, tensor) in order {
        match &tensor.values {
            Values::Float(values) => copy(values, f32::to_le_bytes, out)?,
            Values::Integer(values) => copy(values, i64::to_le_bytes, out)?,
        }
    }
    Ok(())
}

/// Integers first and then numbers, by name within each, so that every tensor is aligned to its element type.
fn order(tensors: &BTreeMap<String, Tensor>) -> Vec<(&str, &Tensor)> {
    let mut order: Vec<_> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
    order.sort_by_key(|(_, tensor)| matches!(tensor.values, Values::Float(_)));
    order
}

fn size(tensor: &Tensor) -> usize {
    match &tensor.values {
        Values::Float(values) => 4 * values.len(),
        Values::Integer(values) => 8 * values.len(),
    }
}

fn entry(tensor: &Tensor, start: usize, end: usize) -> Value {
    let dtype = match tensor.values {
        Values::Float(_) => "F32",
        Values::Integer(_) => "I64",
    };
    json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end]})
}

/// Writes `values` by the `bytes` of each, a block at a time.
pub(crate) fn copy<T: Copy, const N: usize>(
    values: &[T],
    bytes: fn(T) -> [u8; N],
    out: &mut impl Write,
) -> io::Result<()> {
    let mut block = vec![0; N * values.len().min(1 << 14)];
    for values in values.chunks(1 << 14) {
        let block = &mut block[..N * values.len()];
        for (place, &value) in block.as_chunks_mut::<N>().0.iter_mut().zip(values) {
            *place = bytes(value);
        }
        out.write_all(block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use safetensors::{Dtype, SafeTensors};

    use super::*;
    use crate::checkpoint::FORMAT;

    fn example() -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        for (key, value) in [("epoch", "3"), ("config", "a\n\"b\""), ("seed", "7")] {
            checkpoint.metadata.insert(key.to_owned(), value.to_owned());
        }
        let tensors = &mut checkpoint.tensors;
        tensors.insert(
            "encoder_q.w".to_owned(),
            Tensor::float(vec![1, 3], vec![1.0, -2.5, f32::MIN_POSITIVE]),
        );
        tensors.insert(
            "encoder_q.n".to_owned(),
            Tensor::integer(vec![], vec![i64::MAX]),
        );
        tensors.insert("queue_ptr".to_owned(), Tensor::integer(vec![1], vec![64]));
        checkpoint
    }

    fn bytes(checkpoint: &Checkpoint) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream(checkpoint, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn others_can_read_it() {
        let bytes = bytes(&example());
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let w = file.tensor("encoder_q.w").unwrap();
        assert_eq!((w.dtype(), w.shape()), (Dtype::F32, &[1, 3][..]));
        assert_eq!(w.data()[..4], 1.0f32.to_le_bytes());
        let n = file.tensor("encoder_q.n").unwrap();
        assert_eq!((n.dtype(), n.shape()), (Dtype::I64, &[][..]));
        assert_eq!(n.data(), i64::MAX.to_le_bytes());
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["config"], "a\n\"b\"");
    }

    #[test]
    fn the_bytes_are_fixed() {
        let first = bytes(&example());
        let header = u64::from_le_bytes(first[..8].try_into().unwrap()) as usize;
        assert_eq!(header % 8, 0);
        let text = std::str::from_utf8(&first[8..8 + header]).unwrap();
        assert_eq!(
            text.trim_end(),
            concat!(
                r#"{"__metadata__":{"config":"a\n\"b\"","epoch":"3","seed":"7"},"#,
                r#""encoder_q.n":{"data_offsets":[0,8],"dtype":"I64","shape":[]},"#,
                r#""encoder_q.w":{"data_offsets":[16,28],"dtype":"F32","shape":[1,3]},"#,
                r#""queue_ptr":{"data_offsets":[8,16],"dtype":"I64","shape":[1]}}"#
            )
        );
        assert_eq!(first.len(), 8 + header + 28);
    }

    #[test]
    fn the_checksum_is_of_all_that_a_checkpoint_says() {
        let first = checksum(&example());
        let changed = |change: fn(&mut Checkpoint)| {
            let mut checkpoint = example();
            change(&mut checkpoint);
            checksum(&checkpoint)
        };
        for change in [
            (|c| drop(c.metadata.insert("epoch".into(), "4".into()))) as fn(&mut Checkpoint),
            |c| drop(c.tensors.remove("queue_ptr")),
            |c| {
                let tensor = Tensor::float(vec![3, 1], vec![1.0, -2.5, f32::MIN_POSITIVE]);
                c.tensors.insert("encoder_q.w".into(), tensor);
            },
            |c| {
                let tensor = Tensor::float(vec![1, 3], vec![1.0, -2.5, -f32::MIN_POSITIVE]);
                c.tensors.insert("encoder_q.w".into(), tensor);
            },
        ] {
            assert_ne!(changed(change), first);
        }
        // A run's state says it; an earlier one is none of it.
        let mut own = example();
        own.metadata.insert("format".into(), FORMAT.into());
        let (text, sum) = (bytes(&own), checksum(&own));
        let (_, metadata) = SafeTensors::read_metadata(&text).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()[CHECKSUM], sum);
        assert_eq!(
            changed(|c| drop(c.metadata.insert(CHECKSUM.into(), "old".into()))),
            first
        );
    }
}
