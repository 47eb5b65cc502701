//! Files as they should be, and as they should not.

use std::{fs, io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};

use super::{
    Dataset,
    cifar::{Cifar, Kind},
    folder::ImageFolder,
    idx::Idx,
};
use crate::{decode::Orientation, encode, image::Image};

/// An IDX file of three images of 2 x 1 pixels.
fn images() -> Vec<u8> {
    let mut file = vec![0, 0, 8, 3];
    for side in [3u32, 1, 2] {
        file.extend(side.to_be_bytes());
    }
    file.extend([10, 20, 30, 40, 50, 60]);
    file
}

fn labels() -> Vec<u8> {
    vec![0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1]
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn idx_files_are_read_plain_and_zipped() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("images"), folder.path().join("labels"));
    let mut prints = Vec::new();
    for zip in [false, true] {
        let pack = |bytes: Vec<u8>| if zip { zipped(&bytes) } else { bytes };
        fs::write(&a, pack(images())).unwrap();
        fs::write(&b, pack(labels())).unwrap();
        let set = Idx::open(&a, &b).unwrap();
        assert_eq!((set.len(), set.classes().len()), (3, 3));
        assert_eq!(set.label(0), Some(2));
        let image = set.load(1).unwrap();
        assert_eq!((image.width, image.height), (2, 1));
        assert_eq!(image.pixels, [30, 30, 30, 40, 40, 40]);
        assert!(set.name(1).ends_with("images#1"));
        prints.push(set.fingerprint().unwrap());
    }
    assert_eq!(prints[0], prints[1]);
}

#[test]
fn idx_files_that_lie_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("images"), folder.path().join("labels"));
    let refused = |images: &[u8], labels: &[u8], reason: &str| {
        for zip in [false, true] {
            let pack = |bytes: &[u8]| if zip { zipped(bytes) } else { bytes.to_vec() };
            fs::write(&a, pack(images)).unwrap();
            fs::write(&b, pack(labels)).unwrap();
            let error = Idx::open(&a, &b).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    };
    let changed = |at: usize, value: u8| {
        let mut bytes = images();
        bytes[at] = value;
        bytes
    };
    refused(&changed(3, 1), &labels(), "starts with 0x00000801");
    refused(&images(), &images(), "starts with 0x00000803");
    refused(&images()[..9], &labels(), "ends within its header");
    refused(&images()[..21], &labels(), "claims");
    refused(&changed(11, 200), &labels(), "claims");
    // Sixteen million images of 4 x 10^9 pixels a row: nothing is allocated for them.
    let mut huge = images();
    huge[4..16].fill(0xFF);
    refused(&huge, &labels(), "claims");
    huge[4..8].copy_from_slice(&[0, 255, 255, 255]);
    huge[8..12].copy_from_slice(&[0, 0, 0, 1]);
    refused(&huge, &labels(), "header claims");
    refused(&changed(7, 0), &labels(), "holds no pixels");
    refused(&changed(7, 2), &labels(), "goes on after");
    refused(&images(), &labels()[..10], "claims");
    refused(
        &images(),
        &[0, 0, 8, 1, 0, 0, 0, 2, 1, 1],
        "2 labels for 3 images",
    );
    let missing = Idx::open(&folder.path().join("none"), &b).unwrap_err();
    assert!(missing.to_string().contains("does not exist"));
    fs::write(&a, [0x1F, 0x8B, 8, 0, 1, 2]).unwrap();
    assert!(Idx::open(&a, &b).is_err());
}

/// A record whose channels are constant.
fn record(labels: &[u8], colour: [u8; 3]) -> Vec<u8> {
    let mut record = labels.to_vec();
    for value in colour {
        record.extend([value; 1024]);
    }
    record
}

