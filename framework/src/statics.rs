//! Writes images and their views as files, once, so that every network is judged on the same ones.
//!
//! What is written is listed beforehand, so that later stages of the same file can be checked against it. The folder has a
//! record of every file (see [`manifest`]); an image counts as written once its line stands in the record, and a
//! run that was killed looks at every such image again before it believes the line.

pub mod manifest;
mod remake;
mod verify;
mod write;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use smallfry_data::{Dataset, dataset::views::StaticViews, statics::Listing};

use crate::{
    checkpoint::free_space,
    diagnostic::Diagnostic,
    failure::Failure,
    fingerprint,
    plan::Views,
    results::views::Outcome,
    text::{grouped, megabytes},
    workplace::{Workplace, folder::RunFolder},
};

use manifest::{Header, Record, State};

pub use remake::remake;
pub use verify::{Findings, verify};

/// Bytes of a view's file and of an image's, about: means over photographs.
const VIEW_BYTES: u64 = 9_000;
const IMAGE_BYTES: u64 = 35_000;

/// A stage of views that is ready to run.
pub struct Prepared<'a> {
    /// The stage.
    pub stage: &'a Views,
    /// Everything that the files depend on, as text.
    pub config: String,
    header: Header,
    listing: Listing,
    data: Arc<dyn Dataset>,
}

/// A set that is not written yet, and what is worth knowing of it, as headings and their texts.
pub type Planned = (Arc<dyn Dataset>, Vec<(&'static str, String)>);

/// The set that `stage` will write of `data`, with lines that tell of it; `root` is the run folder.
///
/// # Errors
/// The images have no classes or impossible ones, the folder is taken, or the disk is too small by far.
pub fn planned(stage: &Views, data: &dyn Dataset, root: &Path) -> Result<Planned, Diagnostic> {
    let listing = list(stage, data)?;
    let folder = folder(stage, root);
    // What cannot be read now fails the run, with its reason.
    let there = match State::read(&folder) {
        Ok(State::Foreign) if stage.folder.is_some() => {
            let wrong = format!(
                "`{}` holds files that are no static views",
                folder.display()
            );
            let error = stage.site.error("folder", wrong);
            return Err(error.help("give an empty folder, or one that does not exist yet"));
        }
        Ok(State::Begun(manifest) | State::Whole(manifest)) => manifest.bytes(),
        _ => 0,
    };
    let (samples, views) = (listing.samples.len(), stage.mode.files() - 1);
    let bytes = samples as u64 * (IMAGE_BYTES + views as u64 * VIEW_BYTES);
    let mut size = format!("about {}", megabytes(bytes));
    if let Some(free) = free_space(existing(&folder)) {
        size += &format!(" of {} that are free", megabytes(free));
        // The estimate may be twice too large, and a part of the files may be there.
        if (bytes / 2).saturating_sub(there) > free {
            let wrong = format!("the files take {size} in `{}`", folder.display());
            let error = stage.site.error("folder", wrong);
            return Err(error.help("make room, lower `per_class`, or give another `folder`"));
        }
    }
    let lines = vec![
        (
            "views",
            format!(
                "{:?}: {} files of {} images, {size}",
                stage.mode,
                grouped(samples * stage.mode.files()),
                grouped(samples)
            ),
        ),
        ("folder", folder.display().to_string()),
    ];
    Ok((Arc::new(StaticViews::planned(&folder, &listing)), lines))
}

fn list(stage: &Views, data: &dyn Dataset) -> Result<Listing, Diagnostic> {
    Listing::new(data, stage.per_class).map_err(|error| {
        let error = stage.site.error("data", error.to_string());
        error.help("static views lie in one folder a class: give labelled images")
    })
}

/// Where `stage` writes in the run whose folder is `root`.
fn folder(stage: &Views, root: &Path) -> PathBuf {
    match &stage.folder {
        Some(folder) => folder.clone(),
        None => root.join("views").join(&stage.name),
    }
}

/// The nearest folder above, or the path itself, that exists.
fn existing(path: &Path) -> &Path {
    let mut above = path.ancestors().filter(|above| above.exists());
    above.next().unwrap_or(Path::new("."))
}

impl<'a> Prepared<'a> {
    /// Readies `stage`, whose images are `data`.
    ///
    /// # Errors
    /// The images cannot be listed.
    pub fn new(stage: &'a Views, seed: u64, data: Arc<dyn Dataset>) -> Result<Self, Failure> {
        let listing = list(stage, &*data)?;
        let header = Header::new(stage, seed, fingerprint::manifest(&*data));
        let mut config = String::new();
        fingerprint::field(&mut config, "seed", &seed.to_string());
        fingerprint::field(&mut config, "data", &stage.data.resolved);
        fingerprint::field(&mut config, "manifest", &header.images);
        fingerprint::field(&mut config, "mode", &format!("{:?}", stage.mode));
        fingerprint::field(&mut config, "per_class", &stage.per_class.to_string());
        Ok(Self {
            stage,
            config,
            header,
            listing,
            data,
        })
    }

    /// Whether the record is complete and all its files are there with their sizes.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn is_whole(&self, folder: &RunFolder) -> Result<bool, Failure> {
        let root = self::folder(self.stage, folder.root());
        let State::Whole(manifest) = State::read(&root)? else {
            return Ok(false);
        };
        let there = |(path, bytes): (String, u64)| {
            let about = std::fs::metadata(root.join(path));
            about.is_ok_and(|about| about.is_file() && about.len() == bytes)
        };
        Ok(manifest.header.equals(&self.header)
            && manifest
                .records
                .iter()
                .all(|record| record.paths().all(there)))
    }

    /// Writes the files, or those of them that are not there yet.
    ///
    /// # Errors
    /// The folder is taken, the disk fails, or the user stops.
    pub fn run(&self, workplace: &mut Workplace) -> Result<Outcome, Failure> {
        let root = folder(self.stage, workplace.folder.root());
        let manifest = write::write(self, &root, workplace)?;
        let pairs = manifest
            .records
            .iter()
            .filter_map(|record| record.recipe.pair);
        let outcome = Outcome {
            folder: match &self.stage.folder {
                Some(folder) => folder.display().to_string(),
                None => format!("views/{}", self.stage.name),
            },
            mode: self.stage.mode,
            samples: manifest.records.len(),
            files: manifest.files(),
            bytes: manifest.bytes(),
            forced: pairs.filter(|pair| pair.forced).count(),
            left_out: manifest.left_out,
        };
        if outcome.samples == 0 {
            let wrong = "none of the images could be read, so there are no views";
            return Err(Failure::fault(wrong));
        }
        Ok(outcome)
    }
}

/// The files of the first images that `outcome` of the run in `run` tells of, `most` images at most; none where the record is gone.
pub fn first(outcome: &Outcome, run: &Path, most: usize) -> Vec<Vec<PathBuf>> {
    let below = run.join(&outcome.folder);
    let folder = match below.exists() {
        true => below,
        false => PathBuf::from(&outcome.folder),
    };
    let Ok(State::Whole(manifest)) = State::read(&folder) else {
        return Vec::new();
    };
    let records = manifest.records.iter().take(most);
    let paths = |record: &Record| record.paths().map(|(path, _)| folder.join(path)).collect();
    records.map(paths).collect()
}
