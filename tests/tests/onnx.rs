//! Exported models: read back from their bytes, and run by a slow interpreter of the operators in double precision.
//!
//! The interpreter knows the operators' definitions and nothing of how models are made; `tests/bench/onnx_parity.py`
//! does the same with ONNX Runtime and ONNX's own checker.

use std::{collections::BTreeMap, fs, path::Path};

use smallfry::{
    Backbone, Context, Head,
    checkpoint::{self, Checkpoint, Tensor, Values},
    convert::{self, Request, Target},
    nn::{network::Role, parameter},
    registry::{Built, parse},
};
use smallfry_plugins as _;
use smallfry_tests::golden::{Fill, read_tensors, relative_error};

/// The fields of a message: numbers, and values of one of three wire types.
struct Message<'a>(Vec<(u64, Field<'a>)>);

enum Field<'a> {
    Integer(u64),
    Single(f32),
    Bytes(&'a [u8]),
}

fn variable(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a number of more than 64 bits");
}

impl<'a> Message<'a> {
    fn read(mut bytes: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = variable(&mut bytes);
            let field = match tag & 7 {
                0 => Field::Integer(variable(&mut bytes)),
                2 => {
                    let length = variable(&mut bytes) as usize;
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    Field::Bytes(value)
                }
                5 => {
                    let (value, rest) = bytes.split_at(4);
                    bytes = rest;
                    Field::Single(f32::from_le_bytes(value.try_into().unwrap()))
                }
                other => panic!("wire type {other}"),
            };
            fields.push((tag >> 3, field));
        }
        Self(fields)
    }

    fn all(&self, number: u64) -> impl Iterator<Item = &Field<'a>> {
        let fields = self.0.iter().filter(move |(n, _)| *n == number);
        fields.map(|(_, field)| field)
    }

    fn bytes(&self, number: u64) -> Vec<&'a [u8]> {
        let fields = self.all(number).map(|field| match field {
            Field::Bytes(bytes) => *bytes,
            _ => panic!("field {number} has another wire type"),
        });
        fields.collect()
    }

    fn texts(&self, number: u64) -> Vec<String> {
        let bytes = self.bytes(number).into_iter();
        bytes
            .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
            .collect()
    }

    fn text(&self, number: u64) -> String {
        self.texts(number).pop().unwrap_or_default()
    }

    fn messages(&self, number: u64) -> Vec<Message<'a>> {
        self.bytes(number).into_iter().map(Message::read).collect()
    }

    fn integers(&self, number: u64) -> Vec<i64> {
        let fields = self.all(number).map(|field| match field {
            Field::Integer(value) => *value as i64,
            _ => panic!("field {number} has another wire type"),
        });
        fields.collect()
    }

    fn single(&self, number: u64) -> Option<f32> {
        self.all(number).next().map(|field| match field {
            Field::Single(value) => *value,
            _ => panic!("field {number} has another wire type"),
        })
    }
}

/// A tensor of the interpreter.
#[derive(Clone)]
struct Array {
    shape: Vec<usize>,
    values: Vec<f64>,
}

struct Node {
    operation: String,
    inputs: Vec<String>,
    output: String,
    floats: BTreeMap<String, f64>,
    integers: BTreeMap<String, Vec<i64>>,
}

struct Model {
    nodes: Vec<Node>,
    tensors: BTreeMap<String, Array>,
}

