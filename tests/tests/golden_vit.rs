//! `vit_tiny` against PyTorch in `f64`: features of the reference, all gradients, and the reference's list of tensors.
//!
//! `fixtures/vit_tiny.json` comes from the network of `tests/bench/vit_reference.py` in double precision with dropout off; its
//! first image is that of the reference's own numbers, with which it agrees.

use std::fs;

use serde_json::Value;
use smallfry_backbones::vit::VitTiny;
use smallfry_nn::{
    Executor, Images, Mode, Network, Parameters,
    init::Init,
    network::{Activation, Block, Linear, Role},
    parameter::Values,
};
use smallfry_tests::golden::{
    Reference, channels_last, counted_parameter, counted_scaled, floats, norm, relative_error,
    repository,
};

const PIXELS: usize = 224 * 224;

fn network() -> Network {
    let plain = VitTiny {
        dropout: 0.0,
        ..Default::default()
    };
    plain.network()
}

fn filled(network: &Network) -> Parameters {
    let mut parameters = Parameters::new(network.tensors());
    for i in 0..parameters.specs().len() {
        let spec = parameters.specs()[i].clone();
        let values = counted_parameter(i as u64, &spec.name, &spec.shape);
        parameters.floats_mut(i).copy_from_slice(&values);
    }
    parameters
}

fn image(t: u64) -> Vec<f32> {
    channels_last(&counted_scaled(t, 3 * PIXELS, 2.0), 3, PIXELS)
}

fn view(values: &[f32]) -> Images<'_> {
    Images {
        batch: values.len() / (3 * PIXELS),
        height: 224,
        width: 224,
        values,
    }
}

#[test]
fn features_and_gradients() {
    let path = repository().join("tests/fixtures/vit_tiny.json");
    let golden: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let network = network();
    let mut parameters = filled(&network);
    let mut executor = Executor::new(network);
    let values = [image(1_000_000), image(1_000_001)].concat();
    let mut features = vec![0.0; 2 * 192];
    let truth = floats(&golden["features"]);
    for mode in [
        Mode::Infer,
        Mode::Momentum { draw: 0 },
        Mode::Train { draw: 0 },
    ] {
        executor.forward(&mut parameters, view(&values), mode, &mut features);
        let error = relative_error(&features, &truth);
        assert!(error < 3e-6, "{mode:?}: {error:e}");
    }
    let cotangent = counted_scaled(2_000_000, features.len(), 1.0);
    let mut of_images = vec![0.0; values.len()];
    let images = view(&values);
    executor.backward(&mut parameters, images, &cotangent, Some(&mut of_images));
    for spec in parameters.specs() {
        let own = parameters.gradient(&spec.name);
        let truth = &golden["gradients"][&spec.name];
        if spec.role == Role::Frozen {
            assert!(truth.is_null() && own.iter().all(|g| *g == 0.0));
            continue;
        }
        close(own, truth, "first4", &spec.name);
        let sum: f64 = own.iter().map(|&g| f64::from(g)).sum();
        let size = truth["l2"].as_f64().unwrap() * (own.len() as f64).sqrt();
        let error = (sum - truth["sum"].as_f64().unwrap()).abs() / size;
        assert!(error < 1e-5, "{}: {error:e}", spec.name);
    }
    close(&of_images, &golden["image_gradient"], "first8", "images");
}

/// Compares a gradient's length and its first numbers.
fn close(own: &[f32], truth: &Value, first: &str, name: &str) {
    let size = truth["l2"].as_f64().unwrap();
    let error = (norm(own) / size - 1.0).abs();
    assert!(error < 1e-5, "{name}: {error:e}");
    for (own, truth) in own.iter().zip(floats(&truth[first])) {
        let error = (f64::from(*own) - truth).abs() / size;
        assert!(error < 1e-5, "{name}: {error:e}");
    }
}

