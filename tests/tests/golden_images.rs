//! Image operations against the bytes of Pillow and torchvision.
//!
//! `tests/fixtures/images` has what runs everywhere: sums and hashes of operations on a made-up picture, and decoded
//! JPEG files. The reference folder has pictures for every operation and composition.

use std::path::{Path, PathBuf};

use serde_json::Value;
use smallfry_data::{
    Image, View,
    decode::{Orientation, read},
    image::Rectangle,
    normalize::Normalization,
    operation::{
        blur::gaussian_blur,
        color::{brightness, contrast, grey, hue, saturation},
        crop::{central_square, crop, flip, pad, random_rectangle},
        resize::{Filter, resize, shorter_side},
    },
    random::Random,
    view::Replacement,
};
use smallfry_tests::golden::{Reference, channels_last, counted, fnv1a, repository};

fn fixtures() -> PathBuf {
    repository().join("tests/fixtures/images")
}

fn image(path: &Path) -> Image {
    read(path, Orientation::AsStored).unwrap_or_else(|error| panic!("{error}"))
}

fn changed(image: &Image, change: impl FnOnce(&mut Image)) -> Image {
    let mut image = image.clone();
    change(&mut image);
    image
}

fn resized(image: &Image, width: usize, height: usize, filter: Filter) -> Image {
    let all = Rectangle {
        top: 0,
        left: 0,
        height,
        width,
    };
    resize(image, image.whole(), (width, height), all, filter)
}

/// Largest and mean difference.
fn difference(a: &Image, b: &Image) -> (u8, f64) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let differences = a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = differences.clone().map(u64::from).sum();
    let mean = sum as f64 / a.pixels.len() as f64;
    (differences.max().unwrap_or(0), mean)
}

/// Every line of `golden_image_ops.txt`: shape, sum, hash and first bytes of an operation on a picture of random bytes.
#[test]
fn operations_on_the_made_up_picture_are_exact() {
    let text = std::fs::read_to_string(fixtures().join("golden_image_ops.txt")).unwrap();
    let source = Image {
        width: 97,
        height: 71,
        pixels: (0..97 * 71 * 3)
            .map(|i| (256.0 * counted(900, i)) as u8)
            .collect(),
    };
    let smooth = changed(&source, |image| gaussian_blur(image, 1.5));
    let part = crop(
        &source,
        Rectangle {
            top: 5,
            left: 9,
            height: 40,
            width: 31,
        },
    );
    let mut checked = 0;
    let mut before = source.clone();
    for line in text.lines() {
        let (name, expected) = line.split_once("shape").expect("a line has a shape");
        let name = name.trim();
        let words: Vec<&str> = name.split_whitespace().collect();
        let number = || words[words.len() - 1].parse::<f64>().unwrap();
        let (from, operation) = match words[0] {
            "SM" => (&smooth, &words[1..]),
            "source" => (&source, &words[1..]),
            _ => (&before, &words[..]),
        };
        let filter = match words.contains(&"bicubic") {
            true => Filter::Bicubic,
            false => Filter::Bilinear,
        };
        let result = match operation {
            [] => source.clone(),
            ["blurred", ..] => smooth.clone(),
            ["blur", ..] => changed(from, |i| gaussian_blur(i, number() as f32)),
            ["gray", ..] => changed(from, grey),
            ["brightness", _] => changed(from, |i| brightness(i, number() as f32)),
            ["contrast", _] => changed(from, |i| contrast(i, number() as f32)),
            ["saturation", _] => changed(from, |i| saturation(i, number() as f32)),
            ["hue", _] => changed(from, |i| hue(i, number())),
            [crop, ..] if crop.starts_with("crop(") => resized(&part, 224, 224, filter),
            ["resize", ..] => resized(from, 50, 40, filter),
            ["Resize(256)", ..] => {
                let (width, height) = shorter_side(from.width, from.height, 256);
                resized(from, width, height, filter)
            }
            ["then", "CenterCrop(224)"] => {
                crop(from, central_square(from.width, from.height, 224).unwrap())
            }
            ["hflip"] => changed(from, flip),
            other => panic!("no such operation: {other:?}"),
        };
        let sum: u64 = result.pixels.iter().map(|&value| u64::from(value)).sum();
        let actual = format!(
            "({}, {}, 3) sum {sum} fnv1a64 {:016x} first6 {:?}",
            result.height,
            result.width,
            fnv1a(&result.pixels),
            &result.pixels[..6]
        );
        let expected = expected.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(actual, expected, "{name}");
        before = result;
        checked += 1;
    }
    assert_eq!(checked, 26);
}

/// The golden JPEG files have Pillow's pixels.
#[test]
fn jpeg_files_decode_as_by_libjpeg_turbo() {
    let folder = fixtures().join("jpeg");
    let mut checked = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jpg") {
            continue;
        }
        let expected = image(&path.with_extension("decoded.png"));
        let (largest, mean) = difference(&image(&path), &expected);
        assert_eq!(largest, 0, "{}: mean {mean}", path.display());
        checked += 1;
    }
    assert_eq!(checked, 9);
}

