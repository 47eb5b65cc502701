//! Optimisers against PyTorch's numbers, what a step is made of, and steps that give no number.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use smallfry::{
    Backbone, Context, Invalid, Objective, Optimizer,
    checkpoint::{self, Values},
    data::{Image, encode::jpeg, random::Random},
    encoder::{Encoder, ImageBatch},
    experiment,
    failure::{Cause, Failure},
    nn::{
        Parameters,
        init::Init,
        network::{Role, Spec},
    },
    objective::{Buffer, Learner, Moment, Outcome, Setup},
    plan::{Plan, Stage, StepRule},
    registry::{Built, parse},
    run::{self, RunOptions, replay::replay},
    source::Source,
};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::{
    program,
    small::{self, Follow, Shape},
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The two tensors of `tests/bench/optimizers.py` at their start.
fn start() -> Parameters {
    let tensor = |name: &str, shape: &[usize]| Spec {
        name: name.to_owned(),
        shape: shape.to_vec(),
        role: Role::Weight,
        init: Init::Constant(0.0),
    };
    let specs = vec![tensor("fc.weight", &[4, 3]), tensor("fc.bias", &[4])];
    let mut parameters = Parameters::new(specs);
    let weight = (0..12).map(|i| (0.9 * f64::from(i) + 0.2).sin());
    let bias = (0..4).map(|i| 0.3 * (1.3 * f64::from(i)).cos());
    for (value, start) in parameters.values_mut().iter_mut().zip(weight.chain(bias)) {
        *value = start as f32;
    }
    parameters
}

/// Their gradients in a step.
fn set_gradients(parameters: &mut Parameters, step: usize) {
    let step = step as f64;
    let weight = (0..12).map(|i| 0.4 * (1.7 * f64::from(i) + 0.6 * step).sin());
    let bias = (0..4).map(|i| 0.7 * (0.8 * f64::from(i) + 0.5 * step).cos());
    let (_, gradients) = parameters.values_and_gradients_mut();
    for (gradient, value) in gradients.iter_mut().zip(weight.chain(bias)) {
        *gradient = value as f32;
    }
}

#[test]
fn optimizers_move_as_those_of_pytorch() {
    let text = fs::read_to_string(fixtures().join("optimizers/torch.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases = file["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 5);
    let context = Context {
        folder: Path::new("."),
    };
    for (rule, case) in cases {
        let rule: Built<dyn Optimizer> =
            parse(&context, rule).unwrap_or_else(|e| panic!("{}", e[0]));
        let mut parameters = start();
        rule.check(&parameters).unwrap();
        let mut descent = rule.start(&parameters);
        for (step, expected) in case["states"].as_array().unwrap().iter().enumerate() {
            set_gradients(&mut parameters, step);
            // The rate halves after the fourth step.
            let rate = rule.rate() * if step > 3 { 0.5 } else { 1.0 };
            descent.step(&mut parameters, rate);
            let expected = expected.as_array().unwrap();
            for (value, expected) in parameters.values().iter().zip(expected) {
                let expected = expected.as_f64().unwrap();
                let gap = (f64::from(*value) - expected).abs();
                assert!(
                    gap < 2e-6,
                    "{}, step {step}: {value} for {expected}",
                    rule.name
                );
            }
        }
    }
}

#[test]
fn a_rule_that_counts_its_steps_goes_on_where_it_was() {
    let context = Context {
        folder: Path::new("."),
    };
    let rule: Built<dyn Optimizer> =
        parse(&context, "AdamW").unwrap_or_else(|e| panic!("{}", e[0]));
    let mut straight = start();
    let mut descent = rule.start(&straight);
    for step in 0..3 {
        set_gradients(&mut straight, step);
        descent.step(&mut straight, 0.1);
    }
    let mut resumed = straight.clone();
    let mut restored = rule.start(&resumed);
    for ((name, saved), (other, place)) in descent.state().iter().zip(restored.state_mut()) {
        assert_eq!(*name, other);
        place.copy_from_slice(saved);
    }
    assert_eq!(descent.steps(), Some(3));
    restored.set_steps(3);
    set_gradients(&mut straight, 3);
    set_gradients(&mut resumed, 3);
    descent.step(&mut straight, 0.1);
    restored.step(&mut resumed, 0.1);
    assert_eq!(straight.values(), resumed.values());
}

/// The plan of `small` with another batch and another step.
fn plan(folder: &Path, shape: &Shape, batch: usize, step: StepRule) -> Plan {
    let mut plan = small::plan(folder, shape);
    for stage in &mut plan.stages {
        if let Stage::Pretrain(stage) = stage {
            (stage.batch, stage.step) = (batch, step);
        }
    }
    plan
}

fn go(plan: &Plan) -> Result<PathBuf, Failure> {
    run::run(plan, &RunOptions::default()).map(|summary| summary.folder)
}

/// The weights that a run of `small` ends with.
fn weights(run: &Path, epoch: usize) -> Vec<f32> {
    let path = run.join(format!("checkpoints/pretrain/epoch-{epoch:04}.safetensors"));
    let checkpoint = checkpoint::read(&path).unwrap();
    let names = ["encoder_q.conv.weight", "encoder_q.fc.weight"];
    let tensors = names.map(|name| match &checkpoint.tensors[name].values {
        Values::Float(values) => values.clone(),
        Values::Integer(_) => panic!("weights are no integers"),
    });
    tensors.concat()
}

fn epochs(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["event"] == "epoch")
        .collect()
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape::default();
    let one = go(&plan(
        &folder.path().join("1"),
        &shape,
        16,
        StepRule::default(),
    ))
    .unwrap();
    let accumulate = StepRule {
        accumulate: 4,
        ..StepRule::default()
    };
    let many = go(&plan(&folder.path().join("4"), &shape, 4, accumulate)).unwrap();
    let (a, b) = (weights(&one, 3), weights(&many, 3));
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    assert_ne!(a, weights(&one, 1));
    // 40 images fill two steps of 16; the others are left out of both.
    for (a, b) in epochs(&one).iter().zip(&epochs(&many)) {
        assert_eq!(a["step"], b["step"]);
        let norm = |line: &Value| line["grad_norm"].as_f64().unwrap();
        assert!((norm(a) / norm(b) - 1.0).abs() < 1e-4);
    }
    assert_eq!(epochs(&many)[2]["step"], 6);
}

#[test]
fn more_batches_than_there_are_images_for_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let step = StepRule {
        accumulate: 11,
        ..StepRule::default()
    };
    let failure = go(&plan(folder.path(), &Shape::default(), 4, step)).unwrap_err();
    assert_eq!(failure.cause, Cause::Mistake);
    assert!(
        failure.message.contains("11 batches of 4 are more"),
        "{failure}"
    );
}

