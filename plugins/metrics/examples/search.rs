//! Time of the exact searches on features in files, for `tests/bench/neighbours.py` and `tests/bench/instance.py`.
//!
//! `cargo run --release -p smallfry-metrics --example search -- neighbours TRAIN TEST WIDTH K OUT`
//! `cargo run --release -p smallfry-metrics --example search -- streamed TRAIN TEST WIDTH K OUT`
//! `cargo run --release -p smallfry-metrics --example search -- instances QUERIES POSITIVES WIDTH OUT`
//!
//! Files hold little-endian numbers of 32 bits without a header. Prints seconds of the clock and of all
//! processors, reading the files left out, and the most memory that the process had, in bytes; OUT gets the rows of each test feature's neighbours, or each query's rank.
//! `streamed` does the same as `neighbours`, but reads training features as they are needed, within its seconds, as a metric does whose
//! features do not fit into memory.

use std::{
    env, fs,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    process::ExitCode,
    sync::Mutex,
    time::Instant,
};

use smallfry::{
    data::random::Random,
    metric::{FeatureSet, Watch},
    tensor::{Features, Plain, import},
    testing::Set,
};
use smallfry_metrics::{
    instance_discrimination::ranks,
    nearest::nearest,
    space::{Centre, Represented, Space},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["neighbours", train, test, width, k, out] => {
            read(train, width).and_then(|train| neighbours(&train, test, width, k, out))
        }
        ["streamed", train, test, width, k, out] => {
            Streamed::open(train, width).and_then(|train| neighbours(&train, test, width, k, out))
        }
        ["instances", queries, positives, width, out] => instances(queries, positives, width, out),
        _ => Err("see the head of the file for the arguments".to_owned()),
    };
    match done {
        Ok(seconds) => {
            let (clock, processors) = seconds;
            println!("{clock} {processors} {}", most_memory());
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn neighbours(
    train: &dyn FeatureSet,
    test: &str,
    width: &str,
    k: &str,
    out: &str,
) -> Result<(f64, f64), String> {
    let k = k.parse().map_err(|_| "K is no number".to_owned())?;
    let test = read(test, width)?;
    let begin = (Instant::now(), processor_seconds());
    let (space, centre) = (Space::Original, Centre::Whole);
    let train = Represented::new(train, "training", space, centre, Random::new(&[]))?;
    let found = nearest(&train, &test.values, k, Watch::default())?;
    let seconds = (
        begin.0.elapsed().as_secs_f64(),
        processor_seconds() - begin.1,
    );
    write(out, found.iter().flatten().map(|n| n.row as u32))?;
    Ok(seconds)
}

fn instances(queries: &str, positives: &str, width: &str, out: &str) -> Result<(f64, f64), String> {
    let (queries, positives) = (read(queries, width)?, read(positives, width)?);
    let begin = (Instant::now(), processor_seconds());
    let found = ranks(&queries, &positives, Watch::default())?;
    let seconds = (
        begin.0.elapsed().as_secs_f64(),
        processor_seconds() - begin.1,
    );
    write(out, found.iter().map(|rank| rank.nearer))?;
    Ok(seconds)
}

/// Features that stay in their file.
struct Streamed {
    file: Mutex<fs::File>,
    rows: usize,
    width: usize,
}

impl Streamed {
    fn open(path: &str, width: &str) -> Result<Self, String> {
        let width = width.parse().map_err(|_| "WIDTH is no number".to_owned())?;
        let file = fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
        let about = file
            .metadata()
            .map_err(|error| format!("{path}: {error}"))?;
        Ok(Self {
            file: Mutex::new(file),
            rows: about.len() as usize / (4 * width),
            width,
        })
    }
}

impl FeatureSet for Streamed {
    fn rows(&self) -> usize {
        self.rows
    }

    fn width(&self) -> usize {
        self.width
    }

    fn labels(&self) -> Option<&[u32]> {
        None
    }

    fn read(&self, rows: Range<usize>) -> Plain<Features> {
        let mut bytes = vec![0; 4 * rows.len() * self.width];
        let mut file = self.file.lock().expect("no reader panics");
        file.seek(SeekFrom::Start(4 * (rows.start * self.width) as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .expect("the file stays as it is");
        let words = bytes.as_chunks().0.iter();
        let values = words.map(|word| f32::from_le_bytes(*word)).collect();
        import(values, (rows.len(), self.width))
    }

    fn name(&self, row: usize) -> String {
        format!("row {row}")
    }
}

fn read(path: &str, width: &str) -> Result<Set, String> {
    let bytes = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let words = bytes.as_chunks().0.iter();
    Ok(Set {
        values: words.map(|word| f32::from_le_bytes(*word)).collect(),
        width: width.parse().map_err(|_| "WIDTH is no number".to_owned())?,
        labels: None,
    })
}

fn write(path: &str, numbers: impl Iterator<Item = u32>) -> Result<(), String> {
    let bytes: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
    fs::write(path, bytes).map_err(|error| format!("{path}: {error}"))
}

/// Seconds that the process has worked so far, over all threads; 0 where the system does not say.
fn processor_seconds() -> f64 {
    // User and system time are the fourteenth and fifteenth field, in hundredths; the second may hold blanks.
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2);
    times
        .filter_map(|time| time.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// The most memory that the process had so far, in bytes; 0 where the system does not say.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    1024 * number.unwrap_or(0)
}