impl Model {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let model = Message::read(&bytes);
        assert_eq!(model.integers(1), [8], "version of the format");
        let opsets = model.messages(8);
        assert_eq!(opsets.len(), 1);
        assert_eq!(opsets[0].integers(2), [17], "version of the operators");
        let graph = model.messages(7).pop().unwrap();
        for (number, name, rank) in [(11, "images", 4), (12, "features", 2)] {
            let ports = graph.messages(number);
            assert_eq!(ports.len(), 1);
            assert_eq!(ports[0].text(1), name);
            let tensor = ports[0]
                .messages(2)
                .pop()
                .unwrap()
                .messages(1)
                .pop()
                .unwrap();
            assert_eq!(tensor.integers(1), [1], "single precision");
            let shape = tensor.messages(2).pop().unwrap().messages(1);
            assert_eq!((shape.len(), shape[0].text(2).as_str()), (rank, "batch"));
        }
        let tensors = graph.messages(5).into_iter().map(|tensor| {
            let shape: Vec<_> = tensor.integers(1).iter().map(|&n| n as usize).collect();
            let raw = tensor.bytes(9)[0];
            let values: Vec<f64> = match tensor.integers(2)[0] {
                1 => raw
                    .chunks_exact(4)
                    .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                    .collect(),
                7 => raw
                    .chunks_exact(8)
                    .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64)
                    .collect(),
                other => panic!("element type {other}"),
            };
            assert_eq!(values.len(), shape.iter().product::<usize>());
            (tensor.text(8), Array { shape, values })
        });
        let nodes = graph.messages(1).into_iter().map(|node| {
            let mut found = Node {
                operation: node.text(4),
                inputs: node.texts(1),
                output: node.text(2),
                floats: BTreeMap::new(),
                integers: BTreeMap::new(),
            };
            for attribute in node.messages(5) {
                let name = attribute.text(1);
                match attribute.integers(20)[..] {
                    [1] => drop(
                        found
                            .floats
                            .insert(name, attribute.single(2).unwrap().into()),
                    ),
                    [2] => drop(found.integers.insert(name, attribute.integers(3))),
                    [7] => drop(found.integers.insert(name, attribute.integers(8))),
                    ref other => panic!("attribute of type {other:?}"),
                }
            }
            found
        });
        Self {
            nodes: nodes.collect(),
            tensors: tensors.collect(),
        }
    }

    /// The features of `images`; a name that is used before it is made, or made twice, is an error.
    fn run(&self, images: Array) -> Array {
        let mut values = self.tensors.clone();
        values.insert("images".to_owned(), images);
        for node in &self.nodes {
            let inputs: Vec<&Array> = node
                .inputs
                .iter()
                .map(|name| values.get(name).unwrap_or_else(|| panic!("no `{name}`")))
                .collect();
            let output = node.run(&inputs);
            let earlier = values.insert(node.output.clone(), output);
            assert!(earlier.is_none(), "`{}` is made twice", node.output);
        }
        values.remove("features").expect("the graph's output")
    }
}

impl Node {
    fn list(&self, name: &str) -> Vec<usize> {
        let list = self.integers.get(name);
        list.unwrap_or_else(|| panic!("{} has no `{name}`", self.operation))
            .iter()
            .map(|&n| usize::try_from(n).unwrap())
            .collect()
    }

