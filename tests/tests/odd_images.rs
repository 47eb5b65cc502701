//! Awkward image files: each decodes as Pillow does or is refused with a reason, none panics or takes much memory.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use smallfry_data::{
    Dataset, Image,
    dataset::folder::ImageFolder,
    decode::{Orientation, decode, read},
    loader::{Cursor, Key, Loader, Order, Part, Settings, Transform},
};
use smallfry_tests::golden::{Reference, repository};

fn jpeg(name: &str) -> PathBuf {
    repository()
        .join("tests/fixtures/images/jpeg")
        .join(name)
        .with_extension("jpg")
}

/// The odd files; git drops the empty folder with the name of a picture, so that is made here.
struct Odd {
    expected: Value,
    folder: tempfile::TempDir,
}

impl Odd {
    fn find(what: &str) -> Option<Self> {
        let reference = Reference::find(what)?;
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(reference.path("data/odd")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        fs::create_dir_all(folder.path().join("dir_named.jpg")).unwrap();
        Some(Self {
            expected: reference.json("data/odd/expected.json"),
            folder,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> Image {
        read(&self.path(name), Orientation::AsStored).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn mean_difference(a: &Image, b: &Image) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let differences = a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b));
    differences.map(f64::from).sum::<f64>() / a.pixels.len() as f64
}

#[test]
fn every_odd_file_behaves_as_expected() {
    let Some(odd) = Odd::find("the odd image files") else {
        return;
    };
    let cases = odd.expected.as_object().unwrap();
    assert_eq!(cases.len(), 47);
    for (name, case) in cases {
        let result = read(&odd.path(name), Orientation::AsStored);
        let size = |field: &str| {
            let side = |i: usize| case[field][i].as_u64().unwrap() as usize;
            (side(0), side(1))
        };
        match (case["ok"].as_bool(), &result) {
            (Some(true), Ok(image)) => {
                assert_eq!((image.width, image.height), size("size"), "{name}");
                assert_eq!(image.pixels.len(), 3 * image.width * image.height);
            }
            (Some(false), Err(error)) => {
                assert!(error.name.ends_with(name.as_str()), "{error}");
                assert!(!error.reason.is_empty());
            }
            // Files that may or may not decode.
            (None, _) => {}
            (Some(_), Ok(_)) => panic!("{name} must be refused"),
            (Some(_), Err(error)) => panic!("{error}"),
        }
        if case.get("upright_size").is_some() {
            let image = read(&odd.path(name), Orientation::Upright).unwrap();
            assert_eq!((image.width, image.height), size("upright_size"), "{name}");
        }
    }
    let bomb = read(&odd.path("bomb_20000x20000.png"), Orientation::AsStored);
    assert!(bomb.unwrap_err().reason.contains("20000 x 20000 pixels"));
}

#[test]
fn all_orientations_show_the_same_upright_picture() {
    let Some(odd) = Odd::find("pictures with orientation tags") else {
        return;
    };
    let upright = |i: usize| {
        let name = format!("exif_orientation_{i}.jpg");
        read(&odd.path(&name), Orientation::Upright).unwrap()
    };
    let first = upright(1);
    for i in 2..=8 {
        let difference = mean_difference(&upright(i), &first);
        assert!(difference < 2.5, "orientation {i}: {difference}");
    }
}

#[test]
fn other_kinds_of_pixels_become_the_same_picture() {
    let Some(odd) = Odd::find("pictures of many kinds of pixels") else {
        return;
    };
    let plain = odd.read("plain.bmp");
    for (name, limit) in [
        ("plain.tiff", 0.0),
        ("lossless.webp", 0.0),
        ("rgb16.png", 0.1),
        ("rgba.png", 0.0),
        ("png_named.jpg", 0.0),
        ("jpeg_named.png", 5.0),
        ("palette.png", 12.0),
        ("still.gif", 12.0),
    ] {
        let difference = mean_difference(&odd.read(name), &plain);
        assert!(difference <= limit, "{name}: {difference}");
    }
    let large = odd.read("sub444.jpg");
    for (name, limit) in [
        ("sub422.jpg", 2.0),
        ("progressive.jpg", 3.0),
        ("restart.jpg", 3.0),
        ("icc_srgb.jpg", 3.0),
        ("rgb_coded.jpg", 3.0),
        ("cmyk.jpg", 6.0),
        ("trailing_garbage.jpg", 3.0),
        ("lossy.webp", 6.0),
    ] {
        let difference = mean_difference(&odd.read(name), &large);
        assert!(difference <= limit, "{name}: {difference}");
    }
}

/// Cutting a file anywhere, or overwriting a byte, gives an image or an error.
#[test]
fn damaged_files_never_panic() {
    for name in ["q75_420_odd", "progressive", "cmyk", "grey"] {
        let whole = fs::read(jpeg(name)).unwrap();
        for length in (0..whole.len()).step_by(37) {
            let cut = decode(name, &whole[..length], Orientation::Upright);
            assert!(cut.is_err(), "{name} cut to {length} bytes");
        }
        for at in (0..whole.len()).step_by(11) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            // Either is right; what counts is to come back.
            let _ = decode(name, &damaged, Orientation::Upright);
        }
    }
}

#[test]
fn what_is_no_image_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let check = |path: &Path, reason: &str| {
        let error = read(path, Orientation::AsStored).unwrap_err();
        assert!(error.reason.contains(reason), "{error}");
        assert_eq!(error.name, path.display().to_string());
    };
    check(&file("empty.jpg", b""), "is empty");
    check(
        &file("text.jpg", b"no picture at all"),
        "no image of a known format",
    );
    let whole = fs::read(jpeg("q75_420")).unwrap();
    check(&file("cut.jpg", &whole[..whole.len() / 2]), "is cut short");
    check(&folder.path().join("missing.jpg"), "No such file");
    check(folder.path(), "is a directory");
}

/// The first view of each image is one float: its mean.
struct Mean;

impl Transform for Mean {
    fn lengths(&self) -> Vec<usize> {
        vec![1]
    }

