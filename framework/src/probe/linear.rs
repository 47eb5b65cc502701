//! Classifiers on a frozen backbone: linear evaluation, and linear transfer.
//!
//! The backbone is in evaluation mode also while classifiers learn, as in `main_lincls.py`: running statistics, no
//! dropout, no gradient. All learning rates, kinds of features and seeds share its passes. Test images are never
//! augmented, so their features are extracted once.
//!
//! Where images are augmented anew, seeds share their order and augmentations too, and differ in the weights that they
//! start with; kept features come to each seed in an order of its own.

use std::sync::Arc;

use smallfry_data::{
    Dataset,
    loader::{Cursor, Order},
    random::Random,
};

use super::{
    bank::{Bank, Head, Rule, State},
    classifiers::{Classifiers, Moment, Step, Tensors, take},
    figures::Figures,
    frozen::Frozen,
    kept::{Kept, not_a_number, unusable},
    lessons::Lessons,
};
use crate::{
    Encoder,
    backbone::Preprocessing,
    checkpoint::{self, Tensor},
    encoder::ImageBatch,
    evaluate::features::{Extracted, Extraction, Images},
    failure::Failure,
    metric::FeatureSet,
    plan::{FeatureSource, Probe},
    results::{SetRecord, probe::Label},
    tensor,
    workplace::Workplace,
};

/// Sets the order of kept features apart from other streams of a seed.
const ORDER: u64 = u64::MAX - 2;

/// Test features that are judged together.
const JUDGED: usize = 1024;

/// Linear classifiers and the features that they learn from.
pub struct Linear<'a> {
    stage: &'a Probe,
    preprocessing: Preprocessing,
    train: Arc<dyn Dataset>,
    encoder: Box<dyn Encoder>,
    frozen: Frozen,
    seeds: Vec<u64>,
    /// One for each seed, all with the same heads.
    banks: Vec<Bank>,
    feed: Feed,
    test: Kept,
    records: [SetRecord; 2],
}

enum Feed {
    /// Augmented images; none before the first step.
    Fresh(Option<Lessons>),
    /// Features of one or several passes.
    Kept {
        passes: Vec<Kept>,
        /// Each seed's order of the epoch at hand.
        order: (usize, Vec<Vec<u32>>),
    },
}

/// The classifiers of `stage`, seed by seed.
pub fn labels(stage: &Probe, seeds: &[u64]) -> Vec<Label> {
    let label = |&seed: &u64| {
        heads(stage).into_iter().map(move |head| Label {
            rate: head.rate,
            unit_length: head.unit_length,
            seed,
        })
    };
    seeds.iter().flat_map(label).collect()
}

fn heads(stage: &Probe) -> Vec<Head> {
    let kinds = stage.normalize.kinds().iter();
    let rates = |&unit_length: &bool| {
        let rates = stage.learning_rates.iter();
        rates.map(move |&rate| Head { rate, unit_length })
    };
    kinds.flat_map(rates).collect()
}

/// What the reference calls the layer of a classifier: behind a division by the length it is the second of two.
pub fn layer(unit_length: bool) -> &'static str {
    match unit_length {
        true => "fc.1",
        false => "fc",
    }
}

impl<'a> Linear<'a> {
    /// Extracts what is extracted once. `sets` are the images to learn from and to be tested on.
    ///
    /// # Errors
    /// No image can be read, features are no numbers, or the user stops.
    pub fn new(
        stage: &'a Probe,
        source: FeatureSource,
        preprocessing: Preprocessing,
        [train, test]: [&Arc<dyn Dataset>; 2],
        seeds: Vec<u64>,
        mut encoder: Box<dyn Encoder>,
        workplace: &mut Workplace,
    ) -> Result<Self, Failure> {
        let frozen = Frozen::of(&*encoder);
        let images = Images {
            preprocessing,
            batch: stage.batch,
        };
        let passes = match source {
            FeatureSource::Fresh => 0,
            FeatureSource::Centre => 1,
            FeatureSource::Passes(passes) => passes,
        };
        let total = test.len() + passes * train.len();
        workplace.display.stage(&stage.name, total as u64, 0);
        let mut done = 0;
        let extracted = images.extract(test, &mut *encoder, workplace, &mut done)?;
        let test_record = record(stage.test.line(), &extracted);
        let kept_test = Kept::of(extracted, test, "test")?;
        let mut train_record = SetRecord {
            data: stage.train.line(),
            samples: train.len(),
            left_out: Vec::new(),
        };
        let kept = |passes| Feed::Kept {
            passes,
            order: (usize::MAX, Vec::new()),
        };
        let feed = match source {
            FeatureSource::Fresh => Feed::Fresh(None),
            FeatureSource::Centre => {
                let extracted = images.extract(train, &mut *encoder, workplace, &mut done)?;
                train_record = record(stage.train.line(), &extracted);
                kept(vec![Kept::of(extracted, train, "training")?])
            }
            FeatureSource::Passes(passes) => {
                let begin = Cursor::default();
                let order = Order::Sequential;
                let mut lessons =
                    Lessons::start(stage, &preprocessing, seeds[0], train, order, begin, passes)?;
                let passes = augmented(&mut lessons, passes, &*encoder, train, workplace, done)?;
                train_record.left_out = lessons.unreadable();
                train_record.samples -= train_record.left_out.len();
                kept(passes)
            }
        };
        let (classes, width) = (train.classes().len(), encoder.width());
        let rule = Rule {
            momentum: stage.momentum,
            decay: stage.weight_decay,
        };
        let bank = |&seed: &u64| Bank::new(classes, width, rule, &heads(stage), seed);
        Ok(Self {
            stage,
            preprocessing,
            train: Arc::clone(train),
            frozen,
            banks: seeds.iter().map(bank).collect(),
            seeds,
            encoder,
            feed,
            test: kept_test,
            records: [train_record, test_record],
        })
    }

