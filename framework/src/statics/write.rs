//! Writes the files of a set.
//!
//! Images are independent of each other, so they are shared out among all threads in portions; between two, their lines
//! are appended to the record, progress is shown, and the user may stop. A file is not synced: a line that outlives
//! its files in a power cut is found out by their hashes.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
};

use rayon::prelude::*;
use smallfry_data::{
    Dataset, Image,
    encode::{LONGEST, QUALITY, fits, jpeg_into},
    statics::{Listing, Mode, Recipe, Sample, paint},
};

use super::{
    Prepared,
    manifest::{Line, MANIFEST, Manifest, Record, State, UNFINISHED},
};
use crate::{
    failure::{Failure, disk},
    workplace::Workplace,
};

/// Images that a thread does between two lines of progress, about.
const PORTION: usize = 32;

/// What came of an image.
type Made = Result<Record, (String, String)>;

/// Writes the set of `stage` into `root`, apart from what stands there already.
pub(super) fn write(
    stage: &Prepared<'_>,
    root: &Path,
    workplace: &mut Workplace,
) -> Result<Manifest, Failure> {
    let mut earlier = take_over(stage, root)?;
    let listing = &stage.listing;
    for class in &listing.classes {
        let path = root.join(class);
        fs::create_dir_all(&path).map_err(|error| disk("make", &path, &error))?;
    }
    let record = root.join(UNFINISHED);
    let mut log = OpenOptions::new()
        .append(true)
        .open(&record)
        .map_err(|error| disk("write", &record, &error))?;
    let mut manifest = Manifest {
        header: stage.header.clone(),
        records: Vec::with_capacity(listing.samples.len()),
        left_out: Vec::new(),
    };
    let display = &mut workplace.display;
    display.stage(&stage.stage.name, listing.samples.len() as u64, 0);
    let mut done = 0;
    for portion in listing
        .samples
        .chunks(PORTION * rayon::current_num_threads())
    {
        workplace.folder.check_owned()?;
        let known: Vec<_> = portion
            .iter()
            .map(|sample| (sample, earlier.remove(&image(listing, sample))))
            .collect();
        let made: Vec<Result<(Made, bool), Failure>> = known
            .into_par_iter()
            .map(|(sample, known)| match known {
                Some(record) if is_there(&record, root) => Ok((Ok(record), true)),
                _ => make(stage, sample, Some(root)).map(|made| (made, false)),
            })
            .collect();
        let (mut lines, mut failure) = (String::new(), None);
        for made in made {
            match made {
                Ok((Ok(record), known)) => {
                    if !known {
                        lines += &Line::Image(record.clone()).text();
                    }
                    manifest.records.push(record);
                }
                Ok((Err(left_out), _)) => manifest.left_out.push(left_out),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        log.write_all(lines.as_bytes())
            .map_err(|error| disk("write", &record, &error))?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        done += portion.len();
        workplace.display.samples(done as u64);
        if workplace.interrupt.requested() && done < listing.samples.len() {
            let stopped = format!("stopped after {done} of {} images", listing.samples.len());
            return Err(Failure::interrupt(stopped)
                .help("the same command with --resume goes on with the next image"));
        }
    }
    workplace.display.finish();
    for class in &listing.classes {
        // Only a folder without files goes: that of a class of which no image could be read.
        let _ = fs::remove_dir(root.join(class));
    }
    manifest.write(root)?;
    fs::remove_file(&record).map_err(|error| disk("remove", &record, &error))?;
    Ok(manifest)
}

/// Readies the folder and its record; gives the images that stand in the record already.
fn take_over(stage: &Prepared<'_>, root: &Path) -> Result<HashMap<String, Record>, Failure> {
    let earlier = match State::read(root)? {
        State::Empty => Vec::new(),
        State::Foreign => {
            let wrong = format!("{} holds files that are no static views", root.display());
            return Err(Failure::mistake(wrong).help("move them away, or give another `folder`"));
        }
        State::Begun(manifest) | State::Whole(manifest)
            if manifest.header.equals(&stage.header) =>
        {
            manifest.records
        }
        State::Begun(_) | State::Whole(_) if stage.stage.folder.is_some() => {
            let wrong = format!("{} holds another set of static views", root.display());
            return Err(Failure::mistake(wrong).help(format!(
                "give another `folder`, or remove it; its {MANIFEST} says how it was made"
            )));
        }
        // A run's own folder: the experiment was changed.
        State::Begun(manifest) | State::Whole(manifest) => {
            for (path, _) in manifest.records.iter().flat_map(Record::paths) {
                remove(&root.join(path))?;
            }
            Vec::new()
        }
    };
    fs::create_dir_all(root).map_err(|error| disk("make", root, &error))?;
    let mut text = Line::Set(stage.header.clone()).text();
    for record in &earlier {
        text += &Line::Image(record.clone()).text();
    }
    crate::checkpoint::write_atomically(&root.join(UNFINISHED), text.as_bytes())?;
    remove(&root.join(MANIFEST))?;
    let named = earlier
        .into_iter()
        .map(|record| (record.image.clone(), record));
    Ok(named.collect())
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(disk("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// Class and name of an image.
fn image(listing: &Listing, sample: &Sample) -> String {
    format!("{}/{}", listing.classes[sample.class], sample.name)
}

/// Whether every file of an image is as its record says.
pub(super) fn is_there(record: &Record, root: &Path) -> bool {
    let mut hashes = record.files.iter().map(|(_, hash)| hash);
    record.paths().all(|(path, bytes)| {
        let hash = hashes.next();
        let about = fs::metadata(root.join(&path));
        about.is_ok_and(|about| about.is_file() && about.len() == bytes)
            && fs::read(root.join(&path)).is_ok_and(|file| hash == Some(&hash_of(&file)))
    })
}

/// BLAKE3 in hexadecimal digits.
pub(super) fn hash_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Makes the files of an image, and writes them where there is a folder; the name and what is wrong of an image that has no
/// views.
pub(super) fn make(
    stage: &Prepared<'_>,
    sample: &Sample,
    root: Option<&Path>,
) -> Result<Made, Failure> {
    let (set, mode): (&dyn Dataset, Mode) = (&*stage.data, stage.header.mode);
    let source = set.name(sample.source);
    let picture = match set.load(sample.source) {
        Ok(picture) => picture,
        Err(error) => return Ok(Err((source, error.reason))),
    };
    let size = (picture.width, picture.height);
    if !fits(&picture) {
        let reason = format!("has a side of more than {LONGEST} pixels, the most of a JPEG file");
        return Ok(Err((source, reason)));
    }
    let Some(recipe) = Recipe::draw(mode, size, stage.header.seed, key(&source)) else {
        return Ok(Err((
            source,
            "is too small to be cut into quarters".to_owned(),
        )));
    };
    let mut file = Vec::with_capacity(1 << 16);
    let mut files = Vec::with_capacity(mode.files());
    let mut add = |number: usize, picture: &Image| {
        file.clear();
        jpeg_into(&mut file, picture, QUALITY);
        files.push((file.len() as u64, hash_of(&file)));
        match root {
            Some(root) => store(&root.join(stage.listing.path(sample, number)), &file),
            None => Ok(()),
        }
    };
    add(0, &picture)?;
    paint(&picture, &recipe, add)?;
    let pixels = hash_of(&picture.pixels);
    picture.recycle();
    Ok(Ok(Record {
        image: image(&stage.listing, sample),
        source,
        pixels,
        size,
        recipe,
        files,
    }))
}

/// The key of an image's random streams: by its name alone, so that its views stay the same whatever else is in the set.
fn key(source: &str) -> u64 {
    let hash = blake3::hash(source.as_bytes());
    let start = hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*start)
}

/// Writes a file; what could not be written whole is removed.
fn store(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    File::create(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|error| {
            let _ = fs::remove_file(path);
            disk("write", path, &error)
        })
}
