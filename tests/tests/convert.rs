//! Weights from one form to another: against files of the reference programs, there and back, and by the command line.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value as Json;
use smallfry::{
    Backbone, Head, Objective, Optimizer,
    checkpoint::{
        self, Checkpoint, Tensor, Values,
        layout::{Place, Program},
    },
    convert::{self, Report, Request, Target},
    dfdx::tensor_ops::Backward,
    encoder::ImageBatch,
    failure::Failure,
    objective::{Learner, Moment, Setup},
    tensor::{scalar, values},
    train::state::{self, Descents, Position},
};
use smallfry_formats::torch::{self, Limits, Value};
use smallfry_plugins as _;
use smallfry_tests::{
    golden::{Fill, Reference, channels_last, floats, norm, relative_error, repository},
    plugin::build,
    program::{Outcome, run},
};
use tempfile::TempDir;

const FOLDER: &str = "golden/g4_checkpoints";
const MOCO: &str = "checkpoint_0000.pth.tar";
const SEED: &str = "Teacher_moco_T-Epoch_200_Student_mobilenetv3_small_distill-Epoch_resnet18-checkpoint_0000.pth.tar";
const SIDE: usize = 64;

fn request(input: &Path, output: &Path, target: Target) -> Request {
    Request {
        input: input.to_owned(),
        output: output.to_owned(),
        target,
        backbone: None,
        encoder: None,
        overwrite: false,
    }
}

