//! Every stock backbone: its state dict and its figures against the reference's, its values against
//! PyTorch's, how its weights start, and that what is random in training is live, seeded, and absent from inference.
//!
//! Values of the architectures that the reference folder lacks come from `fixtures/backbones/reference.py`.

use std::{fs, path::Path, process::Command, sync::Arc};

use serde_json::Value;
use smallfry::{
    Backbone, Head,
    backbone::HeadLayer,
    encoder::ImageBatch,
    nn::network::{Block, ConvNorm, Padding, Spec},
    registry::{Built, Context, parse},
};
use smallfry_nn::{
    Executor, Images, Mode, Network, Parameters,
    network::{Activation, Role},
    parameter::Values,
};
use smallfry_plugins as _; // links the stock plugins
use smallfry_tests::{
    golden::{
        Reference, channels_last, counted_parameter, counted_scaled, floats, norm, relative_error,
        repository,
    },
    program::program,
};

/// The six architectures of the reference folder.
const GOLDEN: [&str; 6] = [
    "mobilenetv3_small",
    "mobilenetv3_large",
    "efficientnet_b0",
    "resnet18",
    "resnet34",
    "resnet50",
];

fn backbone(text: &str) -> Built<dyn Backbone> {
    let here = Context {
        folder: Path::new("."),
    };
    parse(&here, text).unwrap_or_else(|errors| panic!("{text}: {}", errors[0].message))
}

/// The layer `fc` for 1,000 classes.
fn classifier() -> Head {
    Head {
        layers: vec![HeadLayer {
            name: "fc".into(),
            output: 1000,
            norm: None,
            activation: Activation::Identity,
            dropout: 0.0,
            own_init: true,
        }],
        ..Head::default()
    }
}

fn with_classifier(text: &str) -> Network {
    backbone(text)
        .network(&classifier())
        .expect("it is described")
}

fn parameters(specs: &[Spec]) -> usize {
    let trained = specs
        .iter()
        .filter(|spec| matches!(spec.role, Role::Weight | Role::Frozen));
    trained.map(Spec::len).sum()
}

#[test]
fn numbers_of_parameters_are_the_reference_s() {
    for (name, with, features) in [
        ("mobilenetv3_small", 2_542_856, 1024),
        ("mobilenetv3_large", 5_483_032, 1280),
        ("efficientnet_b0", 5_288_548, 1280),
        ("efficientnet_b1", 7_794_184, 1280),
        ("efficientnet_b2", 9_109_994, 1408),
        ("efficientnet_b3", 12_233_232, 1536),
        ("efficientnet_lite0", 4_652_008, 1280),
        ("resnet18", 11_689_512, 512),
        ("resnet34", 21_797_672, 512),
        ("resnet50", 25_557_032, 2048),
        ("resnet101", 44_549_160, 2048),
        ("resnet152", 60_192_808, 2048),
        ("resnext50_32x4d", 25_028_904, 2048),
        ("resnext101_32x8d", 88_791_336, 2048),
        ("resnext152_32x8d", 122_372_392, 2048),
        ("wide_resnet50_2", 68_883_240, 2048),
        ("wide_resnet101_2", 126_886_696, 2048),
        ("vit_tiny", 7_479_976, 192),
    ] {
        let backbone = backbone(name);
        assert_eq!(backbone.width(), features, "{name}");
        assert_eq!(parameters(&with_classifier(name).tensors()), with, "{name}");
        let without = with - (features + 1) * 1000;
        assert_eq!(parameters(&backbone.tensors()), without, "{name}");
        assert!(backbone.own_head().is_none(), "{name}");
    }
    for (name, without, with_own) in [
        ("simclr_resnet50", 23_508_032, 27_970_752),
        ("swav_resnet50", 23_508_032, 27_970_752),
        ("swav_resnet50w2", 93_907_072, 128_534_784),
        ("swav_resnet50w4", 375_378_176, 443_560_320),
        ("swav_resnet50w5", 586_450_240, 692_628_928),
    ] {
        let backbone = backbone(name);
        let own = backbone.own_head().expect("a teacher has a head");
        let network = backbone.network(&own).expect("it is described");
        assert_eq!(parameters(&backbone.tensors()), without, "{name}");
        assert_eq!(parameters(&network.tensors()), with_own, "{name}");
        assert_eq!(network.width(), 128, "{name}");
        assert!(network.outputs(224, 224).is_ok(), "{name}");
    }
}

