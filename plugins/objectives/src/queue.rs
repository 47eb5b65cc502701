//! The queue of past keys that serve as negatives (He et al. 2020, section 3.2).
//!
//! In memory a key is a row, so that a chunk of keys is read in one stretch and a batch is written in one stretch.
//! Checkpoints have the reference's layout, in which a key is a column of `[dim, length]`.

use std::borrow::Cow;

use smallfry::{
    data::random::Random,
    dfdx::shapes::HasShape,
    objective::{Buffer, BufferValues},
    operation::{Candidates, HalfRows, normalise},
    serde::{Deserialize, Serialize},
    tensor::{Features, Plain, import, replace_rows, values},
};

/// The name of the keys in a checkpoint.
const KEYS: &str = "queue";

/// The name of the pointer in a checkpoint.
const POINTER: &str = "queue_ptr";

/// How the keys are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "smallfry::serde")]
pub enum Storage {
    /// In single precision.
    #[default]
    Full,
    /// In half precision, in half the memory; a key's numbers are rounded to three digits.
    Half,
}

/// Keys, oldest overwritten first.
pub struct Queue {
    keys: Keys,
    pointer: usize,
}

enum Keys {
    Full(Plain<Features>),
    Half(HalfRows),
}

impl Keys {
    /// The keys in `rows`, `[length, dim]`.
    fn new(rows: Plain<Features>, storage: Storage) -> Self {
        match storage {
            Storage::Full => Self::Full(rows),
            Storage::Half => Self::Half(HalfRows::of(&values(&rows), rows.shape().1)),
        }
    }

    fn storage(&self) -> Storage {
        match self {
            Self::Full(_) => Storage::Full,
            Self::Half(_) => Storage::Half,
        }
    }
}

impl Queue {
    /// Random directions: N(0, 1) numbers, each key divided by its length.
    pub fn new(length: usize, dim: usize, seed: u64) -> Self {
        Self::stored(length, dim, seed, Storage::Full)
    }

    /// As [`new`](Self::new), kept as `storage` says.
    pub fn stored(length: usize, dim: usize, seed: u64, storage: Storage) -> Self {
        let mut random = Random::new(&[seed, u64::from_le_bytes(*b"queue\0\0\0")]);
        let keys = (0..length * dim).map(|_| normal(&mut random));
        let keys = normalise(import(keys.collect(), (length, dim)));
        Self {
            keys: Keys::new(keys, storage),
            pointer: 0,
        }
    }

    /// The keys, `[length, dim]`.
    pub fn keys(&self) -> Candidates<'_> {
        match &self.keys {
            Keys::Full(keys) => keys.into(),
            Keys::Half(keys) => keys.into(),
        }
    }

    /// All keys in single precision, row after row.
    fn rows(&self) -> Cow<'_, [f32]> {
        match &self.keys {
            Keys::Full(keys) => values(keys),
            Keys::Half(keys) => Cow::Owned(keys.widened()),
        }
    }

    fn replace(&mut self, first: usize, rows: &[f32]) {
        match &mut self.keys {
            Keys::Full(keys) => replace_rows(keys, first, rows),
            Keys::Half(keys) => keys.replace(first, rows),
        }
    }

    /// Overwrites the oldest keys with `keys`, `[batch, dim]`.
    ///
    /// # Panics
    /// If there are more keys than places, or they have another width.
    pub fn push(&mut self, keys: &Plain<Features>) {
        let (length, dim) = self.keys().shape();
        let keys = values(keys);
        let batch = keys.len() / dim;
        assert!(batch <= length && keys.len() == batch * dim);
        // A batch wraps around only where a checkpoint was written with another batch size.
        let (first, second) = keys.split_at(batch.min(length - self.pointer) * dim);
        self.replace(self.pointer, first);
        self.replace(0, second);
        self.pointer = (self.pointer + batch) % length;
    }

    /// What a checkpoint keeps: `queue`, `[dim, length]`, and `queue_ptr`, `[1]`.
    pub fn buffers(&self) -> Vec<Buffer> {
        let (length, dim) = self.keys().shape();
        vec![
            Buffer {
                name: KEYS.into(),
                shape: vec![dim, length],
                values: BufferValues::Float(transposed(&self.rows(), dim)),
            },
            Buffer {
                name: POINTER.into(),
                shape: vec![1],
                values: BufferValues::Integer(vec![self.pointer as i64]),
            },
        ]
    }

    /// Takes a buffer of a checkpoint over.
    ///
    /// # Errors
    /// Says how it differs from this queue.
    pub fn restore(&mut self, buffer: Buffer) -> Result<(), String> {
        let (length, dim) = self.keys().shape();
        match (buffer.name.as_str(), buffer.values) {
            (KEYS, BufferValues::Float(columns)) => {
                if buffer.shape != [dim, length] || columns.len() != dim * length {
                    return Err(format!(
                        "`{KEYS}` is {:?} in the checkpoint, but [{dim}, {length}] here: `dim` and `queue` must be \
                         those of the run that wrote it",
                        buffer.shape
                    ));
                }
                let rows = import(transposed(&columns, length), (length, dim));
                self.keys = Keys::new(rows, self.keys.storage());
                Ok(())
            }
            (POINTER, BufferValues::Integer(pointer)) => match pointer[..] {
                [pointer] if (0..length as i64).contains(&pointer) => {
                    self.pointer = pointer as usize;
                    Ok(())
                }
                _ => Err(format!(
                    "`{POINTER}` is {pointer:?} in the checkpoint, which is no place in a queue of {length}"
                )),
            },
            (KEYS | POINTER, _) => Err(format!(
                "`{}` has an unexpected element type in the checkpoint",
                buffer.name
            )),
            (other, _) => Err(format!(
                "`{other}` is unknown; the buffers are `{KEYS}` and `{POINTER}`"
            )),
        }
    }
}

