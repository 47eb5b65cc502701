//! Checks a plan against the world before any long work: data sets open, batches fill, objectives fit, checkpoints load.
//!
//! Nothing is computed; data sets list their samples and read no pixels, and of what is written only an index that a set lacks
//! (`TSV`) may come. All mistakes of all
//! stages are found in one go, each with its place in the experiment file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use smallfry_data::Dataset;
use smallfry_nn::{Parameters, network::Spec};

use crate::{
    Backbone, DataSet, Head, augmentation,
    checkpoint::{
        self, Weights,
        held::{Shelf, TENSORS},
    },
    diagnostic::Diagnostic,
    evaluate,
    failure::Failure,
    map,
    objective::Setup,
    plan::{
        Evaluate, Images, Initial, Map, Origin, Plan, Pretrain, Probe, Stage, Subject, Views,
        uncropped,
    },
    probe,
    registry::Built,
    source::Site,
    statics,
    text::{counted, grouped},
    train::{initial, sources},
};

/// What a stage would work on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Facts {
    /// Name of the stage.
    pub stage: String,
    /// Its kind, as in the file.
    pub kind: &'static str,
    /// What is worth knowing, as a heading and its text.
    pub lines: Vec<(&'static str, String)>,
}

/// What was opened, which may have taken long.
pub(crate) struct Opened {
    /// Data sets by the resolved parameters of their plugins.
    pub sets: BTreeMap<String, Arc<dyn Dataset>>,
    /// Files of weights.
    pub files: Shelf,
}

/// Checks every stage of `plan`.
///
/// # Errors
/// Everything that would make the run fail and can be known now.
pub fn check(plan: &Plan) -> Result<Vec<Facts>, Vec<Diagnostic>> {
    examine(plan).map(|(facts, _)| facts)
}

/// As [`check`]; also hands over what was opened.
pub(crate) fn examine(plan: &Plan) -> Result<(Vec<Facts>, Opened), Vec<Diagnostic>> {
    let mut check = Check {
        seed: plan.seed,
        root: plan.output.join(&plan.name),
        sets: BTreeMap::new(),
        files: Shelf::default(),
        trained: BTreeMap::new(),
        errors: Vec::new(),
    };
    let mut facts: Vec<_> = plan
        .stages
        .iter()
        .map(|stage| match stage {
            Stage::Pretrain(stage) => check.pretrain(stage),
            Stage::Evaluate(stage) => check.evaluate(stage),
            Stage::Views(stage) => check.views(stage),
            Stage::Probe(stage) => check.probe(stage),
            Stage::Map(stage) => check.map(stage),
        })
        .collect();
    let sources = sources::check(plan, &check.files, |stage| {
        let data = check.sets.get(&stage.data.resolved)?.as_ref()?;
        Some(data.len())
    });
    match sources {
        Ok(found) => {
            for (index, lines) in found {
                let lines = lines.into_iter().map(|line| ("source", line));
                facts[index].lines.extend(lines);
            }
        }
        Err(errors) => check.errors.extend(errors),
    }
    match check.errors.is_empty() {
        true => {
            let sets = check.sets.into_iter();
            let sets = sets.filter_map(|(key, set)| Some((key, set?)));
            let opened = Opened {
                sets: sets.collect(),
                files: check.files,
            };
            Ok((facts, opened))
        }
        false => Err(check.errors),
    }
}

struct Check {
    seed: u64,
    /// The run folder.
    root: PathBuf,
    /// Opened sets by their parameters; none where opening failed.
    sets: BTreeMap<String, Option<Arc<dyn Dataset>>>,
    /// Files of weights that were read.
    files: Shelf,
    /// The backbones that stages before train, by the stages' names.
    trained: BTreeMap<String, Vec<Spec>>,
    errors: Vec<Diagnostic>,
}

impl Check {
    fn open(&mut self, set: &Built<dyn DataSet>) -> Option<Arc<dyn Dataset>> {
        if let Some(opened) = self.sets.get(&set.resolved) {
            return opened.clone();
        }
        let opened = match set.open() {
            Ok(data) if data.is_empty() => {
                let invalid = crate::Invalid::whole("holds no image");
                self.errors.push(set.diagnose(&invalid));
                None
            }
            Ok(data) => Some(data),
            Err(invalid) => {
                self.errors.push(set.diagnose(&invalid));
                None
            }
        };
        self.sets.insert(set.resolved.clone(), opened.clone());
        opened
    }

    /// The set of `images`; that of a stage of views is known once the stage was checked.
    fn images(&mut self, images: &Images) -> Option<Arc<dyn Dataset>> {
        match images {
            Images::Set(set) => self.open(set),
            Images::Stage(_) => self.sets.get(&images.resolved()).cloned().flatten(),
        }
    }