#[test]
fn the_reference_s_features_and_logits() {
    let Some(reference) = Reference::find("the reference's features of vit_tiny") else {
        return;
    };
    let text = reference.text("spec/values/golden_forward.txt");
    let start = text.find("vit_tiny").expect("the file has vit_tiny");
    let lines: Vec<&str> = text[start..].lines().take(4).collect();
    let numbers = |line: &str| -> Vec<f64> {
        line.split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let mut network = network();
    network.blocks.push(Block::Linear(Linear {
        name: "fc".into(),
        input: 192,
        output: 1000,
        bias: true,
        activation: Activation::Identity,
        dropout: 0.0,
        init: Init::FanIn { fan_in: 192 },
        bias_init: Init::FanIn { fan_in: 192 },
    }));
    let mut logits = vec![0.0; 1000];
    let values = image(1_000_000);
    let mut parameters = filled(&network);
    Executor::new(network.clone()).forward(
        &mut parameters,
        view(&values),
        Mode::Infer,
        &mut logits,
    );
    network.blocks.pop();
    let mut features = vec![0.0; 192];
    Executor::new(network.clone()).forward(
        &mut filled(&network),
        view(&values),
        Mode::Infer,
        &mut features,
    );
    let check = |own: &[f32], first: &[f64]| {
        assert!(!first.is_empty());
        for (own, truth) in own.iter().zip(first) {
            assert!((f64::from(*own) - truth).abs() < 1e-5, "{own} {truth}");
        }
    };
    check(&features, &numbers(lines[1])[..8]);
    let sums = numbers(lines[2]);
    assert!((norm(&features) / sums[1] - 1.0).abs() < 1e-6);
    let line = numbers(lines[3]);
    check(&logits, &line[..4]);
    let largest = (0..1000).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    assert_eq!(largest.map(|i| i as f64), line.last().copied());
}

#[test]
fn tensors_are_the_reference_s() {
    let Some(reference) = Reference::find("the reference's list of tensors of vit_tiny") else {
        return;
    };
    let text = reference.text("spec/statedict/statedict_vit_tiny.txt");
    let expected: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("fc."))
        .map(|line| line.split(" float32").next().unwrap_or(line).to_owned())
        .collect();
    let own: Vec<String> = network()
        .tensors()
        .iter()
        .map(|spec| format!("{} {:?}", spec.name, spec.shape))
        .collect();
    assert_eq!(own, expected);
}

#[test]
fn tensors_start_as_the_reference_s() {
    let parameters = Parameters::initialised(&network(), 4);
    for (i, spec) in parameters.specs().iter().enumerate() {
        let Values::Float(values) = parameters.get(i) else {
            panic!("{} is no tensor", spec.name);
        };
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let squares = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        let deviation = (squares - mean * mean).max(0.0).sqrt();
        if spec.name.contains("norm") || spec.name.starts_with("mlp_head") {
            let constant = f32::from(spec.name.ends_with("weight"));
            assert!(values.iter().all(|v| *v == constant), "{}", spec.name);
        } else if ["pos_embedding", "cls_token"].contains(&&*spec.name) {
            assert!((deviation - 1.0).abs() < 4.0 / n.sqrt(), "{}", spec.name);
            assert!(mean.abs() < 4.0 / n.sqrt(), "{}", spec.name);
        } else {
            // U(±1/√fan_in), that of the layer also for its bias.
            let fan_in = match &*spec.name {
                name if name.contains("patch") => 768,
                name if name.contains("to_out") => 384,
                name if name.contains("net.3") => 768,
                _ => 192,
            };
            let bound = 1.0 / f64::from(fan_in).sqrt();
            let largest = values.iter().fold(0.0f32, |a, v| a.max(v.abs()));
            assert!(f64::from(largest) <= bound && f64::from(largest) > 0.95 * bound);
            let truth = bound / 3f64.sqrt();
            assert!(
                (deviation / truth - 1.0).abs() < 3.0 / n.sqrt(),
                "{}",
                spec.name
            );
            assert!(mean.abs() < 4.0 * truth / n.sqrt(), "{}", spec.name);
        }
    }
}
