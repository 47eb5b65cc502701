//! Plugins small enough to follow by hand, for tests of the trainer: a network of two matrices, an objective with a
//! momentum encoder and a queue, momentum descent, and images made up in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallfry::{
    Augmentation, Backbone, DataSet, Encoder, Head, Invalid, Metric, Objective, Optimizer,
    Schedule,
    backbone::Preprocessing,
    checkpoint::{
        Weights,
        cadence::{Keep, Save},
    },
    data::{Dataset, Image, LoadError, View, image::Rectangle, random::Random},
    dfdx::{
        tensor::{PutTape, SplitTape},
        tensor_ops::{MeanTo, TryMatMul},
    },
    encoder::ImageBatch,
    metric::{Evaluation, Score},
    nn::{
        Parameters,
        init::Init,
        network::{Role, Spec},
    },
    objective::{Buffer, BufferValues, Learner, Moment, Outcome, Setup},
    optimizer::Descent,
    plan::{Evaluate, Images, Plan, Pretrain, Stage, StepRule, Subject},
    registry::Built,
    source::{Site, Source},
    tensor::{self, Features, Plain, Traced},
};

/// Width of the features of [`Matrix`].
pub const WIDTH: usize = 4;

/// Images of random pixels in memory; the samples in `bad` cannot be read.
#[derive(Clone, Debug)]
pub struct Noise {
    /// Number of samples.
    pub samples: usize,
    /// Unreadable samples.
    pub bad: Vec<usize>,
    /// Names of the classes.
    pub classes: Vec<String>,
}

impl Noise {
    /// `samples` images of four classes.
    pub fn new(samples: usize, bad: &[usize]) -> Self {
        Self {
            samples,
            bad: bad.to_vec(),
            classes: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        }
    }
}

impl DataSet for Noise {
    fn open(&self) -> Result<Arc<dyn Dataset>, Invalid> {
        Ok(Arc::new(self.clone()))
    }
}

impl Dataset for Noise {
    fn len(&self) -> usize {
        self.samples
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, sample: usize) -> Option<u32> {
        Some(sample as u32 % 4)
    }

    fn name(&self, sample: usize) -> String {
        format!("{sample}.png")
    }

    fn load(&self, sample: usize) -> Result<Image, LoadError> {
        if self.bad.contains(&sample) {
            return Err(LoadError {
                name: self.name(sample),
                reason: "is damaged".to_owned(),
            });
        }
        let mut random = Random::new(&[17, sample as u64]);
        let (width, height) = (12 + sample % 3, 12);
        let tint = [0, 60 * (sample % 4) as u64, 200];
        Ok(Image {
            width,
            height,
            pixels: (0..3 * width * height)
                .map(|i| ((random.below(120) + tint[i % 3]) % 256) as u8)
                .collect(),
        })
    }
}

/// A random 8×8 cut-out.
#[derive(Clone, Copy, Debug)]
pub struct Cut;

impl Augmentation for Cut {
    fn apply(&self, view: &mut View<'_>, random: &mut Random) {
        let (width, height) = view.size();
        let part = Rectangle {
            top: random.below((height - 7) as u64) as usize,
            left: random.below((width - 7) as u64) as usize,
            height: 8,
            width: 8,
        };
        view.crop(part);
    }

    fn size(&self) -> Option<usize> {
        Some(8)
    }
}

/// Means over the quarters of an image, times a matrix; the head is a second matrix.
#[derive(Clone, Copy, Debug)]
pub struct Matrix;

impl Backbone for Matrix {
    fn width(&self) -> usize {
        WIDTH
    }

