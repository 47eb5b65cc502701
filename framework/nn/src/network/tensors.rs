//! The state-dict entries of a network, in the order in which the reference implementations register them.

use super::{Block, ConvNorm, Linear, Network, Norm, Role, Spec, SqueezeExcite};
use crate::init::Init;

impl Network {
    /// Every state-dict entry, in the order of the reference.
    pub fn tensors(&self) -> Vec<Spec> {
        let mut list = List(Vec::new());
        for block in &self.blocks {
            match block {
                Block::ConvNorm(conv) => list.conv_norm(conv),
                Block::InvertedResidual(block) => {
                    if let Some(expand) = &block.expand {
                        list.conv_norm(expand);
                    }
                    list.conv_norm(&block.depthwise);
                    if let Some(gating) = &block.squeeze_excite {
                        list.squeeze_excite(gating, block.depthwise.convolution.output);
                    }
                    list.conv_norm(&block.project);
                }
                Block::Residual(block) => {
                    for conv in block.path.iter().chain(&block.downsample) {
                        list.conv_norm(conv);
                    }
                }
                Block::Linear(linear) => list.linear(linear),
                Block::RowNorm(row) => list.norm(&row.norm, row.channels),
                Block::PatchEmbedding(embedding) => list.0.extend(embedding.tensors()),
                Block::TransformerLayer(layer) => list.0.extend(layer.tensors()),
                Block::LayerNorm(norm) => list.0.extend(norm.tensors()),
                Block::Kept(tensors) => list.0.extend_from_slice(tensors),
                Block::MaxPool { .. } | Block::GlobalAveragePool { .. } | Block::UnitLength => {}
            }
        }
        list.0
    }
}

struct List(Vec<Spec>);

impl List {
    fn push(&mut self, name: String, shape: Vec<usize>, role: Role, init: Init) {
        self.0.push(Spec {
            name,
            shape,
            role,
            init,
        });
    }

    fn conv_norm(&mut self, conv: &ConvNorm) {
        let c = &conv.convolution;
        let shape = vec![c.output, c.input / c.groups, c.kernel, c.kernel];
        self.push(format!("{}.weight", c.name), shape, Role::Weight, c.init);
        self.norm(&conv.norm, c.output);
    }

    fn norm(&mut self, norm: &Norm, channels: usize) {
        let mut entry = |last, shape, role, value| {
            let name = format!("{}.{last}", norm.name);
            self.push(name, shape, role, Init::Constant(value));
        };
        entry("weight", vec![channels], Role::Weight, 1.0);
        entry("bias", vec![channels], Role::Weight, 0.0);
        entry("running_mean", vec![channels], Role::Statistic, 0.0);
        entry("running_var", vec![channels], Role::Statistic, 1.0);
        entry("num_batches_tracked", vec![], Role::Counter, 0.0);
    }

    fn squeeze_excite(&mut self, gating: &SqueezeExcite, channels: usize) {
        let layers = [
            (&gating.reduce, gating.width, channels),
            (&gating.expand, channels, gating.width),
        ];
        for (name, output, input) in layers {
            let mut shape = vec![output, input];
            if gating.convolutional {
                shape.extend([1, 1]);
            }
            // The two layers differ in fan-in, so a description gives the rule and each layer its own number.
            let own = |init| match init {
                Init::FanIn { .. } => Init::FanIn { fan_in: input },
                other => other,
            };
            let (weight, bias) = (own(gating.init), own(gating.bias_init));
            self.push(format!("{name}.weight"), shape, Role::Weight, weight);
            self.push(format!("{name}.bias"), vec![output], Role::Weight, bias);
        }
    }

    fn linear(&mut self, linear: &Linear) {
        let shape = vec![linear.output, linear.input];
        self.push(
            format!("{}.weight", linear.name),
            shape,
            Role::Weight,
            linear.init,
        );
        if linear.bias {
            self.push(
                format!("{}.bias", linear.name),
                vec![linear.output],
                Role::Weight,
                linear.bias_init,
            );
        }
    }
}
