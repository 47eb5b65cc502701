//! What a training costs: time, memory, disk.

use std::path::Path;

use crate::{
    checkpoint::free_space,
    text::grouped,
    train::{
        Training,
        trial::{Outlook, Trial},
    },
    workplace::progress::clock,
};

/// The lines about costs among the facts of a training stage.
pub(super) fn lines(training: &Training, outlook: &Outlook) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(chance) = outlook.chance_loss {
        lines.push((
            "chance",
            format!("a loss of {chance:.4} tells nothing apart"),
        ));
    }
    let each = size(outlook.checkpoint_bytes);
    let kept = match kept(training) {
        1 => String::new(),
        kept => format!(", {} kept", grouped(kept)),
    };
    lines.push(("checkpoint", format!("{each}{kept}")));
    if let Some(trial) = &outlook.trial {
        lines.extend(tried(training, trial));
    }
    lines
}

fn tried(training: &Training, trial: &Trial) -> Vec<(&'static str, String)> {
    let stage = training.stage;
    let step = trial.step.as_secs_f64();
    let images = (stage.batch * stage.step.accumulate) as f64;
    let steps = training.steps_per_epoch() * stage.epochs;
    let mut lines = vec![
        ("first loss", format!("{:.4}", trial.loss)),
        (
            "step",
            format!(
                "{:.0} ms, {:.1} images/s, {:.0} % of the time waiting for images ({} tried)",
                1000.0 * step,
                images / step.max(1e-9),
                100.0 * trial.waiting,
                trial.steps
            ),
        ),
        (
            "time",
            format!(
                "about {} for {} steps",
                clock(trial.step * steps as u32),
                grouped(steps)
            ),
        ),
    ];
    if let Some(peak) = trial.peak_bytes {
        lines.push(("memory", format!("{} at most so far", size(peak))));
    }
    lines
}

/// Checkpoints that lie there when the stage ends.
fn kept(training: &Training) -> usize {
    let (keep, epochs) = (&training.stage.keep, training.stage.epochs);
    let Some(last) = keep.last else {
        return epochs;
    };
    let every = keep.every.map_or(0, |every| epochs / every.max(1));
    (last + every + usize::from(keep.best.is_some())).min(epochs)
}

/// Room for the checkpoints of a stage, one in the making included.
pub(super) fn checkpoint_bytes(training: &Training, outlook: &Outlook) -> u64 {
    outlook.checkpoint_bytes * (kept(training) as u64 + 1)
}

/// The room on the disk that run folders are made on.
pub(super) struct Room {
    free: Option<u64>,
}

impl Room {
    /// The room at `path`, which need not exist.
    pub(super) fn at(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let there = path.ancestors().find(|path| path.is_dir());
        Self {
            free: there.and_then(free_space),
        }
    }

    /// Takes `bytes`; gives the room there was, where that is less.
    pub(super) fn take(&mut self, bytes: u64) -> Option<u64> {
        let free = self.free?;
        self.free = Some(free.saturating_sub(bytes));
        (free < bytes).then_some(free)
    }
}

/// Bytes as a person reads them.
pub(super) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        bytes if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        bytes if bytes >= 1e6 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.0} kB", bytes / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_once() {
        let mut room = Room { free: Some(100) };
        assert_eq!(room.take(60), None);
        assert_eq!(room.take(60), Some(40));
        assert_eq!(Room { free: None }.take(1 << 60), None);
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(4_000), "4 kB");
        assert_eq!(size(12_340_000), "12.3 MB");
        assert_eq!(size(5_060_000_000), "5.1 GB");
    }
}
