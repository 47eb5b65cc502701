//! Schedules and SGD against the reference's numbers, and training a linear layer in plain dfdx with them.

use std::sync::{Arc, Mutex};

use dfdx::{
    shapes::{Axes2, Axis},
    tensor::{OwnedTape, PutTape},
    tensor_ops::{Backward, BroadcastTo, PermuteTo, SumTo, TryMatMul},
};
use serde_json::Value;
use smallfry::{
    Optimizer, Schedule, dfdx,
    nn::{
        Parameters,
        init::Init,
        network::{Role, Spec},
    },
    operation::normalise,
    tensor::{import, parameter, scalar},
};
use smallfry_plugins as _;
use smallfry_tests::golden::{Fill, Reference, floats};
use smallfry_tests::plugin::build;

const FILE: &str = "golden/g7_optim/optim.json";

/// SEED's schedule by steps, of a batch of 256.
const SEED_STEP: &str = "LinearWarmup(start: 1.0, then: Step(milestones: [120, 160]))";

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn weights(sizes: &[(&str, &[usize])]) -> Parameters {
    let specs = sizes.iter().map(|&(name, shape)| Spec {
        name: name.into(),
        shape: shape.to_vec(),
        role: Role::Weight,
        init: Init::Constant(0.0),
    });
    Parameters::new(specs.collect())
}

#[test]
fn learning_rates_are_those_of_the_reference() {
    let Some(reference) = Reference::find("learning rates of the reference") else {
        return;
    };
    let file = reference.json(FILE);
    for (name, epochs, schedule) in [
        ("moco_cosine_200", 200, "Cosine"),
        ("moco_cosine_800", 800, "Cosine"),
        ("moco_step", 200, "Step(milestones: [120, 160])"),
        (
            "lincls_step",
            100,
            "Step(milestones: [60, 80], factor: 0.1)",
        ),
        ("transfer_linear_step", 100, "Step(milestones: [60, 80])"),
        (
            "transfer_finetune_step",
            100,
            "Step(milestones: [60, 80], factor: 0.2)",
        ),
        (
            "seed_single_process_cosine",
            200,
            "LinearWarmup(start: 1.0)",
        ),
        ("seed_single_process_step", 200, SEED_STEP),
        (
            "seed_distributed_batch256_cosine",
            200,
            "LinearWarmup(start: 1.0)",
        ),
        ("seed_distributed_batch256_step", 200, SEED_STEP),
        (
            "seed_distributed_batch512_cosine",
            200,
            "LinearWarmup(start: 1.0, peak: 2.0)",
        ),
        (
            "seed_distributed_batch512_step",
            200,
            "LinearWarmup(start: 1.0, peak: 2.0, then: Step(milestones: [120, 160]))",
        ),
        (
            "seed_distributed_batch2048_cosine",
            200,
            "LinearWarmup(start: 1.0, peak: 8.0)",
        ),
        (
            "seed_distributed_batch2048_step",
            200,
            "LinearWarmup(start: 1.0, peak: 8.0, then: Step(milestones: [120, 160]))",
        ),
    ] {
        let case = &file["schedules"][name];
        let schedule = build::<dyn Schedule>(schedule);
        let values = case["values"].as_object().expect("rates by epoch");
        assert!(values.len() >= 6, "{name}");
        for (epoch, expected) in values {
            let epoch = epoch.parse().expect("an epoch");
            let rate = number(&case["lr"]) * schedule.factor(epoch, epochs);
            let gap = (rate - number(expected)).abs();
            assert!(gap <= 1e-12, "{name}, epoch {epoch}: {rate} for {expected}");
        }
    }
}

