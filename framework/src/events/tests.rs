use serde_json::json;

use super::*;
use crate::log::Log;

#[test]
fn checksums_are_those_of_the_standard() {
    // RFC 3720, appendix B.4.
    assert_eq!(record::crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(record::crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(record::crc32c(&[0xff; 32]), 0x62a8_ab43);
}

#[test]
fn a_point_reads_as_it_was_written() {
    let point = Point {
        step: 300,
        values: vec![
            ("epoch/loss".to_owned(), 4.25),
            ("epoch/lr".to_owned(), 0.03),
        ],
    };
    let mut bytes = record::head(1.0);
    bytes.extend(record::scalars(2.5, &point));
    assert_eq!(points(&bytes), [(2.5, point.clone())]);
    let whole = bytes.len();
    bytes.extend(record::scalars(3.5, &point));
    // Cut short anywhere in its last record, the file still gives what comes before.
    for length in whole..bytes.len() {
        assert_eq!(points(&bytes[..length]).len(), 1, "{length}");
    }
    // A bit that flips anywhere is noticed.
    for at in whole..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        assert_eq!(points(&damaged).len(), 1, "{at}");
    }
    assert_eq!(points(&bytes).len(), 2);
}

/// Tags, steps and values of the only event file.
fn read(root: &Path) -> Vec<(String, u64, f32)> {
    let files = files(&root.join("events/a")).unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    let points = points(&fs::read(&files[0]).unwrap());
    let flat = points.into_iter().flat_map(|(_, point)| {
        let step = point.step;
        point
            .values
            .into_iter()
            .map(move |(tag, value)| (tag, step, value))
    });
    flat.collect()
}

#[test]
fn events_follow_the_log_through_a_rewind() {
    let folder = std::env::temp_dir().join(format!("smallfry-events-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let log = |lines: &[Value]| {
        let events = Events::open(&folder, "a").unwrap();
        let mut log = Log::open(&folder.join("log.jsonl")).unwrap();
        log.follow(&events);
        let mut timings = Log::open(&folder.join("timings.jsonl")).unwrap();
        timings.follow(&events);
        for line in lines {
            match line.get("event") {
                Some(_) => log.append(line).unwrap(),
                None => timings.append(line).unwrap(),
            }
        }
    };
    let whole = [
        json!({"event": "start", "stage": "a", "samples": 9, "chance_loss": 2.0}),
        json!({"event": "step", "stage": "a", "epoch": 1, "step": 5, "loss": null, "lr": 0.5}),
        json!({"event": "epoch", "stage": "a", "epoch": 1, "step": 8, "loss": 1.5, "replaced": []}),
        json!({"stage": "a", "epoch": 1, "seconds": 3.0}),
        json!({"event": "health", "stage": "a", "epoch": 1, "features": {"rank": 7}}),
        json!({"event": "step", "stage": "a", "epoch": 2, "step": 13, "loss": 1.25}),
    ];
    log(&whole);
    let expected = [
        ("train/chance_loss", 0, 2.0),
        ("train/lr", 5, 0.5),
        ("epoch/loss", 8, 1.5),
        ("speed/seconds", 8, 3.0),
        ("health/features/rank", 8, 7.0),
        ("train/loss", 13, 1.25),
    ]
    .map(|(tag, step, value)| (tag.to_owned(), step, value));
    assert_eq!(read(&folder), expected);
    let old = files(&folder.join("events/a")).unwrap();
    let times = |path: &Path| {
        points(&fs::read(path).unwrap())
            .into_iter()
            .map(|point| point.0)
    };
    let before: Vec<f64> = times(&old[0]).collect();
    // A kill cut the file short, and the log was rewound to the end of its first epoch.
    let bytes = fs::read(&old[0]).unwrap();
    fs::write(&old[0], &bytes[..bytes.len() - 3]).unwrap();
    let text = fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let kept: Vec<_> = text.lines().take(3).collect();
    fs::write(folder.join("log.jsonl"), kept.join("\n") + "\n").unwrap();
    log(&whole[4..]);
    assert_eq!(read(&folder), expected);
    let new = files(&folder.join("events/a")).unwrap();
    assert!(new[0] > old[0]);
    assert!(times(&new[0]).zip(before).take(4).all(|(a, b)| a == b));
    fs::remove_dir_all(&folder).unwrap();
}