    fn preprocessing(&self) -> Preprocessing {
        Preprocessing {
            size: 8,
            resize: 9,
            ..Preprocessing::IMAGENET
        }
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        let spec = |name: &str, shape: &[usize], role| Spec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            role,
            init: Init::Constant(0.0),
        };
        let mut specs = vec![
            spec("conv.weight", &[12, WIDTH], Role::Weight),
            spec("bn.running_mean", &[WIDTH], Role::Statistic),
            spec("bn.num_batches_tracked", &[], Role::Counter),
        ];
        let output = head.layers.last().map(|layer| layer.output);
        specs.extend(output.map(|width| spec("fc.weight", &[WIDTH, width], Role::Weight)));
        let mut parameters = Parameters::new(specs);
        let mut random = Random::new(&[seed]);
        for value in parameters.values_mut() {
            *value = 0.3 * random.normal() as f32;
        }
        Box::new(MatrixEncoder {
            parameters: Arc::new(Mutex::new(parameters)),
            output,
        })
    }
}

struct MatrixEncoder {
    parameters: Arc<Mutex<Parameters>>,
    output: Option<usize>,
}

impl MatrixEncoder {
    fn forward(&self, images: &ImageBatch) -> Traced<Features> {
        let quarters = tensor::import(quarters(images), (images.batch, 12));
        let (weight, tape) =
            tensor::parameter(&self.parameters, "conv.weight", (12, WIDTH)).split_tape();
        let features = quarters.put_tape(tape).matmul(weight);
        match self.output {
            None => features,
            Some(width) => {
                let head = tensor::parameter(&self.parameters, "fc.weight", (WIDTH, width));
                features.matmul(head)
            }
        }
    }

    fn count(&self, features: &[f32]) {
        let mut parameters = self.parameters();
        for mean in parameters.statistics_mut() {
            *mean = 0.9 * *mean + 0.1 * features[0];
        }
        parameters.counters_mut()[0] += 1;
    }
}

/// Channel means of the four quarters of each image, `[batch, 12]`.
fn quarters(images: &ImageBatch) -> Vec<f32> {
    let (height, width) = (images.height, images.width);
    let mut means = vec![0.0; 12 * images.batch];
    for (i, value) in images.values.iter().enumerate() {
        let (channel, pixel) = (i % 3, i / 3 % (height * width));
        let quarter = 2 * (2 * (pixel / width) / height) + 2 * (pixel % width) / width;
        means[12 * (i / (3 * height * width)) + 3 * quarter + channel] += value;
    }
    let pixels = (height * width / 4) as f32;
    means.iter().map(|sum| sum / pixels).collect()
}

impl Encoder for MatrixEncoder {
    fn width(&self) -> usize {
        self.output.unwrap_or(WIDTH)
    }

    fn train(&mut self, images: &Arc<ImageBatch>, _: u64) -> Traced<Features> {
        let features = self.forward(images);
        self.count(&tensor::values(&features));
        features
    }

    fn momentum(&mut self, images: &Arc<ImageBatch>, _: u64) -> Plain<Features> {
        let (features, _) = self.forward(images).split_tape();
        self.count(&tensor::values(&features));
        features
    }

    fn embed(&self, images: &Arc<ImageBatch>) -> Plain<Features> {
        self.forward(images).split_tape().0
    }

    fn parameters(&self) -> MutexGuard<'_, Parameters> {
        self.parameters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings an encoder's embeddings of one view to a slowly following encoder's of the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Follow {
    /// The step, over all epochs, whose loss is not a number.
    pub diverge: Option<u64>,
    /// The step before which the process kills itself, as a power cut would.
    pub kill: Option<u64>,
}

impl Objective for Follow {
    fn check(&self, setup: &Setup) -> Result<(), Invalid> {
        if setup.batch > 16 {
            return Err(Invalid::whole("a batch of at most 16 is followed"));
        }
        Ok(())
    }

