//! SEED: distillation of a trained teacher into a small student, without labels (Fang et al. 2021).
//!
//! Both see the same view. The student's similarities to the teacher's embedding of the image and to a queue of the
//! teacher's embeddings of others are to be distributed as the teacher's own are. The teacher is frozen: its batch norm has
//! the running statistics of its training and nothing of its pass is recorded. At the reference's temperature of 1e-4
//! the teacher's first similarity, which is 1, leaves hardly anything to the others, so that the loss is InfoNCE with the
//! teacher's embedding as the key; a warmer teacher says more. Nothing is shuffled and there is no moving average.
//!
//! With `patches` it is the reference's variant for small crops (`main_small-patch.py`): the first view is large, the others
//! are patches of one size; those are compared with a queue of their own, into which of each image's patches only the
//! first goes, so that both queues have one pointer. The two losses are added.
//!
//! What the reference's teachers are comes with their backbones: SimCLR's and SwAV's bring their heads along, a ResNet of
//! MoCo gets one. Tensors that the weights lack stay random there, in silence; here they are a mistake.

use std::sync::Arc;

use smallfry::{
    Backbone, Context, Encoder, Head, Invalid, Objective,
    advice::Advice,
    backbone::Preprocessing,
    checkpoint::{Checkpoint, Loaded, Weights, take_backbone, take_encoder},
    data::random::Random,
    dfdx::shapes::HasShape,
    distributed::Communicator,
    encoder::ImageBatch,
    failure::Failure,
    nn::{Parameters, network::Spec},
    objective::{Buffer, Learner, Moment, Outcome, Setup, Source},
    operation::{distillation, normalise},
    plugin,
    registry::{Built, Nested},
    serde::{Deserialize, Serialize},
    tensor::{Features, Plain, Traced, import, traced_zero, values},
};

use crate::{
    MoCo, advice,
    groups::{self, Groups, by_groups, parts},
    head::Projection,
    queue::Queue,
};

/// The parameter that names the teacher's weights.
const WEIGHTS: &str = "weights";

/// The name of the patches' queue in a checkpoint.
const SMALL_QUEUE: &str = "small_queue";

plugin! {
    /// Distillation of a trained teacher into a small student
    pub struct SEED: Objective {
        /// The network to learn from, with its parameters: `resnet50`, `swav_resnet50w2`.
        teacher: Nested<dyn Backbone> = Nested::of("resnet50"),
        /// Its weights, which must be given: `File("moco_v2_800ep.pth.tar")`, `Stage("teacher")` for a stage before this
        /// one, or `Untrained`.
        weights: Option<Weights> = None,
        /// Which encoder of the weights teaches, such as `"encoder_k"`; the one that their method evaluates where none.
        encoder: Option<String> = None,
        /// Width of the embeddings, of student and teacher.
        dim: usize = 128,
        /// Embeddings of the teacher in the queue, a multiple of the batch.
        queue: usize = 65_536,
        /// What the student's logits are divided by, above 0.
        temperature: f64 = 0.2,
        /// What the teacher's logits are divided by, above 0; near 0 its choice is its own embedding alone.
        teacher_temperature: f64 = 1e-4,
        /// The student's projection head: `Simple`, `Deep`, `Dropout`, `Wide` or `None`.
        head: Projection = Projection::Simple,
        /// The teacher's: `Matching` is the teacher's own, as SimCLR's and SwAV's have one, or else one of the student's
        /// kind; or a kind by name.
        teacher_head: TeacherHead = TeacherHead::Matching,
        /// Small views beside the large one, compared with a queue of their own: 6 in the paper's longer runs.
        patches: usize = 0,
        /// Parts of a batch that the student normalises by themselves: the reference's devices.
        groups: usize = 1,
    }

    fn build(self, context: &Context) -> Result<Box<dyn Objective>, Invalid> {
        let above_zero = |value: f64| value > 0.0 && value.is_finite();
        if self.dim == 0 {
            return Err(Invalid::new("dim", "must be at least 1"));
        }
        if self.queue == 0 {
            return Err(Invalid::new("queue", "must be at least 1"));
        }
        if self.groups == 0 {
            return Err(Invalid::new("groups", "must be at least 1"));
        }
        if !above_zero(self.temperature) {
            return Err(Invalid::new("temperature", "must be above 0"));
        }
        if !above_zero(self.teacher_temperature) {
            return Err(Invalid::new("teacher_temperature", "must be above 0"));
        }
        let weights = match self.weights.clone() {
            Some(Weights::File(path)) => Weights::File(context.path(path)),
            Some(weights) => weights,
            None => {
                return Err(Invalid::new(WEIGHTS, "must be given").help(
                    "give the teacher's weights, such as `weights: File(\"teacher.pth.tar\")` or `weights: \
                     Stage(\"teacher\")`",
                ));
            }
        };
        if self.encoder.is_some() && weights == Weights::Untrained {
            return Err(Invalid::new(
                "encoder",
                "is for weights of several encoders, not for untrained ones",
            ));
        }
        let teacher = self.teacher.build("teacher", context)?;
        let distillation = Distil { weights, teacher, params: self };
        let width = distillation.teacher_width();
        match width == distillation.params.dim {
            true => Ok(Box::new(distillation)),
            false => Err(Invalid::new(
                "dim",
                format!("is {}, but the teacher's embeddings have {width} numbers", distillation.params.dim),
            )
            .help(format!("give `dim: {width}`, or the teacher a head of another width"))),
        }
    }
}

