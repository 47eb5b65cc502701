//! What is checked of a stage of classifiers before any long work.

use smallfry_data::Dataset;

use super::{preprocessing, tuned};
use crate::{
    augmentation,
    plan::{FeatureSource, Mistake, Probe, ProbeMode, uncropped},
};

/// The mistakes of `stage`, whose images are `train` and `test` where they could be opened.
pub(crate) fn check(
    stage: &Probe,
    train: Option<&dyn Dataset>,
    test: Option<&dyn Dataset>,
) -> Vec<Mistake> {
    let mut mistakes = Vec::from_iter(uncropped("Probe", preprocessing(stage)));
    if stage.mode != ProbeMode::Linear(FeatureSource::Centre)
        && augmentation::side(None, &stage.view).is_none()
    {
        let message = "nothing sets the size of the view, so images cannot form a batch";
        let help = "add an augmentation that crops or resizes to a fixed size";
        mistakes.push(("view", message.to_owned(), Some(help.to_owned())));
    }
    if matches!(stage.mode, ProbeMode::Finetune(_)) && tuned::network(stage, 2).is_none() {
        mistakes.push((
            "mode",
            format!(
                "{} cannot be trained as a whole: it is not described by blocks",
                stage.subject.backbone.line
            ),
            Some("use `mode: Linear`".to_owned()),
        ));
    }
    for (field, set) in [("train", train), ("test", test)] {
        mistakes.extend(set.and_then(|set| unlabelled(field, set)));
    }
    if let (Some(train), Some(test), true) = (train, test, mistakes.is_empty()) {
        mistakes.extend(different(train.classes(), test.classes()));
    }
    mistakes
}

/// What is wrong with the classes of a set.
fn unlabelled(field: &'static str, set: &dyn Dataset) -> Option<Mistake> {
    let classes = set.classes().len();
    let unusable = |&sample: &usize| {
        set.label(sample)
            .is_none_or(|label| label as usize >= classes)
    };
    let (message, help) = match classes {
        0 => (
            format!("`{field}` of Probe: the images have no classes to learn"),
            "give a set whose images have classes, such as a folder of folders",
        ),
        1 => (
            format!(
                "`{field}` of Probe: all images are of one class, so there is nothing to tell apart"
            ),
            "give a set of at least two classes",
        ),
        _ => {
            let sample = (0..set.len()).find(unusable)?;
            (
                format!("`{field}` of Probe: `{}` has no class", set.name(sample)),
                "give every image a class, or leave it out",
            )
        }
    };
    Some((field, message, Some(help.to_owned())))
}

/// What is wrong where classes differ between training and test.
fn different(train: &[String], test: &[String]) -> Option<Mistake> {
    let message = if train.len() != test.len() {
        format!(
            "`test` of Probe: the test images are of {} classes, the training images of {}",
            test.len(),
            train.len()
        )
    } else {
        let (train, test) = train.iter().zip(test).find(|(train, test)| train != test)?;
        format!(
            "`test` of Probe: class `{test}` of the test images is `{train}` of the training images"
        )
    };
    let help = "give both the same classes in the same order; folders are taken in the order of their names";
    Some(("test", message, Some(help.to_owned())))
}
