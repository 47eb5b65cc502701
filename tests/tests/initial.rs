//! Training that starts from an earlier one: what is taken, what is not, what is told, and that it goes on exactly.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use smallfry::{
    Backbone, Objective, Optimizer,
    checkpoint::{self, Checkpoint, Tensor, Values},
    dfdx::tensor_ops::Backward,
    encoder::ImageBatch,
    failure::{Cause, Failure},
    nn::{Parameters, network::Role, parameter},
    objective::{BufferValues, Learner, Moment, Setup},
    plan::{Extent, Initial, Origin, Plan, Pretrain, Stage},
    registry::Built,
    run::{self, RunOptions},
    tensor::scalar,
    train::{
        initial::{self, Taken},
        state::{self, Descents},
    },
    workplace::Existing,
};
use smallfry_plugins as _;
use smallfry_tests::{
    golden::{Fill, Reference, channels_last},
    plugin::build,
    small::{self, Follow, Shape},
};

const CHECKPOINTS: &str = "golden/g4_checkpoints";
const SEED: &str = "Teacher_moco_T-Epoch_200_Student_mobilenetv3_small_distill-Epoch_resnet18-checkpoint_0000.pth.tar";

/// A training that has not begun.
struct Fresh {
    backbone: Built<dyn Backbone>,
    learner: Box<dyn Learner>,
    descents: Descents,
    rate: f64,
}

fn fresh(backbone: &str, objective: &str) -> Fresh {
    let backbone = build::<dyn Backbone>(backbone);
    let setup = Setup {
        seed: 5,
        batch: 8,
        samples: 1000,
        epochs: 3,
    };
    let started = build::<dyn Objective>(objective).start(&setup, &*backbone.plugin);
    let learner = started.unwrap_or_else(|invalid| panic!("{invalid}"));
    let optimizer = build::<dyn Optimizer>("SGD(lr: 0.002, momentum: 0.9, weight_decay: 1e-4)");
    Fresh {
        descents: state::descents(&*learner, &*optimizer.plugin),
        rate: optimizer.rate(),
        backbone,
        learner,
    }
}

impl Fresh {
    fn apply(&mut self, extent: Extent, checkpoint: &Checkpoint) -> Result<Taken, Failure> {
        let backbone = self.backbone.tensors();
        initial::apply(
            extent,
            checkpoint,
            "the file",
            &backbone,
            &mut *self.learner,
            &mut self.descents,
        )
    }

    fn parameters(&self, encoder: &str) -> Parameters {
        let encoders = self.learner.encoders();
        let found = encoders.iter().find(|(name, _)| *name == encoder);
        found.expect("it is there").1.parameters().clone()
    }

    fn queue(&self) -> (Vec<f32>, i64) {
        let buffers = self.learner.buffers();
        match (&buffers[0].values, &buffers[1].values) {
            (BufferValues::Float(queue), BufferValues::Integer(pointer)) => {
                (queue.clone(), pointer[0])
            }
            _ => panic!("other buffers"),
        }
    }
}

fn floats(tensor: &Tensor) -> &[f32] {
    match &tensor.values {
        Values::Float(values) => values,
        Values::Integer(_) => panic!("no floats"),
    }
}

