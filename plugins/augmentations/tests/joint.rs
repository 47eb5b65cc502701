//! Views that are made together: the crops are found again in pictures whose colours tell the place.

use std::{path::Path, sync::Arc};

use smallfry::{
    Augmentation, Context, JointAugmentation,
    augmentation::Views,
    data::{
        Image,
        loader::{Key, Transform},
        normalize::Normalization,
        random::Random,
        view::{Replacement, View},
    },
    registry,
};
use smallfry_augmentations as _; // links the plugins

/// Side of the picture and of the views.
const IMAGE: usize = 250;
const VIEW: usize = 64;

fn joint(text: &str) -> Arc<dyn JointAugmentation> {
    let context = Context {
        folder: Path::new("."),
    };
    let built = registry::parse(&context, text);
    built
        .unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
        .plugin
}

/// Red is the column, green the row.
fn places() -> Image {
    let mut image = Image::black(IMAGE, IMAGE);
    for (i, pixel) in image.pixels.chunks_exact_mut(3).enumerate() {
        pixel[0] = (i % IMAGE) as u8;
        pixel[1] = (i / IMAGE) as u8;
    }
    image
}

/// First and last place, in pixels, of the crop that a view of [`places`] shows, along the axis that `channel` tells.
fn extent(view: &Image, channel: usize) -> (f64, f64) {
    let mut halves = [0.0; 2];
    for (i, pixel) in view.pixels.chunks_exact(3).enumerate() {
        let at = [i % VIEW, i / VIEW][channel];
        halves[at * 2 / VIEW] += f64::from(pixel[channel]) / (VIEW * VIEW / 2) as f64;
    }
    // The halves' means lie half the crop's length apart.
    let (middle, length) = (
        (halves[0] + halves[1]) / 2.0 + 0.5,
        2.0 * (halves[1] - halves[0]),
    );
    (middle - length / 2.0, middle + length / 2.0)
}

type Span = (f64, f64);

fn shared(a: Span, b: Span) -> Span {
    (a.0.max(b.0), a.1.min(b.1))
}

fn made(joint: &dyn JointAugmentation, image: &Image, key: u64) -> ([Image; 2], Vec<f64>) {
    let mut views = [View::of(image), View::of(image)];
    let mut measures = vec![0.0; joint.measures().len()];
    joint.apply(&mut views, &mut Random::new(&[key]), &mut measures);
    (views.map(|mut view| view.image().clone()), measures)
}

#[test]
fn the_crops_of_a_pair_have_the_iou_that_was_asked_for() {
    let image = places();
    for (low, high) in [(1e-4, 0.05), (0.05, 0.25), (0.25, 1.0)] {
        let pair = joint(&format!(
            "IoUPair(low: {low}, high: {high}, tolerance: 2000, size: {VIEW})"
        ));
        let mut failed = 0.0;
        for key in 0..200 {
            let ([first, second], measures) = made(&*pair, &image, key);
            let spans = [0, 1].map(|axis| (extent(&first, axis), extent(&second, axis)));
            let length = |span: Span| span.1 - span.0;
            let area = |which: fn(&(Span, Span)) -> Span| -> f64 {
                spans.iter().map(|axis| length(which(axis))).product()
            };
            let both: f64 = spans
                .iter()
                .map(|axis| (length(shared(axis.0, axis.1)) + 1.0).max(0.0))
                .product();
            let iou = both / (area(|axis| axis.0) + area(|axis| axis.1) - both);
            assert!(
                (iou - measures[0]).abs() < 0.02,
                "key {key}: {iou} {measures:?}"
            );
            failed += measures[1];
            if measures[1] == 0.0 {
                assert!((low..=high).contains(&measures[0]), "{measures:?}");
                let reaches = |inner: fn(&(Span, Span)) -> (Span, Span)| {
                    spans.iter().all(|axis| {
                        let (inner, outer) = inner(axis);
                        inner.0 > outer.0 + 1.0 && inner.1 < outer.1 - 1.0
                    })
                };
                assert!(!reaches(|axis| *axis) && !reaches(|axis| (axis.1, axis.0)));
            }
        }
        // Super-hard pairs are so rare that some images have none in two thousand draws.
        let most = if high < 0.1 { 5.0 } else { 0.0 };
        assert!(failed / 200.0 <= most, "{low} to {high}: {failed}");
    }
}

