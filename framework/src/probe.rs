//! Linear evaluation and transfer: classifiers on the features of an encoder, as the reference's `main_lincls.py` and
//! `main_transfer.py` train them.
//!
//! What a newcomer would get wrong: a learning rate of 30 is right for features as they are, whose classifiers start at
//! next to nothing; the backbone stays in evaluation mode while linear classifiers learn; every image comes once an
//! epoch, the last batch being as large as is left; and the last epoch counts as the result, not the best one.
//!
//! [`bank`] has the classifiers as such, [`linear`] and [`tuned`] what is trained in the two modes, [`course`] the loop.

pub mod bank;
mod check;
pub mod classifiers;
mod clock;
pub mod course;
pub mod entropy;
pub mod figures;
pub mod frozen;
mod kept;
pub mod lessons;
pub mod linear;
pub mod state;
mod told;
pub mod tuned;

use std::sync::Arc;

use smallfry_data::Dataset;

use crate::{
    backbone::Preprocessing,
    evaluate::{self, Given, Known, Source},
    failure::Failure,
    fingerprint, lines,
    log::Entry,
    plan::{Probe, ProbeMode},
    results::probe::Outcome,
    workplace::Workplace,
};

pub(crate) use check::check;
use classifiers::Classifiers;
use course::Course;
use state::Shelf;
use told::Told;

/// A stage of classifiers that is ready to run.
pub struct Prepared<'a> {
    /// The stage.
    pub stage: &'a Probe,
    /// Everything that the result depends on, as text.
    pub config: String,
    /// Where the weights will come from.
    pub source: Source,
    seed: u64,
    train: Arc<dyn Dataset>,
    test: Arc<dyn Dataset>,
}

/// How the test images of `stage` are made into the network's input.
pub fn preprocessing(stage: &Probe) -> Preprocessing {
    let input = stage.subject.preprocessing(stage.size, stage.resize);
    Preprocessing {
        bicubic: stage.bicubic.unwrap_or(input.bicubic),
        ..input
    }
}

impl<'a> Prepared<'a> {
    /// Readies `stage` in an experiment of seed `seed`. The text `weights` identifies what comes from `source`, `sets` are
    /// what it trains and tests on.
    pub(crate) fn new(
        stage: &'a Probe,
        seed: u64,
        (source, weights): (Source, String),
        [train, test]: [Known; 2],
    ) -> Self {
        Self {
            stage,
            config: fingerprint::probe(stage, seed, &weights, &train.identity, &test.identity),
            source,
            seed,
            train: train.data,
            test: test.data,
        }
    }

    /// Trains and tests.
    ///
    /// # Errors
    /// The weights do not fit, images cannot be read, every classifier diverges, or the user stops.
    pub fn run(&self, given: &Given, workplace: &mut Workplace) -> Result<Outcome, Failure> {
        let stage = self.stage;
        let (encoder, weights) = evaluate::encoder(&stage.subject, given)?;
        let seeds = stage.seeds.of(self.seed);
        let labels = linear::labels(stage, &seeds);
        let (sets, preprocessing) = ([&self.train, &self.test], preprocessing(stage));
        let mut classifiers: Box<dyn Classifiers + '_> = match stage.mode {
            ProbeMode::Linear(source) => Box::new(linear::Linear::new(
                stage,
                source,
                preprocessing,
                sets,
                seeds,
                encoder,
                workplace,
            )?),
            ProbeMode::Finetune(mode) => Box::new(tuned::Tuned::new(
                stage,
                mode,
                preprocessing,
                sets,
                labels.clone(),
                &encoder.parameters(),
            )?),
        };
        let course = Course {
            stage,
            labels,
            shelf: Shelf {
                stage: &stage.name,
                config: &self.config,
                folder: workplace
                    .folder
                    .checkpoints(&stage.name)
                    .folder()
                    .to_owned(),
            },
            classes: self.train.classes().len(),
        };
        let fortunes = course.run(&mut *classifiers, workplace)?;
        let entries: Vec<Entry> = lines::read(&workplace.folder.path("log.jsonl"))?;
        let Told {
            classifiers: records,
            replaced,
        } = told::told(&entries, &stage.name, &course.labels, &fortunes)?;
        let [mut train, test] = classifiers.records();
        train.left_out.extend(replaced);
        let shared = matches!(stage.mode, ProbeMode::Linear(_));
        let name = |path: &std::path::PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("checkpoints/{}/{name}", stage.name)
        };
        Ok(Outcome {
            backbone: stage.subject.backbone.line.clone(),
            weights,
            train,
            test,
            classes: course.classes,
            epochs: stage.epochs,
            best: course
                .shelf
                .best(records.len(), shared)
                .iter()
                .map(name)
                .collect(),
            classifiers: records,
            checkpoint: name(&course.shelf.last()),
        })
    }
}