    fn start(&self, setup: &Setup, backbone: &dyn Backbone) -> Result<Box<dyn Learner>, Invalid> {
        self.check(setup)?;
        let head = Head {
            layers: vec![smallfry::backbone::HeadLayer {
                name: "fc".to_owned(),
                output: 3,
                norm: None,
                activation: smallfry::nn::network::Activation::Identity,
                dropout: 0.0,
                own_init: true,
            }],
            ..Head::default()
        };
        Ok(Box::new(Following {
            plan: *self,
            query: backbone.encoder(&head, setup.seed),
            key: backbone.encoder(&head, setup.seed + 1),
            queue: vec![0.0; 12],
            pointer: 0,
        }))
    }
}

struct Following {
    plan: Follow,
    query: Box<dyn Encoder>,
    key: Box<dyn Encoder>,
    queue: Vec<f32>,
    pointer: i64,
}

impl Learner for Following {
    fn loss(&mut self, views: &[Arc<ImageBatch>], moment: Moment) -> Outcome {
        if self.plan.kill == Some(moment.step) {
            std::process::abort();
        }
        let query = self.query.train(&views[0], moment.step);
        let key = self.key.momentum(&views[1], moment.step);
        for value in tensor::values(&key).iter() {
            self.queue[self.pointer as usize] = *value;
            self.pointer = (self.pointer + 1) % 12;
        }
        let past: f32 = self.queue.iter().sum();
        let loss = (query - key).square().mean() + 1e-3 * past;
        Outcome {
            loss: match self.plan.diverge {
                Some(step) if step == moment.step => loss * f32::NAN,
                _ => loss,
            },
            measures: vec![("acc1", moment.step as f64)],
        }
    }

    fn after_step(&mut self) {
        let query = self.query.parameters();
        let mut key = self.key.parameters();
        for (key, query) in key.values_mut().iter_mut().zip(query.values()) {
            *key = 0.9 * *key + 0.1 * query;
        }
    }

    fn encoders(&self) -> Vec<(&'static str, &dyn Encoder)> {
        vec![("encoder_q", &*self.query), ("encoder_k", &*self.key)]
    }

    fn trained(&self) -> &'static [&'static str] {
        &["encoder_q"]
    }

    fn evaluated(&self) -> &'static str {
        "encoder_q"
    }

    fn chance_loss(&self) -> Option<f64> {
        Some(0.25)
    }

    fn buffers(&self) -> Vec<Buffer> {
        let buffer = |name: &str, shape: &[usize], values| Buffer {
            name: name.to_owned(),
            shape: shape.to_vec(),
            values,
        };
        vec![
            buffer("queue", &[3, 4], BufferValues::Float(self.queue.clone())),
            buffer("queue_ptr", &[1], BufferValues::Integer(vec![self.pointer])),
        ]
    }

    fn restore(&mut self, buffer: Buffer) -> Result<(), String> {
        match buffer.values {
            BufferValues::Float(values) if values.len() == 12 => self.queue = values,
            BufferValues::Integer(values) if values.len() == 1 => self.pointer = values[0],
            _ => return Err("another size".to_owned()),
        }
        Ok(())
    }
}

/// Descent with a velocity.
#[derive(Clone, Copy, Debug)]
pub struct Roll;

struct Rolling(Vec<f32>);

impl Optimizer for Roll {
    fn rate(&self) -> f64 {
        0.5
    }

    fn start(&self, parameters: &Parameters) -> Box<dyn Descent> {
        Box::new(Rolling(vec![0.0; parameters.values().len()]))
    }
}

impl Descent for Rolling {
    fn step(&mut self, parameters: &mut Parameters, rate: f64) {
        let (values, gradients) = parameters.values_and_gradients_mut();
        for ((value, gradient), velocity) in values.iter_mut().zip(gradients).zip(&mut self.0) {
            *velocity = 0.9 * *velocity + *gradient;
            *value -= rate as f32 * *velocity;
        }
    }

    fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![("momentum", &self.0)]
    }

    fn state_mut(&mut self) -> Vec<(&'static str, &mut Vec<f32>)> {
        vec![("momentum", &mut self.0)]
    }
}

/// A rate that halves every epoch.
#[derive(Clone, Copy, Debug)]
pub struct Halving;

