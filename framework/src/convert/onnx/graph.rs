//! A described network as a graph of ONNX operators, for inference.
//!
//! Tensors are `[batch, channels, height, width]`, as ONNX has them and unlike the executor's. Batch norms are folded
//! into the convolutions before them, in double precision and rounded once, so that no runtime has to find that out
//! again; dropout and stochastic depth do nothing at inference and are left out.

use smallfry_nn::{
    Network, Parameters,
    network::{
        Activation, Block, ConvNorm, Gate, InvertedResidual, Linear, Norm, Residual, RowNorm,
        SqueezeExcite,
    },
};

use super::protobuf::{Attribute, Element, Node, Tensor};

/// Name of the graph's input.
pub(super) const INPUT: &str = "images";
/// Name of the graph's output.
pub(super) const OUTPUT: &str = "features";

/// The operators and constants of a network.
pub(super) struct Graph<'a> {
    pub nodes: Vec<Node>,
    pub tensors: Vec<Tensor>,
    parameters: &'a Parameters,
}

impl<'a> Graph<'a> {
    /// The graph of `network` with the weights in `parameters`.
    pub fn of(network: &Network, parameters: &'a Parameters) -> Self {
        let mut graph = Self {
            nodes: Vec::new(),
            tensors: Vec::new(),
            parameters,
        };
        let mut value = INPUT.to_owned();
        for (i, block) in network.blocks.iter().enumerate() {
            value = graph.block(i, block, value);
        }
        graph.node("Identity", vec![value], OUTPUT.to_owned(), vec![]);
        graph
    }

    fn block(&mut self, i: usize, block: &Block, input: String) -> String {
        match block {
            Block::ConvNorm(conv) => self.conv_norm(conv, conv.activation, input),
            Block::InvertedResidual(block) => self.inverted_residual(block, input),
            Block::Residual(block) => self.residual(block, input),
            Block::MaxPool {
                kernel,
                stride,
                padding,
            } => {
                let side = |n: usize, count| Attribute::Integers(vec![n as i64; count]);
                self.node(
                    "MaxPool",
                    vec![input],
                    format!("block{i}/max"),
                    vec![
                        ("kernel_shape", side(*kernel, 2)),
                        ("strides", side(*stride, 2)),
                        ("pads", side(*padding, 4)),
                    ],
                )
            }
            Block::GlobalAveragePool { .. } => {
                let mean = self.node(
                    "GlobalAveragePool",
                    vec![input],
                    format!("block{i}/mean"),
                    vec![],
                );
                let axis = ("axis", Attribute::Integer(1));
                self.node("Flatten", vec![mean], format!("block{i}/rows"), vec![axis])
            }
            Block::Linear(linear) => self.linear(linear, input),
            Block::RowNorm(row) => self.row_norm(row, input),
            Block::UnitLength => self.unit_length(i, input),
            Block::PatchEmbedding(embedding) => self.patch_embedding(embedding, input),
            Block::TransformerLayer(layer) => self.transformer_layer(layer, input),
            Block::LayerNorm(norm) => self.layer_norm(norm, input),
            Block::Kept(_) => input,
        }
    }

    /// Adds a node and gives the name of its output.
    pub(super) fn node(
        &mut self,
        operation: &'static str,
        inputs: Vec<String>,
        output: String,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        self.nodes.push(Node {
            operation,
            inputs,
            output: output.clone(),
            attributes,
        });
        output
    }