    fn error(&mut self, site: &Site, field: &str, message: String, help: Option<String>) {
        let mut error = site.error(field, message);
        error.help = help;
        self.errors.push(error);
    }

    /// Checks that the network can be run on square images of `size` pixels, which `field` sets.
    fn fits(&mut self, site: &Site, field: &str, backbone: &Built<dyn Backbone>, size: usize) {
        let network = backbone.network(&Head::default());
        if let Some(Err(impossible)) = network.map(|network| network.outputs(size, size)) {
            let field = if site.has(field) { field } else { "backbone" };
            self.error(
                site,
                field,
                format!(
                    "`{}` cannot take images of {size} × {size} pixels: {}",
                    backbone.line, impossible.reason
                ),
                Some("give the images or the backbone another size".to_owned()),
            );
        }
    }

    fn pretrain(&mut self, stage: &Pretrain) -> Facts {
        let data = self.open(&stage.data);
        let joint = stage.joint.as_ref().map(|joint| &*joint.plugin);
        let sizes: Vec<_> = stage
            .views
            .iter()
            .map(|view| augmentation::side(joint, view))
            .collect();
        let field = match stage.site.has("views") {
            true => "views",
            false => "view",
        };
        for (i, size) in sizes.iter().enumerate() {
            if size.is_none() && (field == "views" || i == 0) {
                let which = match field {
                    "views" => format!("view {}", i + 1),
                    _ => "the views".to_owned(),
                };
                self.error(
                    &stage.site,
                    field,
                    format!("nothing sets the size of {which}, so images cannot form a batch"),
                    Some("add an augmentation that crops or resizes to a fixed size".to_owned()),
                );
            }
        }
        let all: Option<Vec<_>> = sizes.iter().copied().collect();
        if let Some(Err(invalid)) = all.map(|sizes| stage.objective.check_views(&sizes)) {
            self.errors.push(stage.objective.diagnose(&invalid));
        }
        for size in BTreeSet::from_iter(sizes.iter().flatten().copied()) {
            self.fits(&stage.site, field, &stage.backbone, size);
        }
        let mut ready = None;
        if let Some(data) = &data {
            let samples = data.len();
            if stage.batch > samples {
                self.error(
                    &stage.site,
                    "batch",
                    format!(
                        "`batch` of Pretrain: {} is more than the {} images of the data set",
                        stage.batch,
                        grouped(samples)
                    ),
                    Some(format!("give at most {samples}")),
                );
            }
            let setup = stage.setup(self.seed, samples);
            // The objective is not asked about a batch that cannot be: it would say the same in other words.
            if stage.batch <= samples {
                match stage.objective.check(&setup) {
                    Ok(()) => ready = Some(setup),
                    Err(invalid) => self.errors.push(stage.objective.diagnose(&invalid)),
                }
            }
        }
        if let Some(setup) = &ready {
            self.optimizer(stage, setup);
        }
        let initial = self.initial(stage, ready.as_ref());
        self.health(stage, data.as_deref());
        let mut views = describe_views(&sizes);
        if let Some(joint) = &stage.joint {
            views += &format!(", together from {}", joint.line);
        }
        let samples = data.as_ref().map_or(0, |data| data.len());
        let (batch, accumulate) = (stage.batch, stage.step.accumulate.max(1));
        let steps = samples / batch.max(1) / accumulate;
        // A single batch that is too large has been refused by now.
        if data.is_some() && batch <= samples && steps == 0 {
            let message = format!(
                "`accumulate` of Pretrain: {accumulate} batches of {batch} are more than the {} images of the data set",
                grouped(samples)
            );
            let help = format!("give at most {}", samples / batch.max(1));
            self.error(&stage.site, "accumulate", message, Some(help));
        }
        let images = match accumulate {
            1 => counted(batch, "image"),
            _ => format!("{accumulate} batches of {}", counted(batch, "image")),
        };
        let mut lines = vec![
            ("data", describe_set(&stage.data.line, data.as_deref())),
            ("backbone", stage.backbone.line.clone()),
            ("objective", stage.objective.line.clone()),
            ("views", views),
            ("optimizer", stage.optimizer.line.clone()),
            ("schedule", stage.schedule.line.clone()),
        ];
        lines.extend(initial);
        lines.push((
            "training",
            format!(
                "{} of {}, {images} a step",
                counted(stage.epochs, "epoch"),
                counted(steps, "step"),
            ),
        ));
        Facts {
            stage: stage.name.clone(),
            kind: "Pretrain",
            lines,
        }
    }