fn converted(input: &Path, output: &Path, target: Target) -> Report {
    convert::convert(&request(input, output, target)).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(request: &Request) -> Failure {
    let failure = convert::convert(request).expect_err("it must be refused");
    assert_eq!(failure.exit_code(), 2, "{failure}");
    failure
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("there is room")
}

/// Names of the state dict in a file, in their order.
fn names(path: &Path) -> Vec<String> {
    let value = torch::read(path, &Limits::default()).unwrap_or_else(|e| panic!("{e}"));
    let tensors = value.get("state_dict").unwrap_or(&value);
    let entries = tensors.entries().expect("a dictionary").iter();
    entries
        .map(|(key, _)| key.as_text().expect("a name").to_owned())
        .collect()
}

fn texts(json: &Json) -> Vec<String> {
    let list = json.as_array().expect("a list").iter();
    list.map(|text| text.as_str().expect("a text").to_owned())
        .collect()
}

/// Features of two filled images by the weights in a file.
fn features(path: &Path, backbone: &str, encoder: Option<&str>, case: &Json) -> Vec<f32> {
    let network = build::<dyn Backbone>(backbone).encoder(&Head::default(), 9);
    checkpoint::load_backbone(path, encoder, &mut network.parameters())
        .unwrap_or_else(|e| panic!("{e}"));
    let pixels = Fill::of(case).scaled("input", 2 * 3 * SIDE * SIDE, 1.5);
    let images = Arc::new(ImageBatch {
        batch: 2,
        height: SIDE,
        width: SIDE,
        values: channels_last(&pixels, 3, SIDE * SIDE),
    });
    values(&network.embed(&images)).to_vec()
}

/// Compares features with the numbers that the reference gives of them.
fn check_features(what: &str, features: &[f32], expected: &Json) {
    for (row, values) in features.chunks(features.len() / 2).enumerate() {
        let truth = floats(&expected[format!("row{row}_first8")]);
        let error = relative_error(&values[..8], &truth);
        assert!(error < 1e-5, "{what}, row {row}: off by {error:e}");
    }
    let length = expected["l2"].as_f64().expect("a number");
    assert!((norm(features) / length - 1.0).abs() < 1e-5, "{what}");
}

#[test]
fn both_encoders_of_a_reference_checkpoint_give_its_features() {
    let Some(reference) = Reference::find("features of the reference's checkpoints") else {
        return;
    };
    let about = reference.json(&format!("{FOLDER}/checkpoint_0000.json"));
    let query = &about["encoder_q_eval_features"];
    let path = |name: &str| reference.path(FOLDER).join(name);
    for (file, encoder, expected) in [
        (MOCO, None, query),
        (MOCO, Some("encoder_q"), query),
        (MOCO, Some("encoder_k"), &about["encoder_k_eval_features"]),
        ("legacy_encoder_q.pth.tar", None, query),
    ] {
        let features = features(&path(file), "mobilenetv3_small", encoder, query);
        check_features(&format!("{file} {encoder:?}"), &features, expected);
    }
}

#[test]
fn a_pupil_of_seed_becomes_the_query_encoder() {
    let Some(reference) = Reference::find("the conversion of SEED's checkpoints") else {
        return;
    };
    let about = reference.json(&format!("{FOLDER}/seed_checkpoint.json"));
    let input = reference.path(FOLDER).join(SEED);
    let folder = temporary();
    for (target, keys) in [
        (Target::Moco, &about["repository_conversion"]["keys"]),
        (Target::MocoClean, &about["after_conversion"]["keys"]),
    ] {
        let output = folder.path().join(format!("{target}.pth.tar"));
        let report = converted(&input, &output, target);
        assert!(report.weights.contains("of `student` as `encoder_q`"));
        assert_eq!(names(&output), texts(keys), "{target}");
        let value = torch::read(&output, &Limits::default()).unwrap();
        let top: Vec<_> = value
            .entries()
            .unwrap()
            .iter()
            .map(|(k, _)| k.as_text())
            .collect();
        assert_eq!(top, [Some("epoch"), Some("arch"), Some("state_dict")]);
        let case = &about["student_eval_features"];
        let features = features(&output, "mobilenetv3_small", None, case);
        check_features(&target.to_string(), &features, case);
    }
    let case = &about["student_eval_features"];
    let features = features(&input, "mobilenetv3_small", None, case);
    check_features("the file itself", &features, case);
    let teacher = build::<dyn Backbone>("resnet18").encoder(&Head::default(), 0);
    let failure = checkpoint::load_backbone(&input, None, &mut teacher.parameters())
        .expect_err("not unasked");
    let help = failure.help.expect("the teacher is there");
    assert!(help.contains("`encoder: \"teacher\"`"), "{help}");
    let loaded =
        checkpoint::load_backbone(&input, Some("teacher"), &mut teacher.parameters()).unwrap();
    assert_eq!(
        (loaded.taken, loaded.prefix.as_str()),
        (120, "module.teacher.")
    );
    assert_eq!(teacher.width(), 512);
}

#[test]
fn an_experiment_may_ask_for_the_teacher() {
    let Some(reference) = Reference::find("the teacher in an experiment file") else {
        return;
    };
    let folder = temporary();
    let photos = repository().join("tests/fixtures/diagnostics/photos");
    let file = |encoder: &str, weights: &str| {
        let text = format!(
            "Evaluate(weights: {weights}, {encoder} backbone: resnet18, train: ImageFolder(path: {photos:?}), \
             test: ImageFolder(path: {photos:?}), metrics: [BestNN(k: 1)])"
        );
        fs::write(folder.path().join("a.ron"), text).unwrap();
        run(folder.path(), &["check", "a.ron"])
    };
    let weights = format!("File({:?})", reference.path(FOLDER).join(SEED));
    let good = file("encoder: \"teacher\",", &weights);
    assert!(
        good.output.contains(
            "120 tensors of `module.teacher` (SEED), epoch 1, 4 of the head left off, 248 others not needed"
        ),
        "{good:?}"
    );
    let unasked = file("", &weights);
    assert_eq!(unasked.code, Some(2), "{unasked:?}");
    assert!(
        unasked.errors.contains("`encoder: \"teacher\"`"),
        "{unasked:?}"
    );
    let untrained = file("encoder: \"teacher\",", "Untrained");
    assert_eq!(untrained.code, Some(2), "{untrained:?}");
    assert!(untrained.errors.contains("`encoder`"), "{untrained:?}");
}

smallfry::inventory::submit! {
    Program {
        name: "a later method",
        places: &[Place { prefix: "novice.", encoder: "novice", evaluated: true }],
        marks: &[],
    }
}

#[test]
fn a_plugin_may_add_a_layout() {
    let folder = temporary();
    let own = folder.path().join("own.safetensors");
    let state = fresh("mobilenetv3_small(width: 0.25)", &own);
    let behind = |(name, tensor)| (format!("module.novice.{name}"), tensor);
    let theirs = Checkpoint {
        tensors: state.tensors.into_iter().map(behind).collect(),
        ..state
    };
    let path = folder.path().join("theirs.safetensors");
    checkpoint::write(&theirs, &path).unwrap();
    let encoder = build::<dyn Backbone>("mobilenetv3_small(width: 0.25)");
    let encoder = encoder.encoder(&Head::default(), 0);
    let loaded = checkpoint::load_backbone(&path, None, &mut encoder.parameters())
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        loaded.summary(),
        "242 tensors of `module.novice` (a later method)"
    );
}