    fn run(&self, inputs: &[&Array]) -> Array {
        let [x, ..] = inputs else { panic!("no input") };
        let each = |f: &dyn Fn(f64) -> f64| Array {
            shape: x.shape.clone(),
            values: x.values.iter().map(|&v| f(v)).collect(),
        };
        match self.operation.as_str() {
            "Identity" => (*x).clone(),
            "Relu" => each(&|v| v.max(0.0)),
            "Clip" => each(&|v| v.max(inputs[1].values[0]).min(inputs[2].values[0])),
            "Sigmoid" => each(&|v| 1.0 / (1.0 + (-v).exp())),
            "HardSwish" => each(&|v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0)),
            "HardSigmoid" => {
                let (alpha, beta) = (self.floats["alpha"], self.floats["beta"]);
                each(&|v| (alpha * v + beta).clamp(0.0, 1.0))
            }
            "Add" => broadcast(x, inputs[1], |a, b| a + b),
            "Mul" => broadcast(x, inputs[1], |a, b| a * b),
            "GlobalAveragePool" => {
                let pixels = x.shape[2] * x.shape[3];
                let mean = |values: &[f64]| values.iter().sum::<f64>() / pixels as f64;
                Array {
                    shape: vec![x.shape[0], x.shape[1], 1, 1],
                    values: x.values.chunks(pixels).map(mean).collect(),
                }
            }
            "Flatten" => Array {
                shape: vec![x.shape[0], x.shape[1..].iter().product()],
                values: x.values.clone(),
            },
            "Gemm" => gemm(x, inputs[1], inputs.get(2).copied()),
            "Conv" => self.convolution(x, inputs[1], inputs[2]),
            "MaxPool" => self.max_pool(x),
            other => panic!("no operator `{other}` is expected here"),
        }
    }

    fn convolution(&self, x: &Array, weight: &Array, bias: &Array) -> Array {
        let groups = self
            .integers
            .get("group")
            .map_or(1, |group| group[0] as usize);
        let ones = |name| match self.integers.contains_key(name) {
            true => self.list(name),
            false => vec![usize::from(name == "strides"); 4],
        };
        let (strides, pads, kernel) = (ones("strides"), ones("pads"), self.list("kernel_shape"));
        let [n, channels, height, width] = x.shape[..] else {
            panic!("no images")
        };
        let [outputs, inputs, kh, kw] = weight.shape[..] else {
            panic!("no filters")
        };
        assert_eq!((kernel, inputs * groups), (vec![kh, kw], channels));
        let h = (height + pads[0] + pads[2] - kh) / strides[0] + 1;
        let w = (width + pads[1] + pads[3] - kw) / strides[1] + 1;
        let mut values = Vec::with_capacity(n * outputs * h * w);
        for image in 0..n {
            for output in 0..outputs {
                let mut plane = vec![bias.values[output]; h * w];
                for input in 0..inputs {
                    let channel = output / (outputs / groups) * inputs + input;
                    let from = &x.values[(image * channels + channel) * height * width..];
                    for (i, j) in (0..kh).flat_map(|i| (0..kw).map(move |j| (i, j))) {
                        let factor = weight.values[((output * inputs + input) * kh + i) * kw + j];
                        for row in 0..h {
                            let Some(y) = (row * strides[0] + i).checked_sub(pads[0]) else {
                                continue;
                            };
                            if y >= height {
                                continue;
                            }
                            for column in 0..w {
                                let place = (column * strides[1] + j).checked_sub(pads[1]);
                                if let Some(x) = place.filter(|&x| x < width) {
                                    plane[row * w + column] += factor * from[y * width + x];
                                }
                            }
                        }
                    }
                }
                values.extend(plane);
            }
        }
        Array {
            shape: vec![n, outputs, h, w],
            values,
        }
    }

    fn max_pool(&self, x: &Array) -> Array {
        let (strides, pads, kernel) = (
            self.list("strides"),
            self.list("pads"),
            self.list("kernel_shape"),
        );
        let [n, channels, height, width] = x.shape[..] else {
            panic!("no images")
        };
        let h = (height + pads[0] + pads[2] - kernel[0]) / strides[0] + 1;
        let w = (width + pads[1] + pads[3] - kernel[1]) / strides[1] + 1;
        let mut values = Vec::new();
        for plane in x.values.chunks(height * width) {
            for (row, column) in (0..h).flat_map(|row| (0..w).map(move |column| (row, column))) {
                let mut largest = f64::NEG_INFINITY;
                for (i, j) in (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j))) {
                    let y = (row * strides[0] + i).wrapping_sub(pads[0]);
                    let x = (column * strides[1] + j).wrapping_sub(pads[1]);
                    if y < height && x < width {
                        largest = largest.max(plane[y * width + x]);
                    }
                }
                values.push(largest);
            }
        }
        Array {
            shape: vec![n, channels, h, w],
            values,
        }
    }
}

/// Elementwise; the right one may have length 1 in the last two places.
fn broadcast(a: &Array, b: &Array, f: impl Fn(f64, f64) -> f64) -> Array {
    let repeats = a.values.len() / b.values.len();
    let pixels: usize = a.shape[2..].iter().product();
    assert!(repeats == 1 || (b.shape[..2] == a.shape[..2] && repeats == pixels));
    let values = a.values.iter().enumerate();
    Array {
        shape: a.shape.clone(),
        values: values.map(|(i, &v)| f(v, b.values[i / repeats])).collect(),
    }
}

/// x · weightᵀ + bias.
fn gemm(x: &Array, weight: &Array, bias: Option<&Array>) -> Array {
    let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
    let mut values = Vec::new();
    for row in x.values.chunks(inputs) {
        for (output, filter) in weight.values.chunks(inputs).enumerate() {
            let product: f64 = row.iter().zip(filter).map(|(a, b)| a * b).sum();
            values.push(product + bias.map_or(0.0, |bias| bias.values[output]));
        }
    }
    Array {
        shape: vec![x.shape[0], outputs],
        values,
    }
}

