//! The harness of the tests that cross crates.

pub mod golden;
pub mod program;
pub mod small;

/// The largest resident memory of this process so far, in megabytes, where the system tells.
pub fn peak_megabytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
