//! The run folder: who may write in it, and where things lie.
//!
//! One run at a time owns a folder, by an advisory lock that the system releases when the process ends, however it
//! ends. A process that was killed may take a moment to end, above all one with much memory; whoever goes on with its run
//! at once waits for that moment. A folder that holds anything is never written to without the user's word.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::Existing;
use crate::{
    checkpoint::{Store, remove_partial, write_atomically},
    failure::{Failure, disk},
    log::{self, Reach},
    results::Results,
};

/// The folder of a run that holds its maps.
pub(crate) const MAPS: &str = "maps";

const LOCK: &str = ".lock";

/// How long a run that goes on with another waits for that to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Everything a run may write in its folder, so that overwriting removes nothing else.
const FILES: [&str; 7] = [
    "experiment.ron",
    "resolved.ron",
    "log.jsonl",
    "timings.jsonl",
    "results.json",
    "receipt.json",
    "report.html",
];
const FOLDERS: [&str; 6] = [
    "checkpoints",
    crate::events::FOLDER,
    "failure",
    MAPS,
    "samples",
    "views",
];

/// The folder of the map of `stage` in a run folder.
pub fn maps(root: &Path, stage: &str) -> PathBuf {
    root.join(MAPS).join(stage)
}

/// A locked run folder.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    lock: File,
}

impl RunFolder {
    /// Takes the folder at `root`; tells also whether an earlier run is to be gone on with. `tell` says to the user that
    /// another run is waited for.
    ///
    /// # Errors
    /// It holds something and `existing` says to leave that alone, another run works in it, or it cannot be written.
    pub fn open(
        root: &Path,
        existing: Existing,
        tell: impl FnOnce(&str),
    ) -> Result<(Self, bool), Failure> {
        // Asked before the lock is made, so that a refused folder is left exactly as it was.
        if existing == Existing::Refuse && holds_something(root)? {
            return Err(
                Failure::mistake(format!("run folder {} exists", root.display())).help(
                    "go on with it by --resume, start it again by --overwrite, or give the experiment another name",
                ),
            );
        }
        fs::create_dir_all(root).map_err(|error| disk("make", root, &error))?;
        let path = root.join(LOCK);
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| disk("write", &path, &error))?;
        let patience = match existing {
            Existing::Resume => PATIENCE,
            Existing::Refuse | Existing::Overwrite => Duration::ZERO,
        };
        take(&lock, root, patience, tell)?;
        let folder = Self {
            root: root.to_owned(),
            lock,
        };
        remove_partial(root)?;
        let started = folder.path("resolved.ron").exists();
        match existing {
            Existing::Overwrite => folder.clear(started)?,
            Existing::Refuse | Existing::Resume => {}
        }
        Ok((folder, started && existing == Existing::Resume))
    }

    /// Cuts the logs back to the state `reach` of `stage`; `kept` says what is there of that state.
    ///
    /// # Errors
    /// The log lacks the last line of that state, or a log cannot be read or cut.
    pub fn rewind(&self, stage: &str, reach: Reach, kept: &str) -> Result<(), Failure> {
        let path = self.path("log.jsonl");
        if !log::rewind(&path, stage, reach)? {
            return Err(Failure::mistake(format!(
                "{} has no line for step {} of stage `{stage}`, though {kept} exists",
                path.display(),
                reach.line
            ))
            .help("put the log back, or start again with --overwrite"));
        }
        // Timings are not part of the result; what is missing stays missing.
        log::rewind(
            &self.path("timings.jsonl"),
            stage,
            Reach { line: 0, ..reach },
        )?;
        Ok(())
    }

    /// Removes what an earlier run wrote, and nothing else.
    fn clear(&self, started: bool) -> Result<(), Failure> {
        if !started && holds_something(&self.root)? {
            return Err(Failure::mistake(format!(
                "{} holds files but no run (no `resolved.ron`)",
                self.root.display()
            ))
            .help("move them away, or give the experiment another name"));
        }
        for name in FOLDERS {
            let path = self.path(name);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(|error| disk("remove", &path, &error))?;
            }
        }
        for name in FILES {
            let path = self.path(name);
            if path.exists() {
                fs::remove_file(&path).map_err(|error| disk("remove", &path, &error))?;
            }
        }
        Ok(())
    }

    /// Makes sure that the folder is still the one that this run locked.
    ///
    /// # Errors
    /// It was removed, or removed and made again, where another run may be at work by now.
    pub fn check_owned(&self) -> Result<(), Failure> {
        let path = self.path(LOCK);
        let there = fs::metadata(&path).and_then(|now| Ok((now, self.lock.metadata()?)));
        match there {
            Ok((now, own)) if same_file(&now, &own) => Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(disk("read", &path, &error))
            }
            _ => Err(Failure::fault(format!(
                "run folder {} was removed while this run worked in it",
                self.root.display()
            ))
            .help("put the folder back and go on with --resume, or start again")),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a file of the folder, whole or not at all.
    ///
    /// # Errors
    /// The folder is full, not writable, or no longer this run's.
    pub fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        self.check_owned()?;
        write_atomically(&self.path(name), text.as_bytes())
    }

    /// The checkpoints of a stage.
    pub fn checkpoints(&self, stage: &str) -> Store {
        Store::new(self.path("checkpoints").join(stage))
    }

    /// The results so far of experiment `name`.
    ///
    /// # Errors
    /// `results.json` exists but is not what a run writes.
    pub fn results(&self, name: &str) -> Result<Results, Failure> {
        let path = self.path("results.json");
        if path.exists() {
            read_results(&path)
        } else {
            Ok(Results::new(name))
        }
    }

    /// Writes `results.json`.
    ///
    /// # Errors
    /// The folder is full or not writable.
    pub fn save_results(&self, results: &Results) -> Result<(), Failure> {
        let mut text = serde_json::to_string_pretty(results).expect("results are plain data");
        text.push('\n');
        self.write("results.json", &text)
    }
}

/// Locks `lock`, the file of the folder `root`, within `patience`.
fn take(
    lock: &File,
    root: &Path,
    patience: Duration,
    tell: impl FnOnce(&str),
) -> Result<(), Failure> {
    let (begin, mut tell) = (Instant::now(), Some(tell));
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if begin.elapsed() < patience => {
                if let Some(tell) = tell.take() {
                    tell(&format!(
                        "another run is at work in {}; waiting for its end",
                        root.display()
                    ));
                }
                thread::sleep(BETWEEN_LOOKS);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::mistake(format!(
                    "another run is at work in {}",
                    root.display()
                ))
                .help("wait for it, stop it, or give the experiment another name"));
            }
            Err(TryLockError::Error(error)) => return Err(disk("lock", &root.join(LOCK), &error)),
        }
    }
}

#[cfg(unix)]
fn same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Other systems do not let a folder go that has an open file.
#[cfg(not(unix))]
fn same_file(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

/// Reads the `results.json` at `path`.
///
/// # Errors
/// It cannot be read, or is not what a run writes.
pub fn read_results(path: &Path) -> Result<Results, Failure> {
    let text = fs::read_to_string(path).map_err(|error| disk("read", path, &error))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::mistake(format!("{} is damaged: {error}", path.display()))
            .help("remove it; --resume computes what is missing again")
    })
}

/// Whether the folder exists and holds more than a lock.
fn holds_something(root: &Path) -> Result<bool, Failure> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(|error| disk("read", root, &error))?,
    };
    for entry in entries {
        let entry = entry.map_err(|error| disk("read", root, &error))?;
        if entry.file_name() != LOCK {
            return Ok(true);
        }
    }
    Ok(false)
}