/// The share of failures among images.
fn failures(text: &str, images: u64) -> f64 {
    let (pair, image) = (joint(text), Image::black(60, 50));
    let failed = (0..images).map(|key| {
        let mut views = [View::of(&image), View::of(&image)];
        let mut measures = [0.0; 2];
        pair.apply(&mut views, &mut Random::new(&[key]), &mut measures);
        measures[1] / 100.0
    });
    failed.sum::<f64>() / images as f64
}

#[test]
fn failures_are_counted_as_draws_that_missed() {
    // IoU of 1.5 needs crops of a few pixels, one within the other: no draw ever fits.
    let never = "low: 1.5, high: 2.0, tolerance: 5";
    assert_eq!(failures(&format!("IoUPair({never})"), 50), 1.0);
    let half = failures(&format!("IoUPair({never}, p: 0.5)"), 4000);
    assert!((half - 0.5).abs() < 4.0 * 0.008, "{half}");
    assert_eq!(failures(&format!("IoUPair({never}, p: 0.0)"), 50), 0.0);
    // Draws are independent: n of them fail with the n-th power of the probability that one fails.
    let share = |tolerance| {
        failures(
            &format!("IoUPair(low: 0.1, high: 0.4, tolerance: {tolerance})"),
            4000,
        )
    };
    let one = share(1);
    assert!(one > 0.2 && one < 0.9, "{one}");
    for (tolerance, expected) in [(2, one * one), (4, one.powi(4))] {
        let actual = share(tolerance);
        assert!(
            (actual - expected).abs() < 0.06,
            "{tolerance}: {actual} {expected}"
        );
    }
}

#[test]
fn all_of_the_overlap_is_hidden_where_p_is_one_and_half_where_it_is_a_half() {
    let image = places();
    let (all, half) = (
        joint(&format!("DropOverlap(p: 1.0, size: {VIEW})")),
        joint(&format!("DropOverlap(size: {VIEW})")),
    );
    let (mut hidden, mut overlapping, mut overlaps) = (0usize, 0usize, 0);
    for key in 0..200 {
        let ([first, second], _) = made(&*all, &image, key);
        let spans = [0, 1].map(|axis| (extent(&first, axis), extent(&second, axis)));
        let mut views = [View::of(&image), View::of(&image)];
        all.apply(&mut views, &mut Random::new(&[key]), &mut []);
        for (v, view) in views.iter().enumerate() {
            let expected = spans.map(|axis| {
                let own = [axis.0, axis.1][v];
                let both = shared(axis.0, axis.1);
                let scale = VIEW as f64 / (own.1 - own.0);
                ((both.0 - own.0) * scale, (both.1 - own.0) * scale)
            });
            let Some(replaced) = view.replaced() else {
                // The rectangles may touch, but not overlap by more than the error of the extent.
                assert!(
                    spans
                        .iter()
                        .any(|axis| { shared(axis.0, axis.1).1 < shared(axis.0, axis.1).0 + 1.5 })
                );
                continue;
            };
            overlaps += 1;
            assert!(replaced.iter().all(|by| *by != Some(Replacement::Zero)));
            let at = (0..VIEW * VIEW).filter(|&i| replaced[i].is_some());
            let at: Vec<[usize; 2]> = at.map(|i| [i % VIEW, i / VIEW]).collect();
            let mut area = 1;
            for axis in 0..2 {
                let first = at.iter().map(|place| place[axis]).min().unwrap();
                let last = at.iter().map(|place| place[axis]).max().unwrap() + 1;
                area *= last - first;
                let (from, to) = expected[axis];
                assert!(
                    (first as f64 - from).abs() < 2.0 && (last as f64 - to).abs() < 2.5,
                    "{first} {last} {expected:?}"
                );
            }
            // A whole rectangle.
            assert_eq!(at.len(), area);
            overlapping += area;
        }
        let mut views = [View::of(&image), View::of(&image)];
        half.apply(&mut views, &mut Random::new(&[key]), &mut []);
        hidden += views
            .iter()
            .filter_map(View::replaced)
            .map(|replaced| replaced.iter().flatten().count())
            .sum::<usize>();
    }
    assert!(overlaps > 300, "{overlaps}");
    let share = hidden as f64 / overlapping as f64;
    assert!((share - 0.5).abs() < 0.01, "{share}");
}

