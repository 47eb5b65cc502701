//! Momentum contrast (He et al. 2020; with an MLP head, Chen et al. 2020).
//!
//! A query encoder learns to tell the key of the same image from the keys in a queue; the key encoder follows it as a
//! moving average. The order within a step matters and is the reference's: the query passes first, then the key encoder
//! moves (towards the weights before the optimiser's step, so the very first move does nothing), then the keys are made,
//! compared *before* they enter the queue, and enqueued. The average covers parameters only; each encoder keeps running
//! statistics of its own. A step over several accumulated batches moves the key encoder once and compares all of them with
//! the same queue, as one batch of their size would.
//!
//! Where all of a batch shares its batch statistics, a query can tell its own key by them, and learns that instead of
//! the images. The reference's devices each normalise their own part of the batch, and keys are shuffled between them;
//! `groups` does the same on one device, and on as many processes as have equal numbers of them. As in the reference, running
//! statistics are those of the first part.
//!
//! With an `adversary` both views are first made as unlike as a small change allows; see [`adversary`](crate::adversary).

use std::sync::Arc;

use smallfry::{
    Backbone, Context, Encoder, Invalid, Objective,
    advice::Advice,
    data::random::Random,
    dfdx::shapes::HasShape,
    distributed::Communicator,
    encoder::ImageBatch,
    nn::optimizer::average,
    objective::{Buffer, Learner, Moment, Outcome, Setup},
    operation::{info_nce, nearest, normalise, soft_nce},
    plugin,
    tensor::{Features, Plain, Traced, import, traced_zero, values},
};

use crate::{
    adversary::{Adversary, Attack},
    advice,
    groups::{Groups, by_groups, joined, parts, put_back},
    head::Projection,
    queue::{Queue, Storage},
};

/// The random stream of an attack among those of a step.
const ATTACK: u64 = u64::from_le_bytes(*b"attack\0\0");

plugin! {
    /// Momentum contrast against a queue of keys
    pub struct MoCo: Objective {
        /// Width of the embeddings.
        dim: usize = 128,
        /// Keys in the queue: the number of negatives, a multiple of the batch.
        queue: usize = 65_536,
        /// Share of its weights that the key encoder keeps in a step, from 0 to 1.
        momentum: f64 = 0.999,
        /// What logits are divided by, above 0.
        temperature: f64 = 0.1,
        /// Parts of a batch with batch statistics of their own, keys shuffled between them: the reference's devices.
        groups: usize = 1,
        /// Projection head: `Simple`, `Deep`, `Dropout`, `Wide` or `None`.
        head: Projection = Projection::Wide,
        /// Share of an image's label that goes to the keys in the queue most similar to its own, from 0 to below 1.
        label_smoothing: f64 = 0.0,
        /// How many keys of the queue that share is spread over.
        neighbours: usize = 5,
        /// How the queue is kept: `Full`, in single precision, or `Half`, in half the memory.
        queue_storage: Storage = Storage::Full,
        /// An attack on both views before they are compared, such as `Adversary(steps: 5, step_size: 0.008, epsilon:
        /// 0.0157)`, sizes in normalised pixels; each of its steps takes about as long as 1.4 of training.
        adversary: Option<Adversary> = None,
    }

    fn build(self, _: &Context) -> Result<Box<dyn Objective>, Invalid> {
        if self.dim == 0 {
            return Err(Invalid::new("dim", "must be at least 1"));
        }
        if self.queue == 0 {
            return Err(Invalid::new("queue", "must be at least 1"));
        }
        if self.groups == 0 {
            return Err(Invalid::new("groups", "must be at least 1"));
        }
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(Invalid::new("momentum", "must be from 0 to 1"));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(Invalid::new("temperature", "must be above 0"));
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(Invalid::new("label_smoothing", "must be from 0 to below 1"));
        }
        if self.neighbours == 0 {
            return Err(Invalid::new("neighbours", "must be at least 1"));
        }
        if self.label_smoothing > 0.0 && self.neighbours > self.queue {
            let reason = format!("are more than the queue's {}", self.queue);
            return Err(Invalid::new("neighbours", reason));
        }
        if let Some(adversary) = self.adversary {
            adversary.check()?;
        }
        Ok(Box::new(self))
    }
}