    /// Checks that the optimiser of `stage` fits what it will train.
    fn optimizer(&mut self, stage: &Pretrain, setup: &Setup) {
        let learner = match stage.objective.start(setup, &*stage.backbone.plugin) {
            Ok(learner) => learner,
            Err(invalid) => return self.errors.push(stage.objective.diagnose(&invalid)),
        };
        for (name, encoder) in learner.encoders() {
            if learner.trained().contains(&name) {
                let checked = stage.optimizer.check(&Parameters::new(encoder.specs()));
                let refused = checked
                    .err()
                    .map(|invalid| stage.optimizer.diagnose(&invalid));
                self.errors.extend(refused);
            }
        }
    }

    /// Opens the sets that the health of `stage` is measured on.
    fn health(&mut self, stage: &Pretrain, data: Option<&dyn Dataset>) {
        let Some(health) = &stage.health else {
            return;
        };
        if let Some(held_out) = &health.held_out {
            self.open(held_out);
        }
        let sets = health.labelled.as_ref().map(|labelled| &labelled.sets);
        match (sets, data) {
            (Some(Some((train, test))), _) => {
                self.open(train);
                self.open(test);
            }
            (Some(None), Some(data)) if data.classes().is_empty() || data.len() < 4 => {
                let message = "the metrics of `health` need images with classes, and those of the training are not";
                let help = "give it labelled images by `train` and `test`".to_owned();
                self.error(&stage.site, "health", message.to_owned(), Some(help));
            }
            _ => {}
        }
    }

    /// Checks what `stage` starts from, with the whole learner where the run is known to be one it can do.
    fn initial(&mut self, stage: &Pretrain, setup: Option<&Setup>) -> Vec<(&'static str, String)> {
        let tensors = stage.backbone.tensors();
        let facts = match &stage.initial {
            None => Ok(Vec::new()),
            Some(Initial { extent, origin }) => match (origin, setup) {
                (Origin::Stage(name), _) => match self.trained.get(name) {
                    Some(earlier) if *earlier != tensors => Err(Failure::mistake(format!(
                        "this is another backbone than stage `{name}` trains"
                    ))
                    .help("train the same backbone in both stages")),
                    _ => Ok(vec![format!("last checkpoint of stage `{name}`")]),
                },
                (Origin::File(path), Some(setup)) => {
                    initial::examine(*extent, path, stage, setup, &self.files)
                }
                (Origin::File(path), None) => {
                    initial::read(path, *extent).map(|_| vec![path.display().to_string()])
                }
            },
        };
        self.trained.insert(stage.name.clone(), tensors);
        match facts {
            Ok(facts) => {
                let headings = std::iter::once("initial").chain(std::iter::repeat(""));
                headings.zip(facts).collect()
            }
            Err(failure) => {
                self.error(&stage.site, "initial", failure.message, failure.help);
                Vec::new()
            }
        }
    }

    /// Checks the weights of `subject`; gives the lines that tell of it.
    fn subject(&mut self, subject: &Subject) -> Vec<(&'static str, String)> {
        let mut remark = None;
        let weights = match &subject.weights {
            Weights::Untrained => "untrained".to_owned(),
            Weights::Stage(name) => format!("last checkpoint of stage `{name}`"),
            Weights::File(path) => {
                let mut parameters = Parameters::new(subject.backbone.tensors());
                let wanted = subject.encoder.as_deref();
                let origin = path.display().to_string();
                let loaded = self.files.read(path, TENSORS).and_then(|checkpoint| {
                    checkpoint::take_backbone(&checkpoint, &origin, wanted, &mut parameters)
                });
                match loaded {
                    Ok(loaded) => {
                        let text = format!("{origin}: {}", loaded.summary());
                        remark = loaded.remark;
                        text
                    }
                    Err(failure) => {
                        self.error(&subject.site, "weights", failure.message, failure.help);
                        origin
                    }
                }
            }
        };
        let mut lines = vec![
            ("backbone", subject.backbone.line.clone()),
            ("weights", weights),
        ];
        lines.extend(remark.map(|remark| ("remark", remark)));
        lines
    }

