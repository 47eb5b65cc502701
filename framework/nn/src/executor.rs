//! Plans a network for a batch shape and runs it.
//!
//! All tensors of a plan lie in one block of memory that is taken when the shape is first seen; a pass takes none. A
//! plan for training keeps the output of every block and what the blocks save for backward, and has two buffers that
//! gradients alternate between. A plan for the other modes has two buffers that outputs alternate between. All blocks
//! share the scratch memory of the greediest of them.

use crate::{
    layer::{self, Layer, Pass, Purpose, Size},
    memory::Memory,
    network::Network,
    parameter::Parameters,
};

/// A batch of images, `[batch, height, width, 3]`, normalised.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// Number of images.
    pub batch: usize,
    /// Rows of each.
    pub height: usize,
    /// Columns of each.
    pub width: usize,
    /// Row-major values, channels fastest.
    pub values: &'a [f32],
}

impl Images<'_> {
    fn shape(&self) -> Shape {
        Shape {
            batch: self.batch,
            height: self.height,
            width: self.width,
        }
    }
}

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, running statistics updated, dropout live; keeps what backward needs.
    Train {
        /// Key of the pass's random numbers (dropout, drop-connect).
        draw: u64,
    },
    /// As `Train`, but nothing is kept: the forward pass of a momentum encoder.
    Momentum {
        /// Key of the pass's random numbers.
        draw: u64,
    },
    /// Running statistics, no randomness, nothing kept.
    Infer,
    /// As `Infer`, but keeps what backward needs: gradients through statistics that stand still.
    Fixed,
}

impl Mode {
    /// The key of the pass's random numbers, if it has any.
    pub(crate) fn draw(self) -> Option<u64> {
        match self {
            Self::Train { draw } | Self::Momentum { draw } => Some(draw),
            Self::Infer | Self::Fixed => None,
        }
    }

    /// Whether backward may follow.
    pub(crate) fn keeps(self) -> bool {
        matches!(self, Self::Train { .. } | Self::Fixed)
    }

    /// Whether batch norms take the batch's own statistics, and move the running ones.
    pub(crate) fn takes_batch(self) -> bool {
        matches!(self, Self::Train { .. } | Self::Momentum { .. })
    }
}

/// Runs one network.
pub struct Executor {
    network: Network,
    train: Option<Plan>,
    forward: Option<Plan>,
    /// The mode of the last pass that backward may follow.
    last: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    batch: usize,
    height: usize,
    width: usize,
}

impl Executor {
    /// An executor for `network`; memory is planned at the first batch and again whenever the batch's shape changes.
    pub fn new(network: Network) -> Self {
        Self {
            network,
            train: None,
            forward: None,
            last: Mode::Infer,
        }
    }

    /// The network that it runs.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Bytes of the tensors that the executor holds.
    pub fn bytes(&self) -> usize {
        let plans = self.train.iter().chain(&self.forward);
        plans.map(|plan| 4 * plan.memory.len()).sum()
    }

    /// Runs `images` forward; the rows `[batch, width]` go to `features`.
    ///
    /// # Panics
    /// If the network cannot be run on images of that size (see [`Network::outputs`]), a slice has the wrong length, or
    /// the batch is empty.
    pub fn forward(
        &mut self,
        parameters: &mut Parameters,
        images: Images<'_>,
        mode: Mode,
        features: &mut [f32],
    ) {
        self.forward_timed(parameters, images, mode, features, &mut |_, _| {});
    }

    /// As [`forward`](Self::forward), and tells `watch` the position of every block when it has run, and the time that
    /// it took.
    pub fn forward_timed(
        &mut self,
        parameters: &mut Parameters,
        images: Images<'_>,
        mode: Mode,
        features: &mut [f32],
        watch: &mut Watch<'_>,
    ) {
        let shape = images.shape();
        let purpose = if mode.keeps() {
            Purpose::Train
        } else {
            Purpose::Forward
        };
        let slot = match purpose {
            Purpose::Train => &mut self.train,
            Purpose::Forward => &mut self.forward,
        };
        if slot.as_ref().is_none_or(|plan| plan.shape != shape) {
            // Free the memory of the other shape before taking that of this one.
            *slot = None;
            *slot = Some(Plan::new(&self.network, shape, purpose, parameters));
        }
        let plan = slot.as_mut().expect("there is a plan by now");
        plan.check(&images, features.len());
        if purpose == Purpose::Train {
            self.last = mode;
        }
        // Within the pool: a thread outside would sleep and be woken for every block.
        rayon::scope(|_| match purpose {
            Purpose::Train => plan.train(parameters, images.values, mode, features, watch),
            Purpose::Forward => plan.forget(parameters, images.values, mode, features, watch),
        });
    }

