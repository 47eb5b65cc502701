//! The encoder of a described network: parameters and executor outside dfdx, one tape operation for a pass.
//!
//! dfdx sees the embeddings only. Their gradient comes back through the operation's closure, which runs the executor's
//! backward and adds to the gradients of the parameters. An executor remembers one pass; where an objective makes
//! several before it goes backward, each has an executor of its own, which is free again once its closure is gone.

use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use dfdx::tensor::{OwnedTape, PutTape, Tape};
use smallfry_nn::{
    Executor, Images, Mode, Network, Parameters,
    init::Init,
    network::{Activation, Block, Linear, Norm, RowNorm, Spec},
};

use crate::{
    backbone::Head,
    encoder::{Encoder, ImageBatch, Normalised, OfImages, Pullback},
    tensor::{Features, Plain, Traced, gradient, import},
};

/// How a backbone's own layer `fc` starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Classifier {
    /// Its weight.
    pub weight: Init,
    /// Its bias.
    pub bias: Init,
}

/// The network `body`, which ends in rows, with `head` behind it. Layers of the head start as `classifier` says where
/// they are the backbone's own, and as PyTorch's layers do otherwise.
///
/// # Panics
/// If a layer of the head has both a batch norm and dropout.
pub fn with_head(mut body: Network, classifier: Classifier, head: &Head) -> Network {
    for layer in &head.layers {
        let input = body.width();
        let default = Init::FanIn { fan_in: input };
        let (init, bias_init) = if layer.own_init {
            (classifier.weight, classifier.bias)
        } else {
            (default, default)
        };
        let norm = layer.norm.as_ref();
        assert!(
            norm.is_none() || layer.dropout == 0.0,
            "`{}` has a batch norm and dropout",
            layer.name
        );
        body.blocks.push(Block::Linear(Linear {
            name: layer.name.clone(),
            input,
            output: layer.output,
            bias: true,
            activation: match norm {
                Some(_) => Activation::Identity,
                None => layer.activation,
            },
            dropout: layer.dropout,
            init,
            bias_init,
        }));
        if let Some(name) = norm {
            body.blocks.push(Block::RowNorm(RowNorm {
                norm: Norm::new(name),
                channels: layer.output,
                activation: layer.activation,
            }));
        }
    }
    if head.unit_length {
        body.blocks.push(Block::UnitLength);
    }
    if !head.kept.is_empty() {
        body.blocks.push(Block::Kept(head.kept.clone()));
    }
    body
}

/// The encoder of a described network.
pub struct Executed {
    network: Network,
    /// The first also runs the passes that keep nothing.
    executors: Vec<Arc<Mutex<Executor>>>,
    parameters: Arc<Mutex<Parameters>>,
    seed: u64,
    /// Whether the parameters are drawn from the seed, which waits for the first who asks for them.
    drawn: Once,
}

impl Executed {
    /// The network `body`, which ends in rows, with `head` behind it; see [`with_head`].
    pub fn new(body: Network, classifier: Classifier, head: &Head, seed: u64) -> Self {
        Self::of(with_head(body, classifier, head), seed)
    }

    /// The whole network `network`, its parameters drawn from `seed`.
    pub fn of(network: Network, seed: u64) -> Self {
        Self {
            parameters: Arc::new(Mutex::new(Parameters::new(network.tensors()))),
            executors: vec![Arc::new(Mutex::new(Executor::new(network.clone())))],
            network,
            seed,
            drawn: Once::new(),
        }
    }

    /// The parameters, drawn.
    fn drawn(&self) -> &Arc<Mutex<Parameters>> {
        self.drawn
            .call_once(|| lock(&self.parameters).initialise(self.seed));
        &self.parameters
    }

    /// An executor whose pass nobody awaits: the closure of a pass holds its executor.
    fn idle(&mut self) -> Arc<Mutex<Executor>> {
        let idle = self
            .executors
            .iter()
            .find(|executor| Arc::strong_count(executor) == 1);
        match idle {
            Some(executor) => executor.clone(),
            None => {
                let executor = Arc::new(Mutex::new(Executor::new(self.network.clone())));
                self.executors.push(executor.clone());
                executor
            }
        }
    }

