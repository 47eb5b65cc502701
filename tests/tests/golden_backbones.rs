//! The stock backbones against golden values from PyTorch in `f64`: features, batch-norm statistics, all gradients.
//!
//! Tolerances are those of the reference's README for an implementation in `f32`. Dropout is off in the golden numbers.

use serde_json::Value;
use smallfry_backbones::{
    mobilenet_v3::{MobileNetV3Large, MobileNetV3Small},
    resnet::{ResNet18, ResNet34},
};
use smallfry_nn::{
    Executor, Images, Mode, Network, Parameters,
    init::Init,
    network::{Activation, Block, Linear, Role},
    parameter::Values,
};
use smallfry_tests::golden::{
    Fill, Reference, channels_last, counted_parameter, counted_scaled, floats, norm, relative_error,
};

fn network(name: &str) -> Network {
    match name {
        "mobilenetv3_small" => MobileNetV3Small {
            dropout: 0.0,
            ..Default::default()
        }
        .network(),
        "mobilenetv3_large" => MobileNetV3Large {
            dropout: 0.0,
            ..Default::default()
        }
        .network(),
        "resnet18" => ResNet18::default().network(),
        "resnet34" => ResNet34::default().network(),
        _ => panic!("no network is named `{name}`"),
    }
}

fn fill(parameters: &mut Parameters, values: impl Fn(usize, &str, &[usize]) -> Vec<f32>) {
    for i in 0..parameters.specs().len() {
        let spec = parameters.specs()[i].clone();
        if spec.role != Role::Counter {
            let values = values(i, &spec.name, &spec.shape);
            parameters.floats_mut(i).copy_from_slice(&values);
        }
    }
}

/// Compares one case of `golden/g1_backbones`.
fn check(name: &str, case: &str) {
    let Some(reference) = Reference::find("golden values of backbones") else {
        return;
    };
    let file = |suffix: &str| format!("golden/g1_backbones/{name}_{case}{suffix}");
    let golden = reference.json(&file(".json"));
    let tensors = reference.tensors(&file(".safetensors"));
    let size = |key: &str| golden[key].as_u64().unwrap() as usize;
    let [batch, height, width] = ["n", "h", "w"].map(size);
    let golden_fill = Fill::of(&golden);
    let network = network(name);
    let pixels = height * width;
    let input = golden_fill.scaled("input", batch * 3 * pixels, 1.5);
    let input = channels_last(&input, 3, pixels);
    let images = Images {
        batch,
        height,
        width,
        values: &input,
    };
    let mut parameters = Parameters::new(network.tensors());
    fill(&mut parameters, |_, name, shape| {
        golden_fill.parameter(name, shape)
    });
    let mut executor = Executor::new(network.clone());
    let mut features = vec![0.0; batch * network.width()];
    let at = |what: &str| format!("{name} {case}: {what}");

    executor.forward(&mut parameters, images, Mode::Infer, &mut features);
    let error = relative_error(&features, &tensors["eval_features"].values);
    assert!(error < 1e-5, "{} {error:e}", at("eval"));

    let calibrated = reference.tensors(&file("_calibrated.safetensors"));
    let mut own = parameters.clone();
    for i in 0..own.specs().len() {
        let spec = own.specs()[i].clone();
        if let Some(buffer) = calibrated.get(&format!("buffer.{}", spec.name))
            && spec.role == Role::Statistic
        {
            own.floats_mut(i).copy_from_slice(&buffer.floats());
        }
    }
    executor.forward(&mut own, images, Mode::Infer, &mut features);
    let error = relative_error(&features, &calibrated["features"].values);
    assert!(error < 1e-4, "{} {error:e}", at("calibrated eval"));

    let mut momentum = parameters.clone();
    let train = &tensors["train_features"].values;
    for (mode, parameters) in [
        (Mode::Momentum { draw: 0 }, &mut momentum),
        (Mode::Train { draw: 0 }, &mut parameters),
    ] {
        executor.forward(parameters, images, mode, &mut features);
        let error = relative_error(&features, train);
        assert!(error < 1e-4, "{} {error:e}", at("training features"));
        statistics(parameters, &tensors, &at(""));
    }

    let cotangent = golden_fill.scaled("cotangent", features.len(), 1.0);
    let mut gradient = vec![0.0; input.len()];
    executor.backward(&mut parameters, images, &cotangent, Some(&mut gradient));
    gradients(&parameters, &golden, &at(""));
    let truth = &golden["grad_input"];
    let (own, l2) = (norm(&gradient), truth["l2"].as_f64().unwrap());
    assert!(
        (own / l2 - 1.0).abs() < 2e-2,
        "{} {own} {l2}",
        at("input gradient")
    );
    // The golden numbers are the first of the first channel's plane.
    for (i, truth) in floats(&truth["first8"]).iter().enumerate() {
        let own = f64::from(gradient[3 * i]);
        assert!(
            (own - truth).abs() < 2e-2 * l2,
            "{} {own} {truth}",
            at("input gradient")
        );
    }
}