#[test]
fn a_gradient_that_is_too_long_is_shortened() {
    let folder = tempfile::tempdir().unwrap();
    // A single step.
    let shape = Shape {
        samples: 8,
        epochs: 1,
        ..Shape::default()
    };
    let run = |name: &str, clip| {
        let step = StepRule {
            accumulate: 1,
            clip,
        };
        go(&plan(&folder.path().join(name), &shape, 8, step)).unwrap()
    };
    let free = run("free", None);
    let norm = epochs(&free)[0]["grad_norm"].as_f64().unwrap();
    let still = run("still", Some(1e-20));
    let quarter = run("quarter", Some(norm / 4.0));
    let wide = run("wide", Some(norm * 4.0));
    // What is logged is the length before it is shortened.
    assert_eq!(
        epochs(&quarter)[0]["grad_norm"],
        epochs(&free)[0]["grad_norm"]
    );
    let [free, still, quarter, wide] = [free, still, quarter, wide].map(|run| weights(&run, 1));
    assert_eq!(free, wide);
    let mut moved = 0.0;
    for ((free, still), quarter) in free.iter().zip(&still).zip(&quarter) {
        moved += f64::from(free - still).powi(2);
        assert!(((free - still) / 4.0 - (quarter - still)).abs() < 1e-6);
    }
    // The rate is 0.5 and the velocity starts at rest.
    assert!((moved.sqrt() / (0.5 * norm) - 1.0).abs() < 1e-4);
}

