//! The health of a training, from the plan to the log, the report and the end of a run that collapsed.

use std::{
    fs,
    path::Path,
    sync::{Arc, MutexGuard},
};

use serde_json::Value;
use smallfry::{
    Backbone, Encoder, Head, Invalid, Objective, Schedule,
    backbone::HeadLayer,
    dfdx::tensor_ops::MeanTo,
    encoder::ImageBatch,
    failure::{Cause, Failure},
    nn::{Parameters, network::Activation},
    objective::{Buffer, Learner, Moment, Outcome, Setup},
    plan::{Health, Labelled, Plan, Pretrain, Reaction, Stage},
    registry::Built,
    run::{self, RunOptions},
    tensor::{Features, Plain, Traced, import},
    workplace::Existing,
};
use smallfry_tests::small::{self, Follow, Shape, Total};

fn stage(plan: &mut Plan) -> &mut Pretrain {
    match &mut plan.stages[1] {
        Stage::Pretrain(stage) => stage,
        _ => panic!("the second stage is a training"),
    }
}

/// Measures 20 images after every epoch.
fn health() -> Health {
    Health {
        every: Some(1),
        images: 20,
        ..Health::default()
    }
}

fn train(folder: &Path, shape: &Shape, change: impl Fn(&mut Pretrain)) -> Result<(), Failure> {
    let mut plan = small::plan(folder, shape);
    change(stage(&mut plan));
    let options = RunOptions {
        existing: Existing::Resume,
        ..RunOptions::default()
    };
    run::run(&plan, &options).map(|_| ())
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("small/log.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn measured(folder: &Path) -> Vec<Value> {
    let mut lines = lines(folder);
    lines.retain(|line| line["event"] == "health");
    lines
}

#[test]
fn figures_come_before_the_line_of_their_epoch_and_change_nothing_else() {
    let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shape = Shape::default();
    train(with.path(), &shape, |stage| stage.health = Some(health())).unwrap();
    train(without.path(), &shape, |_| ()).unwrap();

    let log = lines(with.path());
    let kinds: Vec<_> = log
        .iter()
        .filter(|line| line["event"] != "step")
        .map(|line| (line["event"].as_str().unwrap(), line["epoch"].as_u64()))
        .collect();
    let expected = [
        ("start", None),
        ("health", Some(0)),
        ("health", Some(1)),
        ("epoch", Some(1)),
        ("health", Some(2)),
        ("epoch", Some(2)),
        ("health", Some(3)),
        ("epoch", Some(3)),
    ];
    assert_eq!(kinds, expected);
    for line in measured(with.path()) {
        let figure = |name: &str| line[name].as_f64().unwrap();
        assert_eq!(line["step"], 5 * line["epoch"].as_u64().unwrap());
        assert_eq!((&line["images"], &line["width"]), (&20.into(), &3.into()));
        assert!(line["collapse"].is_null());
        assert!((1.0..=3.001).contains(&figure("effective_rank")));
        assert!((0.0..=4.0).contains(&figure("alignment")));
        assert!((-8.0..=0.0).contains(&figure("uniformity")));
        assert!(figure("deviation") > 0.0 && figure("deviation") < 0.578);
        assert!((0.0..=100.0).contains(&figure("instance_accuracy")));
    }

    let others: Vec<_> = log.iter().filter(|l| l["event"] != "health").collect();
    assert_eq!(others, lines(without.path()).iter().collect::<Vec<_>>());
    for epoch in 1..=3 {
        let path = format!("small/checkpoints/pretrain/epoch-{epoch:04}.safetensors");
        let read = |folder: &Path| fs::read(folder.join(&path)).unwrap();
        assert!(read(with.path()) == read(without.path()), "{path}");
    }
    let page = |folder: &Path| fs::read_to_string(folder.join("small/report.html")).unwrap();
    assert!(page(with.path()).contains("Health after epoch 3, of 20 images: effective rank"));
    assert!(!page(without.path()).contains("Health after"));
}

#[test]
fn a_run_gone_on_with_measures_the_same() {
    let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let watch = |stage: &mut Pretrain| stage.health = Some(health());
    train(whole.path(), &Shape::default(), watch).unwrap();
    // Steps within the second and the third epoch are no numbers at first.
    for step in [7, 13] {
        let shape = Shape {
            objective: Follow {
                diverge: Some(step),
                kill: None,
            },
            ..Shape::default()
        };
        train(stopped.path(), &shape, watch).unwrap_err();
    }
    train(stopped.path(), &Shape::default(), watch).unwrap();
    for name in [
        "log.jsonl",
        "results.json",
        "checkpoints/pretrain/epoch-0003.safetensors",
    ] {
        let read = |folder: &Path| fs::read(folder.join("small").join(name)).unwrap();
        assert!(read(whole.path()) == read(stopped.path()), "{name}");
    }
}

#[test]
fn metrics_by_labels_are_figures_like_others() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), &Shape::default(), |stage| {
        stage.health = Some(Health {
            labelled: Some(Labelled {
                sets: None,
                metrics: vec![Built::direct(Box::new(Total), "Total", "Total()")],
            }),
            ..health()
        });
    })
    .unwrap();
    let totals: Vec<_> = measured(folder.path())
        .iter()
        .map(|line| line["total"].as_f64().unwrap())
        .collect();
    assert_eq!(totals.len(), 4);
    assert!(totals.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn a_held_out_set_is_measured_in_place_of_the_training_images() {
    let folder = tempfile::tempdir().unwrap();
    let noise = small::Noise::new(12, &[3]);
    train(folder.path(), &Shape::default(), |stage| {
        stage.health = Some(Health {
            held_out: Some(Built::direct(
                Box::new(noise.clone()),
                "Noise",
                "Noise(held out)",
            )),
            ..health()
        });
    })
    .unwrap();
    // One of the twelve cannot be read.
    assert!(
        measured(folder.path())
            .iter()
            .all(|line| line["images"] == 11)
    );
}

/// Shrinks all numbers of the embeddings but the first, until they lie on a line.
struct Flatten {
    /// Whether inference gives no numbers.
    broken: bool,
}

struct Flattening {
    encoder: Box<dyn Encoder>,
}

impl Objective for Flatten {
    fn check(&self, _: &Setup) -> Result<(), Invalid> {
        Ok(())
    }

    fn start(&self, setup: &Setup, backbone: &dyn Backbone) -> Result<Box<dyn Learner>, Invalid> {
        let layer = HeadLayer {
            name: "fc".to_owned(),
            output: 3,
            norm: None,
            activation: Activation::Identity,
            dropout: 0.0,
            own_init: true,
        };
        let head = Head {
            layers: vec![layer],
            ..Head::default()
        };
        let encoder = backbone.encoder(&head, setup.seed);
        Ok(Box::new(Flattening {
            encoder: match self.broken {
                true => Box::new(Broken(encoder)),
                false => encoder,
            },
        }))
    }
}

impl Learner for Flattening {
    fn loss(&mut self, views: &[Arc<ImageBatch>], moment: Moment) -> Outcome {
        let embeddings = self.encoder.train(&views[0], moment.step);
        let mask = [0.0, 1.0, 1.0].repeat(views[0].batch);
        let others = embeddings * import(mask, (views[0].batch, 3));
        Outcome {
            loss: others.square().mean(),
            measures: Vec::new(),
        }
    }

    fn encoders(&self) -> Vec<(&'static str, &dyn Encoder)> {
        vec![("encoder", &*self.encoder)]
    }

    fn trained(&self) -> &'static [&'static str] {
        &["encoder"]
    }

    fn evaluated(&self) -> &'static str {
        "encoder"
    }

    fn buffers(&self) -> Vec<Buffer> {
        Vec::new()
    }

    fn restore(&mut self, _: Buffer) -> Result<(), String> {
        Err("there is none".to_owned())
    }
}