fn statistics(
    parameters: &Parameters,
    tensors: &std::collections::BTreeMap<String, smallfry_tests::golden::Tensor>,
    at: &str,
) {
    for (i, spec) in parameters.specs().iter().enumerate() {
        let truth = |name| &tensors[&format!("after_train.{name}")].values;
        match (spec.role, parameters.get(i)) {
            (Role::Statistic, Values::Float(own)) => {
                let error = relative_error(own, truth(&spec.name));
                assert!(error < 1e-5, "{at}{} {error:e}", spec.name);
            }
            (Role::Counter, Values::Integer(own)) => assert_eq!(own as f64, truth(&spec.name)[0]),
            _ => {}
        }
    }
}

fn gradients(parameters: &Parameters, golden: &Value, at: &str) {
    let all = golden["all_grads_l2"].as_f64().unwrap();
    let total = norm(parameters.gradients());
    assert!(
        (total / all - 1.0).abs() < 2e-2,
        "{at}all gradients: {total} {all}"
    );
    for spec in parameters
        .specs()
        .iter()
        .filter(|spec| spec.role == Role::Weight)
    {
        let (own, truth) = (
            parameters.gradient(&spec.name),
            &golden["grads"][&spec.name],
        );
        if truth["analytically_zero"] == true {
            let error = norm(own) / all;
            assert!(error < 1e-4, "{at}{} should be zero: {error:e}", spec.name);
            continue;
        }
        let l2 = truth["l2"].as_f64().unwrap();
        let error = (norm(own) / l2 - 1.0).abs();
        assert!(error < 2e-2, "{at}gradient of {}: {error:e}", spec.name);
        for (own, truth) in own.iter().zip(floats(&truth["first4"])) {
            let error = (f64::from(*own) - truth).abs() / l2;
            assert!(error < 2e-2, "{at}gradient of {}: {own} {truth}", spec.name);
        }
    }
}

#[test]
fn mobilenetv3_small() {
    for case in ["n4_64x64", "n3_72x88", "n2_224x224"] {
        check("mobilenetv3_small", case);
    }
}

#[test]
fn mobilenetv3_large() {
    for case in ["n4_64x64", "n2_224x224"] {
        check("mobilenetv3_large", case);
    }
}

#[test]
fn resnet18() {
    for case in ["n4_64x64", "n3_72x88", "n2_224x224"] {
        check("resnet18", case);
    }
}

#[test]
fn resnet34() {
    for case in ["n4_64x64", "n2_224x224"] {
        check("resnet34", case);
    }
}

/// The 1000-way network whose key list and forward pass the second set of values gives.
fn classifier(name: &str) -> (Network, usize) {
    let mut network = network(name);
    let input = network.width();
    network.blocks.push(Block::Linear(Linear {
        name: "fc".into(),
        input,
        output: 1000,
        bias: true,
        activation: Activation::Identity,
        dropout: 0.0,
        init: Init::Constant(0.0),
        bias_init: Init::Constant(0.0),
    }));
    (network, input)
}