#[test]
fn cifar_files_are_read_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
    let open = |kind, train| Cifar::open(folder.path(), kind, train);
    let missing = open(Kind::Cifar10, true).unwrap_err().to_string();
    assert!(
        missing.contains("data_batch_1.bin` does not exist"),
        "{missing}"
    );

    write("data_batch_1.bin", &record(&[3], [1, 2, 3]));
    write(
        "data_batch_2.bin",
        &[record(&[9], [4, 5, 6]), record(&[0], [7, 8, 9])].concat(),
    );
    let set = open(Kind::Cifar10, true).unwrap();
    assert_eq!(set.len(), 3);
    assert_eq!(
        (0..3).map(|i| set.label(i).unwrap()).collect::<Vec<_>>(),
        [3, 9, 0]
    );
    let image = set.load(2).unwrap();
    assert_eq!((image.width, image.height), (32, 32));
    assert!(image.pixels.chunks(3).all(|pixel| pixel == [7, 8, 9]));
    assert!(set.name(2).ends_with("data_batch_2.bin#1"));

    write("train.bin", &record(&[1, 99], [0, 0, 0]));
    assert_eq!(open(Kind::Cifar100, true).unwrap().label(0), Some(99));
    write("test_batch.bin", &record(&[10], [0, 0, 0]));
    let wrong = open(Kind::Cifar10, false).unwrap_err().to_string();
    assert!(wrong.contains("label 10"), "{wrong}");
    write("test_batch.bin", &record(&[1], [0, 0, 0])[..3000]);
    let short = open(Kind::Cifar10, false).unwrap_err().to_string();
    assert!(short.contains("no multiple"), "{short}");
}

fn picture(path: &Path, grey: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, encode::jpeg(&Image::from_grey(8, 8, &[grey; 64]))).unwrap();
}

#[test]
fn folders_are_sorted_and_searched_below() {
    let root = tempfile::tempdir().unwrap();
    for name in [
        "b/2.jpg",
        "b/1.PNG",
        "a/z.jpeg",
        "a/deeper/y.jpg",
        "b/10.webp",
    ] {
        picture(&root.path().join(name), 9);
    }
    fs::write(root.path().join("a/readme.md"), "no image").unwrap();
    fs::write(root.path().join("stray.jpg"), "belongs to no class").unwrap();
    let open = || ImageFolder::open(root.path(), Orientation::AsStored);
    let set = open().unwrap();
    let below = |sample| {
        set.path(sample)
            .strip_prefix(root.path())
            .unwrap()
            .to_owned()
    };
    let names: Vec<_> = (0..set.len())
        .map(|i| below(i).display().to_string())
        .collect();
    assert_eq!(
        names,
        [
            "a/deeper/y.jpg",
            "a/z.jpeg",
            "b/1.PNG",
            "b/10.webp",
            "b/2.jpg"
        ]
    );
    assert_eq!(set.label(1), Some(0));
    assert_eq!(set.label(4), Some(1));
    assert!(set.load(3).unwrap().pixels[0].abs_diff(9) < 3);

    let print = set.fingerprint().unwrap();
    assert_eq!(open().unwrap().fingerprint().unwrap(), print);
    picture(&root.path().join("b/2.jpg"), 200);
    assert_ne!(open().unwrap().fingerprint().unwrap(), print);

    fs::create_dir(root.path().join("c")).unwrap();
    let empty = open().unwrap_err().to_string();
    assert!(
        empty.contains("class without images") && empty.contains("remove the folder"),
        "{empty}"
    );
    let none = ImageFolder::open(&root.path().join("c"), Orientation::AsStored).unwrap_err();
    assert!(
        none.to_string()
            .contains("neither class folders nor images")
    );
    let missing = ImageFolder::open(&root.path().join("d"), Orientation::AsStored).unwrap_err();
    assert!(missing.to_string().contains("does not exist"));
}

#[test]
fn a_folder_without_class_folders_is_a_set_without_classes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let file = encode::jpeg(&Image::black(2, 2));
    for name in ["b.jpg", "a.JPG", "notes.txt"] {
        fs::write(root.join(name), &file).unwrap();
    }
    let names = |set: &ImageFolder| (0..set.len()).map(|i| set.name(i)).collect::<Vec<_>>();
    let flat = ImageFolder::open(root, Orientation::AsStored).unwrap();
    assert_eq!(names(&flat), ["a.JPG", "b.jpg"]);
    assert_eq!((flat.classes().len(), flat.label(0)), (0, None));
    assert!(flat.load(1).is_ok());

    // Folders that are no classes, and some without images.
    fs::create_dir_all(root.join("2024/may/empty")).unwrap();
    fs::write(root.join("2024/may/c.png"), &file).unwrap();
    fs::write(root.join("2024/d.png"), &file).unwrap();
    let all = ImageFolder::without_classes(root, Orientation::AsStored).unwrap();
    assert_eq!(
        names(&all),
        ["2024/d.png", "2024/may/c.png", "a.JPG", "b.jpg"]
    );
    assert_eq!((all.classes().len(), all.label(3)), (0, None));
    let empty = root.join("2024/may/empty");
    let none = ImageFolder::without_classes(&empty, Orientation::AsStored).unwrap_err();
    assert!(none.reason.contains("holds no images"), "{none}");
}
