//! Inputs that the fuzz targets kept because each reaches code that the others do not, those that once failed, and files
//! of PyTorch damaged in every place.
//!
//! What the targets in `fuzz/` check is checked here of these inputs, without a fuzzer: no panic, and what is read
//! survives writing and reading again.

use std::{fs, path::PathBuf};

use smallfry_formats::{
    safetensors,
    torch::{self, Limits},
};

/// Magic number, version, and an empty description of the machine.
const START: &[u8] =
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fn fixtures(inside: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/weights");
    PathBuf::from(folder).join(inside)
}

/// The inputs of a target: one after another, each after its length with 32 bits.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let path = fixtures(&format!("fuzzed/{target}.bin"));
    let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut rest = &bytes[..];
    let mut inputs = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (input, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        inputs.push(input.to_vec());
        rest = after;
    }
    inputs
}

/// Whether a file of `torch.save` can be read; if so, it must survive being written.
fn survives(file: &[u8]) -> bool {
    let Ok(value) = torch::read_bytes(file, &Limits::default()) else {
        return false;
    };
    let write = |value| {
        let mut bytes = Vec::new();
        torch::write(value, "archive", &mut bytes).map(|()| bytes)
    };
    // Integers of thousands of bits can be read, not written.
    if let Ok(written) = write(&value) {
        let limits = Limits {
            cells: usize::MAX,
            ..Limits::default()
        };
        let again = torch::read_bytes(&written, &limits).unwrap();
        assert!(write(&again).unwrap() == written, "a value has changed");
    }
    true
}

/// How many of the inputs of a target are read; all must end.
fn count(target: &str, read: impl Fn(&[u8]) -> bool) {
    let inputs = inputs(target);
    let good = inputs.iter().filter(|input| read(input)).count();
    assert!(
        0 < good && good < inputs.len(),
        "{good} of {}",
        inputs.len()
    );
}

#[test]
fn pickles_are_read_or_refused() {
    count("unpickler", |input| match input.starts_with(&START[..15]) {
        true => survives(input),
        false => survives(&[START, input].concat()),
    });
}

#[test]
fn zip_containers_are_read_or_refused() {
    count("zip", survives);
}

#[test]
fn safetensors_files_are_read_or_refused() {
    count("safetensors", |input| {
        let Ok(file) = safetensors::read_bytes(input) else {
            return false;
        };
        let mut written = Vec::new();
        safetensors::write(&file, &mut written).unwrap();
        let again = safetensors::read_bytes(&written).unwrap();
        assert_eq!(again.metadata, file.metadata);
        assert_eq!(again.arrays.len(), file.arrays.len());
        for (name, array) in &file.arrays {
            assert_eq!(again.get(name), Some(array));
        }
        true
    });
}

#[test]
fn files_of_pytorch_cut_or_flipped_do_not_panic() {
    for file in [
        "tiny/nested_zip.pth",
        "tiny/nested_legacy.pth",
        "tiny/strided_legacy.pth",
        "tiny/half_zip_proto5.pth",
        "objects/changed_legacy.pth",
    ] {
        let good = fs::read(fixtures(file)).unwrap();
        assert!(survives(&good), "{file}");
        for length in 0..good.len() {
            assert!(!survives(&good[..length]), "{file} cut to {length} bytes");
        }
        let mut flipped = good.clone();
        for at in 0..good.len() {
            for bit in [0, 3, 7] {
                flipped[at] ^= 1 << bit;
                survives(&flipped);
                flipped[at] ^= 1 << bit;
            }
        }
    }
}
