//! An encoder written wholly in dfdx, as a third party may do, under the stock objective and optimiser.
//!
//! Nothing of the executor takes part: a two-layer perceptron over pixels, its weights kept in `Parameters` and brought
//! onto the tape by `tensor::parameter`.

use std::sync::{Arc, Mutex, MutexGuard};

use dfdx::{
    shapes::Axes2,
    tensor::{OwnedTape, PutTape, Tape, Tensor},
    tensor_ops::{Backward, PermuteTo, TryMatMul},
};
use smallfry::{
    Backbone, Context, Encoder, Head, Invalid, Objective, Optimizer,
    backbone::Preprocessing,
    data::random::Random,
    dfdx,
    encoder::ImageBatch,
    nn::{
        Parameters,
        init::Init,
        network::{Role, Spec},
    },
    objective::{BufferValues, Learner, Moment, Setup},
    plugin,
    tensor::{Device, Features, Plain, Traced, import, parameter, scalar, values},
};
use smallfry_plugins as _;
use smallfry_tests::plugin::build;

const SIDE: usize = 4;
const PIXELS: usize = SIDE * SIDE * 3;

plugin! {
    /// A layer over pixels, in plain dfdx
    pub struct PlainLayer: Backbone {
        /// Width of the features.
        width: usize = 24,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Backbone>, Invalid> {
        Ok(Box::new(self))
    }
}

impl Backbone for PlainLayer {
    fn width(&self) -> usize {
        self.width
    }

    fn preprocessing(&self) -> Preprocessing {
        Preprocessing {
            size: SIDE,
            resize: SIDE,
            ..Preprocessing::IMAGENET
        }
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        let mut layers = vec![("body".to_owned(), PIXELS, self.width)];
        for layer in &head.layers {
            let (_, _, input) = layers[layers.len() - 1];
            layers.push((layer.name.clone(), input, layer.output));
        }
        let specs = layers.iter().map(|(name, input, output)| Spec {
            name: format!("{name}.weight"),
            shape: vec![*output, *input],
            role: Role::Weight,
            init: Init::FanIn { fan_in: *input },
        });
        let mut parameters = Parameters::new(specs.collect());
        parameters.initialise(seed);
        Box::new(Perceptron {
            layers,
            parameters: Arc::new(Mutex::new(parameters)),
        })
    }
}

/// Linear layers with ReLU between them.
struct Perceptron {
    layers: Vec<(String, usize, usize)>,
    parameters: Arc<Mutex<Parameters>>,
}

impl Perceptron {
    /// The layers, with weights from `weight`.
    fn forward<T: Tape<f32, Device>>(
        &self,
        images: &ImageBatch,
        weight: impl Fn(&str, Features) -> Tensor<Features, f32, Device, T>,
    ) -> Tensor<Features, f32, Device, T> {
        let pixels = import(images.values.clone(), (images.batch, PIXELS));
        let mut rows = pixels.put_tape(T::default());
        for (i, (name, input, output)) in self.layers.iter().enumerate() {
            if i > 0 {
                rows = rows.relu();
            }
            let weight = weight(&format!("{name}.weight"), (*output, *input));
            rows = rows.matmul(weight.permute::<Features, Axes2<1, 0>>());
        }
        rows
    }
}

impl Encoder for Perceptron {
    fn width(&self) -> usize {
        self.layers[self.layers.len() - 1].2
    }

    fn train(&mut self, images: &Arc<ImageBatch>, _: u64) -> Traced<Features> {
        self.forward::<OwnedTape<f32, Device>>(images, |name, shape| {
            parameter(&self.parameters, name, shape)
        })
    }

    fn momentum(&mut self, images: &Arc<ImageBatch>, _: u64) -> Plain<Features> {
        self.embed(images)
    }

    fn embed(&self, images: &Arc<ImageBatch>) -> Plain<Features> {
        self.forward(images, |name, shape| {
            import(self.parameters().weight(name).to_vec(), shape)
        })
    }

    fn parameters(&self) -> MutexGuard<'_, Parameters> {
        self.parameters.lock().expect("no holder panics")
    }
}