/// Checks every tensor of `parameters` that `wanted` picks against that of `checkpoint` behind `prefix`.
fn assert_from(
    parameters: &Parameters,
    checkpoint: &Checkpoint,
    prefix: &str,
    wanted: impl Fn(&str, Role) -> bool,
) {
    let mut compared = 0;
    for (i, spec) in parameters.specs().iter().enumerate() {
        if wanted(&spec.name, spec.role) {
            let expected = &checkpoint.tensors[&format!("{prefix}{}", spec.name)];
            match (parameters.get(i), &expected.values) {
                (parameter::Values::Float(values), Values::Float(expected)) => {
                    assert!(values == expected, "{}", spec.name);
                }
                (parameter::Values::Integer(value), Values::Integer(expected)) => {
                    assert_eq!(value as i64, expected[0], "{}", spec.name);
                }
                _ => panic!("{} has another type", spec.name),
            }
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared} tensors");
}

fn is_head(name: &str) -> bool {
    name.starts_with("fc.")
}

#[track_caller]
fn assert_told(taken: &Taken, fact: &str) {
    let told = taken.facts.iter().any(|known| known.contains(fact));
    assert!(told, "`{fact}` is not in\n{}", taken.facts.join("\n"));
}

#[test]
fn a_distillation_starts_a_contrast_as_the_reference_restarts_it() {
    let Some(reference) = Reference::find("a contrast that starts from a distillation") else {
        return;
    };
    let path = reference.path(&format!("{CHECKPOINTS}/{SEED}"));
    let file = initial::read(&path, Extent::Restart).expect("it can be read");
    let mut fresh = fresh("mobilenetv3_small", "MoCo(queue: 256, head: Wide)");
    let (start, start_key) = (fresh.parameters("encoder_q"), fresh.parameters("encoder_k"));
    let taken = fresh.apply(Extent::Restart, &file).expect("it fits");

    let query = fresh.parameters("encoder_q");
    assert_from(&query, &file, "module.student.", |name, _| !is_head(name));
    // Of the student's narrower head the last bias alone has the shape of the wide one's.
    assert_eq!(
        query.weight("fc.2.bias"),
        floats(&file.tensors["module.student.fc.2.bias"])
    );
    assert_ne!(query.weight("fc.2.bias"), start.weight("fc.2.bias"));
    for name in ["fc.0.weight", "fc.0.bias", "fc.2.weight"] {
        assert_eq!(query.weight(name), start.weight(name), "{name}");
    }
    let key = fresh.parameters("encoder_k");
    assert!(key.values() == query.values());
    assert_eq!(key.statistics(), start_key.statistics());
    assert!(key.counters().iter().all(|&count| count == 0));
    let (queue, pointer) = fresh.queue();
    assert!(queue == floats(&file.tensors["module.queue"]));
    assert_eq!((pointer, taken.epochs), (8, 0));

    assert_told(&taken, "the file: 242 tensors of `module.student` (SEED)");
    assert_told(&taken, "taken into the head of `encoder_q`: fc.2.bias");
    assert_told(
        &taken,
        "dropped, of another shape, in `encoder_q`: fc.0.weight (F32 [1024, 1024] instead of F32 [2048, 1024])",
    );
    assert_told(
        &taken,
        "`encoder_k` has the weights of `encoder_q`, and its running statistics as initialised",
    );
    assert_told(&taken, "taken beside the networks: queue, queue_ptr");
    assert_told(&taken, "of teacher");
}

#[test]
fn what_does_not_fit_is_dropped_and_told() {
    let Some(reference) = Reference::find("a contrast with another queue than the distillation's")
    else {
        return;
    };
    let path = reference.path(&format!("{CHECKPOINTS}/{SEED}"));
    let file = initial::read(&path, Extent::Restart).expect("it can be read");
    let mut longer = fresh("mobilenetv3_small", "MoCo(queue: 512, head: Simple)");
    let start = longer.queue();
    let taken = longer.apply(Extent::Restart, &file).expect("it fits");
    // The reference loads the pointer even where it drops the queue.
    assert_eq!(longer.queue(), (start.0, 8));
    assert_told(
        &taken,
        "dropped: queue (F32 [128, 256] instead of [128, 512])",
    );
    assert_told(&taken, "taken beside the networks: queue_ptr");
    assert_told(
        &taken,
        "taken into the head of `encoder_q`: fc.0.weight, fc.0.bias, fc.2.weight, fc.2.bias",
    );
    assert_from(
        &longer.parameters("encoder_q"),
        &file,
        "module.student.",
        |_, _| true,
    );

    let mut bare = fresh("mobilenetv3_small", "MoCo(queue: 256, head: Simple)");
    let (start, queue) = (bare.parameters("encoder_q"), bare.queue());
    let taken = bare.apply(Extent::Backbone, &file).expect("it fits");
    let query = bare.parameters("encoder_q");
    assert_from(&query, &file, "module.student.", |name, _| !is_head(name));
    for name in ["fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"] {
        assert_eq!(query.weight(name), start.weight(name), "{name}");
    }
    assert_eq!(bare.queue(), queue);
    assert_told(
        &taken,
        "as initialised in `encoder_q`: fc.0.weight, fc.0.bias, fc.2.weight, fc.2.bias",
    );
    assert_told(&taken, "queue");

    let mut other = fresh("resnet18", "MoCo(queue: 256)");
    let failure = other
        .apply(Extent::Restart, &file)
        .expect_err("it is another network");
    assert_eq!(failure.cause, Cause::Mistake);
}

#[test]
fn a_contrast_restarts_with_the_key_encoders_own_statistics() {
    let Some(reference) = Reference::find("a contrast that starts from another") else {
        return;
    };
    let path = reference.path(&format!("{CHECKPOINTS}/checkpoint_0000.pth.tar"));
    let file = initial::read(&path, Extent::Restart).expect("it can be read");
    let mut fresh = fresh("mobilenetv3_small", "MoCo(queue: 256, head: None)");
    let taken = fresh.apply(Extent::Restart, &file).expect("it fits");
    let (query, key) = (fresh.parameters("encoder_q"), fresh.parameters("encoder_k"));
    assert_from(&query, &file, "module.encoder_q.", |_, _| true);
    assert!(key.values() == query.values());
    assert_from(&key, &file, "module.encoder_k.", |_, role| {
        matches!(role, Role::Statistic | Role::Counter)
    });
    assert_told(&taken, "and its own running statistics of the file");
    assert!(fresh.descents.iter().all(|(_, descent)| {
        let state = descent.state();
        state
            .iter()
            .all(|(_, state)| state.iter().all(|v| *v == 0.0))
    }));
}

#[test]
fn two_steps_from_a_file_of_the_reference_are_the_references() {
    let Some(reference) = Reference::find("two steps from the reference's checkpoint") else {
        return;
    };
    let path = reference.path(&format!("{CHECKPOINTS}/checkpoint_0000.pth.tar"));
    let about = reference.json(&format!("{CHECKPOINTS}/checkpoint_0000.json"));
    let about = &about["resume"];
    let file = initial::read(&path, Extent::Resume).expect("it can be read");
    let mut run = fresh(
        "mobilenetv3_small(dropout: 0.0)",
        "MoCo(queue: 256, temperature: 0.1, head: None)",
    );
    let taken = run
        .apply(Extent::Resume, &file)
        .expect("it is of this very training");
    assert_eq!(taken.epochs, 1);
    assert!(taken.check(1).is_err() && taken.check(2).is_ok());
    let fill = Fill::of(about);
    let view = |name: &str| {
        let pixels = fill.scaled(name, 8 * 3 * 64 * 64, 1.5);
        Arc::new(ImageBatch {
            batch: 8,
            height: 64,
            width: 64,
            values: channels_last(&pixels, 3, 64 * 64),
        })
    };
    let steps = about["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 2);
    for (step, expected) in steps.iter().enumerate() {
        let name = |which: &str| expected[which].as_str().expect("a name");
        let views = [view(name("im_q")), view(name("im_k"))];
        let moment = Moment {
            seed: 0,
            epoch: 1,
            step: step as u64,
        };
        let outcome = run.learner.loss(&views, moment);
        let (loss, wanted) = (f64::from(scalar(&outcome.loss)), number(&expected["loss"]));
        outcome.loss.backward();
        let mut parameters = run.learner.encoders()[0].1.parameters();
        run.descents[0].1.step(&mut parameters, run.rate);
        parameters.clear_gradients();
        drop(parameters);
        let (_, before) = run.queue();
        run.learner.after_step();
        let error = (loss - wanted).abs() / wanted;
        println!("loss of step {step}: off by {error:.1e} of 1e-4");
        assert!(error < 1e-4, "step {step}: {loss} for {wanted}");
        let (queue, pointer) = run.queue();
        assert_eq!(Some(pointer), expected["queue_ptr_after"].as_i64());
        let keys = expected["keys_row0_first8"].as_array().expect("numbers");
        for (d, key) in keys.iter().enumerate() {
            let own = f64::from(queue[d * 256 + before as usize]);
            assert!((own - number(key)).abs() < 1e-4, "key {d} of step {step}");
        }
    }
    // Weights, statistics and momenta went into this: lengths after the steps.
    let lengths = about["final_l2"].as_object().expect("lengths");
    let mut compared = 0;
    for (name, encoder) in run.learner.encoders() {
        let parameters = encoder.parameters();
        for (i, spec) in parameters.specs().iter().enumerate() {
            if let (parameter::Values::Float(values), Some(length)) = (
                parameters.get(i),
                lengths.get(&format!("{name}.{}", spec.name)),
            ) {
                let own: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
                let (own, length) = (own.sqrt(), number(length));
                assert!(
                    (own - length).abs() <= 1e-4 * length,
                    "{name}.{}: {own} for {length}",
                    spec.name
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 200, "{compared} lengths");
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn a_whole_state_goes_on_in_the_very_same_training_only() {
    let Some(reference) = Reference::find("a state that does not fit") else {
        return;
    };
    let path = reference.path(&format!("{CHECKPOINTS}/checkpoint_0000.pth.tar"));
    let file = initial::read(&path, Extent::Resume).expect("it can be read");
    for (objective, named) in [
        ("MoCo(queue: 256, head: Wide)", "encoder_q.fc.0.weight"),
        ("MoCo(queue: 512, head: None)", "queue"),
    ] {
        let mut run = fresh("mobilenetv3_small", objective);
        let failure = run.apply(Extent::Resume, &file).expect_err("it is another");
        assert_eq!(failure.cause, Cause::Mistake);
        assert!(failure.message.contains(named), "{}", failure.message);
        assert!(failure.help.is_some_and(|help| help.contains("Restart")));
    }
}

#[test]
fn a_bare_backbone_of_a_library_is_taken() {
    let source = fresh("resnet18", "MoCo(queue: 8, head: None)").parameters("encoder_q");
    let mut file = Checkpoint::default();
    for (i, spec) in source.specs().iter().enumerate() {
        if let parameter::Values::Float(values) = source.get(i)
            && !spec.name.starts_with("fc")
        {
            let values = values.iter().map(|value| value + 0.5).collect();
            file.tensors
                .insert(spec.name.clone(), Tensor::float(spec.shape.clone(), values));
        }
    }
    // The classifier of torchvision's.
    file.tensors.insert(
        "fc.weight".into(),
        Tensor::float(vec![3, 512], vec![0.0; 1536]),
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("library.safetensors");
    checkpoint::write(&file, &path).unwrap();
    let file = initial::read(&path, Extent::Restart).unwrap();
    let mut run = fresh("resnet18", "MoCo(queue: 8)");
    let taken = run.apply(Extent::Restart, &file).expect("it fits");
    assert_from(&run.parameters("encoder_q"), &file, "", |name, role| {
        !is_head(name) && role != Role::Counter
    });
    assert!(run.parameters("encoder_k").values() == run.parameters("encoder_q").values());
    assert_told(&taken, "as initialised: queue, queue_ptr");
    assert_told(&taken, "not needed: fc");

    // A network that is half random is a mistake, and every tensor that lacks is named.
    file.tensors
        .get("layer4.1.conv2.weight")
        .expect("it is there");
    let mut torn = file;
    torn.tensors.remove("layer4.1.conv2.weight");
    let failure = run.apply(Extent::Restart, &torn).expect_err("it is torn");
    assert!(
        failure.message.contains("layer4.1.conv2.weight"),
        "{}",
        failure.message
    );
}

fn training(plan: &mut Plan) -> &mut Pretrain {
    match &mut plan.stages[1] {
        Stage::Pretrain(stage) => stage,
        _ => panic!("the second stage trains"),
    }
}

fn run(plan: &Plan, existing: Existing) -> Result<PathBuf, Failure> {
    let options = RunOptions {
        existing,
        ..RunOptions::default()
    };
    run::run(plan, &options).map(|summary| summary.folder)
}

/// The tensors of a checkpoint after `epochs` epochs of stage `stage`.
fn tensors(folder: &Path, stage: &str, epochs: usize) -> Checkpoint {
    let path = folder.join(format!("checkpoints/{stage}/epoch-{epochs:04}.safetensors"));
    Checkpoint {
        tensors: checkpoint::read(&path).unwrap().tensors,
        ..Checkpoint::default()
    }
}

#[test]
fn two_epochs_and_one_more_from_their_file_are_three() {
    let shape = |epochs| Shape {
        epochs,
        ..Shape::default()
    };
    let (whole, first, second) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let whole = run(&small::plan(whole.path(), &shape(3)), Existing::Refuse).unwrap();
    let first = run(&small::plan(first.path(), &shape(2)), Existing::Refuse).unwrap();
    let file = first.join("checkpoints/pretrain/epoch-0002.safetensors");
    let resumed = |epochs| {
        let mut plan = small::plan(second.path(), &shape(epochs));
        training(&mut plan).initial = Some(Initial {
            extent: Extent::Resume,
            origin: Origin::File(file.clone()),
        });
        plan
    };
    let failure = run(&resumed(2), Existing::Refuse).expect_err("there is nothing left to do");
    assert!(
        failure.message.contains("2 epochs done"),
        "{}",
        failure.message
    );
    assert!(
        !second.path().join("small").exists(),
        "a mistake leaves nothing"
    );

    let folder = run(&resumed(3), Existing::Refuse).unwrap();
    assert!(tensors(&folder, "pretrain", 3) == tensors(&whole, "pretrain", 3));
    let log = fs::read_to_string(folder.join("log.jsonl")).unwrap();
    assert!(
        log.contains("epoch-0002.safetensors: the whole state, epoch 2"),
        "{log}"
    );
    assert!(
        log.contains(r#""event":"epoch","stage":"pretrain","epoch":3"#),
        "{log}"
    );
    assert!(
        !log.contains(r#""event":"epoch","stage":"pretrain","epoch":1"#),
        "{log}"
    );
    // What it started from is part of what the run is.
    let config = checkpoint::read(&folder.join("checkpoints/pretrain/epoch-0003.safetensors"));
    let config = config.unwrap().metadata["config"].clone();
    assert!(config.contains("initial: Resume of file "), "{config}");
    let again = run(&resumed(3), Existing::Resume).unwrap();
    assert!(tensors(&again, "pretrain", 3) == tensors(&whole, "pretrain", 3));
}

/// A plan of two trainings, the second of which starts from the first.
fn chain(output: &Path, diverge: Option<u64>) -> Plan {
    let mut plan = small::plan(output, &Shape::default());
    let mut second = small::plan(output, &Shape::default());
    let mut second = second.stages.remove(1);
    if let Stage::Pretrain(stage) = &mut second {
        stage.name = "second".to_owned();
        stage.objective = Built::direct(
            Box::new(Follow {
                diverge,
                kill: None,
            }),
            "Follow",
            "Follow()",
        );
        stage.initial = Some(Initial {
            extent: Extent::Restart,
            origin: Origin::Stage("pretrain".to_owned()),
        });
    }
    plan.stages.insert(2, second);
    plan
}

#[test]
fn stages_feed_each_other_and_go_on_after_a_failure() {
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = run(&chain(whole.path(), None), Existing::Refuse).unwrap();
    let start = tensors(&expected, "pretrain", 3);
    let log = fs::read_to_string(expected.join("log.jsonl")).unwrap();
    assert!(
        log.contains("stage `pretrain`: 3 tensors of `encoder_q`"),
        "{log}"
    );
    assert!(
        log.contains("taken into the head of `encoder_q`: fc.weight"),
        "{log}"
    );
    assert!(
        log.contains("taken beside the networks: queue, queue_ptr"),
        "{log}"
    );
    assert!(tensors(&expected, "second", 1) != start);

    for step in [0, 7] {
        run(&chain(broken.path(), Some(step)), Existing::Overwrite).expect_err("it diverges");
        let folder = run(&chain(broken.path(), None), Existing::Resume).unwrap();
        for name in ["log.jsonl", "checkpoints/second/epoch-0003.safetensors"] {
            let same =
                fs::read(folder.join(name)).unwrap() == fs::read(expected.join(name)).unwrap();
            assert!(same, "{name} differs");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_a_mistake_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = small::plan(folder.path(), &Shape::default());
    for extent in [Extent::Backbone, Extent::Restart, Extent::Resume] {
        training(&mut plan).initial = Some(Initial {
            extent,
            origin: Origin::File(folder.path().join("missing.pth.tar")),
        });
        let failure = run(&plan, Existing::Refuse).expect_err("there is no such file");
        assert_eq!(failure.cause, Cause::Mistake);
        assert!(
            failure.message.contains("missing.pth.tar"),
            "{}",
            failure.message
        );
        assert!(!folder.path().join("small").exists());
    }
}
