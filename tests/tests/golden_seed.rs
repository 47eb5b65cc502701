//! SEED against the reference: losses, logits, the teacher's probabilities, its embeddings, queue, gradients and the
//! student's weights, with a cold teacher and with a warm one; and its variant for patches against a slow one in double
//! precision.
//!
//! The product is driven through its registries and traits, as the trainer does it. Logits are those of a twin of the
//! student that takes the same pass.

use std::sync::Arc;

use serde_json::Value;
use smallfry::{
    Backbone, Encoder, Head, Objective, Optimizer,
    backbone::HeadLayer,
    dfdx::tensor_ops::Backward,
    encoder::ImageBatch,
    nn::{
        network::{Activation, Spec},
        parameter::Values,
    },
    objective::{Buffer, BufferValues, Learner, Moment, Setup},
    tensor::{Features, Plain, scalar, values},
};
use smallfry_plugins as _;
use smallfry_tests::golden::{
    Fill, Reference, channels_last, fill_all, norm, relative_error, unit_columns,
};
use smallfry_tests::plugin::build;

const DIM: usize = 128;
const BATCH: usize = 8;
const SIDE: usize = 64;
const LENGTH: usize = 256;

fn setup(batch: usize) -> Setup {
    Setup {
        seed: 5,
        batch,
        samples: 1000,
        epochs: 1,
    }
}

fn moment(step: u64) -> Moment {
    Moment {
        seed: 5,
        epoch: 0,
        step,
    }
}