/// What stands behind the teacher's features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "smallfry::serde")]
pub enum TeacherHead {
    /// The network's own head, or one of the student's kind where it has none.
    Matching,
    /// As [`Projection::Simple`].
    Simple,
    /// As [`Projection::Deep`].
    Deep,
    /// As [`Projection::Dropout`], without effect as the teacher does not train.
    Dropout,
    /// As [`Projection::Wide`].
    Wide,
    /// As [`Projection::None`].
    None,
}

impl TeacherHead {
    /// The kinds that a user can name.
    const KINDS: [Self; 5] = [
        Self::Simple,
        Self::Deep,
        Self::Dropout,
        Self::Wide,
        Self::None,
    ];

    fn head(self, teacher: &dyn Backbone, params: &SEED) -> Head {
        let projection = match self {
            Self::Matching => match teacher.own_head() {
                Some(own) => return own,
                None => params.head,
            },
            Self::Simple => Projection::Simple,
            Self::Deep => Projection::Deep,
            Self::Dropout => Projection::Dropout,
            Self::Wide => Projection::Wide,
            Self::None => Projection::None,
        };
        projection.head(teacher.width(), params.dim)
    }
}

/// SEED as it is set up.
struct Distil {
    params: SEED,
    teacher: Arc<Built<dyn Backbone>>,
    weights: Weights,
}

impl Distil {
    fn teacher_head(&self) -> Head {
        self.params.teacher_head.head(&**self.teacher, &self.params)
    }

    /// Width of the teacher's embeddings.
    fn teacher_width(&self) -> usize {
        let head = self.teacher_head();
        (head.layers.last()).map_or_else(|| self.teacher.width(), |layer| layer.output)
    }

    /// The rules of a queue and of parts of a batch, which are those of the contrast.
    fn rules(&self) -> MoCo {
        MoCo {
            queue: self.params.queue,
            groups: self.params.groups,
            ..MoCo::default()
        }
    }

    /// What would make the teacher's head fit `checkpoint`, whose backbone does.
    fn fitting_head(&self, checkpoint: &Checkpoint, origin: &str) -> Option<TeacherHead> {
        let teacher = &**self.teacher;
        TeacherHead::KINDS.into_iter().find(|kind| {
            let head = kind.head(teacher, &self.params);
            let mut parameters = Parameters::new(tensors(teacher, &head));
            let wanted = self.params.encoder.as_deref();
            take_encoder(checkpoint, origin, wanted, &mut parameters).is_ok()
        })
    }