#[test]
fn a_step_without_a_number_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape {
        // The first step of the second epoch.
        objective: Follow {
            diverge: Some(5),
            kill: None,
        },
        ..Shape::default()
    };
    let failure = go(&plan(folder.path(), &shape, 8, StepRule::default())).unwrap_err();
    assert_eq!(failure.cause, Cause::Fault);
    let help = failure.help.unwrap();
    let run = folder.path().join("small");
    assert!(
        help.contains(&format!("`replay {}`", run.display())),
        "{help}"
    );
    let kept = run.join("failure");
    assert_eq!(
        fs::read(kept.join("state.safetensors")).unwrap(),
        fs::read(run.join("checkpoints/pretrain/epoch-0001.safetensors")).unwrap()
    );
    let record = record(&kept);
    assert_eq!(record["step"], 6);
    assert_eq!((&record["epoch"], &record["batch"]), (&2.into(), &1.into()));
    assert_eq!(record["figure"], "loss");
    assert_eq!(record["images"][0].as_array().unwrap().len(), 8);
    let batches = checkpoint::read(&kept.join("batches.safetensors")).unwrap();
    let names: Vec<_> = batches.tensors.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["batch.1.samples", "batch.1.view.1", "batch.1.view.2"]
    );
    assert_eq!(batches.tensors["batch.1.view.2"].shape, [8, 8, 8, 3]);
}

