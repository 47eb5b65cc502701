//! How much the folder of kept features may hold: beyond the limit, files go that were not used for the longest time.
//!
//! Who reads a file holds a shared lock on it, so that no other run takes it away meanwhile. What a stage has just written
//! stays whatever its size, until another one writes.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The environment variable with the limit in gigabytes of 10⁹ bytes.
pub const VARIABLE: &str = "SMALLFRY_CACHE";

/// The limit where the variable is not set, in gigabytes.
const DEFAULT: f64 = 20.0;

/// The last letters of the name of a file of features.
pub(super) const EXTENSION: &str = "features";

/// Bytes that kept features may take.
///
/// # Errors
/// A text for the user: the environment variable holds no size.
pub fn limit() -> Result<u64, String> {
    match env::var_os(VARIABLE) {
        Some(text) if !text.is_empty() => parsed(&text.to_string_lossy()),
        _ => Ok(bytes(DEFAULT)),
    }
}

fn parsed(text: &str) -> Result<u64, String> {
    let gigabytes = text.trim().parse::<f64>().ok();
    let size = gigabytes.filter(|size| size.is_finite() && *size >= 0.0);
    let wrong = || format!("`{VARIABLE}` is `{text}`, but must be gigabytes, such as 20 or 0.5");
    size.map(bytes).ok_or_else(wrong)
}

fn bytes(gigabytes: f64) -> u64 {
    (gigabytes * 1e9) as u64
}

/// Says that `file` is read from now on until it is closed, and that it was used. Where a file system knows no locks, other runs may
/// remove the file's name; its content stays all the same where the system is a Unix.
pub(super) fn take(file: &File) {
    let _ = file.try_lock_shared();
    let _ = file.set_modified(SystemTime::now());
}

/// Removes files from `folder` until they take at most `limit` bytes, as far as others than `written` are in use by nobody.
pub(super) fn make(folder: &Path, limit: u64, written: &[PathBuf]) {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let about = entry.metadata().ok()?;
            let ours = path.extension().is_some_and(|e| e == EXTENSION);
            (ours && about.is_file()).then_some((about.modified().ok()?, about.len(), path))
        })
        .collect();
    files.sort();
    let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
    for (_, size, path) in files {
        if total <= limit {
            break;
        }
        if !written.contains(&path) && is_free(&path) && fs::remove_file(&path).is_ok() {
            total -= size;
        }
    }
}

/// Whether no run reads the file.
fn is_free(path: &Path) -> bool {
    let lock = File::open(path).map(|file| file.try_lock());
    !matches!(lock, Ok(Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A file of ten bytes that was used so many seconds ago.
    fn used(folder: &Path, name: &str, ago: u64) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, "ten bytes.").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let time = SystemTime::now() - Duration::from_secs(ago);
        file.set_modified(time).unwrap();
        path
    }

    fn left(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap().path())).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for (name, ago) in [("a", 30), ("b", 50), ("c", 40), ("d", 20)] {
            used(folder, &format!("{name}.features"), ago);
        }
        let other = used(folder, "other.txt", 90);
        make(folder, 40, &[]);
        assert_eq!(left(folder), ["a", "b", "c", "d", "other"]);
        make(folder, 39, &[]);
        assert_eq!(left(folder), ["a", "c", "d", "other"]);
        // A use makes a file the last to go.
        take(&File::open(folder.join("c.features")).unwrap());
        make(folder, 15, &[]);
        assert_eq!(left(folder), ["c", "other"]);
        make(folder, 0, &[]);
        assert!(other.exists() && left(folder).len() == 1);
    }

    #[test]
    fn what_is_read_or_was_just_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let read = File::open(used(folder, "read.features", 30)).unwrap();
        let written = used(folder, "written.features", 20);
        used(folder, "idle.features", 10);
        take(&read);
        make(folder, 0, &[written]);
        assert_eq!(left(folder), ["read", "written"]);
        drop(read);
        make(folder, 0, &[]);
        assert!(left(folder).is_empty());
    }

    #[test]
    fn limits_are_gigabytes() {
        for (text, expected) in [("20", 20_000_000_000), (" 0.5", 500_000_000), ("0", 0)] {
            assert_eq!(parsed(text), Ok(expected));
        }
        for wrong in ["-1", "20 GB", "inf", "NaN", "much"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