/// Small JPEG files of every sampling, in one scan, several scans and progressive, with and without restarts.
#[test]
fn small_jpeg_files_decode_as_by_libjpeg_turbo() {
    let folder = fixtures().join("jpeg_small");
    let list = std::fs::read_to_string(folder.join("pixels.txt")).unwrap();
    let mut checked = 0;
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(' ').next().unwrap();
        let decoded = image(&folder.join(name));
        let hash = fnv1a(&decoded.pixels);
        let actual = format!("{name} {} {} {hash:016x}", decoded.width, decoded.height);
        assert_eq!(actual, line);
        checked += 1;
    }
    assert_eq!(checked, 47);
}

fn filter(parameters: &Value) -> Filter {
    match parameters["interpolation"].as_str() {
        Some("bilinear") => Filter::Bilinear,
        Some("bicubic") => Filter::Bicubic,
        other => panic!("no such filter: {other:?}"),
    }
}

fn jitter(image: &mut Image, order: &Value, factors: &Value) {
    for name in order.as_array().expect("an order is a list") {
        let name = name.as_str().expect("a name");
        let factor = factors[name].as_f64().expect("a factor");
        match name {
            "brightness" => brightness(image, factor as f32),
            "contrast" => contrast(image, factor as f32),
            "saturation" => saturation(image, factor as f32),
            "hue" => hue(image, factor),
            other => panic!("no such change: {other}"),
        }
    }
}

/// Carries out a golden operation through a [`View`], as augmentations do.
fn perform(operation: &str, parameters: &Value, input: &Image) -> Image {
    let integer = |name: &str| parameters[name].as_u64().expect("an integer") as usize;
    let number = |name: &str| parameters[name].as_f64().expect("a number");
    let mut view = View::of(input);
    match operation {
        "resize_shorter256_centercrop224" | "resize_then_center_crop" | "resize_shorter" => {
            let (width, height) = shorter_side(input.width, input.height, integer("shorter_side"));
            view.resize(width, height, filter(parameters));
            if operation != "resize_shorter" {
                view.crop(central_square(width, height, integer("crop")).unwrap());
            }
        }
        "center_crop_padding" => {
            let padded = pad(input, integer("crop"));
            let square = central_square(padded.width, padded.height, integer("crop")).unwrap();
            view.replace(padded);
            view.crop(square);
        }
        "resized_crop" | "full_pipeline" => {
            view.crop(Rectangle {
                top: integer("top"),
                left: integer("left"),
                height: integer("height"),
                width: integer("width"),
            });
            let size = integer("size");
            if operation == "resized_crop" {
                view.resize(size, size, filter(parameters));
            } else {
                view.resize(size, size, Filter::Bilinear);
                let image = view.image_mut();
                jitter(image, &parameters["jitter_order"], &parameters["factors"]);
                if parameters["grayscale"].as_bool().unwrap() {
                    grey(image);
                }
                gaussian_blur(image, number("blur_radius") as f32);
                if parameters["hflip"].as_bool().unwrap() {
                    view.flip();
                }
            }
        }
        "hflip" => view.flip(),
        "brightness" => brightness(view.image_mut(), number("factor") as f32),
        "contrast" => contrast(view.image_mut(), number("factor") as f32),
        "saturation" => saturation(view.image_mut(), number("factor") as f32),
        "hue" => hue(view.image_mut(), number("factor")),
        "grayscale" => grey(view.image_mut()),
        "gaussian_blur" => gaussian_blur(view.image_mut(), number("radius") as f32),
        "color_jitter_composition" => jitter(
            view.image_mut(),
            &parameters["order"],
            &parameters["factors"],
        ),
        other => panic!("no such operation: {other}"),
    }
    view.image().clone()
}