    /// Why weights were refused, with what would put it right.
    fn explain(&self, failure: Failure, checkpoint: &Checkpoint, origin: &str) -> Invalid {
        let mut backbone = Parameters::new(self.teacher.tensors());
        let wanted = self.params.encoder.as_deref();
        let trunk = take_backbone(checkpoint, origin, wanted, &mut backbone);
        let invalid = Invalid::new(WEIGHTS, failure.message);
        let help = match (trunk, self.fitting_head(checkpoint, origin)) {
            (Err(failure), _) => failure.help,
            (Ok(_), Some(kind)) => Some(format!(
                "the head of these weights is of another kind: give `teacher_head: {kind:?}`"
            )),
            (Ok(_), None) => Some(
                "the backbone fits, but a teacher needs the head that it was trained with as well"
                    .to_owned(),
            ),
        };
        match help {
            Some(help) => invalid.help(help),
            None => invalid,
        }
    }
}

/// The state-dict entries of `backbone` with `head`.
fn tensors(backbone: &dyn Backbone, head: &Head) -> Vec<Spec> {
    match backbone.network(head) {
        Some(network) => network.tensors(),
        None => backbone.encoder(head, 0).parameters().specs().to_vec(),
    }
}

impl Objective for Distil {
    fn views(&self) -> usize {
        1 + self.params.patches
    }

    fn check(&self, setup: &Setup) -> Result<(), Invalid> {
        self.rules().check(setup)
    }

    fn check_processes(&self, processes: usize) -> Result<(), Invalid> {
        Groups::check_processes(self.params.groups, processes)
    }

    fn advise(&self, setup: &Setup, backbone: &dyn Backbone) -> Vec<Advice> {
        let mut advice = advice::on_queue(self.params.queue, setup);
        let (own, taught) = (backbone.preprocessing(), self.teacher.preprocessing());
        if Recolouring::between(&own, &taught).is_some() {
            let remark = Invalid::new(
                "teacher",
                "was trained on images normalised otherwise than the student's",
            );
            let help = "nothing need be done: the teacher is given every view in its own colours";
            advice.push(Advice::note(remark.help(help)));
        }
        advice
    }

    fn check_views(&self, sizes: &[usize]) -> Result<(), Invalid> {
        match sizes {
            [_, first, rest @ ..] if rest.iter().any(|size| size != first) => Err(Invalid::new(
                "patches",
                format!("are of different sizes: {:?} pixels", &sizes[1..]),
            )
            .help("give all views but the first the same size")),
            _ => Ok(()),
        }
    }

    fn backbone_of(&self, encoder: &str) -> Option<Arc<Built<dyn Backbone>>> {
        (encoder == "teacher").then(|| Arc::clone(&self.teacher))
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source {
            parameter: WEIGHTS,
            weights: self.weights.clone(),
        }]
    }

    fn check_source(
        &self,
        _: &Source,
        checkpoint: &Checkpoint,
        origin: &str,
    ) -> Result<String, Invalid> {
        let mut parameters = Parameters::new(tensors(&**self.teacher, &self.teacher_head()));
        let wanted = self.params.encoder.as_deref();
        take_encoder(checkpoint, origin, wanted, &mut parameters)
            .map(|loaded: Loaded| format!("{}, {}", self.teacher.line, loaded.summary()))
            .map_err(|failure| self.explain(failure, checkpoint, origin))
    }

    fn start(&self, setup: &Setup, backbone: &dyn Backbone) -> Result<Box<dyn Learner>, Invalid> {
        self.check(setup)?;
        let params = &self.params;
        let head = params.head.head(backbone.width(), params.dim);
        let student = backbone.encoder(&head, setup.seed);
        let width = student.width();
        if width != params.dim {
            return Err(Invalid::new(
                "head",
                format!(
                    "gives embeddings of {width} numbers on this backbone, not of {}",
                    params.dim
                ),
            ));
        }
        let draw = |name: &[u8; 8]| Random::new(&[setup.seed, u64::from_le_bytes(*name)]).bits();
        let queue = |seed| Queue::new(params.queue, params.dim, seed);
        Ok(Box::new(Distilling {
            student,
            teacher: self
                .teacher
                .encoder(&self.teacher_head(), draw(b"teacher\0")),
            encoder: params.encoder.clone(),
            recolouring: Recolouring::between(
                &backbone.preprocessing(),
                &self.teacher.preprocessing(),
            ),
            queue: queue(setup.seed),
            queue_batches: params.queue / setup.batch,
            small_queue: (params.patches > 0).then(|| queue(draw(b"patches\0"))),
            pending: Vec::new(),
            small_pending: Vec::new(),
            groups: Groups::of(params.groups),
            temperature: params.temperature as f32,
            teacher_temperature: params.teacher_temperature as f32,
        }))
    }
}

