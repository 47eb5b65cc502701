//! A second look at a plan that can run: whether it will do what its author means, and what it will cost.
//!
//! Mistakes that would stop the run are `preflight`'s. What is said here stops nothing: plugins advise on their own
//! parameters, this file on what lies between them, and each remark has its place in the file and a remedy. A remark
//! that is wrong on a good experiment is worse than none, so thresholds are wide.

mod cost;

use std::fmt;

use serde::Serialize;
use smallfry_data::Dataset;

use crate::{
    Invalid,
    advice::{Advice, Severity},
    checkpoint::Weights,
    diagnostic::Diagnostic,
    failure::Failure,
    plan::{Evaluate, Plan, Pretrain, Stage},
    preflight::{self, Facts, Opened},
    run::prepare::{self, Prepared},
    text::grouped,
    train::{
        Training,
        trial::{self, Outlook},
    },
};

/// A learning rate further than this factor from the rule's is remarked on.
const RATE: f64 = 4.0;

/// Views larger than their sources by more than this factor are remarked on.
const ENLARGED: f64 = 2.0;

/// Images whose sizes are looked at.
const SAMPLES: usize = 9;

/// Share of the images that an epoch leaves out, above which it is remarked on.
const LEFT_OUT: f64 = 0.2;

/// Share of the time spent waiting for images, above which it is remarked on.
const WAITING: f64 = 0.2;

/// All that is known of a plan without running it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What each stage would work on.
    pub stages: Vec<Facts>,
    /// What its author should know, warnings first.
    pub findings: Vec<Finding>,
}

/// A remark on a plan that can run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The stage that it is about.
    pub stage: String,
    /// How much it matters.
    pub severity: Severity,
    /// The remark, with its place and its remedy.
    #[serde(serialize_with = "as_parts")]
    pub remark: Diagnostic,
}

/// Looks at `plan`, trying `steps` steps of every training.
///
/// # Errors
/// Everything that would make the run fail and can be known now.
pub fn examine(plan: &Plan, steps: usize) -> Result<Report, Failure> {
    let (facts, opened) = preflight::examine(plan)?;
    report(plan, facts, &opened, steps)
}

/// As [`examine`], after `preflight`.
pub(crate) fn report(
    plan: &Plan,
    mut stages: Vec<Facts>,
    opened: &Opened,
    steps: usize,
) -> Result<Report, Failure> {
    let prepared = prepare::stages(plan, opened)?;
    // Nothing is trained here but on random weights.
    opened.files.clear();
    prepared.iter().for_each(Prepared::release);
    let mut doctor = Doctor::default();
    let mut room = cost::Room::at(&plan.output);
    for (facts, stage) in stages.iter_mut().zip(&prepared) {
        doctor.stage = stage.name().to_owned();
        match stage {
            Prepared::Pretrain { training, data, .. } => {
                let outlook = trial::outlook(training, data, steps)?;
                facts.lines.extend(cost::lines(training, &outlook));
                doctor.training(training, &**data, &outlook);
                let needed = cost::checkpoint_bytes(training, &outlook);
                if let Some(free) = room.take(needed) {
                    doctor.no_room(training.stage, needed, free);
                }
            }
            Prepared::Evaluate { stage, .. } => doctor.evaluation(stage, plan),
            Prepared::Views(_) | Prepared::Probe(_) | Prepared::Map(_) => {}
        }
    }
    let mut findings = doctor.findings;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(Report { stages, findings })
}

/// Collects remarks on one stage after the other.
#[derive(Default)]
struct Doctor {
    stage: String,
    findings: Vec<Finding>,
}

impl Doctor {
    fn say(&mut self, severity: Severity, remark: Diagnostic) {
        self.findings.push(Finding {
            stage: self.stage.clone(),
            severity,
            remark,
        });
    }

    fn training(&mut self, training: &Training, data: &dyn Dataset, outlook: &Outlook) {
        let stage = training.stage;
        for Advice { severity, remark } in stage
            .objective
            .advise(&training.setup, &*stage.backbone.plugin)
        {
            self.say(severity, stage.objective.diagnose(&remark));
        }
        self.rate(stage);
        self.left_out(training);
        self.enlarged(stage, data);
        let Some(trial) = &outlook.trial else {
            return;
        };
        if let Some(step) = trial.diverged {
            let text = format!("step {step} of the dry run has no number for a loss or gradient");
            let remark = stage.site.error("optimizer", text);
            self.say(Severity::Warning, remark.help("lower the learning rate"));
        }
        if trial.waiting > WAITING {
            let share = 100.0 * trial.waiting;
            let text = format!("training waits for images {share:.0} % of the time");
            let remark = stage.site.error("data", text).help(
                "give `run` more threads, keep the images on a faster disk, or store them smaller",
            );
            self.say(Severity::Note, remark);
        }
    }

