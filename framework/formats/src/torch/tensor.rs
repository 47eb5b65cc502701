//! A tensor as a view of a storage, and its dense copy.
//!
//! Sizes, strides and offset come from the file. [`View::new`] accepts them only if every element lies within the
//! storage and the number of bytes is a number; how many bytes may really be taken is checked later, against the file's
//! size.

use super::graph::Region;
use crate::{Dtype, error::Error};

/// The most dimensions that PyTorch's tensors have.
const DIMENSIONS: usize = 64;

/// A tensor within a storage; offset and strides count elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Place of the storage in the graph.
    pub storage: u32,
    pub dtype: Dtype,
    /// First element, from the start of the storage, in bytes.
    offset: usize,
    pub shape: Vec<usize>,
    /// Steps in bytes.
    strides: Vec<usize>,
    /// Size of the dense copy in bytes.
    pub bytes: usize,
}

impl View {
    /// Checks a view of `region`; `offset` and `strides` count elements.
    pub fn new(
        region: Region,
        dtype: Dtype,
        offset: i64,
        shape: &[i64],
        strides: &[i64],
    ) -> Result<Self, Error> {
        let wrong = |what: String| Error::content(format!("is damaged: a tensor {what}"));
        if shape.len() != strides.len() || shape.len() > DIMENSIONS {
            return Err(wrong(format!(
                "has {} dimensions and {} strides",
                shape.len(),
                strides.len()
            )));
        }
        let huge = || wrong(format!("of shape {shape:?} has more bytes than there are"));
        let size = dtype.size();
        let natural = |what: &str, n: i64| {
            usize::try_from(n).map_err(|_| wrong(format!("has the {what} {n}")))
        };
        let lengths: Vec<usize> = shape
            .iter()
            .map(|&n| natural("length", n))
            .collect::<Result<_, _>>()?;
        // Zero lengths count as one, so that no order of multiplying the shape overflows.
        let count = lengths
            .iter()
            .try_fold(size, |count, &n| count.checked_mul(n.max(1)))
            .filter(|&count| isize::try_from(count).is_ok())
            .ok_or_else(huge)?;
        let steps: Vec<usize> = strides
            .iter()
            .map(|&n| natural("stride", n)?.checked_mul(size).ok_or_else(huge))
            .collect::<Result<_, _>>()?;
        let offset = natural("offset", offset)?
            .checked_mul(size)
            .ok_or_else(huge)?;
        let empty = lengths.contains(&0);
        let reach = if empty {
            Some(0)
        } else {
            lengths
                .iter()
                .zip(&steps)
                .try_fold(size, |reach, (&n, &step)| {
                    reach.checked_add((n - 1).checked_mul(step)?)
                })
        };
        let end = reach.and_then(|reach| reach.checked_add(offset));
        if end.is_none_or(|end| end as u64 > region.length) {
            return Err(wrong(format!(
                "of shape {shape:?}, strides {strides:?} and offset {} lies outside its storage of {} bytes",
                offset / size,
                region.length
            )));
        }
        let start = usize::try_from(region.start).map_err(|_| huge())?;
        Ok(Self {
            storage: region.storage,
            dtype,
            offset: start.checked_add(offset).ok_or_else(huge)?,
            shape: lengths,
            strides: steps,
            bytes: if empty { 0 } else { count },
        })
    }

    /// Whether the view is its whole storage of `length` bytes, in order.
    pub fn is_whole(&self, length: usize) -> bool {
        self.offset == 0 && self.bytes == length && self.inner_run() == self.bytes
    }

    /// The elements in row-major order. `storage` has the size that the view was checked against.
    pub fn gather(&self, storage: &[u8]) -> Vec<u8> {
        let mut dense = Vec::with_capacity(self.bytes);
        if self.bytes == 0 {
            return dense;
        }
        // The innermost dimensions that lie in order are copied as one run.
        let run = self.inner_run();
        let mut outer = self.shape.len();
        let mut length = self.dtype.size();
        while outer > 0 && length < run {
            outer -= 1;
            length *= self.shape[outer];
        }
        let mut index = vec![0; outer];
        let mut at = self.offset;
        loop {
            dense.extend_from_slice(&storage[at..at + run]);
            let mut dimension = outer;
            loop {
                if dimension == 0 {
                    return dense;
                }
                dimension -= 1;
                index[dimension] += 1;
                at += self.strides[dimension];
                if index[dimension] < self.shape[dimension] {
                    break;
                }
                at -= self.strides[dimension] * self.shape[dimension];
                index[dimension] = 0;
            }
        }
    }

