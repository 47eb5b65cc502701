use std::{fs, path::Path};

use super::*;
use crate::encode::jpeg;

/// A grey picture as a file, in base64.
fn picture(grey: u8) -> String {
    let mut text = Vec::new();
    let image = Image::from_grey(8, 6, &[grey; 48]);
    base64::encode(&jpeg(&image), &mut text);
    String::from_utf8(text).unwrap()
}

fn open(path: &Path) -> Tsv {
    Tsv::open(path, Orientation::AsStored).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(path: &Path) -> OpenError {
    Tsv::open(path, Orientation::AsStored).unwrap_err()
}

#[test]
fn lines_are_samples_in_any_order_and_from_many_threads() {
    let folder = tempfile::tempdir().unwrap();
    for (ending, last) in [("\n", "\n"), ("\n", ""), ("\r\n", "\r\n")] {
        let path = folder.path().join("train.tsv");
        let rows: Vec<_> = (0..40u8)
            .map(|i| format!("n{i:02}/a.JPEG\t{}\tmore\t{}", i % 7, picture(6 * i)))
            .collect();
        fs::write(&path, rows.join(ending) + last).unwrap();
        let _ = fs::remove_file(path.with_extension("lineidx"));
        let set = open(&path);
        assert_eq!((set.len(), set.classes().len()), (40, 7));
        assert_eq!(set.name(38), "train.tsv:39 n38/a.JPEG");
        let wrong: Vec<usize> = (0..40usize)
            .into_par_iter()
            .rev()
            .filter(|&i| {
                let image = set.load(i).unwrap();
                let near = image.pixels[0].abs_diff(6 * i as u8) <= 2;
                !near || set.label(i) != Some(i as u32 % 7) || image.width != 8
            })
            .collect();
        assert_eq!(wrong, []);
        // The index is there, with the place of every line, and is used again.
        let index = fs::read_to_string(path.with_extension("lineidx")).unwrap();
        let mut at = 0;
        for (row, line) in rows.iter().zip(index.lines()) {
            assert_eq!(line.parse::<usize>().unwrap(), at);
            at += row.len() + ending.len();
        }
        assert_eq!(index.lines().count(), 40);
        let again = open(&path);
        assert_eq!(again.starts, set.starts);
        assert_eq!(again.fingerprint(), set.fingerprint());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

#[test]
fn a_useless_line_fails_alone_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.tsv");
    let long = "k".repeat(3000);
    let rows = [
        format!("good\t3\t{}", picture(50)),
        "no columns at all".into(),
        String::new(),
        format!("two columns\t{}", picture(50)),
        format!("no class\tcat\t{}", picture(50)),
        format!("large class\t4000000000\t{}", picture(50)),
        "broken\t1\tab*d".into(),
        "cut\t1\tabcde".into(),
        "no image\t1\taGVsbG8=".into(),
        "empty image\t1\t".into(),
        format!("{long}\t2\t{}", picture(60)),
        format!("\u{1b}[31m\t0\t{}", picture(70)),
    ];
    fs::write(&path, rows.join("\n")).unwrap();
    let set = open(&path);
    assert_eq!((set.len(), set.classes().len()), (12, 4));
    let reasons: Vec<String> = (0..12)
        .map(|i| {
            set.load(i)
                .map_or_else(|error| error.reason, |_| String::new())
        })
        .collect();
    for (i, expected) in [
        "",
        "has no tab",
        "has no tab",
        "two columns and so no class",
        "`cat` in column 2",
        "`4000000000` in column 2",
        "letter 3 is not",
        "cut short",
        "no image of a known format",
        "is empty",
        "",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(reasons[i].contains(expected), "{i}: {}", reasons[i]);
        assert_eq!(
            reasons[i].is_empty(),
            expected.is_empty(),
            "{i}: {}",
            reasons[i]
        );
    }
    assert_eq!(
        (set.label(0), set.label(4), set.label(10)),
        (Some(3), None, Some(2))
    );
    assert!(set.name(10).len() < 200);
    assert!(!set.name(11).contains('\u{1b}'));
}

#[test]
fn a_file_without_a_single_class_is_a_set_without_classes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.tsv");
    fs::write(&path, format!("a\t{}\nb\t[]\t{}", picture(9), picture(90))).unwrap();
    let set = open(&path);
    assert_eq!((set.len(), set.classes().len(), set.label(1)), (2, 0, None));
    assert!(set.load(0).is_ok() && set.load(1).is_ok());
    fs::write(folder.path().join("empty.tsv"), "").unwrap();
    for _ in 0..2 {
        assert_eq!(open(&folder.path().join("empty.tsv")).len(), 0);
    }
}

#[test]
fn an_index_of_another_file_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (path, index) = (folder.path().join("a.tsv"), folder.path().join("a.lineidx"));
    let row = format!("k\t1\t{}\n", picture(9));
    fs::write(&path, row.repeat(3)).unwrap();
    let n = row.len();
    let good = format!("0\n{n}\n{}\n", 2 * n);
    for (text, what) in [
        (format!("0\n{n}\n"), "a line too few"),
        (format!("{n}\n{}\n", 2 * n), "without the first line"),
        (format!("0\n{}\n{}\n", n + 1, 2 * n), "no start of a line"),
        (format!("0\n{}\n{n}\n", 2 * n), "does not rise"),
        (format!("0\n{n}\n{}\n{}\n", 2 * n, 3 * n), "past the end"),
        (format!("0\n{n}\n{}\n", u128::MAX), "a number of no file"),
        ("x".into(), "no number"),
        (String::new(), "empty"),
        (row.clone(), "the file itself"),
    ] {
        fs::write(&index, &text).unwrap();
        let error = refusal(&path);
        assert!(error.name.ends_with("a.lineidx"), "{what}: {error}");
        assert!(error.remedy.contains("remove it"), "{what}: {error}");
        assert_eq!(fs::read_to_string(&index).unwrap(), text, "{what}");
    }
    // A line in the middle that was left out shows when it is read.
    fs::write(&index, format!("0\n{}\n", 2 * n)).unwrap();
    let set = open(&path);
    assert!(set.load(0).unwrap_err().reason.contains("several lines"));
    assert!(set.load(1).is_ok());
    fs::write(&index, good.replace('\n', "\r\n")).unwrap();
    assert_eq!(open(&path).len(), 3);
    // The file grew after its index was made.
    fs::write(&path, row.repeat(4)).unwrap();
    assert!(refusal(&path).reason.contains("does not say"));
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    refusal(&path);
}

