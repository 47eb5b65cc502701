//! What must hold for every linked plugin, and that the checks notice what does not.

use std::path::Path;

use smallfry::{
    Augmentation, Backbone, DataSet, JointAugmentation, Metric, Objective, Optimizer, Schedule,
    data::{random::Random, view::View},
    metric::{Evaluation, Score},
    registry::{Context, entries, parse},
    testing,
};
use smallfry_plugins as _; // links the stock plugins

#[test]
fn every_plugin_does_what_its_kind_must() {
    testing::check_plugins();
}

#[test]
fn every_kind_has_plugins() {
    assert!(!entries::<dyn DataSet>().is_empty());
    assert!(!entries::<dyn Backbone>().is_empty());
    assert!(!entries::<dyn Augmentation>().is_empty());
    assert!(!entries::<dyn JointAugmentation>().is_empty());
    assert!(!entries::<dyn Objective>().is_empty());
    assert!(!entries::<dyn Optimizer>().is_empty());
    assert!(!entries::<dyn Schedule>().is_empty());
    assert!(!entries::<dyn Metric>().is_empty());
}

#[test]
fn parameters_are_read_by_name() {
    let context = Context {
        folder: Path::new("."),
    };
    let built = parse::<dyn Optimizer>(&context, "SGD(lr: 0.5, /* more */ momentum: 0)");
    let built = built.expect("it is well-formed");
    assert_eq!(built.rate(), 0.5);
    assert!(
        built.line.starts_with("SGD(lr: 0.5, momentum: 0.0, "),
        "{}",
        built.line
    );
    let errors =
        parse::<dyn Optimizer>(&context, "SGD(lr: \"a\", momentun: 0, momentum: 0, lr: 2)");
    let messages: Vec<_> = errors
        .expect_err("it has mistakes")
        .into_iter()
        .map(|error| error.message)
        .collect();
    assert_eq!(
        messages,
        [
            "`lr` of SGD: expected a number",
            "SGD has no parameter `momentun`",
            "`lr` of SGD is given twice"
        ]
    );
}

/// Leaves another size than it promises, and another image each time.
struct Unreliable(std::sync::atomic::AtomicU8);

impl Augmentation for Unreliable {
    fn apply(&self, view: &mut View<'_>, _: &mut Random) {
        let count = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        view.image_mut().pixels.fill(count);
    }

    fn size(&self) -> Option<usize> {
        Some(32)
    }
}

#[test]
fn a_bad_augmentation_is_noticed() {
    let faults = testing::augmentation_faults(&Unreliable(0.into()));
    assert!(
        faults.iter().any(|fault| fault.contains("two results")),
        "{faults:?}"
    );
    assert!(
        faults
            .iter()
            .any(|fault| fault.contains("promises 32 x 32")),
        "{faults:?}"
    );
}

/// Promises a size, sets none, and tells no number.
struct Careless;

impl JointAugmentation for Careless {
    fn size(&self) -> Option<usize> {
        Some(32)
    }

    fn measures(&self) -> &'static [&'static str] {
        &["share"]
    }

    fn apply(&self, _: &mut [View<'_>], _: &mut Random, measures: &mut [f64]) {
        measures[0] = 0.0 / measures[0];
    }
}

#[test]
fn a_bad_joint_augmentation_is_noticed() {
    let faults = testing::joint_faults(&Careless);
    assert!(faults[0].contains("no number"), "{faults:?}");
    assert!(faults[1].contains("promises 32 x 32"), "{faults:?}");
}

/// Rises without end and then is no number.
struct Rising;

impl Schedule for Rising {
    fn factor(&self, epoch: usize, _: usize) -> f64 {
        if epoch > 10 { f64::NAN } else { -1.0 }
    }
}

#[test]
fn a_bad_schedule_is_noticed() {
    let faults = testing::schedule_faults(&Rising);
    assert!(faults[0].contains("is -1"), "{faults:?}");
    assert!(
        faults.last().is_some_and(|fault| fault.contains("NaN")),
        "{faults:?}"
    );
}

/// Has no score, or no words.
struct Mute;

impl Metric for Mute {
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        match evaluation.train {
            Some(_) => Ok(Vec::new()),
            None => Err(String::new()),
        }
    }
}

#[test]
fn a_bad_metric_is_noticed() {
    let faults = testing::metric_faults(&Mute);
    assert_eq!(
        faults,
        ["gives no score", "refuses features without saying why"]
    );
}
