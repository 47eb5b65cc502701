//! Whole MoCo training against the reference: losses, logits, keys, queue, gradients, weights and statistics.
//!
//! The product is driven through its registries and traits, as the trainer does it. Two things are put between, both for
//! the sake of the numbers: dropout is taken out, and the embeddings are written down on their way.
//!
//! A unit that lies on the kink of its ReLU to within rounding falls on either side, and moves every gradient behind it by
//! more than rounding: the reference's own runs in single precision do it at the fifth step of the first run. Bounds on
//! what follows from gradients are wider from where that happens; those on losses, logits and keys are the reference's.

use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use smallfry::{
    Backbone, Encoder, Head, Objective, Optimizer,
    backbone::Preprocessing,
    dfdx::{tensor::Trace, tensor_ops::Backward},
    encoder::ImageBatch,
    nn::{Parameters, parameter::Values},
    objective::{Buffer, BufferValues, Learner, Moment, Setup},
    operation::{distillation, info_nce, normalise},
    optimizer::Descent,
    registry::Built,
    tensor::{Features, Plain, Traced, import, scalar, values},
};
use smallfry_plugins as _;
use smallfry_tests::golden::{
    Fill, Reference, channels_last, counted_parameter, counted_scaled, fill_all, floats, norm,
    relative_error, unit_columns,
};
use smallfry_tests::plugin::build;

const DIM: usize = 128;
const BATCH: usize = 8;
const SIDE: usize = 64;
const TEMPERATURE: f64 = 0.1;

/// Embeddings of passes, oldest first.
type Seen = Arc<Mutex<Vec<Vec<f32>>>>;

/// A backbone whose head has no dropout and whose encoders write their embeddings down.
struct Watched {
    inner: Built<dyn Backbone>,
    seen: Seen,
}

impl Backbone for Watched {
    fn width(&self) -> usize {
        self.inner.width()
    }

    fn preprocessing(&self) -> Preprocessing {
        self.inner.preprocessing()
    }

    fn encoder(&self, head: &Head, seed: u64) -> Box<dyn Encoder> {
        let mut head = head.clone();
        for layer in &mut head.layers {
            layer.dropout = 0.0;
        }
        Box::new(Watching {
            inner: self.inner.encoder(&head, seed),
            seen: self.seen.clone(),
        })
    }
}

struct Watching {
    inner: Box<dyn Encoder>,
    seen: Seen,
}

impl Watching {
    fn note(&self, embeddings: &[f32]) {
        self.seen
            .lock()
            .expect("no panic")
            .push(embeddings.to_vec());
    }
}

impl Encoder for Watching {
    fn width(&self) -> usize {
        self.inner.width()
    }

    fn train(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Traced<Features> {
        let embeddings = self.inner.train(images, draw);
        self.note(&values(&embeddings));
        embeddings
    }

    fn momentum(&mut self, images: &Arc<ImageBatch>, draw: u64) -> Plain<Features> {
        let embeddings = self.inner.momentum(images, draw);
        self.note(&values(&embeddings));
        embeddings
    }

    fn embed(&self, images: &Arc<ImageBatch>) -> Plain<Features> {
        self.inner.embed(images)
    }

    fn parameters(&self) -> MutexGuard<'_, Parameters> {
        self.inner.parameters()
    }
}

/// MoCo in training, as the reference's runs set it up.
struct Run {
    learner: Box<dyn Learner>,
    descent: Box<dyn Descent>,
    rate: f64,
    negatives: usize,
    seen: Seen,
    steps: u64,
}

/// What a step gives, in double precision where it is computed here.
struct Step {
    loss: f64,
    accuracies: [f64; 2],
    logits: Vec<f32>,
    keys: Vec<f32>,
    /// The trained encoder as it went into the optimiser.
    before: Parameters,
}

impl Step {
    fn gradient(&self) -> f64 {
        norm(self.before.gradients())
    }
}