    /// Runs `images` forward on `executor`.
    fn forward(
        &self,
        executor: &Mutex<Executor>,
        images: &ImageBatch,
        mode: Mode,
    ) -> Plain<Features> {
        let mut features = vec![0.0; images.batch * self.width()];
        lock(executor).forward(&mut lock(self.drawn()), view(images), mode, &mut features);
        import(features, (images.batch, self.width()))
    }
}

impl Encoder for Executed {
    fn width(&self) -> usize {
        self.network.width()
    }

    fn train(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Traced<Features> {
        let executor = self.idle();
        let embeddings = self.forward(&executor, images, Mode::Train { draw });
        let parameters = self.parameters.clone();
        let (images, own) = (images.clone(), embeddings.clone());
        let mut tape = OwnedTape::default();
        tape.add_backward_op(move |gradients| {
            let gradient = gradient(gradients, &own)?;
            let mut parameters = lock(&parameters);
            // Passes add up as whole numbers a weight: as they do where another process makes some of them.
            let earlier = parameters.set_gradients_aside();
            lock(&executor).backward(&mut parameters, view(&images), &gradient, None);
            if earlier {
                parameters.take_gradients_back();
            }
            Ok(())
        });
        embeddings.put_tape(tape)
    }

    fn momentum(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Plain<Features> {
        self.forward(&self.executors[0], images, Mode::Momentum { draw })
    }

    fn embed(&self, images: &Arc<ImageBatch>) -> Plain<Features> {
        self.forward(&self.executors[0], images, Mode::Infer)
    }

    fn parameters(&self) -> MutexGuard<'_, Parameters> {
        lock(self.drawn())
    }

    fn specs(&self) -> Vec<Spec> {
        self.network.tensors()
    }

    fn of_images(&mut self) -> Option<&mut dyn OfImages> {
        Some(self)
    }
}

impl OfImages for Executed {
    fn trace(
        &mut self,
        images: &Arc<ImageBatch>,
        normalised: Normalised,
    ) -> (Plain<Features>, Pullback) {
        let mode = match normalised {
            Normalised::AsInInference => Mode::Fixed,
            Normalised::AsInTraining { draw } => Mode::Train { draw },
        };
        let executor = self.idle();
        let embeddings = self.forward(&executor, images, mode);
        let (parameters, images) = (self.parameters.clone(), images.clone());
        let pullback = move |gradient: &[f32]| {
            let mut parameters = lock(&parameters);
            // The executor adds to what batches before may have left there.
            let kept = parameters.gradients().to_vec();
            let mut of_images = vec![0.0; images.values.len()];
            let (images, to) = (view(&images), Some(&mut of_images[..]));
            lock(&executor).backward(&mut parameters, images, gradient, to);
            let (_, gradients) = parameters.values_and_gradients_mut();
            gradients.copy_from_slice(&kept);
            of_images
        };
        (embeddings, Box::new(pullback))
    }
}

/// A panic elsewhere ends the run; what it left behind is not looked at.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn view(images: &ImageBatch) -> Images<'_> {
    Images {
        batch: images.batch,
        height: images.height,
        width: images.width,
        values: &images.values,
    }
}

#[cfg(test)]
mod tests {
    use dfdx::tensor_ops::{Backward, SumTo, TryMul};
    use smallfry_nn::network::{ConvNorm, Convolution, Padding};

    use smallfry_nn::network::{Role, Spec};

    use super::*;
    use crate::backbone::HeadLayer;