    /// Adds the gradients of the last `Train` or `Fixed` pass, given the gradient `[batch, width]` of its features; `images` are
    /// those of that pass, and `images_gradient` receives theirs where wanted.
    ///
    /// # Panics
    /// If there was no such pass of that shape, or a slice has the wrong length.
    pub fn backward(
        &mut self,
        parameters: &mut Parameters,
        images: Images<'_>,
        gradient: &[f32],
        images_gradient: Option<&mut [f32]>,
    ) {
        self.backward_timed(
            parameters,
            images,
            gradient,
            images_gradient,
            &mut |_, _| {},
        );
    }

    /// As [`backward`](Self::backward), and tells `watch` the position of every block when it has run, and the time
    /// that it took.
    pub fn backward_timed(
        &mut self,
        parameters: &mut Parameters,
        images: Images<'_>,
        gradient: &[f32],
        images_gradient: Option<&mut [f32]>,
        watch: &mut Watch<'_>,
    ) {
        let plan = self.train.as_mut();
        let plan = plan.expect("backward follows a forward pass in `Train` or `Fixed` mode");
        assert_eq!(
            plan.shape,
            images.shape(),
            "these are not the images of the last pass"
        );
        plan.check(&images, gradient.len());
        let mode = self.last;
        rayon::scope(|_| {
            plan.backward(
                parameters,
                images.values,
                mode,
                gradient,
                images_gradient,
                watch,
            );
        });
    }
}

/// Is told a block's position and the seconds that it took.
pub type Watch<'a> = dyn FnMut(usize, f64) + Send + 'a;

fn timed(watch: &mut Watch<'_>, position: usize, work: impl FnOnce()) {
    let start = std::time::Instant::now();
    work();
    watch(position, start.elapsed().as_secs_f64());
}

/// A network planned for one batch shape.
struct Plan {
    shape: Shape,
    layers: Vec<Box<dyn Layer>>,
    /// Numbers of every block's output.
    outputs: Vec<usize>,
    /// Numbers that every block keeps; none unless the purpose is training.
    saved: Vec<usize>,
    /// Numbers of the two alternating buffers: gradients in training, else outputs.
    alternating: [usize; 2],
    scratch: usize,
    memory: Memory,
}

impl Plan {
    fn new(network: &Network, shape: Shape, purpose: Purpose, parameters: &Parameters) -> Self {
        assert!(shape.batch > 0, "a batch has at least one image");
        let sizes = network.outputs(shape.height, shape.width);
        let sizes = sizes.unwrap_or_else(|impossible| panic!("{impossible}"));
        let mut input = Size {
            height: shape.height,
            width: shape.width,
            channels: 3,
        };
        let mut layers = Vec::with_capacity(sizes.len());
        for (block, &output) in network.blocks.iter().zip(&sizes) {
            layers.push(layer::plan(
                block,
                shape.batch,
                input,
                output,
                purpose,
                parameters,
            ));
            input = output;
        }
        let outputs: Vec<usize> = sizes.iter().map(|size| shape.batch * size.len()).collect();
        let mut alternating = [0; 2];
        // The last output is the caller's, and its gradient too, but backward may overwrite only a copy of it.
        let count = match purpose {
            Purpose::Train => outputs.len(),
            Purpose::Forward => outputs.len() - 1,
        };
        for (i, &len) in outputs[..count].iter().enumerate() {
            alternating[i % 2] = alternating[i % 2].max(len);
        }
        let (saved, kept): (Vec<usize>, usize) = match purpose {
            Purpose::Train => (
                layers.iter().map(|layer| layer.saved()).collect(),
                outputs.iter().sum(),
            ),
            Purpose::Forward => (vec![0; layers.len()], 0),
        };
        let scratch = layers
            .iter()
            .map(|layer| layer.scratch())
            .max()
            .unwrap_or(0);
        let pad = Memory::pad;
        let total = if kept > 0 {
            outputs.iter().map(|&n| pad(n)).sum()
        } else {
            0
        } + saved.iter().map(|&n| pad(n)).sum::<usize>()
            + alternating.iter().map(|&n| pad(n)).sum::<usize>()
            + pad(scratch);
        Self {
            shape,
            layers,
            outputs,
            saved,
            alternating,
            scratch,
            memory: Memory::new(total),
        }
    }