#[test]
fn keys_and_shapes_are_those_of_the_reference_in_its_order() {
    let Some(reference) = Reference::find("state-dict keys of backbones") else {
        return;
    };
    for name in [
        "mobilenetv3_small",
        "mobilenetv3_large",
        "resnet18",
        "resnet34",
    ] {
        let text = reference.text(&format!("spec/statedict/statedict_{name}.txt"));
        let expected: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect();
        let tensors = classifier(name).0.tensors();
        let own = tensors.iter().map(|spec| {
            let (kind, element) = match spec.role {
                Role::Weight | Role::Frozen => ("param", "float32"),
                Role::Statistic => ("buffer", "float32"),
                Role::Counter => ("buffer", "int64"),
            };
            format!("{} {:?} {element} {kind}", spec.name, spec.shape)
        });
        let own: Vec<_> = own.collect();
        assert_eq!(own, expected, "{name}");
    }
}

#[test]
fn forward_passes_of_the_second_set() {
    let Some(reference) = Reference::find("the second set of forward passes") else {
        return;
    };
    let text = reference.text("spec/values/golden_forward.txt");
    for name in [
        "mobilenetv3_small",
        "mobilenetv3_large",
        "resnet18",
        "resnet34",
    ] {
        let block = text.split(&format!("{name} feature_dim")).nth(1).unwrap();
        let numbers = |label: &str| -> Vec<f64> {
            let line = block.lines().find(|line| line.trim().starts_with(label));
            let line = line.unwrap().trim().trim_start_matches(label);
            line.split_whitespace()
                .map_while(|word| word.parse().ok())
                .collect()
        };
        let (network, width) = classifier(name);
        let mut parameters = Parameters::new(network.tensors());
        fill(&mut parameters, |t, name, shape| {
            counted_parameter(t as u64, name, shape)
        });
        let input = counted_scaled(1_000_000, 3 * 224 * 224, 2.0);
        let input = channels_last(&input, 3, 224 * 224);
        let images = Images {
            batch: 1,
            height: 224,
            width: 224,
            values: &input,
        };
        let mut logits = vec![0.0; 1000];
        let mut executor = Executor::new(network.clone());
        executor.forward(&mut parameters, images, Mode::Infer, &mut logits);
        let body = Network {
            blocks: network.blocks[..network.blocks.len() - 1].to_vec(),
        };
        let mut features = vec![0.0; width];
        Executor::new(body).forward(&mut parameters, images, Mode::Infer, &mut features);

        let sum: f64 = features.iter().map(|&v| f64::from(v)).sum();
        let golden = numbers("feat sum");
        let scale = norm(&features) * (width as f64).sqrt();
        assert!(
            (sum - golden[0]).abs() < 1e-4 * scale,
            "{name} sum {sum} {golden:?}"
        );
        let rest = block.split("l2 ").nth(1).unwrap();
        let l2: f64 = rest.split_whitespace().next().unwrap().parse().unwrap();
        assert!((norm(&features) / l2 - 1.0).abs() < 1e-4, "{name} {l2}");
        let typical = l2 / (width as f64).sqrt();
        for (own, golden) in features.iter().zip(numbers("feat[0..8]")) {
            assert!(
                (f64::from(*own) - golden).abs() < 1e-3 * typical,
                "{name} {own} {golden}"
            );
        }
        let typical = norm(&logits) / 1000f64.sqrt();
        let golden = numbers("logits[0..4]");
        assert_eq!(golden.len(), 4);
        for (own, golden) in logits.iter().zip(golden) {
            assert!(
                (f64::from(*own) - golden).abs() < 1e-3 * typical,
                "{name} {own} {golden}"
            );
        }
    }
}