    fn evaluate(&mut self, stage: &Evaluate) -> Facts {
        let train = stage.train.as_ref().map(|set| (set, self.images(set)));
        let test = self.images(&stage.test);
        let input = evaluate::preprocessing(stage);
        let size = input.size;
        if let Some((field, message, help)) = uncropped("Evaluate", input) {
            self.error(&stage.site, field, message, help);
        }
        self.fits(&stage.site, "size", &stage.subject.backbone, size);
        let learnt_from = train.as_ref().and_then(|(_, data)| data.as_deref());
        for (field, text) in evaluate::lacking(stage, learnt_from, test.as_deref()) {
            self.error(&stage.site, field, text, None);
        }
        let mut lines = self.subject(&stage.subject);
        if let Some((set, data)) = &train {
            lines.push(("train", describe_set(&set.line(), data.as_deref())));
        }
        lines.push(("test", describe_set(&stage.test.line(), test.as_deref())));
        lines.push(("images", format!("{size} × {size} pixels")));
        for metric in &stage.metrics {
            lines.push(("metric", metric.line.clone()));
        }
        Facts {
            stage: stage.name.clone(),
            kind: "Evaluate",
            lines,
        }
    }

    fn views(&mut self, stage: &Views) -> Facts {
        let data = self.open(&stage.data);
        let planned = data.as_deref().and_then(|data| {
            let planned = statics::planned(stage, data, &self.root);
            planned.map_err(|error| self.errors.push(error)).ok()
        });
        let mut lines = vec![("data", describe_set(&stage.data.line, data.as_deref()))];
        let planned = planned.map(|(set, about)| {
            lines.extend(about);
            set
        });
        self.sets.insert(Images::of_stage(&stage.name), planned);
        Facts {
            stage: stage.name.clone(),
            kind: "Views",
            lines,
        }
    }

    fn probe(&mut self, stage: &Probe) -> Facts {
        let (train, test) = (self.images(&stage.train), self.images(&stage.test));
        let mut lines = self.subject(&stage.subject);
        for (field, message, help) in probe::check(stage, train.as_deref(), test.as_deref()) {
            self.error(&stage.site, field, message, help);
        }
        let size = probe::preprocessing(stage).size;
        self.fits(&stage.site, "size", &stage.subject.backbone, size);
        if let Some(side) = augmentation::side(None, &stage.view) {
            self.fits(&stage.site, "view", &stage.subject.backbone, side);
        }
        lines.push(("train", describe_set(&stage.train.line(), train.as_deref())));
        lines.push(("test", describe_set(&stage.test.line(), test.as_deref())));
        lines.push(("images", format!("{size} × {size} pixels")));
        lines.push(("schedule", stage.schedule.line.clone()));
        let samples = train.as_ref().map_or(0, |train| train.len());
        lines.push((
            "training",
            format!(
                "{} of {}, {}",
                counted(stage.epochs, "epoch"),
                counted(samples.div_ceil(stage.batch.max(1)), "step"),
                counted(
                    probe::linear::labels(stage, &stage.seeds.of(self.seed)).len(),
                    "classifier"
                ),
            ),
        ));
        Facts {
            stage: stage.name.clone(),
            kind: "Probe",
            lines,
        }
    }

    fn map(&mut self, stage: &Map) -> Facts {
        let data = self.images(&stage.data);
        let mut lines = self.subject(&stage.subject);
        lines.push(("data", describe_set(&stage.data.line(), data.as_deref())));
        if let Some(data) = &data {
            for (field, message, help) in map::check(stage, &**data) {
                self.error(&stage.site, field, message, help);
            }
            lines.extend(map::facts(stage, &**data));
        }
        let size = map::preprocessing(stage).size;
        self.fits(&stage.site, "size", &stage.subject.backbone, size);
        Facts {
            stage: stage.name.clone(),
            kind: "Map",
            lines,
        }
    }
}

fn describe_set(line: &str, data: Option<&dyn Dataset>) -> String {
    let mut text = line.to_owned();
    if let Some(data) = data {
        text += &format!(": {}", counted(data.len(), "image"));
        match data.classes().len() {
            0 => {}
            1 => text += ", 1 class",
            classes => text += &format!(", {} classes", grouped(classes)),
        }
    }
    text
}

fn describe_views(sizes: &[Option<usize>]) -> String {
    let sizes: Vec<_> = sizes
        .iter()
        .map(|size| size.map_or("?".to_owned(), |size| format!("{size} × {size}")))
        .collect();
    match sizes.as_slice() {
        [] => "none".to_owned(),
        [first, rest @ ..] if rest.iter().all(|size| size == first) => {
            format!("{} of {first} pixels", sizes.len())
        }
        _ => format!("{} of {} pixels", sizes.len(), sizes.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_alike_are_told_once() {
        assert_eq!(describe_views(&[Some(96), Some(96)]), "2 of 96 × 96 pixels");
        assert_eq!(
            describe_views(&[Some(224), Some(96)]),
            "2 of 224 × 224, 96 × 96 pixels"
        );
    }
}