fn start(batch: usize) -> Box<dyn Learner> {
    let objective = build::<dyn Objective>("MoCo(dim: 8, queue: 64, momentum: 0.9, head: Wide)");
    let setup = Setup {
        seed: 7,
        batch,
        samples: 64,
        epochs: 1,
    };
    let learner = objective.start(&setup, &*build::<dyn Backbone>("PlainLayer").plugin);
    learner.unwrap_or_else(|invalid| panic!("{invalid}"))
}

/// Two noisy views of the images `first..first + batch`.
fn views(first: usize, batch: usize, step: u64) -> [Arc<ImageBatch>; 2] {
    [0, 1].map(|view| {
        let mut noise = Random::new(&[1, step, view]);
        let image = |i: usize| {
            let mut image = Random::new(&[2, i as u64]);
            (0..PIXELS)
                .map(move |_| image.unit() as f32 - 0.5)
                .collect::<Vec<_>>()
        };
        let pixels = (first..first + batch).flat_map(image);
        Arc::new(ImageBatch {
            batch,
            height: SIDE,
            width: SIDE,
            values: pixels
                .map(|pixel| pixel + 0.2 * (noise.unit() as f32 - 0.5))
                .collect(),
        })
    })
}

fn moment(step: u64) -> Moment {
    Moment {
        seed: 7,
        epoch: 0,
        step,
    }
}

#[test]
fn it_learns_to_tell_images_apart() {
    let mut learner = start(16);
    let rule = build::<dyn Optimizer>("SGD(lr: 0.05)");
    let mut descent = rule.start(&learner.encoders()[0].1.parameters());
    let mut losses = Vec::new();
    for step in 0..120 {
        let outcome = learner.loss(&views(step % 4 * 16, 16, step as u64), moment(step as u64));
        losses.push(scalar(&outcome.loss));
        outcome.loss.backward();
        let encoders = learner.encoders();
        let mut parameters = encoders[0].1.parameters();
        descent.step(&mut parameters, rule.rate());
        parameters.clear_gradients();
        drop((parameters, encoders));
        learner.after_step();
    }
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    // The queue holds every image once, an older key of the query's own among them: chance is ln 65.
    let (first, last) = (mean(&losses[4..14]), mean(&losses[110..]));
    assert!(last < 0.7 * first, "from {first} to {last}");
    assert!(
        learner.encoders()[1]
            .1
            .parameters()
            .gradients()
            .iter()
            .all(|&g| g == 0.0)
    );
}

#[test]
fn its_gradient_agrees_with_finite_differences() {
    let views = views(0, 16, 0);
    let loss = |change: &dyn Fn(&mut Parameters)| {
        let mut learner = start(16);
        change(&mut learner.encoders()[0].1.parameters());
        let loss = learner.loss(&views, moment(0)).loss;
        (learner, loss)
    };
    let (learner, traced) = loss(&|_| ());
    traced.backward();
    let gradients = learner.encoders()[0].1.parameters().gradients().to_vec();
    let step = 5e-3;
    let mut random = Random::new(&[3]);
    for _ in 0..40 {
        let i = (random.unit() * gradients.len() as f64) as usize;
        let at = |by: f32| scalar(&loss(&|parameters| parameters.values_mut()[i] += by).1);
        // The key encoder is moved towards the query encoder before the keys are made, but no gradient flows there; a
        // tenth of each change does, though, so the comparison holds the key encoder where it was.
        let slope = (at(step) - at(-step)) / (2.0 * step);
        let through_keys = key_slope(&views, i, step);
        let gap = (gradients[i] - (slope - through_keys)).abs();
        assert!(
            gap < 2e-3,
            "{i}: {} and {slope} less {through_keys}",
            gradients[i]
        );
    }
}

