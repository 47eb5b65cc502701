//! The stock backbones against golden values from PyTorch in `f64`: features, batch-norm statistics, all gradients.
//!
//! Tolerances are those of the reference's README for an implementation in `f32`. Dropout is off in the golden numbers.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;
use smallfry::{
    Backbone, Head,
    registry::{Context, parse},
};
use smallfry_nn::{Executor, Images, Mode, Network, Parameters, network::Role, parameter::Values};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::golden::{
    Fill, Reference, Tensor, channels_last, floats, norm, relative_error,
};

/// What is allowed for one architecture.
struct Tolerance {
    /// Of features in training and with calibrated statistics.
    features: f64,
    /// Of batch-norm statistics.
    statistics: f64,
    /// Of gradients.
    gradients: f64,
}

/// Networks of few layers.
const SHALLOW: Tolerance = Tolerance {
    features: 1e-4,
    statistics: 1e-5,
    gradients: 2e-2,
};
/// ResNet-50, whose statistics PyTorch itself misses by 1.3e-5 in `f32`.
const DEEP: Tolerance = Tolerance {
    features: 5e-4,
    statistics: 5e-5,
    gradients: 5e-2,
};

/// The network of the plugin that `text` describes.
fn network(text: &str) -> Network {
    let here = Context {
        folder: Path::new("."),
    };
    let backbone = parse::<dyn Backbone>(&here, text).expect("the text is right");
    backbone.network(&Head::default()).expect("it is described")
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
fn check(text: &str, case: &str, tolerance: &Tolerance) {
    let name = text.split('(').next().unwrap_or(text);
    let Some(reference) = Reference::find("golden values of backbones") else {
        return;
    };
    let file = |suffix: &str| format!("golden/g1_backbones/{name}_{case}{suffix}");
    let golden = reference.json(&file(".json"));
    let tensors = reference.tensors(&file(".safetensors"));
    let size = |key: &str| golden[key].as_u64().unwrap() as usize;
    let [batch, height, width] = ["n", "h", "w"].map(size);
    let golden_fill = Fill::of(&golden);
    let network = network(text);
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
    assert!(
        error < tolerance.features,
        "{} {error:e}",
        at("calibrated eval")
    );

    let mut momentum = parameters.clone();
    let train = &tensors["train_features"].values;
    for (mode, parameters) in [
        (Mode::Momentum { draw: 0 }, &mut momentum),
        (Mode::Train { draw: 0 }, &mut parameters),
    ] {
        executor.forward(parameters, images, mode, &mut features);
        let error = relative_error(&features, train);
        assert!(
            error < tolerance.features,
            "{} {error:e}",
            at("training features")
        );
        statistics(parameters, &tensors, &at(""), tolerance.statistics);
    }

    let cotangent = golden_fill.scaled("cotangent", features.len(), 1.0);
    let mut gradient = vec![0.0; input.len()];
    executor.backward(&mut parameters, images, &cotangent, Some(&mut gradient));
    gradients(&parameters, &golden, &at(""), tolerance.gradients);
    let truth = &golden["grad_input"];
    let (own, l2) = (norm(&gradient), truth["l2"].as_f64().unwrap());
    assert!(
        (own / l2 - 1.0).abs() < tolerance.gradients,
        "{} {own} {l2}",
        at("input gradient")
    );
    // The golden numbers are the first of the first channel's plane.
    for (i, truth) in floats(&truth["first8"]).iter().enumerate() {
        let own = f64::from(gradient[3 * i]);
        assert!(
            (own - truth).abs() < tolerance.gradients * l2,
            "{} {own} {truth}",
            at("input gradient")
        );
    }
}

fn statistics(
    parameters: &Parameters,
    tensors: &BTreeMap<String, Tensor>,
    at: &str,
    tolerance: f64,
) {
    for (i, spec) in parameters.specs().iter().enumerate() {
        let truth = |name| &tensors[&format!("after_train.{name}")].values;
        match (spec.role, parameters.get(i)) {
            (Role::Statistic, Values::Float(own)) => {
                let error = relative_error(own, truth(&spec.name));
                assert!(error < tolerance, "{at}{} {error:e}", spec.name);
            }
            (Role::Counter, Values::Integer(own)) => assert_eq!(own as f64, truth(&spec.name)[0]),
            _ => {}
        }
    }
}

fn gradients(parameters: &Parameters, golden: &Value, at: &str, tolerance: f64) {
    let all = golden["all_grads_l2"].as_f64().unwrap();
    let total = norm(parameters.gradients());
    assert!(
        (total / all - 1.0).abs() < tolerance,
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
        assert!(
            error < tolerance,
            "{at}gradient of {}: {error:e}",
            spec.name
        );
        for (own, truth) in own.iter().zip(floats(&truth["first4"])) {
            let error = (f64::from(*own) - truth).abs() / l2;
            assert!(
                error < tolerance,
                "{at}gradient of {}: {own} {truth}",
                spec.name
            );
        }
    }
}

#[test]
fn mobilenetv3_small() {
    for case in ["n4_64x64", "n3_72x88", "n2_224x224"] {
        check("mobilenetv3_small(dropout: 0.0)", case, &SHALLOW);
    }
}

#[test]
fn mobilenetv3_large() {
    for case in ["n4_64x64", "n2_224x224"] {
        check("mobilenetv3_large(dropout: 0.0)", case, &SHALLOW);
    }
}

#[test]
fn efficientnet_b0() {
    for case in ["n4_64x64", "n3_72x88", "n2_224x224"] {
        check(
            "efficientnet_b0(dropout: 0.0, drop_connect: 0.0)",
            case,
            &SHALLOW,
        );
    }
}

#[test]
fn resnet18() {
    for case in ["n4_64x64", "n3_72x88", "n2_224x224"] {
        check("resnet18", case, &SHALLOW);
    }
}

#[test]
fn resnet34() {
    for case in ["n4_64x64", "n2_224x224"] {
        check("resnet34", case, &SHALLOW);
    }
}

#[test]
fn resnet50() {
    for case in ["n4_64x64", "n2_224x224"] {
        check("resnet50", case, &DEEP);
    }
}