    fn check(&self, images: &Images<'_>, features: usize) {
        let pixels = images.batch * images.height * images.width;
        assert_eq!(
            images.values.len(),
            3 * pixels,
            "images have three channels"
        );
        assert_eq!(
            Some(&features),
            self.outputs.last(),
            "features are `[batch, width]`"
        );
    }

    fn train(
        &mut self,
        parameters: &mut Parameters,
        images: &[f32],
        mode: Mode,
        features: &mut [f32],
        watch: &mut Watch<'_>,
    ) {
        let mut cut = self.memory.cut();
        let scratch = cut.take(self.scratch);
        let mut input = images;
        for (position, layer) in self.layers.iter_mut().enumerate() {
            let output = cut.take(self.outputs[position]);
            let mut pass = Pass {
                parameters: &mut *parameters,
                saved: cut.take(self.saved[position]),
                scratch: &mut *scratch,
                mode,
                position,
            };
            timed(watch, position, || layer.forward(&mut pass, input, output));
            input = output;
        }
        features.copy_from_slice(input);
    }

    fn forget(
        &mut self,
        parameters: &mut Parameters,
        images: &[f32],
        mode: Mode,
        features: &mut [f32],
        watch: &mut Watch<'_>,
    ) {
        let mut cut = self.memory.cut();
        let scratch = cut.take(self.scratch);
        let mut buffers = self.alternating.map(|len| cut.take(len));
        let last = self.layers.len() - 1;
        for (position, layer) in self.layers.iter_mut().enumerate() {
            let [even, odd] = &mut buffers;
            let (into, from) = if position % 2 == 0 {
                (even, odd)
            } else {
                (odd, even)
            };
            let input = match position {
                0 => images,
                _ => &from[..self.outputs[position - 1]],
            };
            let output = if position == last {
                &mut *features
            } else {
                &mut into[..self.outputs[position]]
            };
            let mut pass = Pass {
                parameters: &mut *parameters,
                saved: &mut [],
                scratch: &mut *scratch,
                mode,
                position,
            };
            timed(watch, position, || layer.forward(&mut pass, input, output));
        }
    }

    fn backward(
        &mut self,
        parameters: &mut Parameters,
        images: &[f32],
        mode: Mode,
        gradient: &[f32],
        mut images_gradient: Option<&mut [f32]>,
        watch: &mut Watch<'_>,
    ) {
        let mut cut = self.memory.cut();
        let scratch = cut.take(self.scratch);
        // Outputs and what was saved, in the order in which `train` took them.
        let mut kept: Vec<(&mut [f32], &mut [f32])> = Vec::with_capacity(self.layers.len());
        for (&output, &saved) in self.outputs.iter().zip(&self.saved) {
            kept.push((cut.take(output), cut.take(saved)));
        }
        let mut buffers = self.alternating.map(|len| cut.take(len));
        let last = self.layers.len() - 1;
        buffers[last % 2][..gradient.len()].copy_from_slice(gradient);
        for (position, layer) in self.layers.iter_mut().enumerate().rev() {
            let (output, saved) = kept.pop().expect("every layer kept something");
            let input = kept.last().map_or(images, |(output, _)| &**output);
            let [even, odd] = &mut buffers;
            let (from, into) = if position % 2 == 0 {
                (even, odd)
            } else {
                (odd, even)
            };
            let dy = &mut from[..self.outputs[position]];
            let dx = match position {
                0 => images_gradient.take(),
                _ => Some(&mut into[..self.outputs[position - 1]]),
            };
            let mut pass = Pass {
                parameters: &mut *parameters,
                saved,
                scratch: &mut *scratch,
                mode,
                position,
            };
            timed(watch, position, || {
                layer.backward(&mut pass, input, output, dy, dx)
            });
        }
    }
}
