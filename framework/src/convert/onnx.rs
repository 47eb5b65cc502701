//! ONNX models of backbones, each with a check of its numbers beside it.
//!
//! Three files are made: `NAME.onnx`, images in and features out; `NAME.parity.safetensors`, images and the features
//! that this program computes for them; and `NAME.parity.py`, which runs the model on those images in ONNX Runtime and
//! compares. A model that loads may still compute something else, which only numbers show.

mod graph;
mod parity;
mod protobuf;
mod transformer;

use std::path::{Path, PathBuf};

use smallfry_nn::{Network, Parameters, network::Block};

use crate::{Encoder, backbone::Preprocessing, checkpoint::write_atomically, failure::Failure};

use graph::{Graph, INPUT, OUTPUT};
use protobuf::{Dimension, Model, Port};

/// Version of the operators that models use.
pub const OPSET: u64 = 17;

/// The most bytes a protobuf message may have.
const LARGEST: usize = i32::MAX as usize;

/// A network to export.
pub struct Export<'a> {
    /// What it is made of.
    pub network: &'a Network,
    /// The same network, filled; computes the features to compare with.
    pub encoder: &'a mut dyn Encoder,
    /// What its images must look like; goes into the model's metadata.
    pub preprocessing: Preprocessing,
    /// Further facts for the model's metadata, such as where the weights come from.
    pub facts: Vec<(String, String)>,
}

impl Export<'_> {
    /// The files that are made for the model at `path`: the model, the numbers, the script.
    pub fn files(path: &Path) -> [PathBuf; 3] {
        let beside = |ending: &str| path.with_extension(ending);
        [
            path.to_owned(),
            beside("parity.safetensors"),
            beside("parity.py"),
        ]
    }

    /// Writes all three files, each whole or not at all.
    ///
    /// # Errors
    /// The network is larger than a model may be, or the disk fails.
    pub fn write(self, path: &Path) -> Result<(), Failure> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let model = {
            let parameters = self.encoder.parameters();
            model(&name, self.network, &parameters, &self.metadata())
        };
        if model.weight_bytes() > LARGEST - (1 << 20) {
            return Err(Failure::mistake(format!(
                "the weights have {} bytes, more than the 2 GiB that one ONNX file can hold",
                model.weight_bytes()
            ))
            .help("convert to safetensors, or export a narrower backbone"));
        }
        let [model_path, numbers, script] = Self::files(path);
        let side = image_side(self.network).unwrap_or(self.preprocessing.size);
        let checks = parity::numbers(self.encoder, side);
        write_atomically(&model_path, &model.encode())?;
        crate::checkpoint::write(&checks, &numbers)?;
        write_atomically(&script, parity::script(&model_path, &numbers).as_bytes())
    }

    fn metadata(&self) -> Vec<(String, String)> {
        let look = self.preprocessing;
        let three = |values: [f32; 3]| values.map(|value| value.to_string()).join(" ");
        let filter = if look.bicubic { "bicubic" } else { "bilinear" };
        let entry = |key: &str, value: String| (key.to_owned(), value);
        let mut metadata = vec![
            entry("mean", three(look.mean)),
            entry("deviation", three(look.deviation)),
            entry("resize", format!("{} {filter}", look.resize)),
            entry("size", look.size.to_string()),
        ];
        metadata.extend(self.facts.iter().cloned());
        metadata
    }
}

/// The model of `network` with the weights in `parameters`: images `[batch, 3, height, width]` to features
/// `[batch, width]`.
fn model(
    name: &str,
    network: &Network,
    parameters: &Parameters,
    metadata: &[(String, String)],
) -> Model {
    let graph = Graph::of(network, parameters);
    let side = |any| match image_side(network) {
        Some(side) => Dimension::Fixed(side),
        None => Dimension::Named(any),
    };
    Model {
        name: name.to_owned(),
        nodes: graph.nodes,
        tensors: graph.tensors,
        input: Port {
            name: INPUT,
            shape: vec![
                Dimension::Named("batch"),
                Dimension::Fixed(3),
                side("height"),
                side("width"),
            ],
        },
        output: Port {
            name: OUTPUT,
            shape: vec![Dimension::Named("batch"), Dimension::Fixed(network.width())],
        },
        metadata: metadata.to_vec(),
        opset: OPSET,
    }
}

/// The only side that images may have, where the network has one.
fn image_side(network: &Network) -> Option<usize> {
    network.blocks.iter().find_map(|block| match block {
        Block::PatchEmbedding(embedding) => Some(embedding.image),
        _ => None,
    })
}
