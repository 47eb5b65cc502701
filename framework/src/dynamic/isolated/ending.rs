//! How a process ended, in words.

use rustix::process::{Signal, WaitIdStatus};

use crate::dynamic::Limits;

/// The most lines, and letters of a line, that are shown of what a library wrote.
const LINES: usize = 3;
const LETTERS: usize = 200;

/// What to say of a process that ended without an answer, having written `words`.
pub(super) fn told(status: &WaitIdStatus, limits: &Limits, words: &str) -> String {
    let how = match (status.terminating_signal(), status.exit_status()) {
        (Some(signal), _) => {
            let memory = limits.memory_mb;
            format!(
                "crashed: {}, with at most {memory} MB of memory",
                signal_name(signal)
            )
        }
        (None, Some(code)) => format!("ended its process with exit code {code}"),
        (None, None) => "ended its process without an answer".to_owned(),
    };
    match last_lines(words) {
        words if words.is_empty() => how,
        words => format!("{how}; it wrote: {words}"),
    }
}

fn signal_name(number: i32) -> String {
    let name = match Signal::from_named_raw(number) {
        Some(Signal::SEGV) => "it used memory that is not its own (segmentation fault)",
        Some(Signal::BUS) => "it used memory that is not there (bus error)",
        Some(Signal::ABORT) => "it aborted",
        Some(Signal::FPE) => "it divided by zero or the like (arithmetic exception)",
        Some(Signal::ILL) => "it ran what is no instruction",
        Some(Signal::KILL) => "it was killed, perhaps for want of memory",
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

/// The last lines of `words` in one, without what would do something to a terminal.
fn last_lines(words: &str) -> String {
    let lines = words.lines().map(|line| {
        let letters = line.chars().filter(|letter| !letter.is_control());
        letters.take(LETTERS).collect::<String>().trim().to_owned()
    });
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_shown() {
        assert_eq!(last_lines(""), "");
        assert_eq!(last_lines("\n \n"), "");
        assert_eq!(last_lines("a\n\nb\nc\n  d \n"), "b / c / d");
        assert_eq!(last_lines("\x1b[31mred\x07"), "[31mred");
        assert_eq!(last_lines(&"é".repeat(1000)), "é".repeat(LETTERS));
    }

    #[test]
    fn signals_have_names() {
        assert!(signal_name(11).contains("segmentation fault"));
        assert_eq!(signal_name(6), "it aborted");
        assert_eq!(signal_name(40), "signal 40");
    }
}