/// An encoder that trains but infers no numbers.
struct Broken(Box<dyn Encoder>);

impl Encoder for Broken {
    fn width(&self) -> usize {
        self.0.width()
    }

    fn train(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Traced<Features> {
        self.0.train(images, draw)
    }

    fn momentum(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Plain<Features> {
        self.0.momentum(images, draw)
    }

    fn embed(&self, images: &Arc<ImageBatch>) -> Plain<Features> {
        import(vec![f32::NAN; 3 * images.batch], (images.batch, 3))
    }

    fn parameters(&self) -> MutexGuard<'_, Parameters> {
        self.0.parameters()
    }
}

#[derive(Clone, Copy)]
struct Constant;

impl Schedule for Constant {
    fn factor(&self, _: usize, _: usize) -> f64 {
        1.0
    }
}

/// Trains [`Flatten`] for 30 epochs of 5 steps.
fn flatten(folder: &Path, broken: bool, health: Option<Health>) -> Result<(), Failure> {
    let shape = Shape {
        epochs: 30,
        keep: Some(2),
        ..Shape::default()
    };
    let health = std::cell::Cell::new(health);
    train(folder, &shape, |stage| {
        let objective = Flatten { broken };
        stage.objective = Built::direct(Box::new(objective), "Flatten", "Flatten()");
        stage.schedule = Built::direct(Box::new(Constant), "Constant", "Constant()");
        stage.health = health.take();
    })
}

fn checkpoints(folder: &Path) -> Vec<String> {
    let path = folder.join("small/checkpoints/pretrain");
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_collapse_stops_the_run_with_the_reason_and_keeps_the_states_before() {
    let folder = tempfile::tempdir().unwrap();
    let failure = flatten(folder.path(), false, Some(health())).unwrap_err();
    assert_eq!(failure.cause, Cause::Fault);
    let log = lines(folder.path());
    let epoch = log[log.len() - 1]["epoch"].as_u64().unwrap();
    // Not before the fifth epoch, and not before features lie on a line.
    assert!((5..30).contains(&epoch));
    let ranks = |line: &&Value| line["event"] == "health" && line["epoch"] != epoch;
    for line in log.iter().filter(ranks) {
        let rank = line["effective_rank"].as_f64().unwrap();
        assert!(line["collapse"].is_null() && (rank > 1.5 || line["epoch"].as_u64() < Some(5)));
    }
    let message = &failure.message;
    let (stopped, kept) = (
        format!(
            "stage `pretrain` stopped after epoch {epoch}: the features have collapsed: those of all 20 images lie along \
             one direction (effective rank 1."
        ),
        format!("the state after epoch {} is kept", epoch - 1),
    );
    assert!(
        message.starts_with(&stopped) && message.contains(&kept),
        "{message}"
    );
    let help = failure.help.unwrap();
    assert!(
        help.contains("`health: Health(on_collapse: Warn)`"),
        "{help}"
    );
    let names = [2, 1].map(|before| format!("epoch-{:04}.safetensors", epoch - before));
    assert_eq!(checkpoints(folder.path()), names);
    assert_eq!(log[log.len() - 1]["event"], "epoch");
    assert!(
        log[log.len() - 2]["collapse"]
            .as_str()
            .unwrap()
            .contains("one direction")
    );
    let report = fs::read_to_string(folder.path().join("small/report.html")).unwrap();
    assert!(report.contains("<strong>Collapsed:</strong> the features have collapsed"));

    // Going on stops there again, unless only a warning is wanted.
    let again = flatten(folder.path(), false, Some(health())).unwrap_err();
    assert_eq!(again.message, *message);
    assert_eq!(lines(folder.path()), log);
    let warned = Health {
        on_collapse: Reaction::Warn,
        ..health()
    };
    flatten(folder.path(), false, Some(warned)).unwrap();
    assert_eq!(
        checkpoints(folder.path()),
        ["epoch-0029.safetensors", "epoch-0030.safetensors"]
    );
}

#[test]
fn a_collapse_is_given_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let patient = Health {
        patience: 31,
        ..health()
    };
    flatten(folder.path(), false, Some(patient)).unwrap();
    let last = measured(folder.path()).pop().unwrap();
    assert!(last["effective_rank"].as_f64().unwrap() < 1.5 && last["collapse"].is_null());
}

#[test]
fn features_that_are_no_numbers_stop_the_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let failure = flatten(folder.path(), true, Some(health())).unwrap_err();
    assert!(
        failure.message.starts_with(
            "stage `pretrain` stopped after epoch 0: the features of 20 of 20 images are not finite, `"
        ),
        "{failure}"
    );
    let line = measured(folder.path()).pop().unwrap();
    assert!(line["collapse"].as_str().unwrap().contains("not finite"));
    flatten(folder.path(), true, None).unwrap();
}