    fn encoder() -> Executed {
        let conv = ConvNorm {
            convolution: Convolution {
                name: "conv".into(),
                input: 3,
                output: 6,
                kernel: 3,
                stride: 1,
                padding: Padding::even(1),
                groups: 1,
                init: Init::FanOut,
            },
            norm: Norm::new("norm"),
            activation: Activation::Swish,
        };
        let body = Network {
            blocks: vec![
                Block::ConvNorm(conv),
                Block::GlobalAveragePool { dropout: 0.0 },
            ],
        };
        let classifier = Classifier {
            weight: Init::Normal(0.1),
            bias: Init::Constant(0.5),
        };
        let layer = |name: &str, output, own_init| HeadLayer {
            name: name.into(),
            output,
            norm: None,
            activation: Activation::Identity,
            dropout: 0.0,
            own_init,
        };
        let head = Head {
            layers: vec![layer("fc.0", 5, false), layer("fc.2", 4, true)],
            ..Head::default()
        };
        Executed::new(body, classifier, &head, 3)
    }

    fn images(batch: usize, side: usize) -> Arc<ImageBatch> {
        let len = batch * side * side * 3;
        Arc::new(ImageBatch {
            batch,
            height: side,
            width: side,
            values: (0..len).map(|i| (i as f32 * 0.7).sin()).collect(),
        })
    }

    fn loss(embeddings: Traced<Features>, cotangent: &[f32]) -> Traced<()> {
        let shape = (cotangent.len() / 4, 4);
        (embeddings.try_mul(import(cotangent.to_vec(), shape)))
            .expect("memory suffices")
            .sum()
    }

    #[test]
    fn the_head_is_the_network_behind_the_body() {
        let encoder = encoder();
        assert_eq!(encoder.width(), 4);
        let parameters = encoder.parameters();
        let names: Vec<_> = parameters.specs().iter().map(|spec| &*spec.name).collect();
        assert_eq!(names[0], "conv.weight");
        assert_eq!(
            names[6..],
            ["fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"]
        );
        assert_eq!(parameters.weight("fc.2.bias"), [0.5; 4]);
        assert!(
            parameters
                .weight("fc.0.bias")
                .iter()
                .all(|b| b.abs() < 0.41 && *b != 0.0)
        );
    }

    #[test]
    fn a_head_may_have_a_batch_norm_a_length_and_tensors_of_no_part() {
        let head = Head {
            layers: vec![HeadLayer {
                name: "fc.0".into(),
                output: 5,
                norm: Some("fc.1".into()),
                activation: Activation::Relu,
                dropout: 0.0,
                own_init: false,
            }],
            unit_length: true,
            kept: vec![Spec {
                name: "prototypes.weight".into(),
                shape: vec![7, 5],
                role: Role::Frozen,
                init: Init::FanIn { fan_in: 5 },
            }],
        };
        let classifier = Classifier {
            weight: Init::Constant(0.0),
            bias: Init::Constant(0.0),
        };
        let mut body = encoder().network;
        // Without the two layers of its own head.
        body.blocks.truncate(body.blocks.len() - 2);
        let encoder = Executed::new(body, classifier, &head, 1);
        let names = |encoder: &Executed| -> Vec<_> {
            let parameters = encoder.parameters();
            let specs = parameters.specs()[6..].iter();
            specs.map(|spec| spec.name.clone()).collect()
        };
        assert_eq!(
            names(&encoder),
            [
                "fc.0.weight",
                "fc.0.bias",
                "fc.1.weight",
                "fc.1.bias",
                "fc.1.running_mean",
                "fc.1.running_var",
                "fc.1.num_batches_tracked",
                "prototypes.weight",
            ]
        );
        let rows = encoder.embed(&images(3, 5)).as_vec();
        for row in rows.chunks(5) {
            let length: f32 = row.iter().map(|v| v * v).sum();
            assert!((length - 1.0).abs() < 1e-6 && row.iter().all(|v| *v >= 0.0));
        }
    }

