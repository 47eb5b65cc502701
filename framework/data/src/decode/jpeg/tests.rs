//! Whole and damaged JPEG files; pixels are compared with Pillow's in the workspace's golden tests too.

use std::{fs, path::PathBuf};

use super::*;
use crate::{kernel::Level, random::Random};

const WHOLE: [u8; 20] = [
    0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 0xFF, 0xD9, // a segment holding what looks like an end
    0xFF, 0xDA, 0, 2, 1, 2, 0xFF, 0, 3, 4, // a scan with a stuffed byte
    0xFF, 0xD9,
];

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/images/jpeg_small")
}

/// The small files with name and content.
fn files() -> Vec<(String, Vec<u8>)> {
    let list = fs::read_to_string(fixtures().join("pixels.txt")).unwrap();
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let files: Vec<_> = lines
        .map(|line| {
            let name = line.split(' ').next().unwrap();
            (name.to_owned(), fs::read(fixtures().join(name)).unwrap())
        })
        .collect();
    assert!(files.len() > 40);
    files
}

fn decode(bytes: &[u8]) -> Option<Image> {
    Jpeg::open(bytes)?.decode()
}

#[test]
fn only_the_last_marker_ends_the_file() {
    assert!(is_complete(&WHOLE));
    for length in 2..WHOLE.len() {
        assert!(!is_complete(&WHOLE[..length]), "{length} bytes");
    }
}

#[test]
fn garbage_after_the_end_does_not_matter() {
    let mut bytes = WHOLE.to_vec();
    bytes.extend([0xFF, 0xC0, 0, 200]);
    assert!(is_complete(&bytes));
}

/// None of the files is left to the general decoder, and all instruction sets give the same pixels.
#[test]
fn all_levels_agree_on_every_kind_of_file() {
    for (name, bytes) in files() {
        let images: Vec<Image> = Level::available()
            .into_iter()
            .map(|level| level.with(|| decode(&bytes)).expect(&name))
            .collect();
        assert!(images.iter().all(|image| *image == images[0]), "{name}");
    }
}

/// A picture whose data stop early is grey behind that, and one without restarts does not go on later.
#[test]
fn missing_data_are_grey() {
    let (name, bytes) = &files()[5];
    assert!(name.starts_with("one_scan"), "{name}");
    let start = Jpeg::open(bytes).unwrap().scan.1;
    let mut cut = bytes[..start].to_vec();
    cut.extend([0xFF, 0xD9]);
    let image = decode(&cut).unwrap();
    let last = &image.pixels[image.pixels.len() - 30..];
    assert_eq!(last, [128; 30]);
}

/// Whatever is cut off or overwritten, decoding comes back: with an image of the size that the header says, or none.
#[test]
fn damaged_files_come_back() {
    let mut random = Random::new(&[7]);
    let mut decoded = 0;
    for (_, bytes) in files() {
        for _ in 0..120 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(damaged.len() as u64) as usize;
                match random.below(4) {
                    0 => damaged[at] = random.below(256) as u8,
                    1 => damaged[at] ^= 1 << random.below(8),
                    2 => damaged[at] = 0xFF,
                    _ => drop(damaged.drain(at..(at + 1 + at % 7).min(damaged.len()))),
                }
            }
            if random.chance(0.2) {
                damaged.truncate(random.below(damaged.len() as u64) as usize);
            }
            let Some(jpeg) = Jpeg::open(&damaged) else {
                continue;
            };
            let (width, height) = jpeg.dimensions();
            // As large as that is refused before: the file is too short for it.
            if u64::from(width) * u64::from(height) > 1 << 20 {
                continue;
            }
            if let Some(image) = jpeg.decode() {
                assert_eq!((image.width as u32, image.height as u32), (width, height));
                assert_eq!(image.pixels.len(), 3 * image.width * image.height);
                decoded += 1;
            }
        }
    }
    assert!(decoded > 1000, "{decoded}");
}

/// A file of very many scans is left alone before they take long.
#[test]
fn scans_are_bounded() {
    let (_, bytes) = files()
        .into_iter()
        .find(|(name, _)| name.starts_with("progressive_221111"))
        .unwrap();
    let jpeg = Jpeg::open(&bytes).unwrap();
    let start = jpeg.scan.1 - jpeg.scan.0.len() - 4;
    let scan = &bytes[start..jpeg.scan.1];
    let with = |count: usize| {
        let mut file = bytes[..start].to_vec();
        (0..count).for_each(|_| file.extend(scan));
        file.extend([0xFF, 0xD9]);
        decode(&file).is_some()
    };
    assert!(with(MOST_SCANS));
    assert!(!with(MOST_SCANS + 1));
}