/// The whole way: hidden pixels become their view's mean, are mirrored with it, and figures come out.
#[test]
fn joint_views_fill_their_slots_and_are_keyed() {
    let context = Context {
        folder: Path::new("."),
    };
    let list = |texts: &[&str]| {
        let built = texts
            .iter()
            .map(|text| registry::parse::<dyn Augmentation>(&context, text).unwrap());
        built.collect::<Vec<_>>()
    };
    let views = |text: &str, each: &[&str]| {
        let each = vec![list(each), list(each)];
        Views::new(Some(joint(text)), each, Normalization::imagenet()).unwrap()
    };
    let (image, key) = (
        places(),
        Key {
            seed: 1,
            epoch: 2,
            sample: 3,
        },
    );
    let make = |views: &Views<_>, key: Key| {
        let mut slots = [
            vec![f32::NAN; 3 * VIEW * VIEW],
            vec![f32::NAN; 3 * VIEW * VIEW],
        ];
        let mut measures = vec![0.0; views.measures().len()];
        let mut borrowed: Vec<&mut [f32]> = slots.iter_mut().map(Vec::as_mut_slice).collect();
        views.apply(&image, key, &mut borrowed, &mut measures);
        (slots, measures)
    };
    let text = format!("DropOverlap(p: 1.0, size: {VIEW})");
    let plain = views(&text, &[]);
    assert_eq!(plain.sides(), [VIEW, VIEW]);
    let (slots, _) = make(&plain, key);
    assert_eq!(slots, make(&plain, key).0);
    assert_ne!(slots, make(&plain, Key { sample: 4, ..key }).0);
    let (mirrored, _) = make(&views(&text, &["HorizontalFlip(p: 1.0)"]), key);
    let unhidden = views("DropOverlap(p: 0.0, size: 64)", &[]);
    let (shown, _) = make(&unhidden, key);
    let mut hidden = 0;
    for v in 0..2 {
        for c in 0..3 {
            let values = || shown[v].iter().skip(c).step_by(3);
            let mean = values().map(|&value| f64::from(value)).sum::<f64>() / (VIEW * VIEW) as f64;
            for (i, &value) in values().enumerate() {
                let (x, y) = (i % VIEW, i / VIEW);
                let here = slots[v][3 * i + c];
                assert_eq!(mirrored[v][3 * (y * VIEW + VIEW - 1 - x) + c], here);
                if here != value {
                    assert!((f64::from(here) - mean).abs() < 1e-5, "{here} {mean}");
                    hidden += 1;
                }
            }
        }
    }
    assert!(hidden > 1000, "{hidden}");

    let pair = views(&format!("IoUPair(size: {VIEW})"), &["Grayscale(p: 1.0)"]);
    assert_eq!(pair.measures(), ["iou", "iou_failed"]);
    assert!((0.05..=0.25).contains(&make(&pair, key).1[0]));
    // A list that sets a size of its own has the last word.
    let resized = views(
        "IoUPair(size: 300)",
        &["Resize(size: 64)", "CenterCrop(size: 64)"],
    );
    assert_eq!(resized.sides(), [64, 64]);
    make(&resized, key);
}

#[test]
fn impossible_parameters_are_refused_by_name() {
    let context = Context {
        folder: Path::new("."),
    };
    for (text, field) in [
        ("IoUPair(low: -0.1)", "`low`"),
        ("IoUPair(low: 0.5, high: 0.4)", "`low`"),
        ("IoUPair(high: 3.0)", "`high`"),
        ("IoUPair(tolerance: 0)", "`tolerance`"),
        ("IoUPair(p: 1.5)", "`p`"),
        ("IoUPair(size: 0)", "`size`"),
        ("IoUPair(scale: (0.0, 1.0))", "`scale`"),
        ("IoUPair(ratio: (2.0, 1.0))", "`ratio`"),
        ("DropOverlap(p: -1.0)", "`p`"),
        ("DropOverlap(size: 0)", "`size`"),
    ] {
        let faults = registry::parse::<dyn JointAugmentation>(&context, text);
        let faults = faults.err().unwrap_or_else(|| panic!("{text} is accepted"));
        assert!(faults[0].message.starts_with(field), "{text}: {faults:?}");
    }
}