/// MoCo in training, without dropout.
struct Training {
    learner: Box<dyn Learner>,
    descents: Descents,
    rate: f64,
}

fn training(backbone: &str, objective: &str, optimizer: &str) -> Training {
    let setup = Setup {
        seed: 1,
        batch: 8,
        samples: 1000,
        epochs: 1,
    };
    let backbone = build::<dyn Backbone>(backbone);
    let learner = build::<dyn Objective>(objective)
        .start(&setup, &*backbone)
        .unwrap_or_else(|invalid| panic!("{invalid}"));
    let optimizer = build::<dyn Optimizer>(optimizer);
    let descent = optimizer.start(&learner.encoders()[0].1.parameters());
    Training {
        descents: vec![("encoder_q", descent)],
        rate: optimizer.rate(),
        learner,
    }
}

impl Training {
    /// A step on two views `[8, 3, side, side]`; gives the loss.
    fn step(&mut self, views: [Vec<f32>; 2], side: usize, step: u64) -> f64 {
        let views = views.map(|pixels| {
            Arc::new(ImageBatch {
                batch: 8,
                height: side,
                width: side,
                values: channels_last(&pixels, 3, side * side),
            })
        });
        let moment = Moment {
            seed: 0,
            epoch: 0,
            step,
        };
        let outcome = self.learner.loss(&views, moment);
        let loss = f64::from(scalar(&outcome.loss));
        outcome.loss.backward();
        {
            let mut parameters = self.learner.encoders()[0].1.parameters();
            self.descents[0].1.step(&mut parameters, self.rate);
            parameters.clear_gradients();
        }
        self.learner.after_step();
        loss
    }
}