    /// The bank of classifier `i`, and the head in it.
    fn place(&self, i: usize) -> (usize, usize) {
        let heads = self.banks[0].heads().len();
        (i / heads, i % heads)
    }

    /// Names and shapes of the weight and the bias of head `head`.
    fn tensors(&self, head: usize) -> [(String, Vec<usize>); 2] {
        let bank = &self.banks[0];
        let unit_length = bank.heads().nth(head).is_some_and(|head| head.unit_length);
        let layer = layer(unit_length);
        [
            (
                format!("{layer}.weight"),
                vec![bank.classes(), bank.width()],
            ),
            (format!("{layer}.bias"), vec![bank.classes()]),
        ]
    }

    fn named(&self, head: usize, [weight, bias]: [Vec<f32>; 2]) -> Tensors {
        let tensors = self.tensors(head).into_iter().zip([weight, bias]);
        let named = |((name, shape), values)| (name, Tensor::float(shape, values));
        tensors.map(named).collect()
    }
}

fn record(data: String, extracted: &Extracted) -> SetRecord {
    SetRecord {
        data,
        samples: extracted.rows(),
        left_out: extracted.left_out().to_vec(),
    }
}

/// The features of so many `passes` of `lessons`, each a set. They stay in memory up to the limit of a set, all together; beyond,
/// they lie in nameless files of the run folder.
fn augmented(
    lessons: &mut Lessons,
    passes: usize,
    encoder: &dyn Encoder,
    data: &Arc<dyn Dataset>,
    workplace: &Workplace,
    mut done: usize,
) -> Result<Vec<Kept>, Failure> {
    let (width, folder) = (encoder.width(), workplace.folder.root());
    let bytes = 4 * data.len() * width;
    let begin = || Extraction::new(data, width, (bytes, passes), folder, None);
    let end = |pass: Extraction| Kept::numbers(pass.finish()?, data, "training");
    let (mut kept, mut pass, mut last) = (Vec::new(), begin()?, None);
    for lesson in lessons.by_ref() {
        stop_if_asked(workplace)?;
        let lesson = lesson?;
        let (Some(&first), Some(&final_one)) = (lesson.samples.first(), lesson.samples.last())
        else {
            continue;
        };
        // Samples come in their order, so a smaller number begins another pass.
        if last.is_some_and(|last| first <= last) {
            kept.push(end(std::mem::replace(&mut pass, begin()?))?);
        }
        last = Some(final_one);
        let name = |row: usize| data.name(lesson.samples[row]);
        let features = embed(encoder, &lesson.images, name)?;
        let samples: Vec<u32> = lesson.samples.iter().map(|&sample| sample as u32).collect();
        pass.push(&features, &samples)?;
        done += samples.len();
        workplace.display.samples(done as u64);
    }
    kept.push(end(pass)?);
    Ok(kept)
}

/// The features of `images`; `name` is that of a row.
fn embed(
    encoder: &dyn Encoder,
    images: &Arc<ImageBatch>,
    name: impl Fn(usize) -> String,
) -> Result<Vec<f32>, Failure> {
    let features = tensor::values(&encoder.embed(images)).to_vec();
    match unusable(&features, encoder.width()) {
        Some(row) => Err(not_a_number(&name(row))),
        None => Ok(features),
    }
}

