//! The stock data sets as experiment files open them: which files count, and which parameter a refusal names.

use std::{fs, path::Path, sync::Arc};

use smallfry::{
    Context, DataSet,
    data::{Dataset, base64},
    registry,
};
use smallfry_datasets as _; // links the plugins

/// Opens the set that is written as `text` relative to `folder`.
fn open(folder: &Path, text: &str) -> Result<Arc<dyn Dataset>, (&'static str, String)> {
    let built = registry::parse::<dyn DataSet>(&Context { folder }, text);
    let built = built.unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    built
        .plugin
        .open()
        .map_err(|invalid| (invalid.field(), invalid.reason().to_owned()))
}

/// An IDX file of bytes: sizes, then `value` everywhere.
fn idx(sizes: &[u32], value: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    let len: u32 = sizes.iter().product();
    bytes.extend(std::iter::repeat_n(value, len as usize));
    bytes
}

#[test]
fn idx_takes_the_usual_names_of_each_split() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
    write("train-images-idx3-ubyte", idx(&[3, 2, 4], 7));
    write("train-labels-idx1-ubyte", idx(&[3], 1));
    write("t10k-images-idx3-ubyte", idx(&[2, 2, 4], 9));
    write("t10k-labels-idx1-ubyte", idx(&[2], 0));
    let train = open(folder.path(), "Idx(path: \".\")").unwrap();
    assert_eq!((train.len(), train.label(2)), (3, Some(1)));
    let image = train.load(0).unwrap();
    assert_eq!(
        (image.width, image.height, image.pixels[0]),
        (4, 2, 7),
        "grey becomes three channels"
    );
    let test = open(folder.path(), "Idx(path: \".\", train: false)").unwrap();
    assert_eq!((test.len(), test.load(1).unwrap().pixels[5]), (2, 9));
}

#[test]
fn a_refusal_names_the_parameter_that_leads_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
    write("a", idx(&[3, 2, 4], 7));
    write("b", idx(&[2], 1));
    let (field, reason) = open(folder.path(), "Idx(path: \".\")").err().unwrap();
    assert_eq!(field, "path");
    assert!(reason.contains("train-images-idx3-ubyte"), "{reason}");
    let given = |images: &str, labels: &str| {
        let text =
            format!("Idx(path: \".\", images: Some(\"{images}\"), labels: Some(\"{labels}\"))");
        open(folder.path(), &text).err().unwrap().0
    };
    assert_eq!(given("missing", "b"), "images");
    assert_eq!(given("a", "missing"), "labels");
    // Three images, two labels.
    assert_eq!(given("a", "b"), "labels");
    for text in [
        "Cifar10(path: \"none\")",
        "Cifar100(path: \"none\")",
        "ImageFolder(path: \"none\")",
        "ImageFiles(path: \"none\")",
        "TSV(path: \"none\")",
    ] {
        let (field, reason) = open(folder.path(), text).err().unwrap();
        assert_eq!(field, "path", "{text}");
        assert!(reason.contains("none"), "{reason}");
    }
}

#[test]
fn cifar_reads_all_files_of_its_split() {
    let folder = tempfile::tempdir().unwrap();
    for (i, name) in (1..=5)
        .map(|i| format!("data_batch_{i}.bin"))
        .chain(["test_batch.bin".to_owned()])
        .enumerate()
    {
        let mut record = vec![i as u8 % 10];
        record.extend(std::iter::repeat_n(10 * i as u8, 3 * 32 * 32));
        fs::write(folder.path().join(name), record.repeat(i + 1)).unwrap();
    }
    let train = open(folder.path(), "Cifar10(path: \".\")").unwrap();
    assert_eq!((train.len(), train.label(14)), (15, Some(4)));
    assert_eq!(train.load(14).unwrap().pixels[0], 40);
    let test = open(folder.path(), "Cifar10(path: \".\", train: false)").unwrap();
    assert_eq!((test.len(), test.label(0)), (6, Some(5)));
}

#[test]
fn a_folder_of_images_reads_the_same_with_and_without_its_cache() {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/photos/train");
    let sets = [
        "ImageFolder(path: \".\", cache: 0)",
        "ImageFolder(path: \".\")",
    ]
    .map(|text| open(&photos, text).unwrap());
    assert_eq!(sets[0].fingerprint(), sets[1].fingerprint());
    for sample in [0, 7] {
        let first = sets[0].load(sample).unwrap();
        for _ in 0..2 {
            assert_eq!(sets[1].load(sample).unwrap(), first);
        }
    }
}

/// The same photographs from a folder, from a folder without classes, and from a tab-separated file.
#[test]
fn a_tab_separated_file_holds_the_photographs_it_was_made_of() {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/photos/train");
    let set = open(&photos, "ImageFolder(path: \".\")").unwrap();
    let files = open(&photos, "ImageFiles(path: \".\")").unwrap();
    assert_eq!((files.len(), files.label(0)), (set.len(), None));
    let mut lines = Vec::new();
    for sample in 0..10 {
        lines.extend(format!("{}\t{}\t", set.name(sample), set.label(sample).unwrap()).bytes());
        let file = fs::read(photos.join(set.name(sample))).unwrap();
        base64::encode(&file, &mut lines);
        lines.push(b'\n');
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("photos.tsv"), lines).unwrap();
    let tsv = open(folder.path(), "TSV(path: \"photos.tsv\")").unwrap();
    assert_eq!(tsv.len(), 10);
    for sample in [9, 0, 4, 9] {
        assert_eq!(tsv.load(sample).unwrap(), set.load(sample).unwrap());
        assert_eq!(tsv.load(sample).unwrap(), files.load(sample).unwrap());
        assert_eq!(tsv.label(sample), set.label(sample));
        assert!(tsv.name(sample).ends_with(&set.name(sample)));
    }
}