impl Objective for MoCo {
    fn check(&self, setup: &Setup) -> Result<(), Invalid> {
        let (queue, batch, samples) = (self.queue, setup.batch, setup.samples);
        if batch > samples {
            return Err(Invalid::whole(format!(
                "a batch of {batch} cannot be drawn from a data set of {samples} images"
            ))
            .help(format!("take a batch of at most {samples}, or more images")));
        }
        if batch == 0 || !queue.is_multiple_of(batch) {
            return Err(Invalid::new(
                "queue",
                format!("{queue} is no multiple of the batch of {batch}"),
            )
            .help(remedy(queue, batch)));
        }
        if !batch.is_multiple_of(self.groups) {
            return Err(Invalid::new(
                "groups",
                format!("{} do not divide the batch of {batch}", self.groups),
            )
            .help("give a divisor of the batch"));
        }
        if self.groups > 1 && batch / self.groups < 2 {
            return Err(Invalid::new(
                "groups",
                format!(
                    "{} leave one image in each, which has no statistics",
                    self.groups
                ),
            )
            .help(format!("give at most {}", batch / 2)));
        }
        Ok(())
    }

    fn check_processes(&self, processes: usize) -> Result<(), Invalid> {
        Groups::check_processes(self.groups, processes)
    }

    fn advise(&self, setup: &Setup, backbone: &dyn Backbone) -> Vec<Advice> {
        let mut advice = advice::on_queue(self.queue, setup);
        advice.extend(advice::on_momentum(self.momentum, setup));
        advice.extend(advice::on_groups(self.groups, setup, backbone));
        advice
    }

    fn start(&self, setup: &Setup, backbone: &dyn Backbone) -> Result<Box<dyn Learner>, Invalid> {
        self.check(setup)?;
        let head = self.head.head(backbone.width(), self.dim);
        let mut query = backbone.encoder(&head, setup.seed);
        let key = backbone.encoder(&head, setup.seed);
        if self.adversary.is_some() && query.of_images().is_none() {
            return Err(Invalid::new(
                "adversary",
                "needs the gradients of images, which this backbone does not give",
            ));
        }
        let width = query.width();
        if width != self.dim {
            return Err(Invalid::new(
                "head",
                format!(
                    "gives embeddings of {width} numbers on this backbone, not of {}",
                    self.dim
                ),
            ));
        }
        key.parameters()
            .values_mut()
            .copy_from_slice(query.parameters().values());
        Ok(Box::new(Contrast {
            query,
            key,
            queue: Queue::stored(self.queue, self.dim, setup.seed, self.queue_storage),
            queue_batches: self.queue / setup.batch,
            pending: Vec::new(),
            momentum: self.momentum,
            temperature: self.temperature as f32,
            smoothing: (self.label_smoothing > 0.0).then_some(Smoothing {
                share: self.label_smoothing as f32,
                neighbours: self.neighbours,
            }),
            groups: Groups::of(self.groups),
            attack: self
                .adversary
                .map(|adversary| Attack::new(adversary, &backbone.preprocessing())),
        }))
    }
}

/// The nearest queues and batches that fit together.
fn remedy(queue: usize, batch: usize) -> String {
    let below = queue.checked_div(batch).unwrap_or(0) * batch;
    let queues = match below {
        0 => vec![batch],
        _ => vec![below, below + batch],
    };
    let queues = queues
        .iter()
        .filter(|&&length| length > 0)
        .map(|length| format!("queue: {length}"));
    let smaller = (1..batch).rev().find(|&size| queue.is_multiple_of(size));
    let larger = (batch + 1..=queue).find(|&size| queue.is_multiple_of(size));
    let batches = smaller
        .into_iter()
        .chain(larger)
        .map(|size| format!("batch: {size}"));
    let choices: Vec<String> = queues
        .chain(batches)
        .map(|choice| format!("`{choice}`"))
        .collect();
    format!("the nearest that work are {}", choices.join(", "))
}

/// MoCo in training.
struct Contrast {
    query: Box<dyn Encoder>,
    key: Box<dyn Encoder>,
    queue: Queue,
    /// Batches whose keys the queue holds.
    queue_batches: usize,
    /// Keys of the step at hand, a batch each: they enter the queue after it.
    pending: Vec<Plain<Features>>,
    momentum: f64,
    temperature: f32,
    smoothing: Option<Smoothing>,
    groups: Groups,
    attack: Option<Attack>,
}

/// How labels are spread.
#[derive(Clone, Copy, Debug)]
struct Smoothing {
    share: f32,
    neighbours: usize,
}

impl Smoothing {
    /// For each key, `[batch, width]`, the sum of its candidates, each times its share of the label: the key itself and
    /// those in the queue that are most similar to it.
    fn target(self, keys: &Plain<Features>, queue: &Queue) -> Plain<Features> {
        let shape = *keys.shape();
        let (width, count) = (shape.1, self.neighbours);
        let places = nearest(keys, queue.keys(), count);
        let (candidates, mut scratch) = (queue.keys().vectors(), Vec::new());
        let each = self.share / count as f32;
        let mut target: Vec<f32> = values(keys)
            .iter()
            .map(|v| (1.0 - self.share) * v)
            .collect();
        for (target, places) in target
            .chunks_exact_mut(width)
            .zip(places.chunks_exact(count))
        {
            for &place in places {
                let range = place * width..(place + 1) * width;
                let candidate = candidates.read(range, &mut scratch);
                for (target, value) in target.iter_mut().zip(candidate) {
                    *target += each * value;
                }
            }
        }
        import(target, shape)
    }
}