    fn apply(&self, image: &Image, _: Key, views: &mut [&mut [f32]], _: &mut [f64]) {
        let sum: f64 = image.pixels.iter().map(|&value| f64::from(value)).sum();
        views[0][0] = (sum / image.pixels.len() as f64) as f32;
    }
}

/// A folder of good and bad files under awkward names loads to the end, the same for any number of workers, and lists
/// what it replaced.
#[test]
fn a_mixed_folder_loads_to_the_end() {
    let root = tempfile::tempdir().unwrap();
    let class = |name: &str| {
        let class = root.path().join(name);
        fs::create_dir_all(&class).unwrap();
        class
    };
    let (a, b) = (class("a class"), class("ünïcode"));
    for (i, name) in ["q75_420", "grey", "cmyk", "progressive"]
        .iter()
        .enumerate()
    {
        fs::copy(jpeg(name), a.join(format!("{i} good.JPG"))).unwrap();
        fs::copy(jpeg(name), b.join(format!("{i}.jpeg"))).unwrap();
    }
    fs::write(a.join("text.jpg"), "text").unwrap();
    fs::write(b.join("zero.png"), "").unwrap();
    fs::create_dir(b.join("folder.jpg")).unwrap();
    fs::write(a.join("notes.txt"), "no image by its name").unwrap();
    #[cfg(unix)]
    {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        fs::copy(jpeg("grey"), a.join(OsStr::from_bytes(b"not\xFFutf8.jpg"))).unwrap();
    }
    let set = Arc::new(ImageFolder::open(root.path(), Orientation::AsStored).unwrap());
    let good = if cfg!(unix) { 9 } else { 8 };
    assert_eq!(set.len(), good + 3);
    assert_eq!(set.classes(), ["a class", "ünïcode"]);

    let load = |workers: usize| {
        let settings = Settings {
            part: Part::WHOLE,
            batch: 4,
            order: Order::Shuffled,
            seed: 1,
            start: Cursor::default(),
            end_epoch: 5,
            workers,
            queue: 2,
        };
        let mut loader = Loader::start(set.clone(), Arc::new(Mean), settings).unwrap();
        let batches: Vec<_> = loader.by_ref().map(Result::unwrap).collect();
        assert_eq!(batches.len(), 5 * set.len().div_euclid(4));
        let replaced: usize = batches.iter().map(|batch| batch.replaced).sum();
        let rows: Vec<(usize, u32)> = batches
            .iter()
            .flat_map(|b| {
                b.samples
                    .iter()
                    .copied()
                    .zip(b.views[0].iter().map(|v| v.to_bits()))
            })
            .collect();
        (rows, replaced, loader.quarantined())
    };
    let (rows, replaced, quarantined) = load(1);
    assert!(replaced > 0);
    let mut names: Vec<String> = quarantined
        .iter()
        .map(|(_, error)| error.name.rsplit('/').next().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["folder.jpg", "text.jpg", "zero.png"]);
    for (sample, _) in &rows {
        assert!(!quarantined.iter().any(|(bad, _)| bad == sample));
    }
    assert_eq!(load(3), (rows, replaced, quarantined));
}

/// The odd folder itself as a training set: it loads to the end.
#[test]
fn the_odd_folder_loads_to_the_end() {
    let Some(odd) = Odd::find("a training set of odd files") else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    fs::rename(odd.folder.path(), root.path().join("odd")).unwrap();
    let set = Arc::new(ImageFolder::open(root.path(), Orientation::AsStored).unwrap());
    assert_eq!(set.len(), 47);
    let settings = Settings {
        part: Part::WHOLE,
        batch: 47,
        order: Order::Shuffled,
        seed: 1,
        start: Cursor::default(),
        end_epoch: 1,
        workers: 2,
        queue: 1,
    };
    let mut loader = Loader::start(set, Arc::new(Mean), settings).unwrap();
    let batch = loader.next().unwrap().unwrap();
    let bad = loader.quarantined();
    assert_eq!(batch.replaced, bad.len());
    let listed = |name: &str| bad.iter().any(|(_, error)| error.name.ends_with(name));
    for name in [
        "text.jpg",
        "zero.jpg",
        "truncated.jpg",
        "truncated_header.jpg",
    ] {
        assert!(listed(name), "{name}");
    }
    assert!(listed("bomb_20000x20000.png") && listed("dir_named.jpg"));
    assert!(bad.len() <= 7, "{bad:?}");
}