#[test]
fn sgd_moves_as_the_reference() {
    let Some(reference) = Reference::find("trajectories of SGD") else {
        return;
    };
    let file = reference.json(FILE);
    for name in ["momentum_wd", "plain", "lr_change"] {
        let case = &file["sgd_semantics"][name];
        let [lr, momentum, decay] =
            ["lr", "momentum", "weight_decay"].map(|key| number(&case[key]));
        let rule = build::<dyn Optimizer>(&format!(
            "SGD(lr: {lr}, momentum: {momentum}, weight_decay: {decay})"
        ));
        let mut parameters = weights(&[("w", &[3])]);
        let start: Vec<f32> = floats(&case["start"]).iter().map(|&v| v as f32).collect();
        parameters.values_mut().copy_from_slice(&start);
        let mut descent = rule.start(&parameters);
        let steps = case["after_each_step"].as_array().expect("steps");
        assert_eq!(steps.len(), 5);
        for (step, expected) in steps.iter().enumerate() {
            let gradient = [0.3, -0.1 * step as f32, 1.0];
            parameters
                .values_and_gradients_mut()
                .1
                .copy_from_slice(&gradient);
            let rate = match (name, step) {
                ("lr_change", 2..) => 0.01,
                _ => rule.rate(),
            };
            descent.step(&mut parameters, rate);
            for (value, expected) in parameters.values().iter().zip(floats(expected)) {
                let gap = (f64::from(*value) - expected).abs();
                assert!(gap < 4e-7, "{name}, step {step}: {value} for {expected}");
            }
        }
    }
}

#[test]
fn a_linear_layer_in_dfdx_learns_as_the_reference() {
    let Some(reference) = Reference::find("training of a linear layer") else {
        return;
    };
    let file = reference.json(FILE);
    let cases = file["linear_probe"].as_object().expect("cases by name");
    assert!(cases.len() >= 4);
    for (name, case) in cases {
        let size = |key: &str| case[key].as_u64().expect("a size") as usize;
        let (width, samples, classes) = (size("nf"), size("ns"), size("nc"));
        let fill = Fill::of(case);
        let features = fill.scaled("features", samples * width, number(&case["feat_scale"]));
        let mut features = import(features, (samples, width));
        if case["normed"] == true {
            features = normalise(features);
        }
        let parameters = Arc::new(Mutex::new(weights(&[
            ("fc.weight", &[classes, width]),
            ("fc.bias", &[classes]),
        ])));
        let weight = fill.scaled("fc.weight", classes * width, 0.01 * 3f64.sqrt());
        let mut targets = vec![0.0; samples * classes];
        for row in 0..samples {
            targets[row * classes + row % classes] = -1.0 / samples as f32;
        }
        let targets = import(targets, (samples, classes));
        let rule = build::<dyn Optimizer>(&format!(
            "SGD(lr: {}, momentum: {}, weight_decay: {})",
            case["lr"], case["mom"], case["wd"]
        ));
        let mut descent = {
            let mut parameters = parameters.lock().expect("no other holder");
            let place = parameters.weight_place("fc.weight");
            parameters.values_mut()[place].copy_from_slice(&weight);
            rule.start(&parameters)
        };
        for (step, expected) in floats(&case["losses"]).into_iter().enumerate() {
            let weight = parameter(&parameters, "fc.weight", (classes, width));
            let bias = parameter(&parameters, "fc.bias", (classes,));
            let input = features.clone().put_tape(OwnedTape::default());
            let logits = input.matmul(weight.permute::<(usize, usize), Axes2<1, 0>>())
                + bias.broadcast_like::<_, Axis<0>>(&(samples, classes));
            let loss = (logits.log_softmax::<Axis<1>>() * targets.clone()).sum::<(), _>();
            let value = f64::from(scalar(&loss));
            assert!(
                (value - expected).abs() <= 1e-4 * expected.abs().max(1.0),
                "{name}, step {step}: {value} for {expected}"
            );
            loss.backward();
            let mut parameters = parameters.lock().expect("no other holder");
            descent.step(&mut parameters, rule.rate());
            parameters.clear_gradients();
        }
        let parameters = parameters.lock().expect("no other holder");
        let squares = parameters
            .weight("fc.weight")
            .iter()
            .map(|&v| f64::from(v).powi(2));
        let expected = number(&case["final_weight_l2"]);
        let gap = (squares.sum::<f64>().sqrt() - expected).abs() / expected;
        assert!(gap < 1e-4, "{name}: norm of the weights is off by {gap}");
    }
}