#[test]
fn training_goes_on_from_a_reference_checkpoint() {
    let Some(reference) = Reference::find("two steps from the reference's checkpoint") else {
        return;
    };
    let about = reference.json(&format!("{FOLDER}/checkpoint_0000.json"));
    let folder = temporary();
    let output = folder.path().join("epoch-0001.safetensors");
    let report = converted(
        &reference.path(FOLDER).join(MOCO),
        &output,
        Target::Safetensors,
    );
    assert_eq!(report.notes, [""; 0]);
    let state = checkpoint::read(&output).unwrap();
    assert_eq!(state.number("epoch"), Some(1));
    let mut training = training(
        "mobilenetv3_small(dropout: 0.0)",
        "MoCo(dim: 128, queue: 256, momentum: 0.999, temperature: 0.1, head: None)",
        "SGD(lr: 0.002, momentum: 0.9, weight_decay: 1e-4)",
    );
    let (learner, descents) = (&mut *training.learner, &mut training.descents);
    state::restore(&state, "the converted file", learner, descents)
        .unwrap_or_else(|e| panic!("{e}"));
    let resume = &about["resume"];
    let fill = Fill::of(resume);
    for (i, step) in resume["steps"].as_array().unwrap().iter().enumerate() {
        let view = |name: &str| {
            let name = step[name].as_str().expect("a name");
            fill.scaled(name, 8 * 3 * SIDE * SIDE, 1.5)
        };
        let loss = training.step([view("im_q"), view("im_k")], SIDE, i as u64);
        let expected = step["loss"].as_f64().unwrap();
        let error = (loss / expected - 1.0).abs();
        assert!(error < 1e-4, "step {i}: {loss} for {expected}");
    }
    let mut compared = 0;
    for (prefix, encoder) in training.learner.encoders() {
        let parameters = encoder.parameters();
        for (i, spec) in parameters.specs().iter().enumerate() {
            let name = format!("{prefix}.{}", spec.name);
            if let Some(expected) = resume["final_l2"][&name].as_f64()
                && let smallfry::nn::parameter::Values::Float(values) = parameters.get(i)
            {
                let gap = (norm(values) - expected).abs();
                assert!(
                    gap < 1e-4 * expected.max(1e-3),
                    "{name}: {gap:e} of {expected}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 400, "{compared} tensors compared");
}

/// A training of a narrow network after two steps, as a checkpoint.
fn trained(backbone: &str) -> Checkpoint {
    let optimizer = "SGD(lr: 0.05, momentum: 0.9, weight_decay: 0.001)";
    let mut training = training(
        backbone,
        "MoCo(dim: 16, queue: 32, momentum: 0.9, temperature: 0.2, head: Wide)",
        optimizer,
    );
    let fill = Fill { seed: 5 };
    for step in 0..2 {
        let view = |name: &str| fill.scaled(&format!("{name}{step}"), 8 * 3 * 32 * 32, 1.0);
        training.step([view("a"), view("b")], 32, step);
    }
    let resolved = |text: &str| format!("{text}\n");
    let position = Position {
        stage: "pretrain".to_owned(),
        epoch: 3,
        step: 2,
        seed: 1,
        within: None,
        config: format!(
            "seed: 1\nbackbone: {}optimizer: {}",
            resolved(backbone),
            resolved(optimizer)
        ),
    };
    state::capture(&*training.learner, &training.descents, &position)
}

#[test]
fn a_state_comes_back_the_same_from_moco_s_layout() {
    let folder = temporary();
    let own = folder.path().join("epoch-0003.safetensors");
    let theirs = folder.path().join("checkpoint_0002.pth.tar");
    let back = folder.path().join("back.safetensors");
    checkpoint::write(&trained("mobilenetv3_small(width: 0.25)"), &own).unwrap();
    let report = converted(&own, &theirs, Target::Moco);
    assert_eq!(report.notes, [""; 0]);
    converted(&theirs, &back, Target::Safetensors);
    assert_eq!(fs::read(&own).unwrap(), fs::read(&back).unwrap());

    let value = torch::read(&theirs, &Limits::default()).unwrap();
    assert_eq!(value.get("epoch").and_then(Value::as_integer), Some(3));
    assert_eq!(
        value.get("arch").and_then(Value::as_text),
        Some("mobilenetv3_small")
    );
    let names = names(&theirs);
    assert_eq!(
        names[..3],
        [
            "module.queue",
            "module.queue_ptr",
            "module.encoder_q.features.0.0.weight"
        ]
    );
    assert_eq!(
        names[names.len() - 4..],
        ["fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"]
            .map(|name| format!("module.encoder_k.{name}"))
    );
    let optimizer = value.get("optimizer").unwrap();
    let state = optimizer.get("state").and_then(Value::entries).unwrap();
    let group = &optimizer
        .get("param_groups")
        .and_then(Value::elements)
        .unwrap()[0];
    let counted = group.get("params").and_then(Value::elements).unwrap().len();
    let weights = names.iter().filter(|name| !name.contains("running_"));
    let weights = weights.filter(|name| !name.contains("queue") && !name.contains("num_batches"));
    assert_eq!((counted, 2 * state.len()), (weights.count(), counted));
    assert_eq!(group.get("lr").and_then(Value::as_float), Some(0.05));
    assert_eq!(
        group.get("weight_decay").and_then(Value::as_float),
        Some(0.001)
    );
}

#[test]
fn reference_checkpoints_keep_their_order_on_the_way_through() {
    let Some(reference) = Reference::find("the order of the reference's state dict") else {
        return;
    };
    let folder = temporary();
    let input = reference.path(FOLDER).join(MOCO);
    let own = folder.path().join("own.safetensors");
    let back = folder.path().join("back.pth.tar");
    converted(&input, &own, Target::Safetensors);
    converted(&own, &back, Target::Moco);
    assert_eq!(names(&back), names(&input));
    let read = |path: &Path| torch::read(path, &Limits::default()).unwrap();
    let (before, after) = (read(&input), read(&back));
    assert!(
        before.get("state_dict") == after.get("state_dict"),
        "tensors are the same"
    );
    assert!(
        before.get("optimizer") == after.get("optimizer"),
        "momenta and constants are the same"
    );
}

/// A backbone's own tensors in a file.
fn fresh(backbone: &str, path: &Path) -> Checkpoint {
    let encoder = build::<dyn Backbone>(backbone).encoder(&Head::default(), 3);
    let parameters = encoder.parameters();
    let mut state = Checkpoint::default();
    for (i, spec) in parameters.specs().iter().enumerate() {
        let tensor = match parameters.get(i) {
            smallfry::nn::parameter::Values::Float(values) => {
                Tensor::float(spec.shape.clone(), values.to_vec())
            }
            smallfry::nn::parameter::Values::Integer(value) => {
                Tensor::integer(spec.shape.clone(), vec![value as i64 + i as i64])
            }
        };
        state.tensors.insert(spec.name.clone(), tensor);
    }
    checkpoint::write(&state, path).unwrap();
    state
}

#[test]
fn names_of_libraries_lead_there_and_back() {
    let folder = temporary();
    for (backbone, target, known) in [
        (
            "resnet18",
            Target::Torchvision,
            "layer2.0.downsample.1.running_var",
        ),
        ("resnet18", Target::Timm, "layer4.1.bn2.weight"),
        (
            "efficientnet_b0",
            Target::Timm,
            "blocks.5.3.se.conv_reduce.bias",
        ),
        ("efficientnet_b1", Target::Timm, "blocks.0.1.conv_pw.weight"),
        (
            "efficientnet_lite0",
            Target::Timm,
            "blocks.6.0.bn3.num_batches_tracked",
        ),
    ] {
        let own = folder
            .path()
            .join(format!("{backbone}-{target}.safetensors"));
        let theirs = folder.path().join(format!("{backbone}-{target}.pth"));
        let back = folder
            .path()
            .join(format!("{backbone}-{target}-back.safetensors"));
        let before = fresh(backbone, &own);
        let mut there = request(&own, &theirs, target);
        there.backbone = Some(backbone.to_owned());
        convert::convert(&there).unwrap_or_else(|e| panic!("{e}"));
        assert!(names(&theirs).iter().any(|name| name == known), "{known}");
        let mut home = request(&theirs, &back, Target::Backbone);
        home.backbone = there.backbone;
        let report = convert::convert(&home).unwrap_or_else(|e| panic!("{e}"));
        assert!(
            report
                .weights
                .starts_with(&format!("{} tensors", before.tensors.len()))
        );
        assert!(
            checkpoint::read(&back).unwrap().tensors == before.tensors,
            "{backbone}"
        );
    }
}

#[test]
fn networks_that_a_library_has_otherwise_are_refused() {
    let folder = temporary();
    let own = folder.path().join("own.safetensors");
    for (backbone, target, reason) in [
        ("mobilenetv3_small", Target::Torchvision, "squeeze-excite"),
        ("mobilenetv3_large", Target::Timm, "squeeze-excite"),
        ("efficientnet_b0", Target::Torchvision, "pads evenly"),
    ] {
        fresh(backbone, &own);
        let mut request = request(&own, &folder.path().join("theirs.pth"), target);
        request.backbone = Some(backbone.to_owned());
        let failure = refused(&request);
        assert!(failure.message.contains(reason), "{failure}");
    }
    // The other way: torchvision's file has all the shapes and another network.
    let mut theirs = Checkpoint::default();
    for (name, tensor) in fresh("mobilenetv3_small", &own).tensors {
        let name = match name.strip_prefix("features.1.conv.0") {
            Some(rest) => format!("features.1.block.0.0{rest}"),
            None => name,
        };
        theirs.tensors.insert(name, tensor);
    }
    let path = folder.path().join("torchvision.safetensors");
    checkpoint::write(&theirs, &path).unwrap();
    let encoder = build::<dyn Backbone>("mobilenetv3_small").encoder(&Head::default(), 0);
    let failure =
        checkpoint::load_backbone(&path, None, &mut encoder.parameters()).expect_err("a stranger");
    assert!(
        failure.message.contains("has weights of torchvision"),
        "{failure}"
    );
}

/// Runs `convert` with these arguments in `folder`; gives what it says when it refuses.
fn mistake(folder: &Path, arguments: &[&str]) -> String {
    let mut all = vec!["convert"];
    all.extend(arguments);
    let outcome = run(folder, &all);
    assert_eq!(outcome.code, Some(2), "{arguments:?}: {outcome:?}");
    assert_eq!(outcome.output, "");
    outcome.errors
}

fn example(folder: &Path) -> PathBuf {
    let path = folder.join("moco.safetensors");
    checkpoint::write(&trained("mobilenetv3_small(width: 0.25)"), &path).unwrap();
    path
}

#[test]
fn mistakes_are_told_with_a_remedy() {
    let folder = temporary();
    let inside = folder.path();
    example(inside);
    fs::write(inside.join("text.pth"), "no weights at all").unwrap();
    fs::write(inside.join("there.pth.tar"), "mine").unwrap();
    for (arguments, parts) in [
        (
            vec!["none.pth", "a.pth.tar", "--to", "moco"],
            ["cannot read none.pth", ""],
        ),
        (
            vec!["text.pth", "a.safetensors", "--to", "safetensors"],
            ["text.pth", "help"],
        ),
        (
            vec!["moco.safetensors", "a.h5", "--to", "keras"],
            ["keras", "moco-clean"],
        ),
        (vec!["moco.safetensors", "a.pth"], ["--to", ""]),
        (
            vec!["moco.safetensors", "there.pth.tar", "--to", "moco"],
            ["there.pth.tar exists", "--overwrite"],
        ),
        (
            vec!["moco.safetensors", "a.safetensors", "--to", "moco"],
            ["ending", "`.pth`"],
        ),
        (
            vec!["moco.safetensors", "a.onnx", "--to", "timm"],
            ["ending", "`.safetensors`"],
        ),
        (
            vec!["moco.safetensors", "none/a.onnx", "--to", "onnx"],
            ["there is no folder none", ""],
        ),
        (
            vec![
                "moco.safetensors",
                "a.pth",
                "--to",
                "backbone",
                "--backbone",
                "resnet17",
            ],
            ["resnet17", "resnet18"],
        ),
        (
            vec![
                "moco.safetensors",
                "a.pth",
                "--to",
                "backbone",
                "--backbone",
                "resnet18",
            ],
            ["moco.safetensors holds no weights of this backbone", ""],
        ),
        (
            vec![
                "moco.safetensors",
                "a.pth",
                "--to",
                "backbone",
                "--encoder",
                "pupil",
            ],
            ["no weights of an encoder `pupil`", ""],
        ),
    ] {
        let errors = mistake(inside, &arguments);
        for part in parts {
            assert!(errors.contains(part), "{arguments:?}: {errors}");
        }
    }
    assert_eq!(fs::read(inside.join("there.pth.tar")).unwrap(), b"mine");
    let left: Vec<_> = fs::read_dir(inside).unwrap().collect();
    assert_eq!(left.len(), 3, "nothing is left behind: {left:?}");
}

#[test]
fn the_command_says_what_it_did() {
    let folder = temporary();
    let inside = folder.path();
    example(inside);
    let good = |arguments: &[&str]| -> String {
        let Outcome {
            code,
            output,
            errors,
        } = run(inside, arguments);
        assert_eq!((code, errors.as_str()), (Some(0), ""));
        output
    };
    let text = good(&["convert", "moco.safetensors", "a.pth", "--to", "backbone"]);
    assert_eq!(
        text,
        "242 tensors of `encoder_q`, epoch 3, 4 of the head left off\nwrote a.pth\n"
    );
    let arguments = [
        "convert",
        "moco.safetensors",
        "a.pth",
        "--to",
        "backbone",
        "--overwrite",
        "--json",
        "--encoder",
        "encoder_k",
    ];
    let report: Json = serde_json::from_str(&good(&arguments)).unwrap();
    assert_eq!(report["files"], serde_json::json!(["a.pth"]));
    assert!(report["weights"].as_str().unwrap().contains("`encoder_k`"));
    let key = checkpoint::read(&inside.join("a.pth")).unwrap();
    let all = checkpoint::read(&inside.join("moco.safetensors")).unwrap();
    let name = "features.4.conv.3.weight";
    assert_eq!(key.tensors[name], all.tensors[&format!("encoder_k.{name}")]);
    assert!(matches!(key.tensors[name].values, Values::Float(_)));
}