/// The head that `SEED` calls `Simple`.
fn simple(width: usize, dim: usize) -> Head {
    let layer = |name: &str, output, activation| HeadLayer {
        name: name.to_owned(),
        output,
        norm: None,
        activation,
        dropout: 0.0,
        own_init: false,
    };
    Head {
        layers: vec![
            layer("fc.0", width, Activation::Relu),
            layer("fc.2", dim, Activation::Identity),
        ],
        ..Head::default()
    }
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

fn unit_rows(rows: &[f32], width: usize) -> Vec<f64> {
    let unit = |row: &[f32]| {
        let row: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        row.into_iter().map(move |v| v / length).collect::<Vec<_>>()
    };
    rows.chunks(width).flat_map(unit).collect()
}

/// `[rows, 1 + length]`: each row of `rows` with its own candidate first, then with every column of `queue`.
fn logits(rows: &[f64], own: &[f64], queue: &[f32], width: usize, temperature: f64) -> Vec<f64> {
    let length = queue.len() / width;
    let row = |(row, own): (&[f64], &[f64])| {
        let first: f64 = row.iter().zip(own).map(|(a, b)| a * b).sum();
        let column = |j: usize| -> f64 {
            let products = (0..width).map(|d| row[d] * f64::from(queue[d * length + j]));
            products.sum::<f64>() / temperature
        };
        std::iter::once(first / temperature)
            .chain((0..length).map(column))
            .collect::<Vec<_>>()
    };
    let pairs = rows.chunks(width).zip(own.chunks(width));
    pairs.flat_map(row).collect()
}

fn softmax(logits: &[f64], candidates: usize) -> Vec<f64> {
    let row = |row: &[f64]| {
        let largest = row.iter().copied().fold(f64::MIN, f64::max);
        let shares: Vec<f64> = row.iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f64 = shares.iter().sum();
        shares
            .into_iter()
            .map(move |share| share / sum)
            .collect::<Vec<_>>()
    };
    logits.chunks(candidates).flat_map(row).collect()
}

/// −Σ p·ln q over the rows of `[rows, candidates]`, divided by their number.
fn cross_entropy(p: &[f64], q: &[f64], candidates: usize) -> f64 {
    let sum: f64 = p.iter().zip(q).map(|(p, q)| -p * q.max(1e-300).ln()).sum();
    sum / (p.len() / candidates) as f64
}

/// The columns of a queue.
fn columns(learner: &dyn Learner, name: &str) -> Vec<f32> {
    let buffer = learner
        .buffers()
        .into_iter()
        .find(|buffer| buffer.name == name);
    match buffer.map(|buffer| buffer.values) {
        Some(BufferValues::Float(columns)) => columns,
        other => panic!("{name}: {other:?}"),
    }
}

fn pointer(learner: &dyn Learner) -> i64 {
    let buffer = learner
        .buffers()
        .into_iter()
        .find(|buffer| buffer.name == "queue_ptr");
    match buffer.map(|buffer| buffer.values) {
        Some(BufferValues::Integer(place)) => place[0],
        other => panic!("{other:?}"),
    }
}

/// Copies all of `from` to `to`, a network of the same kind.
fn copy(from: &dyn Encoder, to: &dyn Encoder) {
    let (from, mut to) = (from.parameters(), to.parameters());
    let names = |specs: &[Spec]| {
        specs
            .iter()
            .map(|spec| spec.name.clone())
            .collect::<Vec<_>>()
    };
    assert!(names(from.specs()) == names(to.specs()));
    to.values_mut().copy_from_slice(from.values());
    to.statistics_mut().copy_from_slice(from.statistics());
}

/// What `encoder` makes of `images` in training, by a twin of it.
fn passed(encoder: &dyn Encoder, twin: &mut dyn Encoder, images: &Arc<ImageBatch>) -> Vec<f32> {
    copy(encoder, twin);
    values(&twin.train(images, 0)).into_owned()
}

#[test]
fn four_steps_of_distillation_are_those_of_the_reference() {
    let Some(reference) = Reference::find("four steps of SEED, cold and warm") else {
        return;
    };
    let file = reference.json("golden/g3_seed/trajectory.json");
    let tensors = reference.tensors("golden/g3_seed/trajectory.safetensors");
    let runs = file["runs"].as_object().expect("runs");
    assert_eq!(runs.len(), 2);
    for (name, run) in runs {
        distil(name, run, &|inside| {
            tensors[&format!("{name}.{inside}")].values.clone()
        });
    }
}

fn distil(name: &str, run: &Value, truth: &dyn Fn(&str) -> Vec<f64>) {
    let fill = |seed: &str| {
        let text = run[seed].as_str().expect("a seed").trim_start_matches("0x");
        Fill {
            seed: u64::from_str_radix(text, 16).expect("hexadecimal"),
        }
    };
    let (fill, teaching) = (fill("student_seed"), fill("teacher_seed"));
    let (cold, temperature) = (number(&run["temp"]), number(&run["t"]));
    let backbone = build::<dyn Backbone>("mobilenetv3_small(dropout: 0.0)");
    let objective = build::<dyn Objective>(&format!(
        "SEED(teacher: resnet18, weights: Untrained, queue: {LENGTH}, temperature: {temperature}, \
         teacher_temperature: {cold})"
    ));
    let started = objective.start(&setup(BATCH), &*backbone);
    let mut learner = started.unwrap_or_else(|invalid| panic!("{invalid}"));
    for ((_, encoder), fill) in learner.encoders().into_iter().zip([fill, teaching]) {
        fill_all(&mut encoder.parameters(), |_, name, shape| {
            fill.parameter(name, shape)
        });
    }
    let start = unit_columns(&fill.scaled("queue", DIM * LENGTH, 1.0), DIM);
    let buffer = Buffer {
        name: "queue".into(),
        shape: vec![DIM, LENGTH],
        values: BufferValues::Float(start),
    };
    learner.restore(buffer).expect("it is of this size");
    let mut twin = backbone.encoder(&simple(backbone.width(), DIM), 0);
    let optimizer = build::<dyn Optimizer>("SGD(lr: 0.03, momentum: 0.9, weight_decay: 1e-4)");
    let mut descent = optimizer.start(&learner.encoders()[0].1.parameters());
    let steps = run["steps_recorded"].as_array().expect("steps");
    assert_eq!(steps.len(), 4);
    for (s, expected) in steps.iter().enumerate() {
        let what = |what: &str| format!("{name}, {what} {s}");
        let images = Arc::new(ImageBatch {
            batch: BATCH,
            height: SIDE,
            width: SIDE,
            values: channels_last(
                &fill.scaled(&format!("image_{s}"), BATCH * 3 * SIDE * SIDE, 1.5),
                3,
                SIDE * SIDE,
            ),
        });
        let queue = columns(&*learner, "queue");
        let students = passed(learner.encoders()[0].1, &mut *twin, &images);
        let outcome = learner.loss(std::slice::from_ref(&images), moment(s as u64));
        let loss = f64::from(scalar(&outcome.loss));
        assert_near(&what("loss"), loss, number(&expected["loss"]), 1e-5);
        let measures = outcome.measures.clone();
        outcome.loss.backward();
        {
            let mut parameters = learner.encoders()[0].1.parameters();
            let gradient = norm(parameters.gradients());
            let truth = number(&expected["grad_l2_student"]);
            assert_near(
                &what("gradient"),
                gradient,
                truth,
                if s < 2 { 1e-4 } else { 5e-3 },
            );
            descent.step(&mut parameters, optimizer.rate());
            parameters.clear_gradients();
        }
        assert!(
            learner.encoders()[1]
                .1
                .parameters()
                .gradients()
                .iter()
                .all(|&g| g == 0.0)
        );
        assert_eq!(
            columns(&*learner, "queue"),
            queue,
            "the queue waits for the step"
        );
        learner.after_step();
        assert_eq!(
            Some(pointer(&*learner)),
            expected["queue_ptr_after"].as_i64()
        );
        // The teacher's embeddings are what came into the queue.
        let after = columns(&*learner, "queue");
        let keys: Vec<f32> = (0..BATCH * DIM)
            .map(|i| after[(i % DIM) * LENGTH + s * BATCH + i / DIM])
            .collect();
        let error = relative_error(&keys, &truth(&format!("keys_{s}")));
        assert!(error <= 1e-5, "{}: off by {error:e}", what("keys"));

        let teachers: Vec<f64> = keys.iter().map(|&v| f64::from(v)).collect();
        let own = logits(
            &unit_rows(&students, DIM),
            &teachers,
            &queue,
            DIM,
            temperature,
        );
        let own: Vec<f32> = own.iter().map(|&v| v as f32).collect();
        let error = relative_error(&own, &truth(&format!("student_logits_{s}")));
        println!("{}: off by {error:.1e}", what("logits"));
        assert!(error <= 1e-4, "{}: off by {error:e}", what("logits"));
        let targets = softmax(&logits(&teachers, &teachers, &queue, DIM, cold), LENGTH + 1);
        let probabilities = truth(&format!("teacher_prob_{s}"));
        let gaps = targets
            .iter()
            .zip(&probabilities)
            .map(|(a, b)| (a - b).abs());
        let gap = gaps.fold(0.0, f64::max);
        let tolerance = if cold < 1e-3 { 1e-2 } else { 1e-4 };
        println!(
            "{}: off by {gap:.1e} of {tolerance:.0e}",
            what("probabilities")
        );
        assert!(
            gap <= tolerance,
            "{}: off by {gap:e}",
            what("probabilities")
        );
        let entropy = number(&expected["teacher_entropy_mean"]);
        let figure = |name: &str| {
            let found = measures.iter().find(|(known, _)| *known == name);
            found.expect("it is measured").1
        };
        let gap = (figure("entropy") - entropy).abs();
        assert!(gap <= tolerance, "{}: off by {gap:e}", what("entropy"));
        let hits = number(&expected["acc1_student_picks_own_teacher"]);
        assert_eq!(figure("acc1"), hits, "{}", what("accuracy"));
    }
    let error = relative_error(&columns(&*learner, "queue"), &truth("queue"));
    assert!(error <= 1e-5, "{name}, queue: off by {error:e}");
    let encoders = learner.encoders();
    let student = encoders[0].1.parameters();
    for (i, spec) in student.specs().iter().enumerate() {
        let expected = &run["final_student"][&spec.name];
        match student.get(i) {
            Values::Integer(count) => assert_eq!(Some(count), expected["value"].as_u64()),
            Values::Float(values) => {
                let tolerance = f64::max(1e-4, 10.0 * number(&expected["rel_err_f32"]));
                let length = number(&expected["l2"]);
                let off = (norm(values) - length).abs() / length;
                assert!(off <= tolerance, "{name}, {}: off by {off:e}", spec.name);
            }
        }
    }
    let teacher = encoders[1].1.parameters();
    for (i, spec) in teacher.specs().iter().enumerate() {
        if let Values::Float(values) = teacher.get(i) {
            assert_eq!(
                values,
                teaching.parameter(&spec.name, &spec.shape),
                "{}",
                spec.name
            );
        }
    }
}

/// Smooth images, different in every one.
fn images(stream: u64, batch: usize, side: usize) -> Arc<ImageBatch> {
    let fill = Fill { seed: stream };
    Arc::new(ImageBatch {
        batch,
        height: side,
        width: side,
        values: fill.scaled("patches", batch * side * side * 3, 1.5),
    })
}

#[test]
fn patches_have_a_queue_of_their_own() {
    const WIDTH: usize = 16;
    const BATCH: usize = 4;
    const PATCHES: usize = 3;
    let backbone = build::<dyn Backbone>("resnet18(width: 0.125)");
    let objective = build::<dyn Objective>(
        "SEED(teacher: resnet18(width: 0.25), weights: Untrained, dim: 16, queue: 12, teacher_temperature: 0.1, \
         patches: 3)",
    );
    assert_eq!(objective.views(), 1 + PATCHES);
    let started = objective.start(&setup(BATCH), &*backbone);
    let mut learner = started.unwrap_or_else(|invalid| panic!("{invalid}"));
    let mut twin = backbone.encoder(&simple(backbone.width(), WIDTH), 0);
    let teach = |learner: &dyn Learner, images: &Arc<ImageBatch>| -> Vec<f64> {
        let embeddings: Plain<Features> = learner.encoders()[1].1.embed(images);
        unit_rows(&values(&embeddings), WIDTH)
    };
    assert_eq!(learner.chance_loss(), Some(2.0 * 13f64.ln()));
    for step in 0..4u64 {
        let large = images(10 * step, BATCH, 64);
        let patches: Vec<_> = (1..=PATCHES as u64)
            .map(|i| images(10 * step + i, BATCH, 32))
            .collect();
        let all = Arc::new(ImageBatch {
            batch: BATCH * PATCHES,
            height: 32,
            width: 32,
            values: patches
                .iter()
                .flat_map(|patch| patch.values.clone())
                .collect(),
        });
        let queues = ["queue", "small_queue"].map(|name| columns(&*learner, name));
        assert_ne!(queues[0], queues[1]);
        let mut expected = 0.0;
        for (images, queue) in [&large, &all].into_iter().zip(&queues) {
            // The student's second pass finds the running statistics of the first, which its batch norm does not use.
            let students = unit_rows(&passed(learner.encoders()[0].1, &mut *twin, images), WIDTH);
            let teachers = teach(&*learner, images);
            let q = softmax(&logits(&students, &teachers, queue, WIDTH, 0.2), 13);
            let p = softmax(&logits(&teachers, &teachers, queue, WIDTH, 0.1), 13);
            expected += cross_entropy(&p, &q, 13);
        }
        let mut views = vec![large.clone()];
        views.extend(patches.iter().cloned());
        let outcome = learner.loss(&views, moment(step));
        assert_near("loss", f64::from(scalar(&outcome.loss)), expected, 1e-5);
        outcome.loss.backward();
        let mut parameters = learner.encoders()[0].1.parameters();
        assert!(norm(parameters.gradients()) > 0.0);
        parameters.clear_gradients();
        drop(parameters);
        learner.after_step();
        assert_eq!(pointer(&*learner), (step as i64 + 1) % 3 * BATCH as i64);
        let place = (step as usize % 3) * BATCH;
        for (name, images) in [("queue", &large), ("small_queue", &patches[0])] {
            let after = columns(&*learner, name);
            let teachers = teach(&*learner, images);
            for (i, expected) in teachers.iter().enumerate() {
                let found = after[(i % WIDTH) * 12 + place + i / WIDTH];
                assert!((f64::from(found) - expected).abs() < 1e-5, "{name}");
            }
        }
    }
    // Both queues and their pointer go through a checkpoint.
    let saved = learner.buffers();
    let names: Vec<_> = saved.iter().map(|buffer| buffer.name.as_str()).collect();
    assert_eq!(names, ["queue", "queue_ptr", "small_queue"]);
    let other = objective.start(&setup(BATCH), &*backbone);
    let mut other = other.unwrap_or_else(|invalid| panic!("{invalid}"));
    for buffer in saved.clone() {
        other.restore(buffer).expect("it is of the same kind");
    }
    assert_eq!(other.buffers(), saved);
    let wrong = Buffer {
        shape: vec![16, 8],
        ..saved[2].clone()
    };
    let refusal = other.restore(wrong).expect_err("it is shorter");
    assert!(refusal.contains("`small_queue`"), "{refusal}");
}