impl Run {
    /// Starts a run whose state-dict entries and queue (`[DIM, negatives]`, a key in each column) are given.
    fn new(
        backbone: &str,
        head: &str,
        negatives: usize,
        fill: impl Fn(usize, &str, &[usize]) -> Vec<f32>,
        queue: &[f32],
    ) -> Self {
        let seen = Seen::default();
        let backbone = Watched {
            inner: build(backbone),
            seen: seen.clone(),
        };
        let objective = build::<dyn Objective>(&format!(
            "MoCo(dim: {DIM}, queue: {negatives}, momentum: 0.999, temperature: {TEMPERATURE}, head: {head})"
        ));
        let setup = Setup {
            seed: 0,
            batch: BATCH,
            samples: 1000,
            epochs: 1,
        };
        let started = objective.start(&setup, &backbone);
        let mut learner = started.unwrap_or_else(|invalid| panic!("{invalid}"));
        for (_, encoder) in learner.encoders() {
            fill_all(&mut encoder.parameters(), &fill);
        }
        let columns = unit_columns(queue, DIM);
        let buffer = Buffer {
            name: "queue".into(),
            shape: vec![DIM, negatives],
            values: BufferValues::Float(columns),
        };
        learner.restore(buffer).expect("it is of this size");
        let optimizer = build::<dyn Optimizer>("SGD(lr: 0.06, momentum: 0.9, weight_decay: 1e-4)");
        let descent = optimizer.start(&learner.encoders()[0].1.parameters());
        Self {
            learner,
            descent,
            rate: optimizer.rate(),
            negatives,
            seen,
            steps: 0,
        }
    }

    /// The queue in the reference's layout, and the pointer.
    fn queue(&self) -> (Vec<f32>, i64) {
        match &self.learner.buffers()[..] {
            [
                Buffer {
                    name: queue,
                    shape,
                    values: BufferValues::Float(columns),
                },
                Buffer {
                    name: pointer,
                    values: BufferValues::Integer(place),
                    ..
                },
            ] => {
                assert_eq!((queue.as_str(), pointer.as_str()), ("queue", "queue_ptr"));
                assert_eq!(*shape, [DIM, self.negatives]);
                (columns.clone(), place[0])
            }
            others => panic!("unexpected buffers {others:?}"),
        }
    }

    /// A step on two views `[BATCH, 3, SIDE, SIDE]`.
    fn step(&mut self, first: &[f32], second: &[f32]) -> Step {
        let view = |pixels| {
            Arc::new(ImageBatch {
                batch: BATCH,
                height: SIDE,
                width: SIDE,
                values: channels_last(pixels, 3, SIDE * SIDE),
            })
        };
        let (queue, _) = self.queue();
        let moment = Moment {
            seed: 0,
            epoch: 0,
            step: self.steps,
        };
        let outcome = self.learner.loss(&[view(first), view(second)], moment);
        let loss = f64::from(scalar(&outcome.loss));
        outcome.loss.backward();
        let before = {
            let mut parameters = self.learner.encoders()[0].1.parameters();
            let before = parameters.clone();
            self.descent.step(&mut parameters, self.rate);
            parameters.clear_gradients();
            before
        };
        self.learner.after_step();
        self.steps += 1;
        let [query, keys] =
            <[Vec<f32>; 2]>::try_from(std::mem::take(&mut *self.seen.lock().expect("no panic")))
                .expect("one pass of each encoder");
        let (query, keys) = (unit_rows(&query), unit_rows(&keys));
        let accuracies = [("acc1", 0), ("acc5", 1)].map(|(name, i)| {
            assert_eq!(outcome.measures[i].0, name);
            outcome.measures[i].1
        });
        Step {
            loss,
            accuracies,
            logits: logits(&query, &keys, &queue),
            keys: keys.iter().map(|&v| v as f32).collect(),
            before,
        }
    }

    /// Compares the pointer, and the newest column of the queue with the newest key.
    fn check_queue(&self, step: &Step) {
        let (queue, pointer) = self.queue();
        let place = (BATCH as i64 * self.steps as i64) % self.negatives as i64;
        assert_eq!(pointer, place);
        let column = (pointer as usize + self.negatives - 1) % self.negatives;
        for (d, key) in step.keys[(BATCH - 1) * DIM..].iter().enumerate() {
            assert!((queue[d * self.negatives + column] - key).abs() < 1e-6);
        }
    }
}

fn unit_rows(rows: &[f32]) -> Vec<f64> {
    let unit = |row: &[f32]| {
        let length = row
            .iter()
            .map(|&v| f64::from(v).powi(2))
            .sum::<f64>()
            .sqrt();
        row.iter()
            .map(|&v| f64::from(v) / length)
            .collect::<Vec<_>>()
    };
    rows.chunks(DIM).flat_map(unit).collect()
}