    /// Adds a constant, unless there is one of that name, and gives its name.
    pub(super) fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.tensor(name, shape, Element::Float, bytes)
    }

    /// Adds a constant of integers, unless there is one of that name, and gives its name.
    pub(super) fn integers(&mut self, name: &str, shape: &[usize], values: &[i64]) -> String {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.tensor(name, shape, Element::Int64, bytes)
    }

    fn tensor(&mut self, name: &str, shape: &[usize], element: Element, bytes: Vec<u8>) -> String {
        if !self.tensors.iter().any(|tensor| tensor.name == name) {
            self.tensors.push(Tensor {
                name: name.to_owned(),
                shape: shape.to_vec(),
                element,
                bytes,
            });
        }
        name.to_owned()
    }

    /// The weight of that name.
    pub(super) fn weight(&self, name: &str) -> &'a [f32] {
        self.parameters.weight(name)
    }

    /// The factor and addend that a batch norm is at inference.
    fn affine(&self, norm: &Norm) -> (Vec<f64>, Vec<f64>) {
        let statistic = |last: &str| {
            let place = self
                .parameters
                .statistic_place(&format!("{}.{last}", norm.name));
            &self.parameters.statistics()[place]
        };
        let (mean, variance) = (statistic("running_mean"), statistic("running_var"));
        let weight = self.weight(&format!("{}.weight", norm.name));
        let bias = self.weight(&format!("{}.bias", norm.name));
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| f64::from(v)).collect() };
        let epsilon = f64::from(norm.epsilon);
        let factor: Vec<f64> = wide(weight)
            .iter()
            .zip(variance)
            .map(|(weight, &variance)| weight / (f64::from(variance) + epsilon).sqrt())
            .collect();
        let addend = wide(bias)
            .iter()
            .zip(wide(mean))
            .zip(&factor)
            .map(|((bias, mean), factor)| bias - mean * factor)
            .collect();
        (factor, addend)
    }

    /// A convolution with its batch norm folded in, and `activation`, which need not be its own.
    fn conv_norm(&mut self, conv: &ConvNorm, activation: Activation, input: String) -> String {
        let c = &conv.convolution;
        let (factor, addend) = self.affine(&conv.norm);
        let weight = self.weight(&format!("{}.weight", c.name));
        let folded: Vec<f32> = weight
            .chunks_exact(weight.len() / c.output)
            .zip(factor)
            .flat_map(|(filter, factor)| {
                filter
                    .iter()
                    .map(move |&value| (f64::from(value) * factor) as f32)
            })
            .collect();
        let bias: Vec<f32> = addend.iter().map(|&value| value as f32).collect();
        let shape = [c.output, c.input / c.groups, c.kernel, c.kernel];
        let inputs = vec![
            input,
            self.constant(&format!("{}.weight", c.name), &shape, &folded),
            self.constant(&format!("{}.bias", c.name), &[c.output], &bias),
        ];
        let p = &c.padding;
        let pads = [p.top, p.left, p.bottom, p.right].map(|n| n as i64);
        let output = self.node(
            "Conv",
            inputs,
            format!("{}/conv", c.name),
            vec![
                ("group", Attribute::Integer(c.groups as i64)),
                (
                    "kernel_shape",
                    Attribute::Integers(vec![c.kernel as i64; 2]),
                ),
                ("strides", Attribute::Integers(vec![c.stride as i64; 2])),
                ("pads", Attribute::Integers(pads.to_vec())),
            ],
        );
        self.activation(activation, output)
    }

    /// `activation` on `input`, a name that is unique and ends up within the name of the output.
    fn activation(&mut self, activation: Activation, input: String) -> String {
        match activation {
            Activation::Identity => input,
            Activation::Relu => self.node("Relu", vec![input.clone()], input + "/relu", vec![]),
            Activation::Relu6 => {
                let bounds = [
                    self.constant("zero", &[], &[0.0]),
                    self.constant("six", &[], &[6.0]),
                ];
                let [low, high] = bounds;
                let output = format!("{input}/relu6");
                self.node("Clip", vec![input, low, high], output, vec![])
            }
            Activation::HardSwish => {
                let output = format!("{input}/hard_swish");
                self.node("HardSwish", vec![input], output, vec![])
            }
            Activation::Swish => {
                let gate = self.node(
                    "Sigmoid",
                    vec![input.clone()],
                    format!("{input}/sigmoid"),
                    vec![],
                );
                let output = format!("{input}/swish");
                self.node("Mul", vec![input, gate], output, vec![])
            }
        }
    }

    fn inverted_residual(&mut self, block: &InvertedResidual, input: String) -> String {
        let mut hidden = input.clone();
        if let Some(expand) = &block.expand {
            hidden = self.conv_norm(expand, expand.activation, hidden);
        }
        let depthwise = &block.depthwise;
        let activation = depthwise.activation;
        hidden = match &block.squeeze_excite {
            None => self.conv_norm(depthwise, activation, hidden),
            Some(gating) => {
                let channels = depthwise.convolution.output;
                let (before, after) = match gating.after_activation {
                    true => (activation, Activation::Identity),
                    false => (Activation::Identity, activation),
                };
                let ungated = self.conv_norm(depthwise, before, hidden);
                let gated = self.squeeze_excite(gating, channels, ungated);
                self.activation(after, gated)
            }
        };
        let output = self.conv_norm(&block.project, Activation::Identity, hidden);
        if block.shortcut {
            let sum = format!("{output}/add");
            return self.node("Add", vec![output, input], sum, vec![]);
        }
        output
    }

    fn squeeze_excite(&mut self, gating: &SqueezeExcite, channels: usize, input: String) -> String {
        let mean = self.node(
            "GlobalAveragePool",
            vec![input.clone()],
            format!("{input}/mean"),
            vec![],
        );
        let reduced = self.pointwise(&gating.reduce, [gating.width, channels], mean);
        let reduced = self.activation(gating.activation, reduced);
        let expanded = self.pointwise(&gating.expand, [channels, gating.width], reduced);
        let gate = match gating.gate {
            Gate::HardSigmoid => self.node(
                "HardSigmoid",
                vec![expanded.clone()],
                format!("{expanded}/gate"),
                vec![
                    ("alpha", Attribute::Float(1.0 / 6.0)),
                    ("beta", Attribute::Float(0.5)),
                ],
            ),
            Gate::Sigmoid => self.node(
                "Sigmoid",
                vec![expanded.clone()],
                format!("{expanded}/gate"),
                vec![],
            ),
        };
        let output = format!("{input}/gated");
        self.node("Mul", vec![input, gate], output, vec![])
    }

    /// A 1×1 convolution with a bias; `[output, input]`.
    fn pointwise(&mut self, name: &str, [output, input]: [usize; 2], value: String) -> String {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let inputs = vec![
            value,
            self.constant(&weight, &[output, input, 1, 1], self.weight(&weight)),
            self.constant(&bias, &[output], self.weight(&bias)),
        ];
        let side = ("kernel_shape", Attribute::Integers(vec![1, 1]));
        self.node("Conv", inputs, format!("{name}/conv"), vec![side])
    }

    fn residual(&mut self, block: &Residual, input: String) -> String {
        let mut path = input.clone();
        for conv in &block.path {
            path = self.conv_norm(conv, conv.activation, path);
        }
        let shortcut = match &block.downsample {
            Some(downsample) => self.conv_norm(downsample, Activation::Identity, input),
            None => input,
        };
        let output = format!("{path}/add");
        let sum = self.node("Add", vec![path, shortcut], output, vec![]);
        self.activation(block.activation, sum)
    }

    fn linear(&mut self, linear: &Linear, input: String) -> String {
        let weight = format!("{}.weight", linear.name);
        let shape = [linear.output, linear.input];
        let mut inputs = vec![input, self.constant(&weight, &shape, self.weight(&weight))];
        if linear.bias {
            let bias = format!("{}.bias", linear.name);
            inputs.push(self.constant(&bias, &[linear.output], self.weight(&bias)));
        }
        let transposed = ("transB", Attribute::Integer(1));
        let output = self.node(
            "Gemm",
            inputs,
            format!("{}/linear", linear.name),
            vec![transposed],
        );
        self.activation(linear.activation, output)
    }

    fn row_norm(&mut self, row: &RowNorm, input: String) -> String {
        let (factor, addend) = self.affine(&row.norm);
        let name = &row.norm.name;
        let single = |values: Vec<f64>| -> Vec<f32> { values.iter().map(|&v| v as f32).collect() };
        let factor = self.constant(&format!("{name}.factor"), &[row.channels], &single(factor));
        let addend = self.constant(&format!("{name}.addend"), &[row.channels], &single(addend));
        let scaled = self.node("Mul", vec![input, factor], format!("{name}/scaled"), vec![]);
        let output = self.node("Add", vec![scaled, addend], format!("{name}/norm"), vec![]);
        self.activation(row.activation, output)
    }

    fn unit_length(&mut self, i: usize, input: String) -> String {
        let length = self.node(
            "ReduceL2",
            vec![input.clone()],
            format!("block{i}/length"),
            vec![
                ("axes", Attribute::Integers(vec![1])),
                ("keepdims", Attribute::Integer(1)),
            ],
        );
        let least = self.constant("least_length", &[], &[1e-12]);
        let safe = self.node(
            "Max",
            vec![length, least],
            format!("block{i}/safe_length"),
            vec![],
        );
        self.node("Div", vec![input, safe], format!("block{i}/unit"), vec![])
    }
}
