//! Progress on stderr: a moving line on a terminal; elsewhere one aligned line for each epoch, and one a minute within
//! long epochs.

use std::{
    cell::Cell,
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Progress;
use crate::log::Measures;

/// Shows where a run stands.
#[derive(Debug)]
pub struct Display {
    output: Output,
    stage: String,
    begin: Instant,
    /// Steps of the stage, and those done before `begin`.
    steps: u64,
    before: u64,
    /// The loss of encoders that tell nothing apart, where there is one.
    chance: Option<f64>,
    /// When the last line was written.
    told: Cell<Instant>,
}

/// Time between lines within an epoch.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum Output {
    Silent,
    Lines,
    Bar(ProgressBar),
}

/// What is known at a moment of training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Epochs of the stage.
    pub epochs: usize,
    /// Steps of the stage so far.
    pub step: u64,
    /// Learning rate.
    pub lr: f64,
    /// Mean loss.
    pub loss: Option<f64>,
    /// Means of other figures.
    pub measures: Measures,
    /// Images per second.
    pub images_per_second: f64,
    /// Share of the time that was spent waiting for data, from 0 to 1.
    pub waiting: f64,
}

impl Display {
    /// Shows progress as asked.
    pub fn new(progress: Progress) -> Self {
        let output = match progress {
            Progress::Silent => Output::Silent,
            Progress::Stderr if io::stderr().is_terminal() => Output::Bar(
                ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
            ),
            Progress::Stderr => Output::Lines,
        };
        Self {
            output,
            stage: String::new(),
            begin: Instant::now(),
            steps: 0,
            before: 0,
            chance: None,
            told: Cell::new(Instant::now()),
        }
    }

    /// A stage of `steps` steps begins (or goes on after `before` of them); 0 where they cannot be counted.
    pub fn stage(&mut self, name: &str, steps: u64, before: u64) {
        self.stage = name.to_owned();
        self.begin = Instant::now();
        self.told.set(self.begin);
        (self.steps, self.before) = (steps, before);
        self.chance = None;
        if let Output::Bar(bar) = &self.output {
            bar.reset();
            bar.set_length(steps);
            bar.set_position(before);
            bar.set_style(
                ProgressStyle::with_template("{prefix}  [{bar:24}] {msg}")
                    .expect("the template is well-formed")
                    .progress_chars("=> "),
            );
            bar.set_prefix(name.to_owned());
        }
    }

    /// Losses of the stage are shown beside `loss`, that of encoders that tell nothing apart.
    pub fn chance(&mut self, loss: Option<f64>) {
        self.chance = loss;
    }

    /// A step is done.
    pub fn step(&self, standing: &Standing) {
        match &self.output {
            Output::Bar(bar) => {
                bar.set_position(standing.step);
                bar.set_message(self.line(standing));
            }
            Output::Lines if self.told.get().elapsed() >= BETWEEN_LINES => {
                self.told.set(Instant::now());
                let done = 100 * standing.step / self.steps.max(1);
                eprintln!("{}  {}  {done} % done", self.stage, self.line(standing));
            }
            Output::Lines | Output::Silent => {}
        }
    }

    /// An epoch is done.
    pub fn epoch(&self, standing: &Standing) {
        self.told.set(Instant::now());
        let line = format!("{}  {}", self.stage, self.line(standing));
        match &self.output {
            Output::Silent => {}
            Output::Lines => eprintln!("{line}"),
            Output::Bar(bar) => bar.println(line),
        }
    }

    /// `done` of the stage's samples are evaluated.
    pub fn samples(&self, done: u64) {
        if let Output::Bar(bar) = &self.output {
            bar.set_position(done);
            bar.set_message(format!("{done}/{} images", self.steps));
        }
    }

