//! Compares a folder of static views with its record.

use std::{collections::HashSet, fmt, fs, io::Read, path::Path};

use rayon::prelude::*;
use serde::Serialize;

use super::manifest::{MANIFEST, Manifest, Record, State, UNFINISHED};
use crate::{
    failure::{Failure, disk},
    text::grouped,
};

/// What differs between a folder and its record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Images with views.
    pub images: usize,
    /// Files that the record names.
    pub files: usize,
    /// Files that the record names and that are not there.
    pub missing: Vec<String>,
    /// Files whose content is another.
    pub changed: Vec<String>,
    /// Files that the record does not name.
    pub extra: Vec<String>,
    /// Files that come out otherwise when they are made again, and images that cannot be made again.
    pub unequal: Vec<String>,
}

/// Compares every file in `folder` with the record of the set.
///
/// # Errors
/// The folder holds no set or an unfinished one, or cannot be read.
pub fn verify(folder: &Path) -> Result<(Manifest, Findings), Failure> {
    let no_set = |what: &str, help: &str| {
        let wrong = format!("{} {what}", folder.display());
        Err(Failure::mistake(wrong).help(help.to_owned()))
    };
    let manifest = match State::read(folder)? {
        State::Whole(manifest) => manifest,
        State::Begun(_) if folder.join(MANIFEST).exists() => {
            let help = "the record is damaged: write the set again into another folder and compare";
            return no_set("has a manifest that is cut short", help);
        }
        State::Begun(_) => {
            let help = "finish it by `smallfry run` with --resume";
            return no_set("holds a set that is not finished", help);
        }
        State::Empty | State::Foreign => {
            let help = "give a folder that a stage `Views` wrote, with its `manifest.jsonl`";
            return no_set("holds no record of static views", help);
        }
    };
    let mut findings = Findings {
        images: manifest.records.len(),
        files: manifest.files(),
        ..Findings::default()
    };
    let states: Vec<_> = manifest
        .records
        .par_iter()
        .flat_map_iter(|record| compared(record, folder))
        .collect();
    let mut named = HashSet::new();
    for (path, state) in states {
        match state {
            Compared::Equal => {}
            Compared::Missing => findings.missing.push(path.clone()),
            Compared::Changed => findings.changed.push(path.clone()),
        }
        named.insert(path);
    }
    for name in list(folder, folder, 0)? {
        if !named.contains(&name) && ![MANIFEST, UNFINISHED].contains(&name.as_str()) {
            findings.extra.push(name);
        }
    }
    findings.extra.sort();
    Ok((manifest, findings))
}

enum Compared {
    Equal,
    Missing,
    Changed,
}

/// How every file of an image compares with its record.
fn compared(record: &Record, folder: &Path) -> Vec<(String, Compared)> {
    let hashes = record.files.iter().map(|(_, hash)| hash);
    let files = record.paths().zip(hashes);
    files
        .map(|((path, bytes), hash)| {
            let state = match fs::metadata(folder.join(&path)) {
                Err(_) => Compared::Missing,
                Ok(about) if !about.is_file() || about.len() != bytes => Compared::Changed,
                Ok(_) => match hash_file(&folder.join(&path)) {
                    Some(found) if found == *hash => Compared::Equal,
                    _ => Compared::Changed,
                },
            };
            (path, state)
        })
        .collect()
}

fn hash_file(path: &Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let (mut hasher, mut part) = (blake3::Hasher::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut part).ok()? {
            0 => return Some(hasher.finalize().to_hex().to_string()),
            n => hasher.update(&part[..n]),
        };
    }
}

/// Paths of all files below `folder`, from `root` on; sets have one level of folders, and deeper ones are named themselves.
fn list(root: &Path, folder: &Path, depth: usize) -> Result<Vec<String>, Failure> {
    let fail = |error: std::io::Error| disk("read", folder, &error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let path = entry.path();
        if depth == 0 && entry.file_type().map_err(fail)?.is_dir() {
            paths.extend(list(root, &path, 1)?);
        } else {
            let below = path.strip_prefix(root).unwrap_or(&path);
            let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
            paths.push(parts.join("/"));
        }
    }
    Ok(paths)
}

impl Findings {
    /// Whether the folder is what its record says.
    pub fn are_none(&self) -> bool {
        let lists = [&self.missing, &self.changed, &self.extra, &self.unequal];
        lists.iter().all(|list| list.is_empty())
    }
}

/// A line a finding, then a summary.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("missing", &self.missing),
            ("changed", &self.changed),
            ("extra", &self.extra),
            ("unequal", &self.unequal),
        ];
        for (kind, paths) in kinds {
            for path in paths {
                writeln!(f, "{kind:<8} {path}")?;
            }
        }
        let (images, files) = (grouped(self.images), grouped(self.files));
        write!(f, "{images} images, {files} files: ")?;
        if self.are_none() {
            return f.write_str("all as recorded");
        }
        let counts = kinds.iter().filter(|(_, paths)| !paths.is_empty());
        let counts = counts.map(|(kind, paths)| format!("{} {kind}", grouped(paths.len())));
        f.write_str(&counts.collect::<Vec<_>>().join(", "))
    }
}
