//! A small network wholly in dfdx: two layers over the patches of an image, whose outputs are averaged.
//!
//! The stock backbones describe themselves by blocks and run on smallfry's executor, which is fast; this one shows what an
//! encoder must do that computes by itself. Its weights are kept in [`Parameters`], where optimizers, checkpoints and
//! momentum updates look for them, and come onto the tape by [`parameter`], which takes their gradients back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallfry::{
    Backbone, Context, Encoder, Head, Invalid,
    backbone::Preprocessing,
    data::random::Random,
    dfdx::{
        shapes::{Axes2, Axis},
        tensor::{NoneTape, OwnedTape, PutTape, Tape, Tensor},
        tensor_ops::{BroadcastTo, MeanTo, PermuteTo, ReshapeTo, TryMatMul},
    },
    encoder::ImageBatch,
    nn::{
        Parameters,
        init::Init,
        network::{Activation, Role, Spec},
    },
    operation::normalise,
    plugin,
    tensor::{Device, Features, Plain, Traced, import, parameter},
};

plugin! {
    /// Two layers over patches, averaged, in plain dfdx
    pub struct PatchNet: Backbone {
        /// Side of a patch in pixels.
        patch: usize = 8,
        /// Width of the features.
        width: usize = 64,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Backbone>, Invalid> {
        if !(1..=256).contains(&self.patch) {
            return Err(Invalid::new("patch", "must be from 1 to 256 pixels"));
        }
        if !(1..=65_536).contains(&self.width) {
            return Err(Invalid::new("width", "must be from 1 to 65536"));
        }
        Ok(Box::new(self))
    }
}

impl Backbone for PatchNet {
    fn width(&self) -> usize {
        self.width
    }

    fn preprocessing(&self) -> Preprocessing {
        Preprocessing {
            size: 32,
            resize: 36,
            ..Preprocessing::IMAGENET
        }
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        let pixels = 3 * self.patch * self.patch;
        let layer = |name: &str, input, output| Layer {
            name: name.to_owned(),
            input,
            output,
            activation: Activation::Relu,
            dropout: 0.0,
        };
        let body = vec![
            layer("patch", pixels, self.width),
            layer("mix", self.width, self.width),
        ];
        let mut input = self.width;
        let head_layers = head.layers.iter().map(|layer| {
            // A batch norm only stands in heads that belong to a network, and this one has none.
            assert!(layer.norm.is_none(), "the head of another network");
            let input = std::mem::replace(&mut input, layer.output);
            Layer {
                name: layer.name.clone(),
                input,
                output: layer.output,
                activation: layer.activation,
                dropout: layer.dropout,
            }
        });
        let layers: Vec<_> = head_layers.collect();
        let specs = body.iter().chain(&layers).flat_map(Layer::specs);
        let mut parameters = Parameters::new(specs.chain(head.kept.iter().cloned()).collect());
        parameters.initialise(seed);
        Box::new(Patches {
            patch: self.patch,
            body,
            head: layers,
            unit_length: head.unit_length,
            parameters: Arc::new(Mutex::new(parameters)),
        })
    }
}

/// A fully connected layer.
struct Layer {
    name: String,
    input: usize,
    output: usize,
    activation: Activation,
    /// Probability of zeroing an output in training.
    dropout: f32,
}

impl Layer {
    fn specs(&self) -> [Spec; 2] {
        let spec = |name: &str, shape| Spec {
            name: format!("{}.{name}", self.name),
            shape,
            role: Role::Weight,
            init: Init::FanIn { fan_in: self.input },
        };
        [
            spec("weight", vec![self.output, self.input]),
            spec("bias", vec![self.output]),
        ]
    }
}

/// The network with its head.
struct Patches {
    patch: usize,
    body: Vec<Layer>,
    head: Vec<Layer>,
    unit_length: bool,
    parameters: Arc<Mutex<Parameters>>,
}

/// Rows of numbers, `[rows, width]`, with or without a tape.
type Rows<T> = Tensor<Features, f32, Device, T>;

/// A tape that weights can come with: of none, they are copied; of a recording one, their gradients come back.
trait Source: Tape<f32, Device> {
    fn weight<S: smallfry::dfdx::shapes::Shape>(
        parameters: &Arc<Mutex<Parameters>>,
        name: &str,
        shape: S,
    ) -> Tensor<S, f32, Device, Self>;
}

impl Source for OwnedTape<f32, Device> {
    fn weight<S: smallfry::dfdx::shapes::Shape>(
        parameters: &Arc<Mutex<Parameters>>,
        name: &str,
        shape: S,
    ) -> Tensor<S, f32, Device, Self> {
        parameter(parameters, name, shape)
    }
}

impl Source for NoneTape {
    fn weight<S: smallfry::dfdx::shapes::Shape>(
        parameters: &Arc<Mutex<Parameters>>,
        name: &str,
        shape: S,
    ) -> Tensor<S, f32, Device, Self> {
        let parameters = parameters.lock().unwrap_or_else(PoisonError::into_inner);
        import(parameters.weight(name).to_vec(), shape)
    }
}

impl Patches {
    /// Embeddings, with dropout where there is a key for its random numbers.
    fn forward<T: Source>(&self, images: &ImageBatch, draw: Option<u64>) -> Rows<T> {
        let (patches, count) = self.cut(images);
        let mut rows: Rows<T> = patches.put_tape(T::default());
        for layer in &self.body {
            rows = self.apply(layer, rows, draw);
        }
        let width = self.body[self.body.len() - 1].output;
        let mut rows: Rows<T> = rows
            .reshape_like(&(images.batch, count, width))
            .mean::<Features, Axis<1>>();
        for layer in &self.head {
            rows = self.apply(layer, rows, draw);
        }
        match self.unit_length {
            true => normalise(rows),
            false => rows,
        }
    }

    /// The patches of all images, image by image, and their number in each image. What is missing at the lower and right
    /// borders is 0, the mean colour.
    fn cut(&self, images: &ImageBatch) -> (Plain<Features>, usize) {
        let side = self.patch;
        let (down, across) = (images.height.div_ceil(side), images.width.div_ceil(side));
        let pixels = 3 * side * side;
        let mut patches = vec![0.0; images.batch * down * across * pixels];
        for (i, row) in images.values.chunks_exact(3 * images.width).enumerate() {
            let (image, y) = (i / images.height, i % images.height);
            for (x, piece) in row.chunks(3 * side).enumerate() {
                let patch = (image * down + y / side) * across + x;
                let start = patch * pixels + (y % side) * 3 * side;
                patches[start..start + piece.len()].copy_from_slice(piece);
            }
        }
        let shape = (images.batch * down * across, pixels);
        (import(patches, shape), down * across)
    }

    fn apply<T: Source>(&self, layer: &Layer, rows: Rows<T>, draw: Option<u64>) -> Rows<T> {
        let weight: Rows<T> = T::weight(
            &self.parameters,
            &format!("{}.weight", layer.name),
            (layer.output, layer.input),
        );
        let products = rows.matmul(weight.permute::<Features, Axes2<1, 0>>());
        let shape = *smallfry::dfdx::shapes::HasShape::shape(&products);
        let bias = T::weight(
            &self.parameters,
            &format!("{}.bias", layer.name),
            (layer.output,),
        );
        let sums: Rows<T> = products + bias.broadcast_like::<Features, Axis<0>>(&shape);
        let outputs = match layer.activation {
            Activation::Identity => sums,
            // No head of the stock objectives has another.
            _ => sums.relu(),
        };
        match draw {
            Some(draw) if layer.dropout > 0.0 => outputs * mask(layer, shape, draw),
            _ => outputs,
        }
    }
}

/// 0 where an output is dropped, elsewhere what keeps the mean; from the pass's random numbers alone.
fn mask(layer: &Layer, (rows, width): Features, draw: u64) -> Plain<Features> {
    let mut random = Random::new(&[draw, layer.output as u64, layer.input as u64]);
    let kept = 1.0 / (1.0 - layer.dropout);
    let mut draw = || match random.chance(f64::from(layer.dropout)) {
        true => 0.0,
        false => kept,
    };
    import((0..rows * width).map(|_| draw()).collect(), (rows, width))
}

impl Encoder for Patches {
    fn width(&self) -> usize {
        let last = self.body.iter().chain(&self.head).next_back();
        last.map_or(0, |layer| layer.output)
    }

    fn train(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Traced<Features> {
        self.forward(images, Some(draw))
    }

    fn momentum(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Plain<Features> {
        self.forward(images, Some(draw))
    }

    fn embed(&self, images: &Arc<ImageBatch>) -> Plain<Features> {
        self.forward(images, None)
    }

    fn parameters(&self) -> MutexGuard<'_, Parameters> {
        self.parameters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use smallfry::tensor::values;

    use super::*;

    /// Patches of one pixel whose layers leave everything as it is.
    #[test]
    fn features_are_means_over_patches() {
        let net = PatchNet { patch: 1, width: 3 };
        let encoder = net.encoder(&Head::default(), 1);
        let unit = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        encoder
            .parameters()
            .values_mut()
            .copy_from_slice(&[unit, unit].concat());
        let images = Arc::new(ImageBatch {
            batch: 1,
            height: 1,
            width: 2,
            values: vec![1.0, 2.0, 3.0, 3.0, -4.0, 5.0],
        });
        assert_eq!(&*values(&encoder.embed(&images)), [2.0, 1.0, 4.0]);
    }
}
