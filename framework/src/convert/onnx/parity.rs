//! The numbers that an exported model must give, and the script that compares.

use std::{path::Path, sync::Arc};

use smallfry_data::random::Random;

use crate::{
    Encoder,
    checkpoint::{Checkpoint, Tensor},
    encoder::ImageBatch,
    tensor::values,
};

/// Images to compare on; more than one, so that a model that mixes them up is caught.
const IMAGES: usize = 3;
/// Key of the images' random stream.
const SEED: u64 = 0x0717;
/// Squares of an image that have a colour of their own, along a side.
const SQUARES: usize = 7;
/// Largest difference, as a share of the largest feature, that passes for rounding: a hundred layers come to some 1e-4
/// in single precision, a wrong padding or epsilon to 1e-2 and more.
const TOLERANCE: &str = "1e-3";

/// Images `[batch, 3, side, side]` and the features that `encoder` gives for them.
pub(super) fn numbers(encoder: &mut dyn Encoder, side: usize) -> Checkpoint {
    let images = images(side);
    let batch = Arc::new(ImageBatch {
        batch: IMAGES,
        height: side,
        width: side,
        values: channels_last(&images, side * side),
    });
    let features = encoder.embed(&batch);
    let mut checkpoint = Checkpoint::default();
    let mut insert = |name: &str, tensor| checkpoint.tensors.insert(name.to_owned(), tensor);
    insert("images", Tensor::float(vec![IMAGES, 3, side, side], images));
    insert(
        "features",
        Tensor::float(vec![IMAGES, encoder.width()], values(&features).to_vec()),
    );
    checkpoint
}

/// Coloured squares under noise: structure at both ends of the scale, so that a wrong padding or filter shows.
fn images(side: usize) -> Vec<f32> {
    let mut random = Random::new(&[SEED]);
    let mut values = Vec::with_capacity(IMAGES * 3 * side * side);
    for _ in 0..IMAGES * 3 {
        let colours: Vec<f64> = (0..SQUARES * SQUARES)
            .map(|_| random.uniform(-2.0, 2.0))
            .collect();
        for row in 0..side {
            for column in 0..side {
                let square = row * SQUARES / side * SQUARES + column * SQUARES / side;
                values.push((colours[square] + random.uniform(-0.5, 0.5)) as f32);
            }
        }
    }
    values
}

fn channels_last(images: &[f32], pixels: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(images.len());
    for image in images.chunks_exact(3 * pixels) {
        for pixel in 0..pixels {
            values.extend((0..3).map(|channel| image[channel * pixels + pixel]));
        }
    }
    values
}

/// The script that compares the model at `model` with the numbers at `numbers`, both beside it.
pub(super) fn script(model: &Path, numbers: &Path) -> String {
    let name = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // JSON's strings are Python's.
        serde_json::Value::from(name).to_string()
    };
    SCRIPT
        .replace("{model}", &name(model))
        .replace("{numbers}", &name(numbers))
        .replace("{tolerance}", TOLERANCE)
}

const SCRIPT: &str = r#""""Runs the exported model in ONNX Runtime and compares its features with those of smallfry.

Needs numpy and onnxruntime. Prints the largest difference as a share of the largest feature; exits with 1 if that is
more than rounding explains.
"""
import json
import pathlib
import struct
import sys

import numpy
import onnxruntime

MODEL = {model}
NUMBERS = {numbers}
TOLERANCE = {tolerance}


def tensors(path):
    """The float tensors of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length :]
    return {
        name: numpy.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
    }


here = pathlib.Path(__file__).parent
expected = tensors(here / NUMBERS)
session = onnxruntime.InferenceSession(here / MODEL, providers=["CPUExecutionProvider"])
(features,) = session.run(["features"], {"images": expected["images"]})
(first,) = session.run(["features"], {"images": expected["images"][:1]})
scale = numpy.abs(expected["features"]).max()
difference = numpy.max(
    [
        numpy.abs(features - expected["features"]).max(),
        numpy.abs(first - expected["features"][:1]).max(),
    ]
) / scale
print(f"largest relative difference {difference:.2e}, allowed {TOLERANCE:.0e}")
sys.exit(0 if difference <= TOLERANCE else 1)
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_fixed_and_differ() {
        let first = images(8);
        assert_eq!(first, images(8));
        let (a, b) = (&first[..192], &first[192..384]);
        assert_ne!(a, b);
        assert!(first.iter().all(|value| value.abs() <= 2.5));
    }

    #[test]
    fn the_script_names_its_files() {
        let script = script(
            Path::new("a/it's.onnx"),
            Path::new("a/it's.parity.safetensors"),
        );
        assert!(script.contains("MODEL = \"it's.onnx\"\n"), "{script}");
        assert!(!script.contains("{model}") && script.contains("TOLERANCE = 1e-3\n"));
    }
}
