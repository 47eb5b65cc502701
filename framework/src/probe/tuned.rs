//! Whole networks that learn to classify: transfer by finetuning.
//!
//! A network is the backbone with a classifier on it. `main_transfer.py` never goes back to training mode after its first
//! validation, so batch norms take the batch's statistics and dropout is live in the first epoch only; from the second
//! on statistics stand still while weights go on learning. Published numbers come from that, so it is the default
//! ([`TrainMode::Reference`]). What a backbone keeps frozen, such as a transformer's patch embedding, stays so.
//!
//! Networks of several rates and seeds learn from the same batches and share one executor, one after the other.

use std::sync::Arc;

use smallfry_data::{Dataset, loader::Cursor, random::Random};
use smallfry_nn::{
    Executor, Images as Batch, Mode, Network, Parameters,
    init::Init,
    network::{Activation, Block, Linear, Role},
    optimizer::Sgd,
};

use super::{
    bank::DEVIATION,
    classifiers::{Classifiers, Moment, Step, Tensors, take},
    entropy::cross_entropy,
    figures::Figures,
    lessons::Lessons,
    linear::layer,
};
use crate::{
    Head,
    backbone::Preprocessing,
    checkpoint::{self, Tensor},
    encoder::ImageBatch,
    evaluate::features::Images,
    failure::Failure,
    plan::{Normalize, Probe, TrainMode},
    results::{SetRecord, probe::Label},
    workplace::Workplace,
};

/// Sets dropout apart from other streams of a seed.
const DROPOUT: u64 = u64::MAX - 3;

/// Networks and the images that they learn from.
pub struct Tuned<'a> {
    stage: &'a Probe,
    mode: TrainMode,
    preprocessing: Preprocessing,
    sets: [Arc<dyn Dataset>; 2],
    executor: Executor,
    networks: Vec<Tune>,
    lessons: Option<Lessons>,
    records: [SetRecord; 2],
}

/// A network that learns.
struct Tune {
    label: Label,
    parameters: Parameters,
    velocity: Vec<f32>,
    failed: bool,
}

/// The backbone of `stage` with a classifier for `classes` classes; none where the backbone is not described by blocks.
pub fn network(stage: &Probe, classes: usize) -> Option<Network> {
    let mut network = stage.subject.backbone.network(&Head::default())?;
    let input = network.width();
    let unit_length = stage.normalize == Normalize::Yes;
    if unit_length {
        network.blocks.push(Block::UnitLength);
    }
    network.blocks.push(Block::Linear(Linear {
        name: layer(unit_length).into(),
        input,
        output: classes,
        bias: true,
        activation: Activation::Identity,
        dropout: 0.0,
        init: Init::Normal(DEVIATION),
        bias_init: Init::Constant(0.0),
    }));
    Some(network)
}

impl<'a> Tuned<'a> {
    /// Puts the backbone that `start` holds below a classifier for each of `labels`.
    ///
    /// # Errors
    /// The backbone is not described by blocks.
    pub fn new(
        stage: &'a Probe,
        mode: TrainMode,
        preprocessing: Preprocessing,
        [train, test]: [&Arc<dyn Dataset>; 2],
        labels: Vec<Label>,
        start: &Parameters,
    ) -> Result<Self, Failure> {
        let network = network(stage, train.classes().len()).ok_or_else(|| {
            Failure::mistake(format!(
                "{} cannot be trained as a whole: it is not described by blocks",
                stage.subject.backbone.line
            ))
        })?;
        let networks = labels.into_iter().map(|label| {
            let mut parameters = Parameters::initialised(&network, label.seed);
            for (name, tensor) in checkpoint::tensors(start) {
                let i = parameters.position(&name);
                let i = i.expect("a network with a classifier has the tensors of one without");
                checkpoint::fill(&mut parameters, i, &tensor)
                    .expect("tensors of the same network have the same shapes");
            }
            Tune {
                label,
                velocity: vec![0.0; parameters.values().len()],
                parameters,
                failed: false,
            }
        });
        let record = |data, set: &Arc<dyn Dataset>| SetRecord {
            data,
            samples: set.len(),
            left_out: Vec::new(),
        };
        Ok(Self {
            stage,
            mode,
            preprocessing,
            sets: [Arc::clone(train), Arc::clone(test)],
            networks: networks.collect(),
            executor: Executor::new(network),
            lessons: None,
            records: [
                record(stage.train.line(), train),
                record(stage.test.line(), test),
            ],
        })
    }
}

fn view(images: &ImageBatch) -> Batch<'_> {
    Batch {
        batch: images.batch,
        height: images.height,
        width: images.width,
        values: &images.values,
    }
}

impl Tune {
    /// Follows the gradient of the mean cross-entropy of a batch; gives its figures before the step.
    fn step(
        &mut self,
        executor: &mut Executor,
        images: &ImageBatch,
        labels: &[u32],
        mode: Mode,
        rule: Sgd,
    ) -> Figures {
        let mut scores = vec![0.0; labels.len() * executor.network().width()];
        let parameters = &mut self.parameters;
        executor.forward(parameters, view(images), mode, &mut scores);
        let mut gradient = vec![0.0; scores.len()];
        let figures = cross_entropy(&scores, labels, Some(&mut gradient));
        self.failed |= !figures.loss.is_finite();
        if !self.failed {
            parameters.clear_gradients();
            executor.backward(parameters, view(images), &gradient, None);
            let ranges = parameters.trained_ranges();
            rule.step(parameters, &mut self.velocity, &ranges);
        }
        figures
    }
}

