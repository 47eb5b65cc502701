//! What SEED refuses, and its images; its numbers are compared with the reference's in `tests`.

use std::path::Path;

use smallfry::Plugin;

use super::*;

fn context() -> Context<'static> {
    Context {
        folder: Path::new("somewhere"),
    }
}

fn untrained() -> SEED {
    SEED {
        weights: Some(Weights::Untrained),
        ..SEED::default()
    }
}

#[test]
fn impossible_values_are_named() {
    let fault = |change: fn(&mut SEED)| {
        let mut seed = untrained();
        change(&mut seed);
        let invalid = seed.build(&context()).err().expect("it is refused");
        (invalid.field(), invalid.reason().to_owned())
    };
    assert_eq!(fault(|seed| seed.dim = 0).0, "dim");
    assert_eq!(fault(|seed| seed.queue = 0).0, "queue");
    assert_eq!(fault(|seed| seed.temperature = 0.0).0, "temperature");
    let (field, _) = fault(|seed| seed.teacher_temperature = f64::NAN);
    assert_eq!(field, "teacher_temperature");
    let (field, reason) = fault(|seed| seed.weights = None);
    assert_eq!((field, reason.as_str()), ("weights", "must be given"));
    assert_eq!(
        fault(|seed| seed.encoder = Some("teacher".into())).0,
        "encoder"
    );
    // No backbone is linked here.
    let (field, reason) = fault(|_| ());
    assert_eq!(field, "teacher");
    assert!(reason.contains("`resnet50`"), "{reason}");
}

#[test]
fn weights_are_written_as_elsewhere() {
    let read = |text: &str| smallfry::source::dialect().from_str::<SEED>(text);
    let weights = |text: &str| read(text).expect("it is right").weights;
    assert_eq!(weights("(weights: Untrained)"), Some(Weights::Untrained));
    assert_eq!(
        weights("(weights: Stage(\"teacher\"))"),
        Some(Weights::Stage("teacher".into()))
    );
    assert_eq!(
        weights("(weights: File(\"a.pth\"))"),
        Some(Weights::File("a.pth".into()))
    );
    assert!(read("(weights: \"a.pth\")").is_err());
}

#[test]
fn colours_become_those_of_the_teacher() {
    let student = Preprocessing {
        mean: [0.5, 0.25, 0.0],
        deviation: [0.5, 0.25, 1.0],
        ..Preprocessing::IMAGENET
    };
    assert_eq!(Recolouring::between(&student, &student), None);
    let teacher = Preprocessing::IMAGENET;
    let recolouring = Recolouring::between(&student, &teacher).expect("they differ");
    let full = [0.1f32, 0.6, 0.9];
    let seen_by = |network: &Preprocessing| -> Vec<f32> {
        let channels =
            (0..6).map(|i| (full[i % 3] - network.mean[i % 3]) / network.deviation[i % 3]);
        channels.collect()
    };
    let images = ImageBatch {
        batch: 2,
        height: 1,
        width: 1,
        values: seen_by(&student),
    };
    let recoloured = recolouring.apply(&images);
    for (found, expected) in recoloured.values.iter().zip(seen_by(&teacher)) {
        assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
    }
}

#[test]
fn patches_are_joined_view_by_view() {
    let view = |first: f32| {
        Arc::new(ImageBatch {
            batch: 2,
            height: 1,
            width: 1,
            values: (0..6).map(|i| first + i as f32).collect(),
        })
    };
    let all = joined(&[view(0.0), view(10.0)], 1);
    assert_eq!((all.batch, all.height, all.width), (4, 1, 1));
    let expected = [
        0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
    ];
    assert_eq!(all.values, expected);
}