impl Contrast {
    /// Moves the key encoder's parameters towards the query encoder's.
    fn follow(&mut self) {
        let query = self.query.parameters();
        average(&mut self.key.parameters(), &query, self.momentum);
    }
}

impl Contrast {
    /// The share that the groups of this process have in the mean loss; each of their queries has its part of the batch's
    /// keys.
    fn contrast(&self, queries: Vec<Traced<Features>>, keys: &Plain<Features>) -> Outcome {
        let count = self.groups.count() as f64;
        let first = queries.len() * self.groups.communicator().rank();
        let (size, width) = *queries[0].shape();
        let keys = values(keys);
        let mut loss = traced_zero();
        let (mut acc1, mut acc5) = (0.0, 0.0);
        for (query, keys) in (queries.into_iter()).zip(keys.chunks(size * width).skip(first)) {
            let keys = import(keys.to_vec(), (size, width));
            let queue = self.queue.keys();
            let part = match self.smoothing {
                None => info_nce(query, keys, queue, self.temperature),
                Some(smoothing) => {
                    let target = smoothing.target(&keys, &self.queue);
                    soft_nce(query, &keys, &target, queue, self.temperature)
                }
            };
            acc1 += part.accuracy(1) / count;
            acc5 += part.accuracy(5) / count;
            loss = loss + part.loss / count as f32;
        }
        Outcome {
            loss,
            measures: vec![("acc1", acc1), ("acc5", acc5)],
        }
    }
}

impl Learner for Contrast {
    fn join(&mut self, communicator: Arc<dyn Communicator>) {
        self.groups.join(communicator);
    }

    fn loss(&mut self, views: &[Arc<ImageBatch>], moment: Moment) -> Outcome {
        let [first, second] = views else {
            panic!("MoCo takes two views, not {}", views.len());
        };
        let attacked = self.attack.as_ref().map(|attack| {
            let mut draws = Random::new(&[moment.seed, moment.step, ATTACK]);
            let (query, key) = (&mut *self.query, &mut *self.key);
            attack.run(query, key, [first, second], &self.groups, &mut draws)
        });
        let (first, second) = match &attacked {
            Some([first, second]) => (first, second),
            None => (first, second),
        };
        let mut draws = Random::new(&[moment.seed, moment.step]);
        let groups = &self.groups;
        let drawn = groups.draw(&mut draws);
        let own = parts(first, groups.own());
        let queries = by_groups(&mut *self.query, own, &drawn, |encoder, part, draw| {
            normalise(encoder.train(part, draw))
        });
        if self.attack.is_some() {
            // The next attack looks at images with them.
            groups.share_statistics(&mut *self.query);
        }
        // Once a step: the weights that it follows move once a step.
        if self.pending.is_empty() {
            self.follow();
        }
        let groups = &self.groups;
        let mut order: Vec<usize> = (0..groups.batch(second.batch)).collect();
        if groups.count() > 1 {
            draws.shuffle(&mut order);
        }
        let shuffled = groups.shuffle(second, &order);
        let drawn = groups.draw(&mut draws);
        let parts = by_groups(&mut *self.key, shuffled, &drawn, |encoder, part, draw| {
            normalise(encoder.momentum(part, draw))
        });
        let keys = put_back(&groups.gather(joined(&parts)), &order);
        let outcome = self.contrast(queries, &keys);
        self.pending.push(keys);
        outcome
    }

    fn after_step(&mut self) {
        for keys in self.pending.drain(..) {
            self.queue.push(&keys);
        }
    }

    fn mark(&mut self) -> bool {
        self.pending.clear();
        true
    }

    fn undo(&mut self) {
        self.pending.clear();
    }

    fn encoders(&self) -> Vec<(&'static str, &dyn Encoder)> {
        vec![("encoder_q", &*self.query), ("encoder_k", &*self.key)]
    }