    /// The learning rate against the rule that it grows with the batch.
    fn rate(&mut self, stage: &Pretrain) {
        let Some((rate, batch)) = stage.optimizer.reference_rate() else {
            return;
        };
        let images = stage.batch * stage.step.accumulate;
        let rule = rate * images as f64 / batch as f64;
        let factor = stage.optimizer.rate() / rule;
        if (1.0 / RATE..=RATE).contains(&factor) {
            return;
        }
        let (times, than) = match factor > 1.0 {
            true => (factor, "above"),
            false => (1.0 / factor, "below"),
        };
        let remark = Invalid::new(
            "lr",
            format!(
                "{} is {times:.0} times {than} what suits a step of {} images",
                stage.optimizer.rate(),
                grouped(images)
            ),
        )
        .help(format!(
            "{rate} at {batch} images, in proportion to the images of a step, gives {}",
            rounded(rule)
        ));
        let severity = match factor > 1.0 {
            true => Severity::Warning,
            false => Severity::Note,
        };
        self.say(severity, stage.optimizer.diagnose(&remark));
    }

    /// Images that no batch of an epoch has room for.
    fn left_out(&mut self, training: &Training) {
        let samples = training.setup.samples;
        let images = training.stage.batch * training.stage.step.accumulate;
        let left = samples - training.steps_per_epoch() * images;
        if left as f64 > LEFT_OUT * samples as f64 {
            let text = format!(
                "every epoch leaves out {} of {} images, which do not fill a step of {}",
                grouped(left),
                grouped(samples),
                grouped(images)
            );
            let remark = training.stage.site.error("batch", text);
            self.say(Severity::Note, remark.help("take a smaller batch"));
        }
    }

    /// Views that are larger than the images they are cut from.
    fn enlarged(&mut self, stage: &Pretrain, data: &dyn Dataset) {
        let sizes = stage
            .views
            .iter()
            .flat_map(|view| view.iter().filter_map(|a| a.size()));
        let Some(size) = sizes.max() else { return };
        let count = SAMPLES.min(data.len());
        let mut sides: Vec<usize> = (0..count)
            .filter_map(|i| data.load(i * data.len() / count).ok())
            .map(|image| image.width.min(image.height))
            .collect();
        sides.sort_unstable();
        let Some(&side) = sides.get(sides.len() / 2) else {
            return;
        };
        if size as f64 > ENLARGED * side as f64 {
            let text = format!(
                "views of {size} × {size} pixels are cut from images whose shorter side is {side}"
            );
            let field = if stage.site.has("views") {
                "views"
            } else {
                "view"
            };
            let remark = stage.site.error(field, text);
            let help = format!("a size of {side} costs less and shows as much");
            self.say(Severity::Note, remark.help(help));
        }
    }

    fn no_room(&mut self, stage: &Pretrain, needed: u64, free: u64) {
        let text = format!(
            "the checkpoints take {}, and {} are free where they go",
            cost::size(needed),
            cost::size(free)
        );
        let remark = stage.site.error("keep", text);
        let help = "keep fewer checkpoints, or give another place by --output";
        self.say(Severity::Warning, remark.help(help));
    }

    /// A score of a trained encoder that nothing shows the gain of.
    fn evaluation(&mut self, stage: &Evaluate, plan: &Plan) {
        let trained = |weights: &Weights| matches!(weights, Weights::Stage(_));
        let untrained = plan.stages.iter().any(
            |other| matches!(other, Stage::Evaluate(other) if other.subject.weights == Weights::Untrained),
        );
        let told = self
            .findings
            .iter()
            .any(|finding| finding.remark.message == NO_START);
        if trained(&stage.subject.weights) && !untrained && !told {
            let remark = stage.site.error("weights", NO_START);
            let help = "an evaluation with `weights: Untrained` shows what training adds";
            self.say(Severity::Note, remark.help(help));
        }
    }
}

const NO_START: &str = "nothing says how good the network was before training";

/// A number with two digits that count.
fn rounded(value: f64) -> String {
    let scale = 10f64.powf(value.abs().log10().floor() - 1.0);
    let digits = (-scale.log10().round()).max(0.0) as usize;
    format!("{:.digits$}", (value / scale).round() * scale)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity.word(), self.remark)
    }
}

/// A remark as its parts, for other programs.
fn as_parts<S: serde::Serializer>(remark: &Diagnostic, serializer: S) -> Result<S::Ok, S::Error> {
    let place = remark.place();
    serde_json::json!({
        "message": remark.message,
        "help": remark.help,
        "path": remark.path,
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
    })
    .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_count() {
        for (value, text) in [
            (0.0037499, "0.0037"),
            (0.03, "0.030"),
            (0.125, "0.13"),
            (1.24, "1.2"),
            (124.0, "120"),
        ] {
            assert_eq!(rounded(value), text);
        }
    }
}