/// `[BATCH, 1 + negatives]`, the positive first.
fn logits(query: &[f64], keys: &[f64], queue: &[f32]) -> Vec<f32> {
    let negatives = queue.len() / DIM;
    let row = |(query, key): (&[f64], &[f64])| {
        let positive: f64 = query.iter().zip(key).map(|(a, b)| a * b).sum();
        let mut row = vec![(positive / TEMPERATURE) as f32];
        for j in 0..negatives {
            let product: f64 = (0..DIM)
                .map(|d| query[d] * f64::from(queue[d * negatives + j]))
                .sum();
            row.push((product / TEMPERATURE) as f32);
        }
        row
    };
    query
        .chunks(DIM)
        .zip(keys.chunks(DIM))
        .flat_map(row)
        .collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn assert_near(what: &str, value: f64, expected: f64, tolerance: f64) {
    let gap = (value - expected).abs() / expected.abs();
    println!("{what}: off by {gap:.1e} of {tolerance:.0e}");
    assert!(
        gap <= tolerance,
        "{what}: {value} for {expected}, off by {gap:e}"
    );
}

fn assert_error(what: &str, error: f64, tolerance: f64) {
    println!("{what}: off by {error:.1e} of {tolerance:.0e}");
    assert!(error <= tolerance, "{what}: off by {error:e}");
}

/// A run of `golden/g2_moco`.
fn filled(case: &Value, head: &str) -> (Run, Fill) {
    let fill = Fill::of(case);
    let negatives = 256;
    let queue = fill.scaled("queue", DIM * negatives, 1.0);
    let parameter = |_: usize, name: &str, shape: &[usize]| fill.parameter(name, shape);
    let run = Run::new(
        "mobilenetv3_small(dropout: 0.0)",
        head,
        negatives,
        parameter,
        &queue,
    );
    (run, fill)
}

fn step_of(run: &mut Run, fill: Fill, step: usize) -> Step {
    let view = |name: &str| fill.scaled(&format!("{name}_{step}"), BATCH * 3 * SIDE * SIDE, 1.5);
    run.step(&view("im_q"), &view("im_k"))
}

#[test]
fn six_steps_of_mobilenet_are_those_of_the_reference() {
    let Some(reference) = Reference::find("six steps of MoCo on MobileNetV3-Small") else {
        return;
    };
    let file = reference.json("golden/g2_moco/trajectory.json");
    let tensors = reference.tensors("golden/g2_moco/trajectory.safetensors");
    let (mut run, fill) = filled(&file, "Wide");
    let steps = file["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 6);
    for (s, expected) in steps.iter().enumerate() {
        let step = step_of(&mut run, fill, s);
        run.check_queue(&step);
        assert_near(
            &format!("loss {s}"),
            step.loss,
            number(&expected["loss"]),
            1e-4,
        );
        let keys = relative_error(&step.keys, &tensors[&format!("keys_{s}")].values);
        assert_error(&format!("keys {s}"), keys, 1e-4);
        let logits = relative_error(&step.logits, &tensors[&format!("logits_{s}")].values);
        assert_error(&format!("logits {s}"), logits, 1e-3);
        let tolerance = if s < 3 { 1e-4 } else { 5e-3 };
        let gradient = number(&expected["grad_l2_encoder_q"]);
        assert_near(
            &format!("gradient {s}"),
            step.gradient(),
            gradient,
            tolerance,
        );
        assert_eq!(
            run.queue().1,
            expected["queue_ptr_after"].as_i64().expect("a place")
        );
        if number(&expected["min_abs_margin_positive_vs_negatives"]) > 1e-3 {
            let accuracies = [number(&expected["acc1"]), number(&expected["acc5"])];
            assert_eq!(step.accuracies, accuracies, "step {s}");
        }
    }
    let queue = relative_error(&run.queue().0, &tensors["queue"].values);
    assert_error("queue", queue, 1e-4);
    for (prefix, encoder) in run.learner.encoders() {
        let parameters = encoder.parameters();
        let (mut compared, mut gap, mut size) = (0, 0.0, 0.0);
        for (i, spec) in parameters.specs().iter().enumerate() {
            let expected = &file["final"][prefix][&spec.name];
            match parameters.get(i) {
                Values::Integer(count) => assert_eq!(Some(count), expected["value"].as_u64()),
                Values::Float(values) => {
                    // Each tensor by its own size; the reference's error in single precision says what is attainable.
                    let hint = number(&expected["rel_err_f32"]);
                    let tolerance = f64::max(1e-4, 10.0 * hint);
                    let what = format!("{prefix}.{}", spec.name);
                    let length = number(&expected["l2"]);
                    let off = (norm(values) - length).abs() / length;
                    assert!(off <= tolerance, "length of {what}: off by {off:e}");
                    if let Some(whole) = tensors.get(&what) {
                        let error = relative_error(values, &whole.values);
                        assert!(
                            error <= tolerance,
                            "{what}: off by {error:e}, {tolerance:e} allowed"
                        );
                        gap += (error * length).powi(2);
                        size += length.powi(2);
                        compared += 1;
                    }
                }
            }
        }
        assert!(compared > 100, "{prefix}: {compared} tensors");
        assert_error(
            &format!("all small tensors of {prefix}"),
            f64::sqrt(gap / size),
            5e-4,
        );
    }
}

#[test]
fn two_steps_with_every_head_are_those_of_the_reference() {
    let Some(reference) = Reference::find("MoCo with every head") else {
        return;
    };
    let file = reference.json("golden/g2_moco/mlp_variants.json");
    for (name, head) in [
        ("simple", "Simple"),
        ("deep", "Deep"),
        ("dropout", "Dropout"),
        ("none", "None"),
    ] {
        let case = &file["variants"][name];
        let (mut run, fill) = filled(case, head);
        let steps = case["steps"].as_array().expect("steps");
        assert_eq!(steps.len(), 2);
        for (s, expected) in steps.iter().enumerate() {
            let step = step_of(&mut run, fill, s);
            run.check_queue(&step);
            assert_near(
                &format!("{name}, loss {s}"),
                step.loss,
                number(&expected["loss"]),
                1e-4,
            );
            let gradient = number(&expected["grad_l2_encoder_q"]);
            assert_near(
                &format!("{name}, gradient {s}"),
                step.gradient(),
                gradient,
                1e-3,
            );
            let keys = floats(&expected["keys_row0_first8"]);
            assert_error(
                &format!("{name}, keys {s}"),
                relative_error(&step.keys[..8], &keys),
                1e-4,
            );
            let logits = floats(&expected["logits_row0_first8"]);
            assert_error(
                &format!("{name}, logits {s}"),
                relative_error(&step.logits[..8], &logits),
                1e-3,
            );
            let accuracies = [number(&expected["acc1"]), number(&expected["acc5"])];
            assert_eq!(step.accuracies, accuracies, "{name}, step {s}");
        }
    }
}

#[test]
fn heads_have_the_names_and_shapes_of_the_reference() {
    let Some(reference) = Reference::find("names and shapes of heads") else {
        return;
    };
    let file = reference.json("golden/g2_moco/heads.json");
    for backbone in ["mobilenetv3_small", "mobilenetv3_large", "resnet18"] {
        for head in ["Simple", "Deep", "Dropout", "Wide", "None"] {
            let objective = build::<dyn Objective>(&format!("MoCo(queue: 8, head: {head})"));
            let setup = Setup {
                seed: 0,
                batch: 8,
                samples: 8,
                epochs: 1,
            };
            let learner = objective.start(&setup, &*build::<dyn Backbone>(backbone).plugin);
            let learner = learner.unwrap_or_else(|invalid| panic!("{invalid}"));
            let expected = file["heads"][backbone][head.to_lowercase()].as_object();
            let expected = expected.expect("entries by name");
            for (_, encoder) in learner.encoders() {
                let parameters = encoder.parameters();
                let layers = parameters
                    .specs()
                    .iter()
                    .filter(|spec| spec.name.starts_with("fc"));
                let mut found = 0;
                for spec in layers {
                    let shape: Vec<usize> = floats(&expected[&spec.name])
                        .iter()
                        .map(|&size| size as usize)
                        .collect();
                    assert_eq!(spec.shape, shape, "{backbone}, {head}, {}", spec.name);
                    found += 1;
                }
                assert_eq!(found, expected.len(), "{backbone}, {head}");
            }
        }
    }
}

/// The numbers after `label` on a line, up to the first word that is none.
fn after(line: &str, label: &str) -> Vec<f64> {
    let (_, rest) = line
        .split_once(label)
        .unwrap_or_else(|| panic!("no `{label}` in `{line}`"));
    rest.split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect()
}

fn assert_all_near(what: &str, values: &[f32], expected: &[f64], tolerance: f64) {
    assert_error(
        what,
        relative_error(&values[..expected.len()], expected),
        tolerance,
    );
}

#[test]
fn three_steps_of_resnet_are_those_of_the_second_set_of_values() {
    let Some(reference) = Reference::find("three steps of MoCo on ResNet-18") else {
        return;
    };
    let text = reference.text("spec/values/golden_training.txt");
    let (_, text) = text.split_once("MoCo golden run").expect("a run");
    let negatives = 32;
    let queue = counted_scaled(500, DIM * negatives, 1.0);
    let parameter =
        |i: usize, name: &str, shape: &[usize]| counted_parameter(i as u64, name, shape);
    let mut run = Run::new("resnet18", "Wide", negatives, parameter, &queue);
    let mut lines = text.lines().skip(1);
    for s in 0..3u64 {
        let mut line = || lines.next().expect("seven lines a step");
        let view = |t| counted_scaled(1_000_000 + 2 * s + t, BATCH * 3 * SIDE * SIDE, 2.0);
        let step = run.step(&view(0), &view(1));
        run.check_queue(&step);
        let tolerance = [1e-4, 1e-3, 5e-3][s as usize];
        let head = line();
        assert!(head.starts_with(&format!("step {s} ")), "{head}");
        assert_near(
            &format!("loss {s}"),
            step.loss,
            after(head, "loss ")[0],
            tolerance,
        );
        assert_all_near(
            &format!("logits {s}"),
            &step.logits,
            &after(head, "logits[0,0..3] "),
            tolerance,
        );
        // Four numbers of the first layer's gradient feel every flipped unit behind it.
        let rough = [2e-2, 1e-1, 5e-1][s as usize];
        let gradients = line();
        for (name, label) in [
            ("conv1.weight", "conv1.weight flat[0..3] "),
            ("fc.2.bias", "fc.2.bias[0..3] "),
        ] {
            let what = format!("gradient of {name} {s}");
            assert_all_near(
                &what,
                step.before.gradient(name),
                &after(gradients, label),
                rough,
            );
        }
        let (queue, pointer) = run.queue();
        let after_step = line();
        assert_eq!(pointer as f64, after(after_step, "ptr ")[0]);
        assert_all_near(
            &format!("queue {s}"),
            &queue,
            &after(after_step, "queue[0,0..3] "),
            1e-4,
        );
        let encoders = run.learner.encoders();
        for (prefix, encoder) in &encoders {
            let weights = after(line(), "flat[0..3] ");
            let parameters = encoder.parameters();
            assert_all_near(
                &format!("{prefix} {s}"),
                parameters.weight("conv1.weight"),
                &weights,
                rough / 20.0,
            );
        }
        for (prefix, encoder) in &encoders {
            let line = line();
            let parameters = encoder.parameters();
            for name in ["running_mean", "running_var"] {
                let place = parameters.statistic_place(&format!("bn1.{name}"));
                let label = if name == "running_mean" {
                    "running_mean[0..2] "
                } else {
                    "running_var "
                };
                let statistics = &parameters.statistics()[place];
                assert_all_near(
                    &format!("{prefix} {name} {s}"),
                    statistics,
                    &after(line, label),
                    1e-4,
                );
            }
        }
    }
}

#[test]
fn losses_against_a_queue_are_those_of_the_second_set_of_values() {
    let Some(reference) = Reference::find("losses against a queue") else {
        return;
    };
    let text = reference.text("spec/values/golden_training.txt");
    let (batch, width, length) = (4, 8, 16);
    let rows = |stream| {
        normalise(import(
            counted_scaled(stream, batch * width, 1.0),
            (batch, width),
        ))
    };
    let (query, key) = (rows(601), rows(602));
    // The values' queue has a key in each column.
    let columns = counted_scaled(603, width * length, 1.0);
    let keys = (0..length).flat_map(|key| (0..width).map(move |d| (d, key)));
    let keys = keys.map(|(d, key)| columns[d * length + key]).collect();
    let queue = normalise(import(keys, (length, width)));
    let mut compared = 0;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let temperature = |i: usize| words[i].parse::<f32>().expect("a temperature");
        let loss = if line.starts_with("InfoNCE T ") {
            info_nce(query.leaky_trace(), key.clone(), &queue, temperature(2)).loss
        } else if line.starts_with("SEED soft-CE student T ") {
            distillation(
                query.leaky_trace(),
                &key,
                &queue,
                temperature(4),
                temperature(7),
            )
            .loss
        } else {
            continue;
        };
        let expected = words[words.len() - 1].parse().expect("a loss");
        assert_near(line, f64::from(scalar(&loss)), expected, 1e-6);
        compared += 1;
    }
    assert_eq!(compared, 6);
}