/// All golden operations, byte for byte.
#[test]
fn every_golden_operation_is_exact() {
    let Some(reference) = Reference::find("the 97 golden image operations") else {
        return;
    };
    let golden = reference.json("golden/g6_transforms/transforms.json");
    let file = |name: &Value| {
        let name = name.as_str().expect("a file name");
        image(&reference.path("golden/g6_transforms").join(name))
    };
    let operations = golden["ops"].as_array().unwrap();
    assert_eq!(operations.len(), 97);
    let mut wrong = Vec::new();
    for entry in operations {
        let operation = entry["op"].as_str().unwrap();
        let actual = perform(operation, &entry["params"], &file(&entry["input"]));
        let (largest, mean) = difference(&actual, &file(&entry["output"]));
        if largest > 0 {
            wrong.push(format!("{}: {largest}, mean {mean}", entry["output"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Normalised tensors, bit for bit, and hide-and-seek with the golden masks.
#[test]
fn normalised_tensors_are_exact() {
    let Some(reference) = Reference::find("golden normalised tensors and hidden cells") else {
        return;
    };
    let folder = reference.path("golden/g6_transforms");
    let tensors = reference.tensors("golden/g6_transforms/tensors.safetensors");
    let small = "out/005_resize_shorter256_centercrop224_odd.png";
    for (name, file) in [
        ("landscape.normalized", "out/work_landscape.png"),
        ("grey_as_rgb.normalized", "out/work_grey.png"),
        ("small224.normalized", small),
    ] {
        let image = image(&folder.join(file));
        let mut actual = vec![f32::NAN; image.pixels.len()];
        Normalization::imagenet().write(&mut View::of(&image), &mut actual);
        let pixels = image.width * image.height;
        let expected = channels_last(&tensors[name].floats(), 3, pixels);
        assert!(actual == expected, "{name}");
    }

    let image = image(&folder.join(small));
    let golden = reference.json("golden/g6_transforms/transforms.json");
    for case in golden["hide_and_seek"].as_array().unwrap() {
        let cell = case["grid"].as_u64().unwrap() as usize;
        let rows: Vec<&[u8]> = case["mask_rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row.as_str().unwrap().as_bytes())
            .collect();
        let mask: Vec<bool> = (0..224 * 224)
            .map(|i| rows[i / 224 / cell][i % 224 / cell] == b'0')
            .collect();
        let mut view = View::of(&image);
        view.hide(&mask, Replacement::Zero);
        let mut actual = vec![f32::NAN; image.pixels.len()];
        Normalization::imagenet().write(&mut view, &mut actual);
        let sum: f64 = actual.iter().map(|&value| f64::from(value)).sum();
        let norm: f64 = actual.iter().map(|&value| f64::from(value).powi(2)).sum();
        let near = |actual: f64, field: &str| {
            let expected = case[field].as_f64().unwrap();
            let close = (actual - expected).abs() < 1e-6 * expected.abs();
            assert!(close, "grid {cell}: {field} is {actual}, not {expected}");
        };
        near(sum, "output_sum");
        near(norm.sqrt(), "output_l2");
    }
}

/// Mean and variance of draws.
fn moments(draws: &[f64]) -> (f64, f64) {
    let mean = draws.iter().sum::<f64>() / draws.len() as f64;
    let square = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (mean, square / draws.len() as f64)
}

/// The sampler's areas, shapes, places and fallbacks are distributed as torchvision's, to four standard errors of both
/// samples.
#[test]
fn random_rectangles_are_distributed_as_by_torchvision() {
    let Some(reference) = Reference::find("the golden distributions of random crops") else {
        return;
    };
    let golden = reference.json("golden/g6_transforms/distributions.json");
    let theirs = golden["samples"].as_f64().unwrap();
    let cases = golden["random_resized_crop"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for (c, case) in cases.iter().enumerate() {
        let pair = |name: &str, i: usize| case[name][i].as_f64().unwrap();
        let (width, height) = (pair("image_wh", 0), pair("image_wh", 1));
        let rectangles: Vec<Rectangle> = (0..100_000)
            .map(|i| {
                random_rectangle(
                    (width as usize, height as usize),
                    (pair("scale", 0), pair("scale", 1)),
                    (pair("ratio", 0), pair("ratio", 1)),
                    &mut Random::new(&[c as u64, i]),
                )
            })
            .collect();
        let check = |what: &str, draws: Vec<f64>, mean: f64, deviation: f64| {
            let (ours, variance) = moments(&draws);
            let error = (variance / draws.len() as f64 + deviation.powi(2) / theirs).sqrt();
            assert!(
                (ours - mean).abs() < 4.0 * error,
                "{what} of case {c}: {ours}, not {mean} (standard error {error})"
            );
            let spread = (variance.sqrt() - deviation).abs() / deviation;
            assert!(
                spread < 0.02,
                "{what} of case {c}: deviation off by {spread}"
            );
        };
        let area = &case["area_fraction"];
        check(
            "area",
            rectangles
                .iter()
                .map(|r| (r.width * r.height) as f64 / (width * height))
                .collect(),
            area["mean"].as_f64().unwrap(),
            area["std"].as_f64().unwrap(),
        );
        let shape = &case["log_aspect_w_over_h"];
        check(
            "shape",
            rectangles
                .iter()
                .map(|r| (r.width as f64 / r.height as f64).ln())
                .collect(),
            shape["mean"].as_f64().unwrap(),
            shape["std"].as_f64().unwrap(),
        );
        // Relative places; a rectangle that leaves no room is in the middle.
        let place = |name: &str, room: fn(&Rectangle, f64, f64) -> (f64, f64)| {
            let places = rectangles.iter().map(|r| {
                let (offset, room) = room(r, width, height);
                if room > 0.0 { offset / room } else { 0.5 }
            });
            check(name, places.collect(), pair(name, 0), pair(name, 1));
        };
        place("relative_left_mean_std", |r, width, _| {
            (r.left as f64, width - r.width as f64)
        });
        place("relative_top_mean_std", |r, _, height| {
            (r.top as f64, height - r.height as f64)
        });
    }
}
