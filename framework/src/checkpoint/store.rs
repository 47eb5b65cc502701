//! The folder of a stage's checkpoints.
//!
//! `epoch-0003.safetensors` is the state after the third epoch; `epoch-0003-batch-000120.safetensors` that after 120
//! more batches. States within an epoch guard against loss: they go when a later end of an epoch is on disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Checkpoint, atomic::sync_folder, remove_partial, write};
use crate::{
    checkpoint::cadence::Keep,
    failure::{Failure, disk},
};

/// States within the epoch at hand that stay: the newest, and one in case that it is damaged.
const WITHIN: usize = 2;

/// Where a stage keeps its checkpoints.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// How far the training of a stage is, by what is done; later is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Whole epochs.
    pub epoch: usize,
    /// Batches of the epoch after them.
    pub batch: usize,
}

impl Mark {
    /// The end of epoch `epoch`, from 1; 0 is the start.
    pub fn end(epoch: usize) -> Self {
        Self { epoch, batch: 0 }
    }

    fn file_name(self) -> String {
        let Self { epoch, batch } = self;
        match batch {
            0 => format!("epoch-{epoch:04}.safetensors"),
            _ => format!("epoch-{epoch:04}-batch-{batch:06}.safetensors"),
        }
    }

    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let numbers = name.strip_prefix("epoch-")?.strip_suffix(".safetensors")?;
        let (epoch, batch) = numbers.split_once("-batch-").unwrap_or((numbers, "0"));
        let mark = Self {
            epoch: epoch.parse().ok()?,
            batch: batch.parse().ok()?,
        };
        // Names that a run does not write, such as `epoch-+001`, are somebody else's.
        (mark.file_name() == name).then_some(mark)
    }
}

/// As messages call the state: `epoch 3`, or `epoch 3 and 120 batches`.
impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.epoch, self.batch) {
            (epoch, 0) => write!(f, "epoch {epoch}"),
            (epoch, batch) => write!(f, "{batch} batches of epoch {}", epoch + 1),
        }
    }
}

impl Store {
    /// The checkpoints in `folder`, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder and removes what a killed run left half-written there.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn prepare(&self) -> Result<(), Failure> {
        fs::create_dir_all(&self.folder).map_err(|error| disk("make", &self.folder, &error))?;
        remove_partial(&self.folder)
    }

    /// The file of the state after `epochs` epochs.
    pub fn path(&self, epochs: usize) -> PathBuf {
        self.file(Mark::end(epochs))
    }

    /// The file of the state at `mark`.
    pub fn file(&self, mark: Mark) -> PathBuf {
        self.folder.join(mark.file_name())
    }

    /// The epochs whose end has a file, in rising order.
    ///
    /// # Errors
    /// The folder exists but cannot be read.
    pub fn epochs(&self) -> Result<Vec<usize>, Failure> {
        let ends = self.marks()?.into_iter().filter(|mark| mark.batch == 0);
        Ok(ends.map(|mark| mark.epoch).collect())
    }

    /// All states that have a file, in rising order; other files are passed over.
    ///
    /// # Errors
    /// The folder exists but cannot be read.
    pub fn marks(&self) -> Result<Vec<Mark>, Failure> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| disk("read", &self.folder, &error))?,
        };
        let mut marks = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| disk("read", &self.folder, &error))?;
            marks.extend(Mark::of(&entry.path()));
        }
        marks.sort_unstable();
        Ok(marks)
    }

    /// Writes the state at `mark`; only when it is safely on disk, what `keep` does not want goes. `best` is the best
    /// epoch so far.
    ///
    /// # Errors
    /// The disk is full, broken or not writable; older files are untouched then.
    pub fn save(
        &self,
        checkpoint: &Checkpoint,
        mark: Mark,
        keep: &Keep,
        best: Option<usize>,
    ) -> Result<(), Failure> {
        write(checkpoint, &self.file(mark))?;
        self.prune(keep, best)
    }

    /// Removes the ends of epochs that `keep` does not want, and states within epochs that later ones outdate. The
    /// newest state always stays.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn prune(&self, keep: &Keep, best: Option<usize>) -> Result<(), Failure> {
        let marks = self.marks()?;
        let (ends, within): (Vec<Mark>, Vec<Mark>) =
            marks.into_iter().partition(|mark| mark.batch == 0);
        let epochs: Vec<_> = ends.iter().map(|mark| mark.epoch).collect();
        let surplus = keep.surplus(&epochs, best);
        let mut gone: Vec<_> = surplus.into_iter().map(Mark::end).collect();
        let outdated = within.partition_point(|&mark| Some(&mark) < ends.last());
        gone.extend(&within[..outdated.max(within.len().saturating_sub(WITHIN))]);
        for &mark in &gone {
            let path = self.file(mark);
            fs::remove_file(&path).map_err(|error| disk("remove", &path, &error))?;
        }
        if !gone.is_empty() {
            sync_folder(&self.path(0)).map_err(|error| disk("write", &self.folder, &error))?;
        }
        Ok(())
    }

    /// Gives the damaged file of `mark` a name under which nothing looks for it, so that it is neither taken for a
    /// state nor lost.
    ///
    /// # Errors
    /// The folder cannot be changed.
    pub fn put_aside(&self, mark: Mark) -> Result<PathBuf, Failure> {
        let path = self.file(mark);
        let aside = self.folder.join(format!("{}.damaged", mark.file_name()));
        fs::rename(&path, &aside).map_err(|error| disk("rename", &path, &error))?;
        Ok(aside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_names_count() {
        let mark = |epoch, batch| Some(Mark { epoch, batch });
        for (name, expected) in [
            ("epoch-0001.safetensors", mark(1, 0)),
            ("epoch-12345.safetensors", mark(12345, 0)),
            ("epoch-0000-batch-000007.safetensors", mark(0, 7)),
            ("epoch-0002-batch-1234567.safetensors", mark(2, 1_234_567)),
            ("epoch-0002-batch-000000.safetensors", None),
            ("epoch-1.safetensors", None),
            ("epoch-+001.safetensors", None),
            ("epoch-0001.safetensors.partial", None),
            ("epoch-0001.safetensors.damaged", None),
            ("notes.txt", None),
        ] {
            assert_eq!(Mark::of(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn states_within_epochs_go_when_they_are_outdated() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        let mark = |epoch, batch| Mark { epoch, batch };
        let keep = Keep::last(Some(2));
        for (saved, left) in [
            (mark(0, 1), vec![mark(0, 1)]),
            (mark(0, 2), vec![mark(0, 1), mark(0, 2)]),
            (mark(0, 3), vec![mark(0, 2), mark(0, 3)]),
            (mark(1, 0), vec![mark(1, 0)]),
            (mark(1, 5), vec![mark(1, 0), mark(1, 5)]),
            (mark(2, 0), vec![mark(1, 0), mark(2, 0)]),
            (mark(3, 0), vec![mark(2, 0), mark(3, 0)]),
            (mark(3, 9), vec![mark(2, 0), mark(3, 0), mark(3, 9)]),
        ] {
            store
                .save(&Checkpoint::default(), saved, &keep, None)
                .unwrap();
            assert_eq!(store.marks().unwrap(), left, "{saved}");
        }
        assert_eq!(store.epochs().unwrap(), [2, 3]);
        let aside = store.put_aside(mark(3, 9)).unwrap();
        assert!(aside.exists());
        assert_eq!(store.marks().unwrap(), [mark(2, 0), mark(3, 0)]);
    }
}