/// From the colours that the student is given to those that the teacher knows: each channel times a factor plus a term.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Recolouring([(f32, f32); 3]);

impl Recolouring {
    /// None where both networks take the same.
    fn between(student: &Preprocessing, teacher: &Preprocessing) -> Option<Self> {
        if (student.mean, student.deviation) == (teacher.mean, teacher.deviation) {
            return None;
        }
        Some(Self(std::array::from_fn(|c| {
            let factor = student.deviation[c] / teacher.deviation[c];
            let term = (student.mean[c] - teacher.mean[c]) / teacher.deviation[c];
            (factor, term)
        })))
    }

    fn apply(&self, images: &ImageBatch) -> ImageBatch {
        let mut images = images.clone();
        for pixel in images.values.chunks_exact_mut(3) {
            for (value, (factor, term)) in pixel.iter_mut().zip(self.0) {
                *value = *value * factor + term;
            }
        }
        images
    }
}

/// SEED in training.
struct Distilling {
    student: Box<dyn Encoder>,
    teacher: Box<dyn Encoder>,
    /// Which encoder of the weights teaches.
    encoder: Option<String>,
    recolouring: Option<Recolouring>,
    queue: Queue,
    /// Batches whose embeddings each queue holds.
    queue_batches: usize,
    small_queue: Option<Queue>,
    /// The teacher's embeddings of the step at hand, a batch each: they enter the queue after it.
    pending: Vec<Plain<Features>>,
    /// The same of the first patches.
    small_pending: Vec<Plain<Features>>,
    groups: Groups,
    temperature: f32,
    teacher_temperature: f32,
}

/// The share that this process's images have in the means over a batch.
struct Share {
    loss: Traced<()>,
    acc1: f64,
    entropy: f64,
}

impl Distilling {
    /// The teacher's embeddings, of length 1.
    fn teach(&self, images: &Arc<ImageBatch>) -> Plain<Features> {
        normalise(match &self.recolouring {
            None => self.teacher.embed(images),
            Some(recolouring) => self.teacher.embed(&Arc::new(recolouring.apply(images))),
        })
    }

    /// The loss of `images` against the queue for them, and the teacher's embeddings of them.
    fn distil(
        &mut self,
        images: &Arc<ImageBatch>,
        small: bool,
        draws: &mut Random,
    ) -> (Share, Plain<Features>) {
        let drawn = self.groups.draw(draws);
        let cut = || parts(images, drawn.len());
        let students = by_groups(&mut *self.student, cut(), &drawn, |student, part, draw| {
            normalise(student.train(part, draw))
        });
        // In the same parts: roundings are those of a pass, and another process may make it.
        let taught: Vec<_> = cut().map(|part| self.teach(&part)).collect();
        let queue = match (&self.small_queue, small) {
            (Some(queue), true) => queue,
            _ => &self.queue,
        };
        let count = self.groups.count() as f64;
        let mut share = Share {
            loss: traced_zero(),
            acc1: 0.0,
            entropy: 0.0,
        };
        for (student, teacher) in students.into_iter().zip(&taught) {
            let part = distillation(
                student,
                teacher,
                queue.keys(),
                self.temperature,
                self.teacher_temperature,
            );
            share.acc1 += part.accuracy(1) / count;
            share.entropy += part.entropy / count;
            share.loss = share.loss + part.loss / count as f32;
        }
        (share, groups::joined(&taught))
    }
}

/// The images of all `views`, cut into `parts` of the batch: those of the first part in the first view, in the second and
/// so on, then those of the second part.
fn joined(views: &[Arc<ImageBatch>], parts: usize) -> ImageBatch {
    let part = |view: &ImageBatch, part: usize| {
        let length = view.values.len() / parts;
        part * length..(part + 1) * length
    };
    let mut values = Vec::new();
    for number in 0..parts {
        for view in views {
            values.extend_from_slice(&view.values[part(view, number)]);
        }
    }
    ImageBatch {
        batch: views.iter().map(|view| view.batch).sum(),
        values,
        ..*views[0]
    }
}

