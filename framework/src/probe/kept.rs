//! Features that classifiers learn from or are tested on, with their classes.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;
use smallfry_data::Dataset;

use crate::{evaluate::features::Extracted, failure::Failure, metric::FeatureSet, tensor};

/// Rows that are looked at together.
const ROWS: usize = 1024;

/// The features of a set and their classes.
pub struct Kept {
    width: usize,
    labels: Vec<u32>,
    features: Store,
}

enum Store {
    Memory(Vec<f32>),
    /// More than memory is given for; read where needed.
    Set(Box<Extracted>),
}

impl Kept {
    /// The features of `data` that were extracted.
    ///
    /// # Errors
    /// None could be read, one has no class, or one is no number.
    pub fn of(extracted: Extracted, data: &Arc<dyn Dataset>, what: &str) -> Result<Self, Failure> {
        let whole = extracted.left_out().is_empty();
        let name = |row: usize| match whole {
            true => data.name(row),
            false => format!("image {} of those that can be read", row + 1),
        };
        let kept = Self::numbers(extracted, data, what)?;
        for first in (0..kept.rows()).step_by(ROWS) {
            let values = kept.read(first..kept.rows().min(first + ROWS));
            if let Some(row) = unusable(&values, kept.width) {
                return Err(not_a_number(&name(first + row)));
            }
        }
        Ok(kept)
    }

    /// The same of features that are known to be numbers.
    ///
    /// # Errors
    /// None could be read, or one has no class.
    pub fn numbers(
        extracted: Extracted,
        data: &Arc<dyn Dataset>,
        what: &str,
    ) -> Result<Self, Failure> {
        if extracted.rows() == 0 {
            return Err(Failure::mistake(format!(
                "none of the {} {what} images can be read",
                data.len()
            )));
        }
        let labels = extracted.labels().map(<[u32]>::to_vec).ok_or_else(|| {
            Failure::mistake(format!("the {what} images have no classes to learn"))
        })?;
        let width = extracted.width();
        let features = match extracted.into_memory() {
            Ok(values) => Store::Memory(values),
            Err(set) => Store::Set(set),
        };
        Ok(Self {
            width,
            labels,
            features,
        })
    }

    /// Number of samples.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The classes.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The features of neighbours, `[rows, width]`.
    pub fn read(&self, rows: Range<usize>) -> Vec<f32> {
        match &self.features {
            Store::Memory(values) => {
                values[rows.start * self.width..rows.end * self.width].to_vec()
            }
            Store::Set(set) => tensor::values(&set.read(rows)).to_vec(),
        }
    }

    /// The features and classes of some samples, in their order.
    pub fn gather(&self, rows: &[u32]) -> (Vec<f32>, Vec<u32>) {
        let width = self.width;
        let mut features = vec![0.0; rows.len() * width];
        let slots = features.par_chunks_mut(width).zip(rows);
        match &self.features {
            Store::Memory(values) => slots.for_each(|(slot, &row)| {
                slot.copy_from_slice(&values[row as usize * width..][..width]);
            }),
            Store::Set(set) => slots.for_each(|(slot, &row)| {
                let row = row as usize;
                slot.copy_from_slice(&tensor::values(&set.read(row..row + 1)));
            }),
        }
        let labels = rows.iter().map(|&row| self.labels[row as usize]);
        (features, labels.collect())
    }
}

/// The first row of `features` with a value that is no number.
pub fn unusable(features: &[f32], width: usize) -> Option<usize> {
    let at = features.iter().position(|value| !value.is_finite())?;
    Some(at / width)
}

/// The refusal of an image whose feature is no number.
pub fn not_a_number(name: &str) -> Failure {
    Failure::mistake(format!(
        "the feature of `{name}` has values that are no numbers"
    ))
    .help("the weights are damaged, or of a training that diverged; give others")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{
        features::{Extraction, MEMORY_LIMIT},
        unread::Unread,
    };

    #[test]
    fn rows_are_gathered_in_the_order_asked_for() {
        let features: Vec<f32> = (0..8).map(|v| v as f32).collect();
        let kept = Kept {
            width: 2,
            labels: vec![5, 6, 7, 8],
            features: Store::Memory(features),
        };
        assert_eq!(
            kept.gather(&[3, 0, 3]),
            (vec![6.0, 7.0, 0.0, 1.0, 6.0, 7.0], vec![8, 5, 8])
        );
        assert_eq!(kept.read(1..3), [2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn passes_share_the_memory_and_go_to_files_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let labels = [Some(0), Some(1), Some(0)];
        let data: Arc<dyn Dataset> = Arc::new(Unread::new(&["a", "b"], &labels));
        for (bytes, passes, in_memory) in [(24, 4, true), (MEMORY_LIMIT / 4 + 1, 4, false)] {
            let mut pass = Extraction::new(&data, 2, (bytes, passes), folder.path(), None).unwrap();
            pass.push(&[1.0, 2.0], &[0]).unwrap();
            pass.push(&[3.0, 4.0, 5.0, 6.0], &[1, 2]).unwrap();
            let kept = Kept::numbers(pass.finish().unwrap(), &data, "training").unwrap();
            assert_eq!(matches!(kept.features, Store::Memory(_)), in_memory);
            assert_eq!(kept.gather(&[2, 0]), (vec![5.0, 6.0, 1.0, 2.0], vec![0, 0]));
            assert_eq!(kept.read(1..3), [3.0, 4.0, 5.0, 6.0]);
        }
    }

    #[test]
    fn what_is_no_number_is_found() {
        assert_eq!(unusable(&[1.0, 2.0, 3.0, 4.0], 2), None);
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(unusable(&[1.0, 2.0, 3.0, wrong], 2), Some(1));
        }
    }
}