#[test]
fn an_index_that_cannot_be_written_is_done_without() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tsv");
    fs::write(&path, format!("k\t1\t{}\n", picture(9)).repeat(3)).unwrap();
    // A folder of that name stands in the way of the partial file, for the superuser too.
    let partial = format!("a.lineidx.{}.partial", std::process::id());
    fs::create_dir(folder.path().join(partial)).unwrap();
    let set = open(&path);
    assert_eq!(set.len(), 3);
    assert!(set.load(2).is_ok());
    assert!(!path.with_extension("lineidx").exists());
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refusal(folder.path()).reason.contains("plain file"));
    assert!(
        refusal(&folder.path().join("none.tsv"))
            .reason
            .contains("does not exist")
    );
}

#[test]
fn a_huge_line_is_refused_before_memory_is_taken_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.tsv");
    // A file with a hole: two lines, one of them 1.6 thousand million zeros.
    fs::write(&path, format!("k\t1\t{}\n", picture(9))).unwrap();
    let first = fs::metadata(&path).unwrap().len();
    fs::write(path.with_extension("lineidx"), format!("0\n{first}\n")).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(MOST_BYTES + first + 1).unwrap();
    let set = open(&path);
    assert!(set.load(0).is_ok());
    let reason = set.load(1).unwrap_err().reason;
    assert!(reason.contains("more than"), "{reason}");
}

/// Files and indices with random bytes changed, left out and put in never end in a panic, and what is read is a line.
#[test]
fn damaged_files_and_indices_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tsv");
    let lines: Vec<_> = (0..4u8)
        .map(|i| format!("key{i}\t{i}\tx\t{}\n", picture(20 * i)))
        .collect();
    let (mut starts, mut at) = (String::new(), 0);
    for line in &lines {
        starts += &format!("{at}\n");
        at += line.len();
    }
    let mut random = crate::random::Random::new(&[27]);
    let (mut refused, mut failed, mut loaded) = (0, 0, 0);
    for round in 0..1500 {
        let mut parts = [lines.concat().into_bytes(), starts.clone().into_bytes()];
        for _ in 0..1 + round % 3 {
            // Mostly the file, and mostly bytes that leave its lines where they are.
            let which = usize::from(random.chance(0.2));
            let part = &mut parts[which];
            let at = random.below(part.len() as u64) as usize;
            let byte = match random.below(3) {
                0 => b"\n\t0=9 \r"[random.below(7) as usize],
                _ => random.bits() as u8,
            };
            match random.below(if which == 0 { 10 } else { 4 }) {
                0 => drop(part.remove(at)),
                1 => part.insert(at, byte),
                2 => part.truncate(at.max(1)),
                _ => part[at] = byte,
            }
        }
        fs::write(&path, &parts[0]).unwrap();
        fs::write(path.with_extension("lineidx"), &parts[1]).unwrap();
        let Ok(set) = Tsv::open(&path, Orientation::AsStored) else {
            refused += 1;
            continue;
        };
        for sample in 0..set.len() {
            let _ = set.name(sample);
            match set.load(sample) {
                Ok(image) => {
                    assert_eq!(image.pixels.len(), 3 * image.width * image.height);
                    loaded += 1;
                }
                Err(error) => {
                    assert!(!error.reason.is_empty());
                    failed += 1;
                }
            }
        }
    }
    assert!(
        refused > 100 && failed > 500 && loaded > 1000,
        "{refused} refused, {failed} lines failed, {loaded} loaded"
    );
}
