//! Checkpoint files: fixed bytes, safe writing, and reading of whatever somebody gives.

use std::{collections::BTreeMap, fs, path::Path};

use smallfry::{
    checkpoint::{self, Checkpoint, Mark, Store, Tensor, cadence::Keep},
    failure::Cause,
};

fn example() -> Checkpoint {
    let tensors = [
        (
            "encoder_q.w",
            Tensor::float(vec![2, 3], (0..6).map(|i| i as f32 / 7.0).collect()),
        ),
        ("encoder_q.n", Tensor::integer(vec![], vec![-5])),
        ("queue", Tensor::float(vec![0, 4], vec![])),
        ("queue_ptr", Tensor::integer(vec![1], vec![64])),
    ];
    Checkpoint {
        metadata: BTreeMap::from([("epoch".to_owned(), "3".to_owned())]),
        tensors: tensors
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .into(),
    }
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    checkpoint::write(&example(), &path).unwrap();
    assert_eq!(checkpoint::read(&path).unwrap(), example());
    let first = fs::read(&path).unwrap();
    checkpoint::write(&checkpoint::read(&path).unwrap(), &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A file of the format with this header and data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn whatever_is_given_ends_in_a_message_with_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("given.safetensors");
    let one = |entry: &str, data: usize| file(&format!("{{\"w\":{entry}}}"), &vec![0; data]);
    let mut cut = Vec::new();
    checkpoint::write(&example(), &path).unwrap();
    cut.extend(&fs::read(&path).unwrap()[..fs::read(&path).unwrap().len() - 1]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "it has only 0 bytes"),
        ("short", b"\x01\0\0".to_vec(), "it has only 3 bytes"),
        (
            "a text",
            b"Experiment(seed: 1)".to_vec(),
            "is no file of weights, but a text file",
        ),
        (
            "a page",
            b"<!DOCTYPE html>\n<html>".to_vec(),
            "is no file of weights, but an HTML page",
        ),
        (
            "a photograph",
            b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01".to_vec(),
            "is no file of weights, but a JPEG image",
        ),
        (
            "a picture",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(),
            "is no file of weights, but a PNG image",
        ),
        (
            "a zip of torch.save",
            b"PK\x03\x04\0\0\0\0\0\0".to_vec(),
            "given.safetensors",
        ),
        (
            "an old torch.save",
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9".to_vec(),
            "given.safetensors",
        ),
        (
            "endless header",
            [u64::MAX.to_le_bytes(), [0; 8]].concat(),
            "does not start with the length of a header",
        ),
        (
            "long header",
            [1000u64.to_le_bytes(), [b'{'; 8]].concat(),
            "is cut off",
        ),
        ("no JSON", file("{{{{{{{{", b""), "its header is wrong"),
        ("no object", file("[1,2,3]  ", b""), "its header is wrong"),
        (
            "not UTF-8",
            [8u64.to_le_bytes(), [0xff; 8]].concat(),
            "its header is wrong",
        ),
        ("cut data", cut, "and there are"),
        (
            "extra data",
            one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#, 5),
            "and there are",
        ),
        (
            "outside",
            one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#, 4),
            "and there are",
        ),
        (
            "hole",
            one(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#, 8),
            "its header is wrong",
        ),
        (
            "backwards",
            one(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#, 4),
            "its header is wrong",
        ),
        (
            "wrong size",
            one(r#"{"dtype":"F32","shape":[3],"data_offsets":[0,4]}"#, 4),
            "its header is wrong",
        ),
        (
            "huge",
            one(
                r#"{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}"#,
                4,
            ),
            "given.safetensors",
        ),
        (
            "a name twice",
            file(
                r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
            "given.safetensors",
        ),
        (
            "unknown type",
            one(r#"{"dtype":"Q4","shape":[4],"data_offsets":[0,4]}"#, 4),
            "its header is wrong",
        ),
        (
            "negative size",
            one(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#, 4),
            "its header is wrong",
        ),
    ];
    for (name, bytes, expected) in cases {
        fs::write(&path, &bytes).unwrap();
        let failure = checkpoint::read(&path).expect_err(name);
        assert_eq!(failure.cause, Cause::Mistake, "{name}: {failure}");
        assert!(failure.message.contains(expected), "{name}: {failure}");
        assert!(
            failure.message.contains("given.safetensors"),
            "{name}: {failure}"
        );
        assert!(failure.help.is_some(), "{name}: {failure}");
    }
}

#[test]
fn every_cut_and_every_flipped_byte_of_the_header_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    checkpoint::write(&example(), &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(checkpoint::read(&path).is_err(), "cut to {length}");
    }
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for place in 0..8 + header {
        for flip in [0x01, 0x20, 0x80] {
            let mut damaged = bytes.clone();
            damaged[place] ^= flip;
            fs::write(&path, &damaged).unwrap();
            // Some flips give another good file; none may panic or allocate beyond the file.
            let _ = checkpoint::read(&path);
        }
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = checkpoint::read(&folder.path().join("none")).unwrap_err();
    assert_eq!((missing.cause, missing.exit_code()), (Cause::Mistake, 2));
    let directory = checkpoint::read(folder.path()).unwrap_err();
    assert!(directory.message.ends_with("is no file"), "{directory}");
    #[cfg(unix)]
    assert!(
        checkpoint::read(Path::new("/dev/zero"))
            .unwrap_err()
            .message
            .ends_with("is no file")
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_named_and_the_old_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    checkpoint::write(&example(), &path).unwrap();
    let before = fs::read(&path).unwrap();
    // Even a superuser cannot write a file over this folder.
    fs::create_dir(folder.path().join("a.safetensors.partial")).unwrap();
    let failure = checkpoint::write(&example(), &path).unwrap_err();
    assert!(
        failure.message.contains("a.safetensors.partial"),
        "{failure}"
    );
    assert_eq!(failure.exit_code(), 2);
    assert_eq!(fs::read(&path).unwrap(), before);
    let failure = checkpoint::write(&example(), &folder.path().join("none/a")).unwrap_err();
    assert_eq!(failure.exit_code(), 2, "{failure}");
}

#[test]
fn the_old_checkpoint_goes_only_after_the_new_one_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().to_owned());
    store.prepare().unwrap();
    store
        .save(&example(), Mark::end(1), &Keep::last(Some(1)), None)
        .unwrap();
    fs::create_dir(folder.path().join("epoch-0002.safetensors.partial")).unwrap();
    assert!(
        store
            .save(&example(), Mark::end(2), &Keep::last(Some(1)), None)
            .is_err()
    );
    assert_eq!(store.epochs().unwrap(), [1]);
    fs::remove_dir(folder.path().join("epoch-0002.safetensors.partial")).unwrap();
    store
        .save(&example(), Mark::end(2), &Keep::last(Some(1)), None)
        .unwrap();
    assert_eq!(store.epochs().unwrap(), [2]);
    // Nobody can ask for none to be kept.
    store
        .save(&example(), Mark::end(10), &Keep::last(Some(0)), None)
        .unwrap();
    assert_eq!(store.epochs().unwrap(), [10]);
}

#[test]
fn a_file_that_is_dropped_unfinished_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    fs::write(&path, "old").unwrap();
    let mut partial = checkpoint::Partial::create(&path).unwrap();
    std::io::Write::write_all(&mut partial, b"half of the new").unwrap();
    drop(partial);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    checkpoint::write_atomically(&path, b"new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
}