    /// Length in bytes of the longest run of elements that lie in order, over whole inner dimensions.
    fn inner_run(&self) -> usize {
        let mut run = self.dtype.size();
        for (&n, &step) in self.shape.iter().zip(&self.strides).rev() {
            if n != 1 && step != run {
                break;
            }
            run *= n;
        }
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(length: u64) -> Region {
        Region {
            storage: 0,
            start: 0,
            length,
        }
    }

    /// Element by element, by the definition of strides.
    fn slow(view: &View, storage: &[u8]) -> Vec<u8> {
        let size = view.dtype.size();
        let count = view.shape.iter().product::<usize>();
        let element = |mut i: usize| {
            let mut at = view.offset;
            for (&n, &step) in view.shape.iter().zip(&view.strides).rev() {
                at += i % n * step;
                i /= n;
            }
            storage[at..at + size].to_vec()
        };
        (0..count).flat_map(element).collect()
    }

    #[test]
    fn gather_follows_the_strides() {
        let storage: Vec<u8> = (0..=255).collect();
        let cases: [(i64, &[i64], &[i64]); 10] = [
            (0, &[], &[]),
            (5, &[4], &[1]),
            (0, &[6, 8], &[8, 1]),
            (0, &[8, 6], &[1, 8]),
            (0, &[3, 8], &[16, 1]),
            (1, &[6, 3], &[8, 3]),
            (0, &[4, 2, 3], &[1, 12, 4]),
            (2, &[3, 4], &[1, 0]),
            (0, &[1, 5, 1], &[7, 1, 9]),
            (0, &[0, 3], &[3, 1]),
        ];
        for (offset, shape, strides) in cases {
            for dtype in [Dtype::U8, Dtype::F32] {
                let view = View::new(region(256), dtype, offset, shape, strides).unwrap();
                assert_eq!(
                    view.gather(&storage),
                    slow(&view, &storage),
                    "{shape:?} {strides:?}"
                );
                assert_eq!(view.gather(&storage).len(), view.bytes);
            }
        }
    }

    #[test]
    fn every_pair_of_shape_and_strides_is_inside_or_refused() {
        // All views of two dimensions over a storage of six bytes: accepted exactly if no element is outside.
        let storage = [0u8; 6];
        for code in 0..5i64.pow(5) {
            let digit = |place: u32| code / 5i64.pow(place) % 5;
            let (shape, strides) = ([digit(0), digit(1)], [digit(2), digit(3)]);
            let offset = digit(4);
            let last = offset + (shape[0] - 1) * strides[0] + (shape[1] - 1) * strides[1];
            let inside = shape.contains(&0) || last < 6;
            let view = View::new(region(6), Dtype::U8, offset, &shape, &strides);
            assert_eq!(view.is_ok(), inside, "{shape:?} {strides:?} {offset}");
            if let Ok(view) = view {
                assert_eq!(view.gather(&storage).len(), view.bytes);
            }
        }
    }

    #[test]
    fn absurd_views_are_refused() {
        for (offset, shape, strides) in [
            (0, vec![1 << 45], vec![1]),
            (0, vec![i64::MAX, i64::MAX, i64::MAX], vec![0, 0, 0]),
            (0, vec![0, i64::MAX, i64::MAX], vec![0, 0, 0]),
            (0, vec![2, 2], vec![i64::MAX, i64::MAX]),
            (-1, vec![1], vec![1]),
            (i64::MAX, vec![1], vec![1]),
            (0, vec![-1], vec![1]),
            (0, vec![1], vec![-1]),
            (0, vec![1, 1], vec![1]),
            (0, vec![1; 65], vec![1; 65]),
        ] {
            let view = View::new(region(16), Dtype::F32, offset, &shape, &strides);
            assert!(view.is_err(), "{offset} {shape:?} {strides:?}");
        }
    }

    #[test]
    fn a_whole_storage_is_known() {
        let whole = |shape: &[i64], strides: &[i64]| {
            let view = View::new(region(16), Dtype::F32, 0, shape, strides);
            view.unwrap().is_whole(16)
        };
        assert!(whole(&[2, 2], &[2, 1]) && whole(&[4, 1], &[1, 1]));
        assert!(!whole(&[2, 2], &[1, 2]) && !whole(&[3], &[1]) && !whole(&[4], &[0]));
    }
}