/// Multiply-adds of an image, as torchvision states them for its models (`GFLOPS` of their weights), or counted by
/// hand.
#[test]
fn costs_are_those_of_the_papers() {
    let cost = |name: &str| -> usize {
        let network = with_classifier(name);
        let work = network.work(224, 224).unwrap();
        work.iter().map(|work| work.multiply_adds).sum()
    };
    for (name, giga) in [
        ("resnet18", 1.814),
        ("resnet50", 4.089),
        ("resnet152", 11.514),
        ("resnext50_32x4d", 4.23),
        ("wide_resnet50_2", 11.398),
        ("efficientnet_b0", 0.386),
    ] {
        let counted = cost(name) as f64 * 1e-9;
        assert!((counted / giga - 1.0).abs() < 2e-3, "{name}: {counted}");
    }
    // Eleven layers on 197 tokens, the twelfth for the class token alone, and the map of 196 patches; see the
    // reference's sizes: width 192, heads 384, hidden 768.
    let full = 197 * (192 * 1152 + 384 * 192 + 2 * 192 * 768) + 2 * 197 * 197 * 384;
    let last = 197 * 192 * 768 + 192 * 384 + 2 * 197 * 384 + 384 * 192 + 2 * 192 * 768;
    assert_eq!(
        cost("vit_tiny"),
        196 * 768 * 192 + 11 * full + last + 192 * 1000
    );
}

