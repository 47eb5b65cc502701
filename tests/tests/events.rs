//! TensorBoard's event files of whole runs: framing and checksums by an own reader, figures as in the log.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use smallfry::{
    run::{self, RunOptions},
    workplace::Existing,
};
use smallfry_tests::small::{self, Follow, Shape};

/// CRC-32C bit by bit, as its definition says.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

fn unmasked(masked: &[u8]) -> u32 {
    let masked = u32::from_le_bytes(masked.try_into().unwrap());
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}

/// The messages of a file whose every checksum must hold.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at(12);
        assert_eq!(unmasked(&head[8..]), crc32c(&head[..8]));
        let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
        let (message, rest) = rest.split_at(length);
        let (sum, rest) = rest.split_at(4);
        assert_eq!(unmasked(sum), crc32c(message));
        messages.push(message.to_vec());
        bytes = rest;
    }
    messages
}

/// The only event file of a stage.
fn file(run: &Path) -> PathBuf {
    let files = smallfry::events::files(&run.join("events/pretrain")).unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

/// What a file tells apart from its times: steps and figures.
fn told(path: &Path) -> Vec<(u64, String, f32)> {
    let points = smallfry::events::points(&fs::read(path).unwrap());
    let all = points.into_iter().flat_map(|(time, point)| {
        assert!(time > 1.7e9, "{time}");
        let step = point.step;
        point
            .values
            .into_iter()
            .map(move |(tag, value)| (step, tag, value))
    });
    all.filter(|(_, tag, _)| !tag.starts_with("speed/"))
        .collect()
}

fn train(folder: &Path, shape: &Shape, existing: Existing) -> Result<run::Summary, String> {
    let options = RunOptions {
        existing,
        ..RunOptions::default()
    };
    run::run(&small::plan(folder, shape), &options).map_err(|failure| failure.to_string())
}

#[test]
fn the_curves_are_those_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), &Shape::default(), Existing::Refuse)
        .unwrap()
        .folder;
    let path = file(&run);
    let messages = messages(&fs::read(&path).unwrap());
    // The version of the format first, then the start of a session.
    assert!(messages[0].ends_with(b"\x1a\x0dbrain.Event:2"));
    assert!(messages[1].ends_with(b"\x3a\x02\x08\x01"));
    let told = told(&path);
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let (mut figures, mut speeds) = (0, 0);
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let group = match line["event"].as_str().unwrap() {
            "step" => "train",
            "epoch" => "epoch",
            _ => continue,
        };
        for name in ["loss", "lr", "acc1"] {
            let wanted = line[name].as_f64().unwrap() as f32;
            let tag = format!("{group}/{name}");
            let step = line["step"].as_u64().unwrap();
            assert!(
                told.contains(&(step, tag.clone(), wanted)),
                "{tag} {step} {wanted}"
            );
            figures += 1;
        }
    }
    assert!(figures >= 9 && told.len() > figures, "{figures} {told:?}");
    assert!(told.contains(&(0, "train/chance_loss".to_owned(), 0.25)));
    for (_, point) in smallfry::events::points(&fs::read(&path).unwrap()) {
        speeds += point
            .values
            .iter()
            .filter(|(tag, _)| tag == "speed/images_per_second")
            .count();
    }
    assert_eq!(speeds, 3);
}

#[test]
fn a_resumed_run_shows_no_point_twice() {
    let folder = tempfile::tempdir().unwrap();
    let whole = train(
        &folder.path().join("whole"),
        &Shape::default(),
        Existing::Refuse,
    )
    .unwrap();
    let stopped = Shape {
        objective: Follow {
            diverge: Some(8),
            kill: None,
        },
        ..Shape::default()
    };
    let place = folder.path().join("stopped");
    train(&place, &stopped, Existing::Refuse).unwrap_err();
    let run = place.join("small");
    // As if the last record had been cut short by a kill.
    let first = file(&run);
    let bytes = fs::read(&first).unwrap();
    fs::write(&first, &bytes[..bytes.len() - 5]).unwrap();
    train(&place, &Shape::default(), Existing::Resume).unwrap();
    assert!(!first.exists() && file(&run) > first);
    assert_eq!(told(&file(&run)), told(&file(&whole.folder)));
    messages(&fs::read(file(&run)).unwrap());
}
