//! When a stage saves its state, and which of its checkpoints stay.
//!
//! The state is saved at the end of every epoch, come what may. [`Save`] adds states within epochs: they guard against
//! loss and are gone once their epoch's end is on disk, so that neither the clock nor a kill shows in what a run leaves.
//! [`Keep`] decides over the ends of epochs alone.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Minutes between states saved within epochs, unless the file says otherwise.
const MINUTES: f64 = 10.0;

/// Newest checkpoints that stay, unless the file says otherwise.
const LAST: usize = 2;

/// When the state is saved within an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Save {
    /// After every so many optimiser steps.
    pub steps: Option<u64>,
    /// When so many minutes have passed since the last time.
    pub minutes: Option<f64>,
}

impl Default for Save {
    fn default() -> Self {
        Self {
            steps: None,
            minutes: Some(MINUTES),
        }
    }
}

impl Save {
    /// Whether it can be followed.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        match (self.steps, self.minutes) {
            (Some(0), _) => Err("`steps` must be above 0"),
            (_, Some(minutes)) if !minutes.is_finite() || minutes <= 0.0 => {
                Err("`minutes` must be a number above 0")
            }
            _ => Ok(()),
        }
    }

    /// Whether the state is to be saved after step `step` of the stage, last saved at `last`.
    pub fn due(&self, step: u64, last: Instant) -> bool {
        let late = |minutes| last.elapsed() >= Duration::from_secs_f64(60.0 * minutes);
        self.steps.is_some_and(|steps| step.is_multiple_of(steps)) || self.minutes.is_some_and(late)
    }
}

/// Which checkpoints at the ends of epochs stay: all that any of these wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// The newest so many; none for all.
    pub last: Option<usize>,
    /// Every epoch whose number this divides.
    pub every: Option<usize>,
    /// The epoch that was best by a figure of its log line.
    pub best: Option<Best>,
}

impl Default for Keep {
    fn default() -> Self {
        Self::last(Some(LAST))
    }
}

impl Keep {
    /// Keeps the newest `last`, or all.
    pub fn last(last: Option<usize>) -> Self {
        Self {
            last,
            every: None,
            best: None,
        }
    }

    /// Whether it can be followed.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        match (self.last, self.every, &self.best) {
            (Some(0), _, _) => Err("must be above 0"),
            (_, Some(0), _) => Err("`every` must be above 0"),
            (None, Some(_), _) | (None, _, Some(_)) => {
                Err("`last: None` keeps all, which leaves nothing to `every` and `best`")
            }
            _ => Ok(()),
        }
    }

    /// Those of `epochs`, in rising order, that may go; `best` is the best epoch so far.
    pub fn surplus(&self, epochs: &[usize], best: Option<usize>) -> Vec<usize> {
        let Some(last) = self.last else {
            return Vec::new();
        };
        let newest: BTreeSet<_> = epochs.iter().rev().take(last.max(1)).collect();
        let stays = |epoch: &usize| {
            newest.contains(epoch)
                || self.every.is_some_and(|every| epoch.is_multiple_of(every))
                || best == Some(*epoch)
        };
        let surplus = epochs.iter().filter(|epoch| !stays(epoch));
        surplus.copied().collect()
    }
}

/// As it stands in an experiment file: a number or `None` where that says it all.
impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<usize>| number.map_or("None".to_owned(), |n| n.to_string());
        if (self.every, &self.best) == (None, &None) {
            return f.write_str(&number(self.last));
        }
        let best = match &self.best {
            None => "None".to_owned(),
            Some(Best::Lowest(figure)) => format!("Lowest({figure:?})"),
            Some(Best::Highest(figure)) => format!("Highest({figure:?})"),
        };
        let (last, every) = (number(self.last), number(self.every));
        write!(
            f,
            "Keep(\n    last: {last},\n    every: {every},\n    best: {best},\n)"
        )
    }
}

/// A figure that tells which epoch is best: `loss`, or another that the epoch's line in `log.jsonl` has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Best {
    /// The lower the better.
    Lowest(String),
    /// The higher the better.
    Highest(String),
}

impl Best {
    /// The name of the figure.
    pub fn figure(&self) -> &str {
        match self {
            Self::Lowest(figure) | Self::Highest(figure) => figure,
        }
    }

    /// Whether an epoch, given with its figure, is better than another; the earlier among equals is.
    pub fn prefers(&self, one: (usize, f64), other: (usize, f64)) -> bool {
        let figures = match self {
            Self::Lowest(_) => one.1.total_cmp(&other.1),
            Self::Highest(_) => other.1.total_cmp(&one.1),
        };
        figures.then(one.0.cmp(&other.0)).is_lt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays() {
        let epochs: Vec<usize> = (1..=10).collect();
        let keep = |last, every| Keep {
            last,
            every,
            best: None,
        };
        for (keep, best, stay) in [
            (keep(Some(2), None), None, &[9, 10][..]),
            (keep(None, None), None, &epochs[..]),
            (keep(Some(1), Some(4)), None, &[4, 8, 10]),
            (keep(Some(1), Some(4)), Some(3), &[3, 4, 8, 10]),
            (keep(Some(20), None), Some(3), &epochs[..]),
            // Nobody can ask for none.
            (keep(Some(0), None), None, &[10]),
        ] {
            let gone = keep.surplus(&epochs, best);
            let left: Vec<_> = epochs.iter().filter(|e| !gone.contains(e)).collect();
            assert_eq!(left, stay.iter().collect::<Vec<_>>(), "{keep:?} {best:?}");
        }
    }

    #[test]
    fn the_best_is_the_first_of_the_best() {
        let figures = [(1, 3.0), (2, 1.0), (3, 7.0), (4, 1.0), (5, 7.0)];
        let first = |best: Best| {
            let better = |a, b| if best.prefers(b, a) { b } else { a };
            figures.into_iter().reduce(better).map(|(epoch, _)| epoch)
        };
        assert_eq!(first(Best::Lowest("loss".to_owned())), Some(2));
        assert_eq!(first(Best::Highest("knn".to_owned())), Some(3));
    }

    #[test]
    fn a_save_is_due_by_steps_and_by_time() {
        let (now, save) = (Instant::now(), |steps, minutes| Save { steps, minutes });
        assert!(save(Some(5), None).due(10, now));
        assert!(!save(Some(5), None).due(11, now));
        assert!(save(None, Some(1e-9)).due(11, now - Duration::from_millis(1)));
        assert!(!save(None, Some(60.0)).due(11, now));
        assert!(!save(None, None).due(11, now));
    }
}
