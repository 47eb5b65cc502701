//! Files of weights that a plan names: each is read and hashed once, however many stages want it and however often it is
//! looked at before the run begins. Every stage lets go of a file as soon as it has taken what it wants, so that a long
//! training does not have a teacher in memory twice.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Checkpoint, read};
use crate::failure::{Failure, disk};

/// A way of reading a file.
#[derive(Clone, Copy)]
pub struct Reader {
    /// A name that no other way has.
    pub name: &'static str,
    /// Reads the file at a path.
    pub read: fn(&Path) -> Result<Checkpoint, Failure>,
}

/// Tensors as they stand in the file.
pub const TENSORS: Reader = Reader {
    name: "tensors",
    read,
};

/// The files that were read while a plan is checked.
#[derive(Default)]
pub struct Shelf {
    contents: RefCell<BTreeMap<(PathBuf, &'static str), Arc<Checkpoint>>>,
    hashes: RefCell<BTreeMap<PathBuf, String>>,
}

impl Shelf {
    /// What `reader` makes of the file at `path`.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn read(&self, path: &Path, reader: Reader) -> Result<Arc<Checkpoint>, Failure> {
        let key = (path.to_owned(), reader.name);
        if let Some(content) = self.contents.borrow().get(&key) {
            return Ok(Arc::clone(content));
        }
        let content = Arc::new((reader.read)(path)?);
        self.contents.borrow_mut().insert(key, Arc::clone(&content));
        Ok(content)
    }

    /// The same for a stage, which has it until it lets go.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn hold(&self, path: &Path, reader: Reader) -> Result<Held, Failure> {
        let content = self.read(path, reader)?;
        let known = self.hashes.borrow().get(path).cloned();
        let hash = match known {
            Some(hash) => hash,
            None => hash(path)?,
        };
        self.hashes
            .borrow_mut()
            .insert(path.to_owned(), hash.clone());
        Ok(Held {
            path: path.to_owned(),
            hash,
            reader,
            content: Mutex::new(Some(content)),
        })
    }

    /// Lets go of everything that no stage holds.
    pub fn clear(&self) {
        self.contents.borrow_mut().clear();
    }
}

/// A file of weights, identified by its bytes.
pub struct Held {
    path: PathBuf,
    hash: String,
    reader: Reader,
    content: Mutex<Option<Arc<Checkpoint>>>,
}

impl Held {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The BLAKE3 hash of its bytes.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Its content, and lets go of it: asked once more, it reads the file again.
    ///
    /// # Errors
    /// It has to be read again, and is missing or another file by now.
    pub fn take(&self) -> Result<Arc<Checkpoint>, Failure> {
        if let Some(content) = self.release() {
            return Ok(content);
        }
        if hash(&self.path)? != self.hash {
            return Err(Failure::mistake(format!(
                "{} is another file than when the run began",
                self.path.display()
            ))
            .help("put the file back, or run again from the start"));
        }
        (self.reader.read)(&self.path).map(Arc::new)
    }

    /// Lets go of its content.
    pub fn release(&self) -> Option<Arc<Checkpoint>> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.take()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.hash)
    }
}

fn hash(path: &Path) -> Result<String, Failure> {
    let failed = |error| disk("read", path, &error);
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(File::open(path).map_err(failed)?)
        .map_err(failed)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::checkpoint::{Tensor, write};

    #[test]
    fn a_file_is_read_once_until_it_is_let_go_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut checkpoint = Checkpoint::default();
        let tensor = Tensor::float(vec![2], vec![1.0, 2.0]);
        checkpoint.tensors.insert("w".to_owned(), tensor);
        write(&checkpoint, &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let shelf = Shelf::default();
        let (one, other) = (
            shelf.hold(&path, TENSORS).unwrap(),
            shelf.hold(&path, TENSORS).unwrap(),
        );
        assert_eq!(one.hash(), blake3::hash(&bytes).to_hex().as_str());
        // Whatever becomes of the file, both have what was there.
        fs::write(&path, "no weights").unwrap();
        let first = one.take().unwrap();
        assert_eq!(*first, checkpoint);
        assert!(Arc::ptr_eq(&first, &other.take().unwrap()));
        shelf.clear();
        drop(first);
        let failure = one.take().unwrap_err();
        assert!(failure.message.contains("is another file"), "{failure}");
        fs::write(&path, bytes).unwrap();
        assert_eq!(*one.take().unwrap(), checkpoint);
    }
}