fn stop_if_asked(workplace: &Workplace) -> Result<(), Failure> {
    match workplace.interrupt.requested() {
        true => Err(Failure::interrupt("stopped while features were extracted")
            .help("the same command with --resume goes on with this stage")),
        false => Ok(()),
    }
}

impl Classifiers for Linear<'_> {
    fn begin(&mut self, begin: Cursor) -> Result<(), Failure> {
        if let Feed::Fresh(lessons) = &mut self.feed {
            let (preprocessing, seed) = (&self.preprocessing, self.seeds[0]);
            let started = Lessons::training(self.stage, preprocessing, seed, &self.train, begin)?;
            *lessons = Some(started);
        }
        Ok(())
    }

    fn samples(&self) -> usize {
        match &self.feed {
            Feed::Fresh(_) => self.train.len(),
            Feed::Kept { passes, .. } => passes[0].rows(),
        }
    }

    fn step(&mut self, moment: Moment) -> Result<Step, Failure> {
        let mut step = Step::default();
        match &mut self.feed {
            Feed::Fresh(lessons) => {
                let (lesson, waited) = Lessons::awaited(lessons)?;
                step.waited = waited;
                let name = |row: usize| self.train.name(lesson.samples[row]);
                let features = embed(&*self.encoder, &lesson.images, name)?;
                for bank in &mut self.banks {
                    step.figures
                        .extend(bank.step(&features, &lesson.labels, moment.factor));
                }
                step.images = lesson.labels.len();
                step.replaced = lesson.replaced;
            }
            Feed::Kept { passes, order } => {
                let kept = &passes[moment.epoch % passes.len()];
                if order.0 != moment.epoch {
                    let drawn = |&seed: &u64| {
                        Random::new(&[seed, moment.epoch as u64, ORDER]).permutation(kept.rows())
                    };
                    *order = (moment.epoch, self.seeds.iter().map(drawn).collect());
                }
                let first = moment.index * self.stage.batch;
                let rows = first..kept.rows().min(first + self.stage.batch);
                for (bank, order) in self.banks.iter_mut().zip(&order.1) {
                    let (features, labels) = kept.gather(&order[rows.clone()]);
                    step.figures
                        .extend(bank.step(&features, &labels, moment.factor));
                }
                step.images = rows.len();
            }
        }
        Ok(step)
    }

    fn judge(&mut self, _: &mut Workplace) -> Result<Vec<Figures>, Failure> {
        let (rows, heads) = (self.test.rows(), self.banks[0].heads().len());
        let mut figures = vec![Figures::default(); heads * self.banks.len()];
        for first in (0..rows).step_by(JUDGED) {
            let rows = first..rows.min(first + JUDGED);
            let features = self.test.read(rows.clone());
            let labels = &self.test.labels()[rows];
            for (bank, figures) in self.banks.iter_mut().zip(figures.chunks_mut(heads)) {
                let parts = bank.judge(&features, labels);
                for (figures, part) in figures.iter_mut().zip(&parts) {
                    figures.add(part);
                }
            }
        }
        Ok(figures)
    }

    fn check_frozen(&self) -> Result<(), Failure> {
        self.frozen.check(&*self.encoder)
    }

    fn failed(&self, i: usize) -> bool {
        let (bank, head) = self.place(i);
        self.banks[bank].failed(head)
    }

    fn own(&self, i: usize) -> Tensors {
        let (bank, head) = self.place(i);
        let State { weight, bias, .. } = self.banks[bank].state(head);
        self.named(head, [weight, bias])
    }

    fn shared(&self) -> Tensors {
        checkpoint::tensors(&self.encoder.parameters()).collect()
    }

    fn velocity(&self, i: usize) -> Tensors {
        let (bank, head) = self.place(i);
        let state = self.banks[bank].state(head);
        self.named(head, [state.weight_velocity, state.bias_velocity])
    }

    fn restore(
        &mut self,
        i: usize,
        own: &Tensors,
        velocity: &Tensors,
        failed: bool,
    ) -> Result<(), String> {
        let (bank, head) = self.place(i);
        let [weight, bias] = self.tensors(head);
        let state = State {
            weight: take(own, &weight.0, &weight.1)?.to_vec(),
            bias: take(own, &bias.0, &bias.1)?.to_vec(),
            weight_velocity: take(velocity, &weight.0, &weight.1)?.to_vec(),
            bias_velocity: take(velocity, &bias.0, &bias.1)?.to_vec(),
        };
        self.banks[bank].set_state(head, &state, failed);
        Ok(())
    }

    fn records(&self) -> [SetRecord; 2] {
        self.records.clone()
    }
}
