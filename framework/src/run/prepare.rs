//! Readies a plan's stages, before any long work and before anything is written: `preflight` checks each against its
//! data, this file checks them against each other and works out where weights come from.

use std::sync::Arc;

use smallfry_data::Dataset;

use crate::{
    DataSet,
    checkpoint::{Weights, held::TENSORS},
    evaluate::{self, Known, Sets, Source, crew::Extractable, features},
    failure::Failure,
    fingerprint, map,
    plan::{Evaluate, Images, Origin, Plan, Pretrain, Stage, Subject},
    preflight::{self, Opened},
    probe,
    registry::Built,
    statics,
    train::{Training, health, initial::Start, sources},
};

/// A stage that is ready to run.
pub enum Prepared<'a> {
    /// Training.
    Pretrain {
        /// What to train.
        training: Training<'a>,
        /// The images.
        data: Arc<dyn Dataset>,
    },
    /// Metrics.
    Evaluate {
        /// What to evaluate.
        stage: &'a Evaluate,
        /// Seed of anything that metrics sample.
        seed: u64,
        /// The images.
        sets: Sets,
        /// Where the weights will come from.
        source: Source,
        /// Everything that the result depends on, as text.
        config: String,
    },
    /// Writing images and their views.
    Views(statics::Prepared<'a>),
    /// Classifiers.
    Probe(probe::Prepared<'a>),
    /// A map.
    Map(map::Prepared<'a>),
}

impl Prepared<'_> {
    /// Name of the stage.
    pub fn name(&self) -> &str {
        match self {
            Self::Pretrain { training, .. } => &training.stage.name,
            Self::Evaluate { stage, .. } => &stage.name,
            Self::Views(stage) => &stage.stage.name,
            Self::Probe(stage) => &stage.stage.name,
            Self::Map(stage) => &stage.stage.name,
        }
    }

    /// What it extracts features of, where it does.
    pub fn extractable(&self) -> Option<Extractable<'_>> {
        let everywhere = |images: &Images, set: &Arc<dyn Dataset>| match images {
            Images::Set(_) => Some(Arc::clone(set)),
            Images::Stage(_) => None,
        };
        match self {
            Self::Evaluate { stage, sets, .. } => Some(Extractable {
                subject: &stage.subject,
                images: features::Images {
                    preprocessing: evaluate::preprocessing(stage),
                    batch: stage.batch,
                },
                sets: vec![
                    (stage.train.as_ref().zip(sets.train.as_ref()))
                        .and_then(|(images, set)| everywhere(images, set)),
                    everywhere(&stage.test, &sets.test),
                ],
            }),
            Self::Map(stage) => {
                Some(stage.extractable(everywhere(&stage.stage.data, stage.data())))
            }
            Self::Pretrain { .. } | Self::Views(_) | Self::Probe(_) => None,
        }
    }

    /// Lets go of the files of weights that it was to read, which it will not need any more.
    pub(crate) fn release(&self) {
        let source = match self {
            Self::Pretrain { training, .. } => return training.release(),
            Self::Views(_) => return,
            Self::Evaluate { source, .. } => source,
            Self::Probe(stage) => &stage.source,
            Self::Map(stage) => &stage.source,
        };
        if let Source::File(file) = source {
            file.release();
        }
    }

    /// Everything that the stage's result depends on, as text.
    pub fn fingerprint(&self) -> &str {
        match self {
            Self::Pretrain { training, .. } => &training.config,
            Self::Evaluate { config, .. } => config,
            Self::Views(stage) => &stage.config,
            Self::Probe(stage) => &stage.config,
            Self::Map(stage) => &stage.config,
        }
    }
}

/// All stages of `plan`, checked.
///
/// # Errors
/// The first mistake found, with its stage.
pub fn all(plan: &Plan) -> Result<Vec<Prepared<'_>>, Failure> {
    let (_, opened) = preflight::examine(plan)?;
    stages(plan, &opened)
}

