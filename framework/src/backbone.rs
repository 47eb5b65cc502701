//! Backbones: the networks whose features are wanted.

use smallfry_nn::{
    Network,
    network::{Activation, Spec},
};

use crate::{encoder::Encoder, registry::kind};

/// A network from images to features, before any head.
pub trait Backbone: Send + Sync {
    /// Width of the features, the input of the reference's layer `fc`.
    fn width(&self) -> usize;

    /// What images must look like.
    fn preprocessing(&self) -> Preprocessing;

    /// The network with `head` in place of its layer `fc` (features themselves where the head has no layers), its
    /// parameters drawn from `seed`.
    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder>;

    /// The network that [`encoder`](Self::encoder) makes with `head`, block by block, without its weights; none where
    /// it is not described by blocks.
    fn network(&self, _head: &Head) -> Option<Network> {
        None
    }

    /// The head that belongs to the network, which a published teacher's embeddings come from; none where it is for the
    /// objective to choose one.
    fn own_head(&self) -> Option<Head> {
        None
    }

    /// The state-dict entries of the features' network, without a head.
    fn tensors(&self) -> Vec<Spec> {
        match self.network(&Head::default()) {
            Some(network) => network.tensors(),
            None => {
                let encoder = self.encoder(&Head::default(), 0);
                encoder.parameters().specs().to_vec()
            }
        }
    }
}

kind!(Backbone, "backbone");

/// How an image becomes the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessing {
    /// Side of the square input in pixels.
    pub size: usize,
    /// Length of the shorter side before the centre crop, in pixels.
    pub resize: usize,
    /// The resize is bicubic (bilinear otherwise).
    pub bicubic: bool,
    /// Mean of each channel, in units of full scale.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, in units of full scale.
    pub deviation: [f32; 3],
}

impl Preprocessing {
    /// What the reference's networks were made for: 256, 224, bilinear, ImageNet statistics.
    pub const IMAGENET: Self = Self {
        size: 224,
        resize: 256,
        bicubic: false,
        mean: [0.485, 0.456, 0.406],
        deviation: [0.229, 0.224, 0.225],
    };
}

/// The layers that replace a backbone's `fc`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// In order; empty gives the features.
    pub layers: Vec<HeadLayer>,
    /// Every embedding is divided by its Euclidean length.
    pub unit_length: bool,
    /// Tensors that are stored with the head but have no part in its embeddings, such as SwAV's prototypes.
    pub kept: Vec<Spec>,
}

/// One fully connected layer of a head.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadLayer {
    /// Prefix of its parameters, such as `fc.0`.
    pub name: String,
    /// Output width.
    pub output: usize,
    /// Prefix of the parameters of the batch norm between the layer and its activation, such as `fc.1`, where there is
    /// one.
    pub norm: Option<String>,
    /// Activation after it.
    pub activation: Activation,
    /// Probability of zeroing an output in training; 0 where there is a batch norm.
    pub dropout: f32,
    /// Starts as the backbone's own `fc` would (as PyTorch's layers do otherwise).
    pub own_init: bool,
}