#[test]
fn keys_and_shapes_are_those_of_the_reference_in_its_order() {
    let Some(reference) = Reference::find("state-dict keys of backbones") else {
        return;
    };
    for name in GOLDEN {
        let text = reference.text(&format!("spec/statedict/statedict_{name}.txt"));
        let expected: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let tensors = with_classifier(name).tensors();
        let own = tensors.iter().map(|spec| {
            let (kind, element) = match spec.role {
                Role::Weight | Role::Frozen => ("param", "float32"),
                Role::Statistic => ("buffer", "float32"),
                Role::Counter => ("buffer", "int64"),
            };
            format!("{} {:?} {element} {kind}", spec.name, spec.shape)
        });
        assert_eq!(own.collect::<Vec<_>>(), expected, "{name}");
    }
    let text = reference.text("spec/statedict/efficientnet_lite0_params.txt");
    let tensors = with_classifier("efficientnet_lite0").tensors();
    let own = tensors.iter().map(|spec| {
        let element = match spec.role {
            Role::Counter => "int64",
            _ => "float32",
        };
        format!("{} {:?} {element}", spec.name, spec.shape)
    });
    // The published weights call the last layer `_fc`.
    let expected = text.lines().map(|line| line.replace("_fc.", "fc."));
    assert_eq!(own.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

/// Every convolution with its batch norm.
fn units(network: &Network) -> Vec<&ConvNorm> {
    let mut units = Vec::new();
    for block in &network.blocks {
        match block {
            Block::ConvNorm(unit) => units.push(unit),
            Block::InvertedResidual(block) => {
                units.extend(
                    block
                        .expand
                        .iter()
                        .chain([&block.depthwise, &block.project]),
                );
            }
            Block::Residual(block) => units.extend(block.path.iter().chain(&block.downsample)),
            _ => {}
        }
    }
    units
}

#[test]
fn convolutions_and_batch_norms_have_the_reference_s_settings() {
    let Some(reference) = Reference::find("settings of layers") else {
        return;
    };
    let golden = reference.json("golden/g1_backbones/archs.json");
    for name in GOLDEN {
        let (golden, backbone) = (&golden[name], backbone(name));
        assert_eq!(golden["feature_dim"], backbone.width());
        let tensors = backbone.tensors();
        assert_eq!(golden["num_params_without_fc"], parameters(&tensors));
        assert_eq!(golden["num_state_dict_keys_without_fc"], tensors.len());
        let order = tensors.iter().filter(|spec| spec.role == Role::Weight);
        let order: Vec<&str> = order.map(|spec| &*spec.name).collect();
        assert_eq!(
            golden["parameter_order_without_fc"],
            serde_json::json!(order),
            "{name}"
        );
        let network = backbone.network(&Head::default()).expect("it is described");
        let units = units(&network);
        for unit in &units {
            let c = &unit.convolution;
            let truth = &golden["convs"][&c.name];
            let at = format!("{name} {}", c.name);
            assert_eq!(
                truth["kernel"],
                serde_json::json!([c.kernel, c.kernel]),
                "{at}"
            );
            assert_eq!(
                truth["stride"],
                serde_json::json!([c.stride, c.stride]),
                "{at}"
            );
            assert_eq!(
                (&truth["groups"], &truth["bias"]),
                (&c.groups.into(), &false.into())
            );
            let sides = match &truth["static_pad_left_right_top_bottom"] {
                Value::Null => {
                    let pad = floats(&truth["padding"]);
                    [pad[1], pad[1], pad[0], pad[0]].map(|v| v as usize)
                }
                sides => [0, 1, 2, 3].map(|i| sides[i].as_u64().expect("a number") as usize),
            };
            let Padding {
                top,
                left,
                bottom,
                right,
            } = c.padding;
            assert_eq!(sides, [left, right, top, bottom], "{at}");
            let truth = &golden["batchnorms"][&unit.norm.name];
            let near = |key: &str, own: f32| {
                let truth = truth[key].as_f64().expect("a number");
                assert!((truth - f64::from(own)).abs() < 1e-8, "{at} {key}");
            };
            near("eps", unit.norm.epsilon);
            near("momentum", unit.norm.momentum);
        }
        let norms = golden["batchnorms"].as_object().expect("an object").len();
        assert_eq!(units.len(), norms, "{name}");
    }
}

fn fill(parameters: &mut Parameters) {
    for i in 0..parameters.specs().len() {
        let spec = parameters.specs()[i].clone();
        if spec.role != Role::Counter {
            let values = counted_parameter(i as u64, &spec.name, &spec.shape);
            parameters.floats_mut(i).copy_from_slice(&values);
        }
    }
}

/// The stream of the second set's images, and of the gradient that is given to the features.
const IMAGES: u64 = 1_000_000;
const COTANGENT: u64 = 1_000_001;

#[test]
fn forward_passes_of_the_second_set() {
    let Some(reference) = Reference::find("the second set of forward passes") else {
        return;
    };
    let text = reference.text("spec/values/golden_forward.txt");
    for name in GOLDEN {
        let block = text.split(&format!("{name} feature_dim")).nth(1).unwrap();
        let numbers = |label: &str| -> Vec<f64> {
            let line = block.lines().find(|line| line.trim().starts_with(label));
            let line = line.unwrap().trim().trim_start_matches(label);
            line.split_whitespace()
                .map_while(|word| word.parse().ok())
                .collect()
        };
        let network = with_classifier(name);
        let mut parameters = Parameters::new(network.tensors());
        fill(&mut parameters);
        let input = counted_scaled(IMAGES, 3 * 224 * 224, 2.0);
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
        let width = body.width();
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

/// The numbers that the fixture has of `values`.
fn every(values: &[f32]) -> Vec<f32> {
    let step = values.len().div_ceil(96);
    values.iter().copied().step_by(step).collect()
}

/// Compares one architecture with PyTorch's: inference, training, statistics, gradients.
fn check(text: &str, size: [usize; 3], golden: &Value) {
    let [batch, height, width] = size;
    let family = text.split('(').next().unwrap_or(text);
    let without = match (family.starts_with("efficientnet"), text.strip_suffix(')')) {
        (true, Some(rest)) => format!("{rest}, dropout: 0.0, drop_connect: 0.0)"),
        (true, None) => format!("{text}(dropout: 0.0, drop_connect: 0.0)"),
        (false, _) => text.to_owned(),
    };
    let backbone = backbone(&without);
    let head = backbone.own_head().unwrap_or_default();
    let network = backbone.network(&head).expect("it is described");
    let mut parameters = Parameters::new(network.tensors());
    assert_eq!(golden["tensors"], parameters.specs().len(), "{text}");
    assert_eq!(golden["parameters"], parameters.values().len(), "{text}");
    fill(&mut parameters);
    let pixels = height * width;
    let input = counted_scaled(IMAGES, batch * 3 * pixels, 2.0);
    let input = channels_last(&input, 3, pixels);
    let images = Images {
        batch,
        height,
        width,
        values: &input,
    };
    let mut executor = Executor::new(network.clone());
    let mut features = vec![0.0; batch * network.width()];
    let near = |what: &str, own: &[f32], golden: &Value, tolerance: f64| {
        let error = relative_error(own, &floats(golden));
        assert!(error < tolerance, "{text}: {what} {error:e}");
    };
    let long = |what: &str, own: f64, golden: &Value, tolerance: f64| {
        let error = (own / golden.as_f64().expect("a number") - 1.0).abs();
        assert!(error < tolerance, "{text}: {what} {error:e}");
    };
    executor.forward(&mut parameters, images, Mode::Infer, &mut features);
    // As far from the truth as rounding leads, or a few times as far as PyTorch's own `f32`, whose units flip as well.
    let allowed = |what: &str, least: f64| {
        let error = golden["f32_errors"][what].as_f64().expect("a number");
        least.max(8.0 * error)
    };
    near("inference", &every(&features), &golden["inferred"], 1e-5);
    executor.forward(
        &mut parameters,
        images,
        Mode::Train { draw: 0 },
        &mut features,
    );
    near(
        "training",
        &every(&features),
        &golden["trained"],
        allowed("trained", 1e-4),
    );
    let statistics = norm(parameters.statistics());
    long("statistics", statistics, &golden["statistics"], 1e-5);
    let cotangent = counted_scaled(COTANGENT, features.len(), 1.0);
    let mut gradient = vec![0.0; input.len()];
    executor.backward(&mut parameters, images, &cotangent, Some(&mut gradient));
    let gradients = norm(parameters.gradients());
    let tolerance = allowed("first_gradient", 1e-3);
    // Flipped units move single numbers more than lengths.
    let lengths = tolerance.min(2e-2);
    long("gradients", gradients, &golden["gradients"], lengths);
    let first = &parameters.specs()[0];
    let own = parameters.gradient(&first.name);
    near(
        "gradient",
        &every(own),
        &golden["first_gradient"],
        tolerance,
    );
    long(
        "images",
        norm(&gradient),
        &golden["images_gradient"],
        lengths,
    );
}

#[test]
fn values_are_pytorch_s() {
    let path = repository().join("tests/fixtures/backbones/values.json");
    let golden = fs::read_to_string(path).expect("the fixture is part of the repository");
    let golden: Value = serde_json::from_str(&golden).expect("it is JSON");
    let size = [0, 1, 2].map(|i| golden["size"][i].as_u64().expect("a number") as usize);
    let cases = golden["cases"].as_object().expect("an object");
    assert_eq!(cases.len(), 17);
    for (text, golden) in cases {
        check(text, size, golden);
    }
}

/// Mean, deviation, and fourth moment over deviation⁴: 3 for a normal distribution, 1.8 for a uniform one.
fn moments(values: &[f32]) -> [f64; 3] {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let central = |p| {
        let powers = values.iter().map(|&v| (f64::from(v) - mean).powi(p));
        powers.sum::<f64>() / n
    };
    let deviation = central(2).sqrt();
    [mean, deviation, central(4) / deviation.powi(4)]
}

#[test]
fn weights_start_as_the_reference_s() {
    for name in ["mobilenetv3_small", "efficientnet_b0", "resnet18"] {
        let encoder = backbone(name).encoder(&classifier(), 5);
        let parameters = encoder.parameters();
        let mut checked = 0;
        for (i, spec) in parameters.specs().iter().enumerate() {
            let at = format!("{name} {}", spec.name);
            let values = match parameters.get(i) {
                Values::Float(values) => values,
                Values::Integer(count) => {
                    assert_eq!(count, 0);
                    continue;
                }
            };
            let last = spec.name.rsplit('.').next().expect("a name has parts");
            let shape = &spec.shape;
            let fan_in: usize = shape[1..].iter().product();
            // Sizes but the second: outputs times the kernel's area.
            let fan_out = shape[0] * shape.get(2..).unwrap_or(&[]).iter().product::<usize>();
            let (uniform, deviation) = match (name, last, shape.len()) {
                (_, "running_mean", _) => (false, 0.0),
                (_, "weight", 1) | (_, "running_var", _) => {
                    assert!(values.iter().all(|v| *v == 1.0), "{at}");
                    continue;
                }
                ("mobilenetv3_small", "weight", 2) => (false, 0.01),
                ("mobilenetv3_small" | "resnet18", "weight", 4) => {
                    (false, (2.0 / fan_out as f64).sqrt())
                }
                (_, "weight", _) => (true, (1.0 / (3.0 * fan_in as f64)).sqrt()),
                ("efficientnet_b0", "bias", _) if at.contains("_se_") || at.contains("fc.") => {
                    let weight = &parameters.specs()[i - 1].shape;
                    let fan_in: usize = weight[1..].iter().product();
                    (true, (1.0 / (3.0 * fan_in as f64)).sqrt())
                }
                ("resnet18", "bias", _) if at.contains("fc.") => {
                    (true, (1.0 / (3.0 * 512.0f64)).sqrt())
                }
                _ => (false, 0.0),
            };
            if deviation == 0.0 {
                assert!(values.iter().all(|v| *v == 0.0), "{at}");
                continue;
            }
            let bound = deviation * 3f64.sqrt() * (1.0 + 1e-6);
            if uniform {
                assert!(values.iter().all(|v| f64::from(v.abs()) <= bound), "{at}");
            }
            // Four standard errors, of the mean and of the deviation.
            let error = 4.0 / (values.len() as f64).sqrt();
            let [mean, own, fourth] = moments(values);
            assert!(mean.abs() < error * deviation, "{at} {mean}");
            assert!(
                (own / deviation - 1.0).abs() < error,
                "{at} {own} {deviation}"
            );
            if values.len() > 10_000 {
                let expected = if uniform { 1.8 } else { 3.0 };
                assert!((fourth - expected).abs() < 0.3, "{at} {fourth}");
                checked += 1;
            }
        }
        assert!(checked > 10, "{name}");
    }
}

fn noise(batch: usize, side: usize) -> Arc<ImageBatch> {
    Arc::new(ImageBatch {
        batch,
        height: side,
        width: side,
        values: counted_scaled(3, batch * side * side * 3, 1.5),
    })
}

#[test]
fn what_is_random_in_training_is_live_seeded_and_absent_from_inference() {
    let images = noise(4, 32);
    let features = |text: &str, mode: Mode| {
        let network = backbone(text).network(&Head::default());
        let network = network.expect("it is described");
        let mut parameters = Parameters::initialised(&network, 1);
        let mut features = vec![0.0; images.batch * network.width()];
        let view = Images {
            batch: images.batch,
            height: images.height,
            width: images.width,
            values: &images.values,
        };
        Executor::new(network).forward(&mut parameters, view, mode, &mut features);
        features
    };
    for (live, dropout, quiet) in [
        (
            "efficientnet_b0(dropout: 0.0)",
            "efficientnet_b0(drop_connect: 0.0)",
            "efficientnet_b0(dropout: 0.0, drop_connect: 0.0)",
        ),
        (
            "efficientnet_lite0(dropout: 0.0)",
            "efficientnet_lite0(drop_connect: 0.0)",
            "efficientnet_lite0(dropout: 0.0, drop_connect: 0.0)",
        ),
        (
            "mobilenetv3_small",
            "mobilenetv3_small",
            "mobilenetv3_small(dropout: 0.0)",
        ),
    ] {
        let train = |text: &str, draw| features(text, Mode::Train { draw });
        for random in [live, dropout] {
            assert_eq!(train(random, 7), train(random, 7), "{random}");
            assert_ne!(train(random, 7), train(random, 8), "{random}");
            assert_ne!(train(random, 7), train(quiet, 7), "{random}");
            // The momentum encoder's pass draws as training does.
            let momentum = features(random, Mode::Momentum { draw: 7 });
            let zeros = |values: &[f32]| values.iter().filter(|v| **v == 0.0).count();
            assert_eq!(zeros(&momentum), zeros(&train(random, 7)), "{random}");
            let inferred = features(random, Mode::Infer);
            assert_eq!(inferred, features(quiet, Mode::Infer), "{random}");
        }
        assert_eq!(train(quiet, 7), train(quiet, 8), "{quiet}");
        // Of the features that the activation leaves a fifth drops.
        let all = train(quiet, 7);
        let left = all.iter().zip(train(dropout, 7));
        let (mut kept, mut dropped) = (0, 0);
        for (all, left) in left.filter(|(all, _)| **all != 0.0) {
            match left == 0.0 {
                true => dropped += 1,
                false => {
                    kept += 1;
                    assert!((left / all - 1.25).abs() < 1e-5, "{dropout} {left} {all}");
                }
            }
        }
        let share = f64::from(dropped) / f64::from(dropped + kept);
        assert!((share - 0.2).abs() < 0.03, "{dropout} {share}");
    }
}

#[test]
fn drop_connect_rises_with_depth_and_needs_a_shortcut() {
    let network = backbone("efficientnet_b0").network(&Head::default());
    let network = network.expect("it is described");
    let rates: Vec<f32> = (network.blocks.iter())
        .filter_map(|block| match block {
            Block::InvertedResidual(block) => Some(block.drop_connect),
            _ => None,
        })
        .collect();
    let expected = [
        0.0, 0.0, 0.025, 0.0, 0.05, 0.0, 0.075, 0.0875, 0.0, 0.1125, 0.125, 0.0, 0.15, 0.1625,
        0.175, 0.0,
    ];
    assert_eq!(rates.len(), expected.len());
    for (own, expected) in rates.iter().zip(expected) {
        assert!((own - expected).abs() < 1e-7, "{own} {expected}");
    }
}

#[test]
fn teachers_have_the_heads_of_their_files() {
    let names = |text: &str| {
        let backbone = backbone(text);
        let own = backbone.own_head().expect("a teacher has a head");
        let network = backbone.network(&own).expect("it is described");
        let tensors = network.tensors();
        let head = tensors[backbone.tensors().len()..].iter();
        let names = head.filter(|spec| spec.role != Role::Statistic && spec.role != Role::Counter);
        let names = names.map(|spec| format!("{} {:?}", spec.name, spec.shape));
        names.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        names("simclr_resnet50"),
        "module.fc.0.weight [2048, 2048], module.fc.0.bias [2048], module.fc.1.weight [2048], \
         module.fc.1.bias [2048], module.fc.3.weight [128, 2048], module.fc.3.bias [128]"
    );
    assert_eq!(
        names("swav_resnet50w2(prototypes: [3000])"),
        "projection_head.0.weight [8192, 4096], projection_head.0.bias [8192], \
         projection_head.1.weight [8192], projection_head.1.bias [8192], \
         projection_head.3.weight [128, 8192], projection_head.3.bias [128], \
         prototypes.weight [3000, 128]"
    );
    assert_eq!(
        names("swav_resnet50w5(output_dim: 64, prototypes: [7, 9])"),
        "projection_head.0.weight [10240, 10240], projection_head.0.bias [10240], \
         projection_head.2.weight [64, 10240], projection_head.2.bias [64], \
         prototypes.prototypes0.weight [7, 64], prototypes.prototypes1.weight [9, 64]"
    );
    assert_eq!(
        names("swav_resnet50(hidden_mlp: 0)"),
        "projection_head.weight [128, 2048], projection_head.bias [128]"
    );
    assert_eq!(names("swav_resnet50(output_dim: 0)"), "");
}

/// The widest teacher's weights are 2.3 GB; nobody who asks what it is wants to wait for them.
#[test]
fn describing_a_network_takes_no_memory_for_its_weights() {
    let limited = "ulimit -v 1500000 && exec \"$0\" describe swav_resnet50w5";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(program())
        .output()
        .expect("there is a shell");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("it is text");
    for line in [
        "features     10,240",
        "parameters   586,450,240 (without a head)",
        "own head     128 numbers of length 1; 692,628,928 parameters with it",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
}

#[test]
fn impossible_parameters_are_refused_with_their_names() {
    let here = Context {
        folder: Path::new("."),
    };
    for (text, expected) in [
        (
            "efficientnet_b0(width: 0)",
            "`width` of efficientnet_b0: must be above 0",
        ),
        (
            "efficientnet_b2(depth: 9)",
            "`depth` of efficientnet_b2: must be above 0",
        ),
        (
            "efficientnet_lite0(dropout: 1)",
            "`dropout` of efficientnet_lite0: must be at least 0",
        ),
        (
            "efficientnet_b1(drop_connect: -0.1)",
            "`drop_connect` of efficientnet_b1: must be",
        ),
        (
            "resnet50(width: 100)",
            "`width` of resnet50: must be above 0, at most 8",
        ),
        ("resnext50_32x4d(width: 0.1)", "leave every group a channel"),
        (
            "simclr_resnet50(output_dim: 0)",
            "`output_dim` of simclr_resnet50: must be above 0",
        ),
        (
            "swav_resnet50(prototypes: [3, 0])",
            "`prototypes` of swav_resnet50: must be above 0",
        ),
        (
            "swav_resnet50(output_dim: 0, prototypes: [3])",
            "need a head",
        ),
    ] {
        let errors = parse::<dyn Backbone>(&here, text).expect_err(text);
        assert!(
            errors[0].message.contains(expected),
            "{}",
            errors[0].message
        );
    }
}