/// As [`all`], with the data sets that `preflight` opened.
pub(crate) fn stages<'a>(plan: &'a Plan, opened: &Opened) -> Result<Vec<Prepared<'a>>, Failure> {
    file_name("the experiment's name", &plan.name)?;
    if plan.stages.is_empty() {
        return Err(Failure::mistake(format!(
            "experiment `{}` has no stage",
            plan.name
        )));
    }
    // Training first: an evaluation of untrained weights may stand before the training it is to be compared with.
    let mut slots: Vec<Option<Prepared>> = Vec::new();
    for stage in &plan.stages {
        slots.push(match stage {
            Stage::Pretrain(stage) => Some(pretrain(stage, plan.seed, &slots, opened)?),
            _ => None,
        });
    }
    for (index, stage) in plan.stages.iter().enumerate() {
        let place = Place {
            index,
            seed: plan.seed,
            stages: &slots,
            opened,
        };
        let prepared = match stage {
            Stage::Pretrain(_) => continue,
            Stage::Evaluate(stage) => place.evaluation(stage)?,
            Stage::Views(stage) => {
                let data = set(&stage.data, opened);
                Prepared::Views(statics::Prepared::new(stage, plan.seed, data)?)
            }
            Stage::Probe(stage) => Prepared::Probe(probe::Prepared::new(
                stage,
                plan.seed,
                place.source(&stage.subject)?,
                [&stage.train, &stage.test].map(|images| place.known(images)),
            )),
            Stage::Map(stage) => Prepared::Map(map::Prepared::new(
                stage,
                plan.seed,
                place.source(&stage.subject)?,
                place.known(&stage.data),
            )),
        };
        slots[index] = Some(prepared);
    }
    let prepared: Vec<_> = slots.into_iter().flatten().collect();
    for (index, stage) in prepared.iter().enumerate() {
        file_name("the name of a stage", stage.name())?;
        if prepared[..index]
            .iter()
            .any(|earlier| earlier.name() == stage.name())
        {
            return Err(Failure::mistake(format!(
                "two stages are named `{}`",
                stage.name()
            )));
        }
    }
    Ok(prepared)
}

/// Names become folders, so they must be plain.
fn file_name(what: &str, name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_alphanumeric() || "-_.+ ".contains(c);
    if !name.is_empty() && !name.starts_with('.') && name.chars().all(plain) && name.len() <= 100 {
        return Ok(());
    }
    Err(
        Failure::mistake(format!("{what}, {name:?}, cannot name a folder"))
            .help("use letters, digits and `-_.+`, at most 100, not starting with a dot"),
    )
}

/// The set that `preflight` opened.
fn set(set: &Built<dyn DataSet>, opened: &Opened) -> Arc<dyn Dataset> {
    let data = opened.sets.get(&set.resolved);
    Arc::clone(data.expect("a plan that passed has all its sets opened"))
}

fn pretrain<'a>(
    stage: &'a Pretrain,
    seed: u64,
    before: &[Option<Prepared<'_>>],
    opened: &Opened,
) -> Result<Prepared<'a>, Failure> {
    let wrong = |field, text: String| Err(stage.site.error(field, text).into());
    let data = set(&stage.data, opened);
    for (field, value) in [("epochs", stage.epochs), ("batch", stage.batch)] {
        if value == 0 {
            return wrong(field, format!("`{field}` must be above 0"));
        }
    }
    let (wanted, given) = (stage.objective.views(), stage.views.len());
    if given != wanted {
        return wrong(
            "views",
            format!("the objective takes {wanted} views of an image, the file describes {given}"),
        );
    }
    let setup = stage.setup(seed, data.len());
    let mut config = fingerprint::pretrain(stage, seed, &*data);
    let initial = stage.initial.as_ref();
    let initial = initial
        .map(|initial| Start::of(initial, &opened.files))
        .transpose()?;
    if let Some(start) = &initial {
        config += &fingerprint::initial(
            start.initial.extent,
            &initial_identity(stage, start, before)?,
        );
    }
    let files = sources::files(stage, &opened.files)?;
    config += &sources::identify(stage, &files, |name| {
        let mut before = before.iter().flatten();
        let known = before.find(|stage| stage.name() == name)?;
        Some(known.fingerprint())
    });
    let training = Training {
        stage,
        setup,
        config,
        initial,
        files,
        health: health_sets(stage, opened),
    };
    Ok(Prepared::Pretrain { training, data })
}

/// The sets that only the health of `stage` is measured on.
fn health_sets(stage: &Pretrain, opened: &Opened) -> health::Sets {
    let Some(wanted) = &stage.health else {
        return health::Sets::default();
    };
    let given = wanted.labelled.as_ref().and_then(|l| l.sets.as_ref());
    health::Sets {
        held_out: wanted
            .held_out
            .as_ref()
            .map(|held_out| set(held_out, opened)),
        labelled: given.map(|(train, test)| (set(train, opened), set(test, opened))),
    }
}

/// A text that identifies the content of what `stage` starts from.
fn initial_identity(
    stage: &Pretrain,
    start: &Start,
    before: &[Option<Prepared<'_>>],
) -> Result<String, Failure> {
    let name = match (&start.initial.origin, &start.file) {
        (Origin::Stage(name), _) => name,
        (Origin::File(_), file) => {
            let hash = file.as_ref().map_or("", |file| file.hash());
            return Ok(format!("file {hash}"));
        }
    };
    let mut before = before.iter().flatten();
    match before.find(|earlier| earlier.name() == name) {
        Some(Prepared::Pretrain { training, .. }) => {
            Ok(format!("end of {}", fingerprint::hash(&training.config)))
        }
        _ => {
            let wrong = format!("no training stage before this one is named `{name}`");
            Err(stage.site.error("initial", wrong).into())
        }
    }
}

/// Where a stage stands that judges what others made.
struct Place<'p, 'a> {
    /// Its number in the file.
    index: usize,
    /// Seed of the experiment.
    seed: u64,
    stages: &'p [Option<Prepared<'a>>],
    opened: &'p Opened,
}