/// Writes a file of `backbone` with filled weights.
fn weights(backbone: &str, path: &Path) {
    let context = Context {
        folder: Path::new("."),
    };
    let backbone: Built<dyn Backbone> = match parse(&context, backbone) {
        Ok(built) => built,
        Err(mistakes) => panic!("{}", mistakes[0]),
    };
    let encoder = backbone.encoder(&Head::default(), 0);
    let parameters = encoder.parameters();
    let fill = Fill { seed: 11 };
    let mut state = Checkpoint::default();
    for (i, spec) in parameters.specs().iter().enumerate() {
        let mut values = fill.parameter(&spec.name, &spec.shape);
        if spec.role == Role::Statistic && spec.name.ends_with("running_var") {
            // Wide apart from epsilon and from each other, and small enough that no activation dies out.
            values.iter_mut().for_each(|v| *v *= 0.3);
        }
        let tensor = match parameters.get(i) {
            parameter::Values::Float(_) => Tensor::float(spec.shape.clone(), values),
            parameter::Values::Integer(_) => Tensor::integer(spec.shape.clone(), vec![7]),
        };
        state.tensors.insert(spec.name.clone(), tensor);
    }
    checkpoint::write(&state, path).unwrap();
}

#[test]
fn exported_models_compute_the_features() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("weights.safetensors");
    for (backbone, operations) in [
        (
            "mobilenetv3_small(width: 0.25)",
            vec![
                ("Conv", 52),
                ("HardSwish", 19),
                ("HardSigmoid", 9),
                ("Gemm", 1),
                ("Add", 7),
            ],
        ),
        (
            "efficientnet_lite0",
            vec![("Conv", 49), ("Clip", 33), ("Add", 9)],
        ),
        (
            "efficientnet_b0",
            vec![("Conv", 81), ("Sigmoid", 65), ("Mul", 65), ("Add", 9)],
        ),
        (
            "resnet18",
            vec![("Conv", 20), ("Relu", 17), ("MaxPool", 1), ("Add", 8)],
        ),
    ] {
        weights(backbone, &input);
        let output = folder.path().join("model.onnx");
        let request = Request {
            input: input.clone(),
            output: output.clone(),
            target: Target::Onnx,
            backbone: Some(backbone.to_owned()),
            encoder: None,
            overwrite: true,
        };
        let report = convert::convert(&request).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(report.files.len(), 3);
        let model = Model::read(&output);
        for (operation, count) in operations {
            let nodes = model
                .nodes
                .iter()
                .filter(|node| node.operation == operation);
            assert_eq!(nodes.count(), count, "{operation} of {backbone}");
        }
        let numbers = read_tensors(&folder.path().join("model.parity.safetensors"));
        let (images, features) = (&numbers["images"], &numbers["features"]);
        let pixels = images.shape[1..].iter().product::<usize>();
        let first = model.run(Array {
            shape: [vec![1], images.shape[1..].to_vec()].concat(),
            values: images.values[..pixels].to_vec(),
        });
        let given = numbers["features"].floats();
        let error = relative_error(&given[..features.shape[1]], &first.values);
        // Images must matter for the comparison to mean anything.
        let second = &given[features.shape[1]..2 * features.shape[1]];
        let spread = relative_error(second, &first.values);
        println!("{backbone}: off by {error:.1e}, images apart by {spread:.1e}");
        assert!(error < 3e-4, "{backbone}: off by {error:e}");
        assert!(error < 0.01 * spread, "{backbone}: apart by {spread:e}");
        let script = fs::read_to_string(folder.path().join("model.parity.py")).unwrap();
        assert!(script.contains("MODEL = \"model.onnx\"\n"));
    }
}

#[test]
fn uneven_padding_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("weights.safetensors");
    weights("efficientnet_lite0", &input);
    let output = folder.path().join("lite.onnx");
    let request = Request {
        input,
        output: output.clone(),
        target: Target::Onnx,
        backbone: Some("efficientnet_lite0".to_owned()),
        encoder: None,
        overwrite: false,
    };
    convert::convert(&request).unwrap_or_else(|e| panic!("{e}"));
    let model = Model::read(&output);
    let stem = &model.nodes[0];
    assert_eq!(
        (stem.operation.as_str(), stem.integers["pads"].as_slice()),
        ("Conv", &[0, 0, 1, 1][..])
    );
    let failure = convert::convert(&request).expect_err("all three are there");
    assert_eq!(failure.exit_code(), 2);
    let state = checkpoint::read(&folder.path().join("lite.parity.safetensors")).unwrap();
    assert!(matches!(state.tensors["images"].values, Values::Float(_)));
}