impl Schedule for Halving {
    fn factor(&self, epoch: usize, _: usize) -> f64 {
        0.5f64.powi(epoch as i32)
    }
}

/// The sum of all features, which any change of weights or images changes.
#[derive(Clone, Copy, Debug)]
pub struct Total;

impl Metric for Total {
    fn evaluate(&self, evaluation: &Evaluation<'_>) -> Result<Vec<Score>, String> {
        let labels = evaluation.test.labels().ok_or("needs labels")?;
        let values = evaluation.test.read(0..evaluation.test.rows());
        let total: f64 = tensor::values(&values).iter().map(|&v| f64::from(v)).sum();
        Ok(vec![Score {
            name: "total".to_owned(),
            value: total,
            unit: "",
            higher_is_better: true,
            error: None,
            setting: format!("{} labels <&>", labels.len()),
            table: Vec::new(),
        }])
    }
}

/// What a test changes about [`plan`].
#[derive(Clone, Debug)]
pub struct Shape {
    /// Samples of the data set.
    pub samples: usize,
    /// Unreadable samples.
    pub bad: Vec<usize>,
    /// Passes over the data.
    pub epochs: usize,
    /// Checkpoints kept.
    pub keep: Option<usize>,
    /// Steps between states saved within epochs.
    pub save: Option<u64>,
    /// Seed of the run.
    pub seed: u64,
    /// Misbehaviour of the objective.
    pub objective: Follow,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            samples: 40,
            bad: Vec::new(),
            epochs: 3,
            keep: None,
            save: None,
            seed: 7,
            objective: Follow::default(),
        }
    }
}

/// A plan of three stages: evaluate the untrained encoder, train, evaluate the trained one.
pub fn plan(output: &std::path::Path, shape: &Shape) -> Plan {
    let data = || -> Built<dyn DataSet> {
        let noise = Noise::new(shape.samples, &shape.bad);
        Built::direct(
            Box::new(noise),
            "Noise",
            format!("Noise(samples: {})", shape.samples),
        )
    };
    let backbone =
        || -> Built<dyn Backbone> { Built::direct(Box::new(Matrix), "Matrix", "Matrix()") };
    let view =
        || -> Vec<Built<dyn Augmentation>> { vec![Built::direct(Box::new(Cut), "Cut", "Cut()")] };
    let evaluation = |name: &str, weights| {
        Stage::Evaluate(Evaluate {
            name: name.to_owned(),
            subject: Subject {
                backbone: backbone(),
                weights,
                encoder: None,
                site: Site::nowhere(),
            },
            train: None,
            test: Images::Set(data()),
            size: None,
            resize: None,
            batch: 16,
            cache: false,
            metrics: vec![Built::direct(Box::new(Total), "Total", "Total()")],
            site: Site::nowhere(),
        })
    };
    let training = Pretrain {
        initial: None,
        name: "pretrain".to_owned(),
        data: data(),
        backbone: backbone(),
        objective: Built::direct(Box::new(shape.objective), "Follow", "Follow()"),
        views: vec![view(), view()],
        joint: None,
        optimizer: Built::direct(Box::new(Roll), "Roll", "Roll()"),
        schedule: Built::direct(Box::new(Halving), "Halving", "Halving()"),
        epochs: shape.epochs,
        batch: 8,
        step: StepRule::default(),
        save: Save {
            steps: shape.save,
            minutes: None,
        },
        keep: Keep::last(shape.keep),
        health: None,
        site: Site::nowhere(),
    };
    Plan {
        name: "small".to_owned(),
        output: output.to_owned(),
        seed: shape.seed,
        plugins: Vec::new(),
        stages: vec![
            evaluation("untrained", Weights::Untrained),
            Stage::Pretrain(training),
            evaluation("trained", Weights::Stage("pretrain".to_owned())),
        ],
        resolved: format!("resolved {shape:?}"),
        essence: format!("{shape:?}"),
        source: Arc::new(Source::new("small.ron", "")),
    }
}