impl<'a> Place<'_, 'a> {
    fn evaluation(&self, stage: &'a Evaluate) -> Result<Prepared<'a>, Failure> {
        evaluate::check_sizes(stage)?;
        if stage.metrics.is_empty() {
            return Err(stage.site.error("metrics", "names no metric").into());
        }
        let sets = Sets {
            train: stage.train.as_ref().map(|train| self.images(train)),
            test: self.images(&stage.test),
        };
        let (source, weights) = self.source(&stage.subject)?;
        let train = stage.train.as_ref().map(|train| self.identity(train));
        let test = self.identity(&stage.test);
        let config = fingerprint::evaluate(stage, self.seed, &weights, train, test);
        Ok(Prepared::Evaluate {
            stage,
            seed: self.seed,
            sets,
            source,
            config,
        })
    }

    /// The set of `images`; that of a stage of views is listed before it is written.
    fn images(&self, images: &Images) -> Arc<dyn Dataset> {
        let data = self.opened.sets.get(&images.resolved());
        Arc::clone(data.expect("a plan that passed has all its sets known"))
    }

    /// `images` with what identifies them.
    fn known(&self, images: &Images) -> Known {
        Known {
            data: self.images(images),
            identity: self.identity(images),
        }
    }

    /// A text that identifies `images`, by what they are and by what they hold.
    fn identity(&self, images: &Images) -> String {
        let manifest = fingerprint::manifest(&*self.images(images));
        match images {
            Images::Set(set) => format!("{}\nmanifest: {manifest}", set.resolved),
            Images::Stage(name) => {
                let mut stages = self.stages.iter().flatten();
                let stage = stages.find(|stage| stage.name() == name);
                let stage = stage.expect("a plan that passed has its views before their use");
                let hash = fingerprint::hash(stage.fingerprint());
                format!("{}\nmanifest: {manifest}\nviews: {hash}", images.resolved())
            }
        }
    }

    /// Where the weights of `subject` come from, and a text that identifies them.
    ///
    /// # Errors
    /// There are no such weights, or they are of another network.
    fn source(&self, subject: &Subject) -> Result<(Source, String), Failure> {
        let trainings = || {
            let stages = self.stages.iter().enumerate();
            stages.filter_map(|(index, stage)| match stage {
                Some(Prepared::Pretrain { training, .. }) => Some((index, training)),
                _ => None,
            })
        };
        let own = &subject.backbone.resolved;
        match &subject.weights {
            Weights::Untrained => {
                // The start of the training that the reader will compare with; the backbone alone where there is none.
                let mut same =
                    trainings().filter(|(_, training)| training.stage.backbone.resolved == *own);
                Ok(match same.next() {
                    Some((index, training)) => {
                        let identity = format!("start of {}", fingerprint::hash(&training.config));
                        (Source::Start(index), identity)
                    }
                    None => {
                        let seed = self.seed;
                        (Source::Seed(seed), format!("seed {seed}"))
                    }
                })
            }
            Weights::Stage(name) => {
                let mut earlier = trainings().filter(|(index, _)| *index < self.index);
                let Some((index, training)) =
                    earlier.find(|(_, training)| training.stage.name == *name)
                else {
                    let wrong = format!("no training stage before this one is named `{name}`");
                    return Err(subject.site.error("weights", wrong).into());
                };
                let pretrain = &training.stage;
                let encoder = subject.encoder.as_deref();
                let other = encoder.and_then(|encoder| pretrain.objective.backbone_of(encoder));
                let trained = match &other {
                    Some(backbone) => &backbone.resolved,
                    None => &pretrain.backbone.resolved,
                };
                if own != trained {
                    let wrong = match (&other, encoder) {
                        (Some(_), Some(encoder)) => {
                            format!(
                                "this is another backbone than `{encoder}` of stage `{name}` has"
                            )
                        }
                        _ => format!("this is another backbone than stage `{name}` trains"),
                    };
                    let difference = fingerprint::difference(trained, own);
                    let error = subject.site.error("backbone", wrong);
                    return Err(error.help(difference).into());
                }
                let identity = format!("end of {}", fingerprint::hash(&training.config));
                Ok((Source::End(index), identity))
            }
            Weights::File(path) => {
                let file = self.opened.files.hold(path, TENSORS)?;
                let identity = format!("file {}", file.hash());
                Ok((Source::File(file), identity))
            }
        }
    }
}