/// Of the embeddings of images that are [`joined`] from `count` views in `parts` those of the first view, in the order
/// of the batch.
fn of_first(embeddings: &Plain<Features>, count: usize, parts: usize) -> Plain<Features> {
    let (rows, width) = *embeddings.shape();
    let (part, size) = (rows / parts, rows / parts / count);
    let all = values(embeddings);
    let blocks = all.chunks_exact(part * width);
    let first: Vec<f32> = blocks
        .flat_map(|block| block[..size * width].to_vec())
        .collect();
    import(first, (parts * size, width))
}

impl Learner for Distilling {
    fn join(&mut self, communicator: Arc<dyn Communicator>) {
        self.groups.join(communicator);
    }

    fn loss(&mut self, views: &[Arc<ImageBatch>], moment: Moment) -> Outcome {
        let (large, patches) = views.split_first().expect("SEED takes at least one view");
        let mut draws = Random::new(&[moment.seed, moment.step]);
        let (main, embeddings) = self.distil(large, false, &mut draws);
        let mut measures = vec![("acc1", main.acc1), ("entropy", main.entropy)];
        let mut loss = main.loss;
        if !patches.is_empty() {
            let parts = self.groups.own();
            let (small, of_patches) =
                self.distil(&Arc::new(joined(patches, parts)), true, &mut draws);
            measures.push(("patch_acc1", small.acc1));
            measures.push(("patch_entropy", small.entropy));
            loss = loss + small.loss;
            let first = of_first(&of_patches, patches.len(), parts);
            self.small_pending.push(self.groups.gather(first));
        }
        self.pending.push(self.groups.gather(embeddings));
        Outcome { loss, measures }
    }

    fn receive(&mut self, _: &str, checkpoint: &Checkpoint, origin: &str) -> Result<(), Failure> {
        let wanted = self.encoder.as_deref();
        take_encoder(checkpoint, origin, wanted, &mut self.teacher.parameters()).map(drop)
    }

    fn after_step(&mut self) {
        for embeddings in self.pending.drain(..) {
            self.queue.push(&embeddings);
        }
        for embeddings in self.small_pending.drain(..) {
            if let Some(queue) = &mut self.small_queue {
                queue.push(&embeddings);
            }
        }
    }

    fn mark(&mut self) -> bool {
        self.undo();
        true
    }

    fn undo(&mut self) {
        self.pending.clear();
        self.small_pending.clear();
    }

    fn encoders(&self) -> Vec<(&'static str, &dyn Encoder)> {
        vec![("student", &*self.student), ("teacher", &*self.teacher)]
    }

    fn trained(&self) -> &'static [&'static str] {
        &["student"]
    }

    fn evaluated(&self) -> &'static str {
        "student"
    }

    /// Of a student that finds all candidates alike, whatever the teacher says.
    fn chance_loss(&self) -> Option<f64> {
        let queues = std::iter::once(&self.queue).chain(&self.small_queue);
        Some(
            queues
                .map(|queue| (1.0 + queue.keys().shape().0 as f64).ln())
                .sum(),
        )
    }

    fn queue_batches(&self) -> Option<usize> {
        Some(self.queue_batches)
    }

    fn buffers(&self) -> Vec<Buffer> {
        let mut buffers = self.queue.buffers();
        if let Some(queue) = &self.small_queue {
            // Its pointer is that of the other.
            let keys = queue.buffers().into_iter().next();
            buffers.extend(keys.map(|keys| Buffer {
                name: SMALL_QUEUE.into(),
                ..keys
            }));
        }
        buffers
    }

    fn restore(&mut self, buffer: Buffer) -> Result<(), String> {
        let Some(small) = &mut self.small_queue else {
            return self.queue.restore(buffer);
        };
        match buffer.name.as_str() {
            SMALL_QUEUE => {
                let buffer = Buffer {
                    name: "queue".into(),
                    ..buffer
                };
                let named = |reason: String| reason.replacen("`queue`", "`small_queue`", 1);
                small.restore(buffer).map_err(named)
            }
            "queue_ptr" => {
                self.queue.restore(buffer.clone())?;
                small.restore(buffer)
            }
            _ => self.queue.restore(buffer),
        }
    }
}

#[cfg(test)]
mod tests;