    #[test]
    fn backward_reaches_the_parameters() {
        let cotangent: Vec<f32> = (0..8).map(|i| (i as f32).cos()).collect();
        let batch = images(2, 5);
        let mut encoder = encoder();
        loss(encoder.train(&batch, 0), &cotangent).backward();
        let gradient = encoder.parameters().gradient("conv.weight").to_vec();
        let step = 1e-2;
        for i in [0, 50, 161] {
            let mut moved = |by: f32| {
                let place = encoder.parameters().weight_place("conv.weight").start + i;
                encoder.parameters().values_mut()[place] += by;
                let value = loss(encoder.train(&batch, 0), &cotangent).as_vec()[0];
                encoder.parameters().values_mut()[place] -= by;
                value
            };
            let difference = (moved(step) - moved(-step)) / (2.0 * step);
            assert!(
                (difference - gradient[i]).abs() < 2e-3,
                "{difference} {}",
                gradient[i]
            );
        }
    }

    #[test]
    fn gradients_of_images_are_differences_and_leave_those_of_parameters_alone() {
        let batch = images(2, 5);
        let cotangent: Vec<f32> = (0..8).map(|i| (i as f32).cos()).collect();
        let value = |embeddings: &Plain<Features>| -> f64 {
            let products = embeddings.as_vec().into_iter().zip(&cotangent);
            products.map(|(e, c)| f64::from(e) * f64::from(*c)).sum()
        };
        for normalised in [
            Normalised::AsInInference,
            Normalised::AsInTraining { draw: 3 },
        ] {
            let mut encoder = encoder();
            loss(encoder.train(&batch, 0), &cotangent).backward();
            let before = encoder.parameters().gradients().to_vec();
            let statistics = encoder.parameters().statistics().to_vec();
            let (embeddings, pullback) = encoder.trace(&batch, normalised);
            let gradient = pullback(&cotangent);
            assert_eq!(encoder.parameters().gradients(), before);
            let moved = encoder.parameters().statistics() != statistics;
            assert_eq!(moved, normalised != Normalised::AsInInference);
            if !moved {
                let embedded = encoder.embed(&batch).as_vec();
                let pairs = embeddings.as_vec().into_iter().zip(embedded);
                assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5));
            }
            let step = 1e-2;
            for i in [0, 31, 149] {
                let mut at = |by: f32| {
                    let mut images = (*batch).clone();
                    images.values[i] += by;
                    value(&encoder.trace(&Arc::new(images), normalised).0)
                };
                let difference = (at(step) - at(-step)) / f64::from(2.0 * step);
                let error = (difference - f64::from(gradient[i])).abs();
                assert!(error < 2e-4, "{normalised:?}: {difference} {}", gradient[i]);
            }
            assert_eq!(encoder.executors.len(), 1);
        }
    }

    #[test]
    fn passes_may_go_backward_in_any_order() {
        let (a, b) = (images(2, 5), images(3, 6));
        let ones = [1.0, -2.0, 0.5, 3.0];
        let (for_a, for_b) = (ones.repeat(2), ones.repeat(3));
        let mut one = encoder();
        loss(one.train(&a, 1), &for_a).backward();
        loss(one.train(&b, 2), &for_b).backward();
        let mut other = encoder();
        let (first, second) = (other.train(&a, 1), other.train(&b, 2));
        loss(first, &for_a).backward();
        loss(second, &for_b).backward();
        let close = one
            .parameters()
            .gradients()
            .iter()
            .zip(other.parameters().gradients())
            .all(|(a, b)| a == b);
        assert!(close);
        assert_eq!((one.executors.len(), other.executors.len()), (1, 2));
        assert_eq!(
            one.parameters().statistics(),
            other.parameters().statistics()
        );
    }

    #[test]
    fn momentum_and_training_see_the_same_batch_and_inference_the_running_statistics() {
        let batch = images(2, 5);
        let mut encoder = encoder();
        let trained = encoder.train(&batch, 1).as_vec();
        let momentum = encoder.momentum(&batch, 1).as_vec();
        let embedded = encoder.embed(&batch).as_vec();
        for ((a, b), c) in trained.iter().zip(&momentum).zip(&embedded) {
            assert!((a - b).abs() < 1e-5);
            assert!((a - c).abs() > 1e-6);
        }
    }
}