fn record(kept: &Path) -> Value {
    let text = fs::read_to_string(kept.join("failure.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A stock objective whose loss is no number at one batch.
struct Poisoned {
    objective: Arc<dyn Objective>,
    at: u64,
}

impl Objective for Poisoned {
    fn check(&self, setup: &Setup) -> Result<(), Invalid> {
        self.objective.check(setup)
    }

    fn start(&self, setup: &Setup, backbone: &dyn Backbone) -> Result<Box<dyn Learner>, Invalid> {
        let learner = self.objective.start(setup, backbone)?;
        let at = self.at;
        Ok(Box::new(Poisoning { learner, at }))
    }
}

struct Poisoning {
    learner: Box<dyn Learner>,
    at: u64,
}

impl Learner for Poisoning {
    fn loss(&mut self, views: &[Arc<ImageBatch>], moment: Moment) -> Outcome {
        let mut outcome = self.learner.loss(views, moment);
        if moment.step == self.at {
            outcome.loss = outcome.loss * f32::NAN;
        }
        outcome
    }

    fn after_step(&mut self) {
        self.learner.after_step();
    }

    fn mark(&mut self) -> bool {
        self.learner.mark()
    }

    fn undo(&mut self) {
        self.learner.undo();
    }

    fn encoders(&self) -> Vec<(&'static str, &dyn Encoder)> {
        self.learner.encoders()
    }

    fn trained(&self) -> &'static [&'static str] {
        self.learner.trained()
    }

    fn evaluated(&self) -> &'static str {
        self.learner.evaluated()
    }

    fn buffers(&self) -> Vec<Buffer> {
        self.learner.buffers()
    }

    fn restore(&mut self, buffer: Buffer) -> Result<(), String> {
        self.learner.restore(buffer)
    }
}

/// A training on four images in `folder`, with what `more` says of it.
fn images(folder: &Path, more: &str) -> String {
    let class = folder.join("images/any");
    fs::create_dir_all(&class).unwrap();
    for i in 0..4 {
        let mut random = Random::new(&[i]);
        let image = Image {
            width: 40,
            height: 36,
            pixels: (0..40 * 36 * 3).map(|_| random.below(256) as u8).collect(),
        };
        fs::write(class.join(format!("{i}.jpg")), jpeg(&image)).unwrap();
    }
    format!(
        "Pretrain(
    data: ImageFolder(path: \"images\"),
    backbone: mobilenetv3_small,
    objective: MoCo(dim: 16, queue: 8, head: Simple, momentum: 0.9),
    view: [RandomResizedCrop(size: 32), HorizontalFlip],
    schedule: Constant,
    batch: 2,
    {more}
)"
    )
}

/// Runs that training with a loss that is no number at batch `at`; gives its run folder.
fn poisoned(folder: &Path, more: &str, at: u64) -> PathBuf {
    let source = Source::new("poisoned.ron", images(folder, more));
    let plan = experiment::parse(source, folder, "poisoned", &[]);
    let mut plan = plan.unwrap_or_else(|errors| panic!("{}", errors[0]));
    plan.output = folder.to_owned();
    for stage in &mut plan.stages {
        if let Stage::Pretrain(stage) = stage {
            let resolved = stage.objective.resolved.clone();
            let objective = stage.objective.plugin.clone();
            let objective = Box::new(Poisoned { objective, at });
            stage.objective = Built::direct(objective, "MoCo", resolved);
        }
    }
    let failure = go(&plan).unwrap_err();
    assert!(failure.message.contains("the loss is NaN"), "{failure}");
    folder.join("poisoned")
}

/// The tensors of a file.
fn tensors(path: &Path) -> BTreeMap<String, checkpoint::Tensor> {
    checkpoint::read(path).unwrap().tensors
}

#[test]
fn momentum_contrast_is_put_back_to_before_the_step() {
    for (more, at, batches) in [
        ("optimizer: SGD, epochs: 3, clip: 5.0", 2, 1),
        // The second batch of the second epoch's only step.
        (
            "optimizer: AdamW(no_decay: [Biases, Norms]), epochs: 3, accumulate: 2",
            3,
            2,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let run = poisoned(folder.path(), more, at);
        let kept = run.join("failure");
        let before = run.join("checkpoints/pretrain/epoch-0001.safetensors");
        let (state, before) = (tensors(&kept.join("state.safetensors")), tensors(&before));
        assert!(state == before);
        assert!(state.contains_key("queue"));
        assert!(state.keys().any(|name| name.starts_with("encoder_k.")));
        let views = tensors(&kept.join("batches.safetensors"));
        assert_eq!(views.len(), 3 * batches);
        assert_eq!(record(&kept)["batch"], batches);
        let shown = record(&kept)["images"].to_string();
        assert!(shown.contains("any/") && shown.contains(".jpg"), "{shown}");
        // The file says MoCo, which has no poison.
        let repeated = replay(&run).unwrap();
        assert!(!repeated.same);
        assert!(
            repeated.text.contains("repeated, it gives numbers"),
            "{repeated}"
        );
        assert!(
            repeated.text.contains("gradients: numbers throughout"),
            "{repeated}"
        );
    }
}

#[test]
fn the_program_repeats_a_step_to_the_bit_and_shows_where_the_numbers_end() {
    let folder = tempfile::tempdir().unwrap();
    let text = images(folder.path(), "optimizer: SGD(lr: 1e30), epochs: 3");
    fs::write(folder.path().join("wild.ron"), text).unwrap();
    let outcome = program::run(folder.path(), &["run", "wild.ron"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.errors.contains("at learning rate 1"), "{outcome:?}");
    let mut texts = Vec::new();
    for (place, threads) in [("runs/wild", "1"), ("runs/wild/failure", "3")] {
        let mut command = program::command(folder.path(), &["replay", place]);
        let output = command.env("RAYON_NUM_THREADS", threads).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{errors}");
        texts.push(String::from_utf8(output.stdout).unwrap());
    }
    assert_eq!(texts[0], texts[1]);
    let text = &texts[0];
    assert!(text.contains("repeated to the bit"), "{text}");
    assert!(text.contains("are no numbers, the first"), "{text}");
    assert!(text.contains("view 2: -"), "{text}");

    // With other files than it was made of it is no repetition.
    let kept = folder.path().join("runs/wild/failure");
    let record = fs::read_to_string(kept.join("failure.json")).unwrap();
    let other = record.replace("\"value_bits\": \"", "\"value_bits\": \"1");
    fs::write(kept.join("failure.json"), other).unwrap();
    let outcome = program::run(folder.path(), &["replay", "runs/wild"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.errors.contains("repeated otherwise"), "{outcome:?}");
    fs::remove_file(kept.join("failure.json")).unwrap();
    let outcome = program::run(folder.path(), &["replay", "runs/wild"]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(
        outcome.errors.contains("holds no step to repeat"),
        "{outcome:?}"
    );
}