    fn trained(&self) -> &'static [&'static str] {
        &["encoder_q"]
    }

    fn followers(&self) -> &'static [(&'static str, &'static str)] {
        &[("encoder_k", "encoder_q")]
    }

    fn evaluated(&self) -> &'static str {
        "encoder_q"
    }

    fn chance_loss(&self) -> Option<f64> {
        let negatives = self.queue.keys().shape().0;
        Some((1.0 + negatives as f64).ln())
    }

    fn queue_batches(&self) -> Option<usize> {
        Some(self.queue_batches)
    }

    fn buffers(&self) -> Vec<Buffer> {
        self.queue.buffers()
    }

    fn restore(&mut self, buffer: Buffer) -> Result<(), String> {
        self.queue.restore(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use smallfry::Plugin;

    use super::*;

    fn setup(batch: usize, samples: usize) -> Setup {
        Setup {
            seed: 0,
            batch,
            samples,
            epochs: 1,
        }
    }

    #[test]
    fn groups_must_share_the_batch_out() {
        let check = |groups| {
            let moco = MoCo {
                groups,
                ..MoCo::default()
            };
            moco.check(&setup(32, 1_000_000)).map_err(|e| e.to_string())
        };
        assert_eq!((check(1), check(4), check(16)), (Ok(()), Ok(()), Ok(())));
        assert!(check(5).is_err_and(|e| e.contains("do not divide the batch of 32")));
        assert!(check(32).is_err_and(|e| e.contains("leave one image in each")));
    }

    #[test]
    fn a_queue_that_is_no_multiple_of_the_batch_is_refused_with_what_would_work() {
        let check = |queue, batch| {
            let moco = MoCo {
                queue,
                ..MoCo::default()
            };
            moco.check(&setup(batch, 1_000_000))
        };
        assert_eq!(check(65_536, 32), Ok(()));
        assert_eq!(check(96, 96), Ok(()));
        let refusal = check(65_536, 48).expect_err("48 does not divide it");
        assert_eq!(refusal.field(), "queue");
        assert_eq!(refusal.reason(), "65536 is no multiple of the batch of 48");
        assert_eq!(
            remedy(65_536, 48),
            "the nearest that work are `queue: 65520`, `queue: 65568`, `batch: 32`, `batch: 64`"
        );
        assert!(check(32, 48).is_err());
        assert_eq!(
            remedy(32, 48),
            "the nearest that work are `queue: 48`, `batch: 32`"
        );
        assert!(check(7, 2).is_err());
        assert_eq!(
            remedy(7, 2),
            "the nearest that work are `queue: 6`, `queue: 8`, `batch: 1`, `batch: 7`"
        );
    }

    #[test]
    fn a_batch_larger_than_the_data_set_is_refused() {
        let refusal = MoCo::default()
            .check(&setup(64, 20))
            .expect_err("20 are too few");
        assert!(refusal.reason().contains("64") && refusal.reason().contains("20 images"));
        assert_eq!(MoCo::default().check(&setup(64, 64)), Ok(()));
    }

    #[test]
    fn labels_are_spread_over_the_keys_most_similar_to_the_images_own() {
        let mut queue = Queue::new(4, 2, 1);
        queue.push(&import(
            vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.8, 0.6],
            (4, 2),
        ));
        let smoothing = Smoothing {
            share: 0.5,
            neighbours: 2,
        };
        let keys = import(vec![0.6, 0.8, -1.0, 0.0], (2, 2));
        // The first is nearest to (0.8, 0.6), by 0.96, and (0, 1), by 0.8; the second to (−1, 0) and (0, 1).
        let target = values(&smoothing.target(&keys, &queue)).into_owned();
        for (target, expected) in target.iter().zip([0.5, 0.8, -0.75, 0.25]) {
            assert!((target - expected).abs() < 1e-6, "{target} for {expected}");
        }
    }

    #[test]
    fn impossible_values_are_named() {
        let context = Context {
            folder: Path::new("."),
        };
        let fault = |change: fn(&mut MoCo)| {
            let mut moco = MoCo::default();
            change(&mut moco);
            moco.build(&context).err().map(|invalid| invalid.field())
        };
        assert_eq!(fault(|_| ()), None);
        assert_eq!(fault(|moco| moco.dim = 0), Some("dim"));
        assert_eq!(fault(|moco| moco.queue = 0), Some("queue"));
        assert_eq!(fault(|moco| moco.momentum = 1.001), Some("momentum"));
        assert_eq!(fault(|moco| moco.momentum = f64::NAN), Some("momentum"));
        assert_eq!(fault(|moco| moco.temperature = 0.0), Some("temperature"));
        let smoothing = Some("label_smoothing");
        assert_eq!(fault(|moco| moco.label_smoothing = 1.0), smoothing);
        assert_eq!(fault(|moco| moco.label_smoothing = -0.1), smoothing);
        assert_eq!(fault(|moco| moco.neighbours = 0), Some("neighbours"));
        let harmless = |moco: &mut MoCo| {
            moco.adversary = Some(Adversary {
                steps: 0,
                ..Adversary::default()
            });
        };
        assert_eq!(fault(harmless), Some("adversary"));
        let more = |moco: &mut MoCo| (moco.neighbours, moco.label_smoothing) = (65_537, 0.1);
        assert_eq!(fault(more), Some("neighbours"));
    }
}