/// How the loss changes with weight `i` by way of the key encoder alone.
fn key_slope(views: &[Arc<ImageBatch>; 2], i: usize, step: f32) -> f32 {
    let at = |by: f32| {
        let mut learner = start(16);
        // The share of a change of the query encoder that reaches the key encoder is 1 − 0.9; of its own, 0.9.
        learner.encoders()[1].1.parameters().values_mut()[i] += by * 0.1 / 0.9;
        scalar(&learner.loss(views, moment(0)).loss)
    };
    (at(step) - at(-step)) / (2.0 * step)
}

#[test]
fn events_come_in_the_order_of_the_reference() {
    let mut learner = start(16);
    let weights =
        |learner: &dyn Learner, i: usize| learner.encoders()[i].1.parameters().values().to_vec();
    let queue = |learner: &dyn Learner| match &learner.buffers()[0].values {
        BufferValues::Float(columns) => columns.clone(),
        other => panic!("{other:?}"),
    };
    let start = weights(&*learner, 0);
    assert!(
        weights(&*learner, 1) == start,
        "the key encoder starts as a copy"
    );
    let (before, [first, second]) = (queue(&*learner), views(0, 16, 0));

    let outcome = learner.loss(&[first, second.clone()], moment(0));
    assert!(before == queue(&*learner));
    learner.after_step();
    let after = queue(&*learner);
    for d in 0..8 {
        assert!(before[d * 64 + 16..(d + 1) * 64] == after[d * 64 + 16..(d + 1) * 64]);
    }
    // The keys in the queue are those of the second view by the key encoder, each of length one.
    let keys = values(&PlainLayer::default_encoder(&start).embed(&second)).into_owned();
    for (column, key) in keys.chunks(8).enumerate() {
        let length = key.iter().map(|v| v * v).sum::<f32>().sqrt();
        for (d, value) in key.iter().enumerate() {
            assert!((after[d * 64 + column] - value / length).abs() < 1e-6);
        }
    }
    // The loss is that against the queue as it was: the keys themselves are no negatives yet.
    assert!(outcome.measures[0].1 >= 0.0 && outcome.measures[1].1 >= outcome.measures[0].1);
    drop(outcome);

    // A step of the optimiser reaches the key encoder in the next pass, before its keys are made.
    for value in learner.encoders()[0].1.parameters().values_mut() {
        *value += 0.1;
    }
    assert_near(&weights(&*learner, 1), &start);
    let [first, second] = views(16, 16, 1);
    learner.loss(&[first, second.clone()], moment(1));
    learner.after_step();
    let moved = weights(&*learner, 1);
    let expected: Vec<f32> = start.iter().map(|w| 0.9 * w + 0.1 * (w + 0.1)).collect();
    assert_near(&moved, &expected);
    let keys = values(&PlainLayer::default_encoder(&moved).embed(&second)).into_owned();
    let after = queue(&*learner);
    for (column, key) in keys.chunks(8).enumerate() {
        let length = key.iter().map(|v| v * v).sum::<f32>().sqrt();
        for (d, value) in key.iter().enumerate() {
            let (found, made) = (after[d * 64 + 16 + column], value / length);
            assert!(
                (found - made).abs() < 1e-5,
                "{column} {d}: {found} for {made}"
            );
        }
    }
}

/// Up to rounding: the average of equal numbers is not always the same number.
fn assert_near(values: &[f32], expected: &[f32]) {
    for (value, expected) in values.iter().zip(expected) {
        assert!((value - expected).abs() < 1e-6, "{value} for {expected}");
    }
}

impl PlainLayer {
    /// An encoder as MoCo builds it, with the given weights.
    fn default_encoder(weights: &[f32]) -> Box<dyn Encoder> {
        let layer = |name: &str, output| smallfry::backbone::HeadLayer {
            name: name.into(),
            output,
            norm: None,
            activation: smallfry::nn::network::Activation::Relu,
            dropout: 0.0,
            own_init: false,
        };
        let head = Head {
            layers: vec![layer("fc.0", 48), layer("fc.2", 8)],
            ..Head::default()
        };
        let encoder = PlainLayer::default().encoder(&head, 0);
        encoder.parameters().values_mut().copy_from_slice(weights);
        encoder
    }
}
