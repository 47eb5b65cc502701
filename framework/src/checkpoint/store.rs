//! The folder of a stage's checkpoints: `epoch-0001.safetensors` is the state after the first epoch.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Checkpoint, atomic::sync_folder, remove_partial, write};
use crate::failure::{Failure, disk};

/// Where a stage keeps its checkpoints.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The checkpoints in `folder`, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
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
        self.folder.join(format!("epoch-{epochs:04}.safetensors"))
    }

    /// The epochs that have a file, in rising order; other files are passed over.
    ///
    /// # Errors
    /// The folder exists but cannot be read.
    pub fn epochs(&self) -> Result<Vec<usize>, Failure> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| disk("read", &self.folder, &error))?,
        };
        let mut epochs = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| disk("read", &self.folder, &error))?;
            epochs.extend(epoch_of(&entry.path()));
        }
        epochs.sort_unstable();
        Ok(epochs)
    }

    /// Writes the state after `epochs` epochs; only when it is safely on disk, all but the newest `keep` files go.
    ///
    /// # Errors
    /// The disk is full, broken or not writable; older files are untouched then.
    pub fn save(
        &self,
        checkpoint: &Checkpoint,
        epochs: usize,
        keep: Option<usize>,
    ) -> Result<(), Failure> {
        write(checkpoint, &self.path(epochs))?;
        self.prune(keep)
    }

    /// Removes all but the newest `keep` files; at least one stays.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn prune(&self, keep: Option<usize>) -> Result<(), Failure> {
        let Some(keep) = keep else { return Ok(()) };
        let epochs = self.epochs()?;
        let surplus = epochs.len().saturating_sub(keep.max(1));
        for &epoch in &epochs[..surplus] {
            let path = self.path(epoch);
            fs::remove_file(&path).map_err(|error| disk("remove", &path, &error))?;
        }
        if surplus > 0 {
            let path = self.path(0);
            sync_folder(&path).map_err(|error| disk("write", &self.folder, &error))?;
        }
        Ok(())
    }
}

fn epoch_of(path: &Path) -> Option<usize> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_prefix("epoch-")?.strip_suffix(".safetensors")?;
    let epoch = digits.parse().ok()?;
    (digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_names_count() {
        for (name, epoch) in [
            ("epoch-0001.safetensors", Some(1)),
            ("epoch-12345.safetensors", Some(12345)),
            ("epoch-1.safetensors", None),
            ("epoch-+001.safetensors", None),
            ("epoch-0001.safetensors.partial", None),
            ("notes.txt", None),
        ] {
            assert_eq!(epoch_of(Path::new(name)), epoch, "{name}");
        }
    }
}
