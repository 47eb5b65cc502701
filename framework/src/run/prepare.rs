//! Checks a plan's stages against their data and each other, before any long work and before anything is written.

use std::{collections::BTreeMap, fs, sync::Arc};

use smallfry_data::Dataset;

use super::fingerprint;
use crate::{
    DataSet,
    augmentation::side,
    evaluate::{self, Given, Sets},
    failure::Failure,
    objective::Setup,
    plan::{Evaluate, Plan, Pretrain, Stage, Weights},
    registry::Built,
    source::Site,
    train::Training,
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
}

/// Where the weights of an evaluation come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// They are known already.
    Given(Given),
    /// What the training stage of this index starts from.
    Start(usize),
    /// The last checkpoint of the training stage of this index.
    End(usize),
}

impl Prepared<'_> {
    /// Name of the stage.
    pub fn name(&self) -> &str {
        match self {
            Self::Pretrain { training, .. } => &training.stage.name,
            Self::Evaluate { stage, .. } => &stage.name,
        }
    }

    /// Everything that the stage's result depends on, as text.
    pub fn fingerprint(&self) -> &str {
        match self {
            Self::Pretrain { training, .. } => &training.config,
            Self::Evaluate { config, .. } => config,
        }
    }
}

/// All stages of `plan`, checked.
///
/// # Errors
/// The first mistake found, with its stage.
pub fn all(plan: &Plan) -> Result<Vec<Prepared<'_>>, Failure> {
    file_name("the experiment's name", &plan.name)?;
    if plan.stages.is_empty() {
        return Err(Failure::mistake(format!(
            "experiment `{}` has no stage",
            plan.name
        )));
    }
    let mut opened = Opened::default();
    // Training first: an evaluation of untrained weights may stand before the training it is to be compared with.
    let mut slots: Vec<Option<Prepared>> = Vec::new();
    for stage in &plan.stages {
        slots.push(match stage {
            Stage::Pretrain(stage) => Some(pretrain(stage, plan.seed, &mut opened)?),
            Stage::Evaluate(_) => None,
        });
    }
    for (index, stage) in plan.stages.iter().enumerate() {
        if let Stage::Evaluate(stage) = stage {
            slots[index] = Some(evaluation(stage, plan.seed, index, &slots, &mut opened)?);
        }
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

/// Data sets by their parameters, so that stages share what they have in common.
type Opened = BTreeMap<String, Arc<dyn Dataset>>;

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

fn open(
    set: &Built<dyn DataSet>,
    stage: &Site,
    role: &str,
    opened: &mut Opened,
) -> Result<Arc<dyn Dataset>, Failure> {
    if let Some(data) = opened.get(&set.resolved) {
        return Ok(data.clone());
    }
    let data = set.open().map_err(|invalid| set.diagnose(&invalid))?;
    if data.is_empty() {
        return Err(stage.error(role, "the data set holds no image").into());
    }
    opened.insert(set.resolved.clone(), data.clone());
    Ok(data)
}

fn pretrain<'a>(
    stage: &'a Pretrain,
    seed: u64,
    opened: &mut Opened,
) -> Result<Prepared<'a>, Failure> {
    let wrong = |field, text: String| Err(stage.site.error(field, text).into());
    let data = open(&stage.data, &stage.site, "data", opened)?;
    if stage.epochs == 0 {
        return wrong("epochs", "`epochs` must be above 0".to_owned());
    }
    if stage.batch == 0 || stage.batch > data.len() {
        let (batch, images) = (stage.batch, data.len());
        return wrong(
            "batch",
            format!(
                "a batch of {batch} cannot be filled from {images} images; `batch` must be from 1 to {images}"
            ),
        );
    }
    let (wanted, given) = (stage.objective.views(), stage.views.len());
    if given != wanted {
        return wrong(
            "views",
            format!("the objective takes {wanted} views of an image, the file describes {given}"),
        );
    }
    for (i, view) in stage.views.iter().enumerate() {
        if side(view).is_none() {
            return wrong(
                "views",
                format!(
                    "nothing sets the size of view {}; it needs an augmentation such as a crop to a fixed size",
                    i + 1
                ),
            );
        }
    }
    let setup = Setup {
        seed,
        batch: stage.batch,
        samples: data.len(),
        epochs: stage.epochs,
    };
    if let Err(invalid) = stage.objective.check(&setup) {
        return Err(stage.objective.diagnose(&invalid).into());
    }
    let config = fingerprint::pretrain(stage, seed, &*data);
    let training = Training {
        stage,
        setup,
        config,
    };
    Ok(Prepared::Pretrain { training, data })
}

fn evaluation<'a>(
    stage: &'a Evaluate,
    seed: u64,
    index: usize,
    stages: &[Option<Prepared<'_>>],
    opened: &mut Opened,
) -> Result<Prepared<'a>, Failure> {
    evaluate::check_sizes(stage)?;
    if stage.metrics.is_empty() {
        return Err(stage.site.error("metrics", "names no metric").into());
    }
    let sets = Sets {
        train: match &stage.train {
            Some(set) => Some(open(set, &stage.site, "train", opened)?),
            None => None,
        },
        test: open(&stage.test, &stage.site, "test", opened)?,
    };
    let (source, weights) = source(stage, seed, index, stages)?;
    let config = fingerprint::evaluate(stage, seed, &weights, sets.train.as_deref(), &*sets.test);
    Ok(Prepared::Evaluate {
        stage,
        seed,
        sets,
        source,
        config,
    })
}

/// Where the weights of `stage`, the one at `place`, come from, and a text that identifies them.
fn source(
    stage: &Evaluate,
    seed: u64,
    place: usize,
    stages: &[Option<Prepared<'_>>],
) -> Result<(Source, String), Failure> {
    let trainings = || {
        stages
            .iter()
            .enumerate()
            .filter_map(|(index, stage)| match stage {
                Some(Prepared::Pretrain { training, .. }) => Some((index, training)),
                _ => None,
            })
    };
    let own = &stage.backbone.resolved;
    match &stage.weights {
        Weights::Untrained => {
            // The start of the training that the reader will compare with; the backbone alone where there is none.
            let mut same =
                trainings().filter(|(_, training)| training.stage.backbone.resolved == *own);
            Ok(match same.next() {
                Some((index, training)) => {
                    let identity = format!("start of {}", fingerprint::hash(&training.config));
                    (Source::Start(index), identity)
                }
                None => (Source::Given(Given::Seed(seed)), format!("seed {seed}")),
            })
        }
        Weights::Stage(name) => {
            let mut earlier = trainings().filter(|(index, _)| *index < place);
            let Some((index, training)) =
                earlier.find(|(_, training)| training.stage.name == *name)
            else {
                let wrong = format!("no training stage before this one is named `{name}`");
                return Err(stage.site.error("weights", wrong).into());
            };
            let trained = &training.stage.backbone.resolved;
            if own != trained {
                let wrong = format!("this is another backbone than stage `{name}` trains");
                let difference = fingerprint::difference(trained, own);
                return Err(stage.site.error("backbone", wrong).help(difference).into());
            }
            let identity = format!("end of {}", fingerprint::hash(&training.config));
            Ok((Source::End(index), identity))
        }
        Weights::File(path) => {
            let given = evaluate::preflight(stage, path)?;
            let bytes =
                fs::read(path).map_err(|error| crate::failure::disk("read", path, &error))?;
            let identity = format!("file {}", blake3::hash(&bytes).to_hex());
            Ok((Source::Given(given), identity))
        }
    }
}