/// The transpose of row-major rows of `width`.
fn transposed(rows: &[f32], width: usize) -> Vec<f32> {
    let height = rows.len() / width.max(1);
    let mut columns = vec![0.0; rows.len()];
    // Blocks keep both the reads and the writes within the cache.
    const BLOCK: usize = 32;
    for top in (0..height).step_by(BLOCK) {
        for left in (0..width).step_by(BLOCK) {
            for row in top..height.min(top + BLOCK) {
                for column in left..width.min(left + BLOCK) {
                    columns[column * height + row] = rows[row * width + column];
                }
            }
        }
    }
    columns
}

/// A number from N(0, 1), by Box and Muller.
fn normal(random: &mut Random) -> f32 {
    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * random.unit()).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(queue: &Queue) -> Vec<f32> {
        queue.rows().into_owned()
    }

    #[test]
    fn keys_start_as_random_directions_of_length_one() {
        let queue = Queue::new(1000, 8, 1);
        let keys = rows(&queue);
        for key in keys.chunks(8) {
            let length: f32 = key.iter().map(|v| v * v).sum();
            assert!((length - 1.0).abs() < 1e-5);
        }
        let mean: f32 = keys.iter().sum::<f32>() / keys.len() as f32;
        assert!(mean.abs() < 0.02, "{mean}");
        assert_eq!(keys, rows(&Queue::new(1000, 8, 1)));
        assert_ne!(keys, rows(&Queue::new(1000, 8, 2)));
    }

    #[test]
    fn the_oldest_keys_go_first_and_the_pointer_comes_round() {
        let mut queue = Queue::new(4, 2, 1);
        let start = rows(&queue);
        queue.push(&import(vec![1.0, 2.0, 3.0, 4.0], (2, 2)));
        assert_eq!(rows(&queue)[..4], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(rows(&queue)[4..], start[4..]);
        assert_eq!(queue.pointer, 2);
        queue.push(&import(vec![5.0; 4], (2, 2)));
        assert_eq!(queue.pointer, 0);
        queue.push(&import(vec![6.0; 6], (3, 2)));
        queue.push(&import(vec![7.0; 6], (3, 2)));
        assert_eq!(rows(&queue), [7.0, 7.0, 7.0, 7.0, 6.0, 6.0, 7.0, 7.0]);
        assert_eq!(queue.pointer, 2);
    }

    #[test]
    fn a_checkpoint_holds_a_key_in_each_column() {
        let mut queue = Queue::new(3, 2, 1);
        queue.push(&import(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (3, 2)));
        queue.push(&import(vec![1.0, 2.0], (1, 2)));
        let buffers = queue.buffers();
        let columns = vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0];
        assert_eq!(buffers[0].values, BufferValues::Float(columns));
        assert_eq!(buffers[1].values, BufferValues::Integer(vec![1]));
        let mut other = Queue::new(3, 2, 9);
        for buffer in buffers {
            other.restore(buffer).expect("it is of the same size");
        }
        assert_eq!(rows(&other), rows(&queue));
        assert_eq!(other.pointer, 1);
    }

    #[test]
    fn keys_in_half_precision_are_rounded_once_and_come_back_from_a_checkpoint() {
        let mut queue = Queue::stored(6, 4, 1, Storage::Half);
        for (half, full) in rows(&queue).iter().zip(rows(&Queue::new(6, 4, 1))) {
            assert!((half - full).abs() <= full.abs() / 2048.0);
        }
        queue.push(&import(vec![0.1, 0.2, 0.3, 0.4], (1, 4)));
        let (kept, given) = (rows(&queue), [0.1, 0.2, 0.3, 0.4]);
        for (half, full) in kept.iter().zip(given) {
            assert!(*half != full && (half - full).abs() <= full / 2048.0);
        }
        let mut other = Queue::stored(6, 4, 9, Storage::Half);
        for buffer in queue.buffers() {
            other.restore(buffer).expect("it is of the same size");
        }
        assert_eq!((rows(&other), other.pointer), (kept, 1));
        assert!(matches!(other.keys, Keys::Half(_)));
    }

    #[test]
    fn a_transpose_of_any_size_is_undone_by_another() {
        for (height, width) in [(1, 1), (33, 2), (70, 65), (0, 3)] {
            let rows: Vec<f32> = (0..height * width).map(|i| i as f32).collect();
            let columns = transposed(&rows, width);
            assert_eq!(transposed(&columns, height), rows);
            if height > 1 && width > 1 {
                assert_eq!(columns[height], rows[1]);
            }
        }
    }

    #[test]
    fn foreign_buffers_are_refused_with_both_sizes() {
        let mut queue = Queue::new(3, 2, 1);
        let mut refusal = |name: &str, shape: &[usize], values| {
            let buffer = Buffer {
                name: name.into(),
                shape: shape.to_vec(),
                values,
            };
            queue.restore(buffer).expect_err("it does not fit")
        };
        let wide = refusal("queue", &[2, 4], BufferValues::Float(vec![0.0; 8]));
        assert!(wide.contains("[2, 4]") && wide.contains("[2, 3]"), "{wide}");
        let far = refusal("queue_ptr", &[1], BufferValues::Integer(vec![3]));
        assert!(far.contains("[3]"), "{far}");
        refusal("queue_ptr", &[1], BufferValues::Integer(vec![-1]));
        refusal("queue", &[2, 3], BufferValues::Integer(vec![0; 6]));
        refusal("small_queue", &[2, 3], BufferValues::Float(vec![0.0; 6]));
    }
}