impl Classifiers for Tuned<'_> {
    fn begin(&mut self, begin: Cursor) -> Result<(), Failure> {
        let (preprocessing, seed) = (&self.preprocessing, self.networks[0].label.seed);
        let started = Lessons::training(self.stage, preprocessing, seed, &self.sets[0], begin)?;
        self.lessons = Some(started);
        Ok(())
    }

    fn samples(&self) -> usize {
        self.sets[0].len()
    }

    fn step(&mut self, moment: Moment) -> Result<Step, Failure> {
        let (lesson, waited) = Lessons::awaited(&mut self.lessons)?;
        let mut figures = Vec::with_capacity(self.networks.len());
        for tune in &mut self.networks {
            let mode = match (self.mode, moment.epoch) {
                (TrainMode::Reference, 1..) => Mode::Fixed,
                _ => Mode::Train {
                    draw: Random::new(&[tune.label.seed, moment.step, DROPOUT]).bits(),
                },
            };
            let rule = Sgd {
                rate: (tune.label.rate * moment.factor) as f32,
                momentum: self.stage.momentum as f32,
                decay: self.stage.weight_decay as f32,
                nesterov: false,
            };
            let (images, labels) = (&lesson.images, &lesson.labels);
            figures.push(tune.step(&mut self.executor, images, labels, mode, rule));
        }
        Ok(Step {
            figures,
            images: lesson.labels.len(),
            waited,
            replaced: lesson.replaced,
        })
    }

    fn judge(&mut self, workplace: &mut Workplace) -> Result<Vec<Figures>, Failure> {
        let images = Images {
            preprocessing: self.preprocessing,
            batch: self.stage.batch,
        };
        let test = &self.sets[1];
        let mut figures = vec![Figures::default(); self.networks.len()];
        let mut left_out = Vec::new();
        for first in (0..test.len()).step_by(self.stage.batch) {
            // The caller saves what the steps came to, so nothing but the test is lost.
            if workplace.interrupt.requested() {
                return Err(Failure::interrupt("stopped while networks were tested")
                    .help("the same command with --resume goes on with this stage"));
            }
            let samples = first..test.len().min(first + self.stage.batch);
            let (batch, labels) = images.load(&**test, samples, &mut left_out);
            let labels: Vec<u32> = labels.into_iter().flatten().collect();
            if batch.batch == 0 {
                continue;
            }
            for (tune, figures) in self.networks.iter_mut().zip(&mut figures) {
                let mut scores = vec![0.0; labels.len() * self.executor.network().width()];
                let parameters = &mut tune.parameters;
                self.executor
                    .forward(parameters, view(&batch), Mode::Infer, &mut scores);
                figures.add(&cross_entropy(&scores, &labels, None));
            }
        }
        if left_out.len() == test.len() {
            return Err(Failure::mistake(format!(
                "none of the {} test images can be read",
                test.len()
            )));
        }
        self.records[1].samples = test.len() - left_out.len();
        self.records[1].left_out = left_out;
        Ok(figures)
    }

    fn check_frozen(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn failed(&self, i: usize) -> bool {
        self.networks[i].failed
    }

    fn own(&self, i: usize) -> Tensors {
        checkpoint::tensors(&self.networks[i].parameters).collect()
    }

    fn shared(&self) -> Tensors {
        Tensors::new()
    }

    fn velocity(&self, i: usize) -> Tensors {
        let Tune {
            parameters,
            velocity,
            ..
        } = &self.networks[i];
        let specs = parameters.specs().iter();
        let trained = specs.filter(|spec| spec.role == Role::Weight);
        let tensor = trained.map(|spec| {
            let place = parameters.weight_place(&spec.name);
            let values = velocity[place].to_vec();
            (spec.name.clone(), Tensor::float(spec.shape.clone(), values))
        });
        tensor.collect()
    }

    fn restore(
        &mut self,
        i: usize,
        own: &Tensors,
        velocity: &Tensors,
        failed: bool,
    ) -> Result<(), String> {
        let tune = &mut self.networks[i];
        for at in 0..tune.parameters.specs().len() {
            let spec = tune.parameters.specs()[at].clone();
            let tensor = own.get(&spec.name);
            let tensor = tensor.ok_or_else(|| format!("`{}` is missing", spec.name))?;
            checkpoint::fill(&mut tune.parameters, at, tensor)
                .map_err(|reason| format!("`{}` is {reason}", spec.name))?;
            if spec.role == Role::Weight {
                let values = take(velocity, &spec.name, &spec.shape)?;
                let place = tune.parameters.weight_place(&spec.name);
                tune.velocity[place].copy_from_slice(values);
            }
        }
        tune.failed = failed;
        Ok(())
    }

    fn records(&self) -> [SetRecord; 2] {
        self.records.clone()
    }
}