    /// A metric has done `share` of its work, from 0 to 1.
    pub fn metric(&self, name: &str, share: f64) {
        match &self.output {
            Output::Bar(bar) => {
                bar.set_position((share * self.steps as f64) as u64);
                bar.set_message(format!("{name}  {:.0} %", 100.0 * share));
            }
            Output::Lines if self.told.get().elapsed() >= BETWEEN_LINES => {
                self.told.set(Instant::now());
                eprintln!("{}  {name}  {:.0} % done", self.stage, 100.0 * share);
            }
            Output::Lines | Output::Silent => {}
        }
    }

    /// `done` of the stage's iterations are done.
    pub fn iterations(&self, done: u64) {
        match &self.output {
            Output::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(format!("{done}/{} iterations", self.steps));
            }
            Output::Lines if self.told.get().elapsed() >= BETWEEN_LINES => {
                self.told.set(Instant::now());
                eprintln!("{}  {done} of {} iterations", self.stage, self.steps);
            }
            Output::Lines | Output::Silent => {}
        }
    }

    /// A remark.
    pub fn note(&self, text: &str) {
        match &self.output {
            Output::Silent => {}
            Output::Lines => eprintln!("{text}"),
            Output::Bar(bar) => bar.println(text),
        }
    }

    /// The stage is over.
    pub fn finish(&self) {
        if let Output::Bar(bar) = &self.output {
            bar.finish_and_clear();
        }
    }

    fn line(&self, standing: &Standing) -> String {
        let digits = standing.epochs.to_string().len();
        let mut line = format!("epoch {:>digits$}/{}", standing.epoch, standing.epochs);
        line.push_str(&format!("  loss {}", figure(standing.loss, 7, 4)));
        if let Some(chance) = self.chance {
            line.push_str(&format!(" (chance {chance:.4})"));
        }
        for (name, value) in &standing.measures {
            line.push_str(&format!("  {name} {}", figure(*value, 6, 2)));
        }
        line.push_str(&format!(
            "  lr {:<8.3e}  {:>7.1} images/s  waiting {:>3.0} %",
            standing.lr,
            standing.images_per_second,
            100.0 * standing.waiting
        ));
        if let Some(left) = self.left(standing.step) {
            line.push_str(&format!("  ETA {}", clock(left)));
        }
        line
    }

    fn left(&self, step: u64) -> Option<Duration> {
        let done = step.checked_sub(self.before).filter(|&done| done > 0)?;
        let left = self.steps.saturating_sub(step);
        let seconds = self.begin.elapsed().as_secs_f64() / done as f64 * left as f64;
        Some(Duration::from_secs_f64(seconds))
    }
}

fn figure(value: Option<f64>, width: usize, digits: usize) -> String {
    match value {
        Some(value) => format!("{value:>width$.digits$}"),
        None => format!("{:>width$}", "-"),
    }
}

/// Hours, minutes and seconds: `1:02:03`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_run_are_aligned() {
        let mut display = Display::new(Progress::Silent);
        display.stage("pretrain", 100, 10);
        let mut standing = Standing {
            epoch: 3,
            epochs: 100,
            step: 10,
            lr: 0.03,
            loss: Some(5.25),
            measures: Measures::from([("acc1".to_owned(), Some(7.5))]),
            images_per_second: 262.44,
            waiting: 0.034,
        };
        let line = display.line(&standing);
        assert_eq!(
            line,
            "epoch   3/100  loss  5.2500  acc1   7.50  lr 3.000e-2    262.4 images/s  waiting   3 %"
        );
        display.chance(Some(4.174_387));
        assert!(
            display
                .line(&standing)
                .contains("  loss  5.2500 (chance 4.1744)  acc1")
        );
        display.chance(None);
        standing.epoch = 10;
        standing.loss = Some(10.5);
        standing.measures.insert("acc1".to_owned(), Some(100.0));
        assert_eq!(display.line(&standing).len(), line.len());
    }

    #[test]
    fn clocks() {
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
        assert_eq!(clock(Duration::from_millis(59_600)), "0:01:00");
    }
}
