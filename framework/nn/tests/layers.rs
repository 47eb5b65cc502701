//! Every kind of block against the slow reference in `f64`, the reference against finite differences, and the same bytes
//! for any number of threads.

mod reference;

use reference::{Named, Statistics, Tensor};
use smallfry_nn::{
    Executor, Images, Mode, Network, Parameters,
    init::Init,
    network::{
        Activation, Block, ConvNorm, Convolution, Gate, InvertedResidual, Linear, Norm, Padding,
        Residual, Role, RowNorm, Spec, SqueezeExcite,
    },
};

/// A small generator of test numbers in [−1, 1).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn take(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

fn conv(
    name: &str,
    [input, output]: [usize; 2],
    [kernel, stride]: [usize; 2],
    padding: Padding,
    groups: usize,
    activation: Activation,
) -> ConvNorm {
    ConvNorm {
        convolution: Convolution {
            name: format!("{name}.0"),
            input,
            output,
            kernel,
            stride,
            padding,
            groups,
            init: Init::FanOut,
        },
        norm: Norm::new(format!("{name}.1")),
        activation,
    }
}

fn same(name: &str, channels: [usize; 2], kernel: usize, stride: usize, a: Activation) -> ConvNorm {
    conv(
        name,
        channels,
        [kernel, stride],
        Padding::even(kernel / 2),
        1,
        a,
    )
}

fn linear(name: &str, input: usize, output: usize, activation: Activation) -> Block {
    Block::Linear(Linear {
        name: name.into(),
        input,
        output,
        bias: true,
        activation,
        dropout: 0.0,
        init: Init::FanIn { fan_in: input },
        bias_init: Init::FanIn { fan_in: input },
    })
}

fn network(blocks: Vec<Block>) -> Network {
    let mut blocks = blocks;
    blocks.push(Block::GlobalAveragePool { dropout: 0.0 });
    Network { blocks }
}

/// Parameters with nothing at a special value.
fn filled(network: &Network, seed: u64) -> Parameters {
    let mut parameters = Parameters::initialised(network, seed);
    let mut numbers = Numbers(seed);
    for i in 0..parameters.specs().len() {
        let spec = parameters.specs()[i].clone();
        if spec.shape.len() == 1 {
            for v in parameters.floats_mut(i) {
                *v += 0.3 * numbers.next();
            }
        }
    }
    parameters
}

fn named(parameters: &Parameters) -> Named {
    let entries = parameters.specs().iter().enumerate();
    entries
        .filter_map(|(i, spec)| match parameters.get(i) {
            smallfry_nn::parameter::Values::Float(v) => {
                Some((spec.name.clone(), v.iter().map(|&v| f64::from(v)).collect()))
            }
            smallfry_nn::parameter::Values::Integer(_) => None,
        })
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn error(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a
        .iter()
        .zip(b)
        .map(|(&a, b)| (f64::from(a) - b).powi(2))
        .sum();
    let norm: f64 = b.iter().map(|b| b * b).sum();
    (difference / norm.max(1e-30)).sqrt()
}

/// Compares all that a network computes with the reference; `[batch, height, width]`.
fn check(network: &Network, shape: [usize; 3]) {
    let [batch, height, width] = shape;
    let mut numbers = Numbers(7);
    let values = numbers.take(batch * height * width * 3);
    let images = Images {
        batch,
        height,
        width,
        values: &values,
    };
    let mut parameters = filled(network, 11);
    let mut tensors = named(&parameters);
    let mut executor = Executor::new(network.clone());
    let mut features = vec![0.0; batch * network.width()];
    let input = || Tensor::new([batch, height, width, 3], wide(&values));

    let (y, _) = reference::run(network, &mut tensors, input(), Statistics::Running);
    executor.forward(&mut parameters, images, Mode::Infer, &mut features);
    assert!(
        error(&features, &y.values) < 2e-5,
        "inference: {}",
        error(&features, &y.values)
    );

    let mut momentum = parameters.clone();
    let mut again = features.clone();
    executor.forward(
        &mut momentum,
        images,
        Mode::Momentum { draw: 3 },
        &mut again,
    );
    executor.forward(
        &mut parameters,
        images,
        Mode::Train { draw: 3 },
        &mut features,
    );
    let (y, back) = reference::run(network, &mut tensors, input(), Statistics::Batch);
    assert!(
        error(&features, &y.values) < 2e-5,
        "training: {}",
        error(&features, &y.values)
    );
    assert!(
        error(&again, &y.values) < 2e-5,
        "momentum: {}",
        error(&again, &y.values)
    );

    let gradient = numbers.take(features.len());
    let mut images_gradient = vec![0.0; values.len()];
    executor.backward(
        &mut parameters,
        images,
        &gradient,
        Some(&mut images_gradient),
    );
    let mut gradients = Named::new();
    let dx = back(Tensor::new(y.shape, wide(&gradient)), &mut gradients);
    assert!(
        error(&images_gradient, &dx.values) < 1e-4,
        "images: {}",
        error(&images_gradient, &dx.values)
    );
    check_gradients(&parameters, &gradients);
    for p in [&parameters, &momentum] {
        check_statistics(p, &tensors);
    }

    // With statistics that stand still, in an executor that has just had others.
    executor.forward(&mut momentum, images, Mode::Fixed, &mut features);
    let (y, back) = reference::run(network, &mut tensors, input(), Statistics::Running);
    assert!(
        error(&features, &y.values) < 2e-5,
        "fixed: {}",
        error(&features, &y.values)
    );
    executor.backward(&mut momentum, images, &gradient, Some(&mut images_gradient));
    let mut gradients = Named::new();
    let dx = back(Tensor::new(y.shape, wide(&gradient)), &mut gradients);
    assert!(
        error(&images_gradient, &dx.values) < 1e-4,
        "images, fixed: {}",
        error(&images_gradient, &dx.values)
    );
    check_gradients(&momentum, &gradients);
    check_statistics(&momentum, &tensors);
    same_for_any_threads(network, images, &gradient);
}

/// A gradient that is zero but for rounding is measured against the typical one.
fn check_gradients(parameters: &Parameters, truths: &Named) {
    let all: f64 = truths.values().flatten().map(|g| g * g).sum::<f64>().sqrt();
    for spec in parameters.specs() {
        if matches!(spec.role, Role::Weight | Role::Frozen) {
            let (own, truth) = (parameters.gradient(&spec.name), &truths[&spec.name]);
            let norm = truth.iter().map(|g| g * g).sum::<f64>().sqrt();
            let error = error(own, truth) * norm / norm.max(1e-4 * all);
            assert!(error < 2e-4, "gradient of {}: {error}", spec.name);
        }
    }
}

/// Running statistics after one batch.
fn check_statistics(parameters: &Parameters, truths: &Named) {
    for spec in parameters.specs() {
        if spec.role == Role::Statistic {
            let place = parameters.statistic_place(&spec.name);
            let error = error(&parameters.statistics()[place], &truths[&spec.name]);
            assert!(error < 1e-5, "{}: {error}", spec.name);
        }
    }
    assert!(parameters.counters().iter().all(|&count| count == 1));
}

/// Everything once more with 1, 2, 3 and 4 threads: the same bits.
fn same_for_any_threads(network: &Network, images: Images<'_>, gradient: &[f32]) {
    let all = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut parameters = filled(network, 11);
            let mut executor = Executor::new(network.clone());
            let mut features = vec![0.0; gradient.len()];
            executor.forward(
                &mut parameters,
                images,
                Mode::Momentum { draw: 9 },
                &mut features,
            );
            let mut bits: Vec<u32> = features.iter().map(|v| v.to_bits()).collect();
            executor.forward(
                &mut parameters,
                images,
                Mode::Train { draw: 9 },
                &mut features,
            );
            let mut images_gradient = vec![0.0; images.values.len()];
            executor.backward(
                &mut parameters,
                images,
                gradient,
                Some(&mut images_gradient),
            );
            let tensors = [
                &features,
                parameters.gradients(),
                parameters.statistics(),
                &images_gradient,
            ];
            bits.extend(tensors.into_iter().flatten().map(|v| v.to_bits()));
            executor.forward(&mut parameters, images, Mode::Infer, &mut features);
            bits.extend(features.iter().map(|v| v.to_bits()));
            executor.forward(&mut parameters, images, Mode::Fixed, &mut features);
            let of_images = Some(&mut images_gradient[..]);
            executor.backward(&mut parameters, images, gradient, of_images);
            bits.extend(images_gradient.iter().map(|v| v.to_bits()));
            bits
        })
    };
    let one = all(1);
    for threads in [2, 3, 4] {
        assert!(
            one == all(threads),
            "{threads} threads give other bits than one"
        );
    }
}

#[test]
fn convolutions_of_any_shape() {
    let uneven = Padding {
        top: 1,
        left: 0,
        bottom: 2,
        right: 1,
    };
    for (convs, shape) in [
        (
            vec![same("a", [3, 16], 3, 2, Activation::HardSwish)],
            [3, 9, 12],
        ),
        (vec![same("a", [3, 8], 7, 2, Activation::Relu)], [2, 14, 14]),
        (
            vec![
                same("a", [3, 24], 1, 1, Activation::Swish),
                same("b", [24, 72], 3, 1, Activation::Relu6),
                conv(
                    "c",
                    [72, 40],
                    [1, 2],
                    Padding::even(0),
                    1,
                    Activation::Identity,
                ),
            ],
            [5, 8, 7],
        ),
        (
            vec![
                same("a", [3, 12], 3, 1, Activation::Relu),
                conv(
                    "b",
                    [12, 18],
                    [5, 3],
                    Padding::even(2),
                    3,
                    Activation::HardSwish,
                ),
                conv("c", [18, 18], [3, 1], uneven, 18, Activation::Relu),
            ],
            [9, 11, 13],
        ),
        (
            vec![
                same("a", [3, 136], 1, 1, Activation::HardSwish),
                same("b", [136, 72], 3, 2, Activation::Identity),
            ],
            [2, 4, 4],
        ),
    ] {
        check(
            &network(convs.into_iter().map(Block::ConvNorm).collect()),
            shape,
        );
    }
}

#[test]
fn residual_blocks() {
    let basic = |name: &str, [a, b]: [usize; 2], stride| {
        let unit = |i, channels, stride, activation| {
            same(&format!("{name}.{i}"), channels, 3, stride, activation)
        };
        Block::Residual(Residual {
            path: vec![
                unit(1, [a, b], stride, Activation::Relu),
                unit(2, [b, b], 1, Activation::Identity),
            ],
            downsample: (stride > 1).then(|| {
                conv(
                    &format!("{name}.d"),
                    [a, b],
                    [1, stride],
                    Padding::even(0),
                    1,
                    Activation::Identity,
                )
            }),
            activation: Activation::Relu,
        })
    };
    let bottleneck = Block::Residual(Residual {
        path: vec![
            same("n.1", [24, 8], 1, 1, Activation::Relu),
            conv("n.2", [8, 8], [3, 2], Padding::even(1), 2, Activation::Relu),
            same("n.3", [8, 32], 1, 1, Activation::Identity),
        ],
        downsample: Some(conv(
            "n.d",
            [24, 32],
            [1, 2],
            Padding::even(0),
            1,
            Activation::Identity,
        )),
        activation: Activation::Relu,
    });
    let blocks = vec![
        Block::ConvNorm(same("stem", [3, 16], 7, 2, Activation::Relu)),
        Block::MaxPool {
            kernel: 3,
            stride: 2,
            padding: 1,
        },
        basic("p", [16, 16], 1),
        basic("q", [16, 24], 2),
        bottleneck,
    ];
    check(&network(blocks), [4, 37, 34]);
}

#[test]
fn pools_and_linear_layers() {
    let mut blocks = network(vec![
        Block::ConvNorm(same("a", [3, 20], 3, 1, Activation::Identity)),
        Block::MaxPool {
            kernel: 2,
            stride: 2,
            padding: 0,
        },
    ]);
    blocks.blocks.extend([
        linear("b", 20, 70, Activation::HardSwish),
        linear("c", 70, 130, Activation::Relu),
        linear("d", 130, 9, Activation::Identity),
    ]);
    check(&blocks, [11, 6, 5]);
}

#[test]
fn the_first_of_equal_maxima_gets_the_gradient() {
    let network = Network {
        blocks: vec![
            Block::MaxPool {
                kernel: 3,
                stride: 2,
                padding: 1,
            },
            Block::GlobalAveragePool { dropout: 0.0 },
        ],
    };
    let mut parameters = Parameters::initialised(&network, 0);
    let mut executor = Executor::new(network);
    let values = vec![-1.0; 4 * 4 * 3];
    let images = Images {
        batch: 1,
        height: 4,
        width: 4,
        values: &values,
    };
    let mut features = [0.0; 3];
    executor.forward(
        &mut parameters,
        images,
        Mode::Train { draw: 0 },
        &mut features,
    );
    assert_eq!(features, [-1.0; 3]);
    let mut dx = vec![9.0; values.len()];
    executor.backward(&mut parameters, images, &[4.0, 8.0, 0.0], Some(&mut dx));
    // Windows start at rows and columns 0 and 1: their first pixels are (0,0), (0,1), (1,0), (1,1).
    let mut expected = vec![0.0; values.len()];
    for pixel in [0, 1, 4, 5] {
        expected[3 * pixel] = 1.0;
        expected[3 * pixel + 1] = 2.0;
    }
    assert_eq!(dx, expected);
}

fn inverted(
    name: &str,
    [input, hidden, output]: [usize; 3],
    [kernel, stride]: [usize; 2],
    gating: Option<SqueezeExcite>,
    activation: Activation,
) -> Block {
    let part = |part: &str| format!("{name}.{part}");
    Block::InvertedResidual(InvertedResidual {
        expand: (input != hidden).then(|| same(&part("e"), [input, hidden], 1, 1, activation)),
        depthwise: conv(
            &part("d"),
            [hidden, hidden],
            [kernel, stride],
            Padding::even(kernel / 2),
            hidden,
            activation,
        ),
        squeeze_excite: gating,
        project: same(&part("p"), [hidden, output], 1, 1, Activation::Identity),
        shortcut: stride == 1 && input == output,
        drop_connect: 0.0,
    })
}

fn gating(
    name: &str,
    width: usize,
    after_activation: bool,
    sigmoid: bool,
) -> Option<SqueezeExcite> {
    Some(SqueezeExcite {
        reduce: format!("{name}.s.0"),
        expand: format!("{name}.s.2"),
        width,
        activation: if sigmoid {
            Activation::Swish
        } else {
            Activation::Relu
        },
        gate: if sigmoid {
            Gate::Sigmoid
        } else {
            Gate::HardSigmoid
        },
        convolutional: sigmoid,
        after_activation,
        init: Init::Normal(0.1),
        bias_init: Init::Normal(0.1),
    })
}

#[test]
fn inverted_residual_blocks() {
    let stem = || Block::ConvNorm(same("stem", [3, 16], 3, 2, Activation::HardSwish));
    check(
        &network(vec![
            stem(),
            inverted(
                "a",
                [16, 16, 16],
                [3, 2],
                gating("a", 8, true, false),
                Activation::Relu,
            ),
            inverted("b", [16, 72, 24], [3, 2], None, Activation::Relu),
            inverted("c", [24, 88, 24], [3, 1], None, Activation::Relu),
            inverted(
                "d",
                [24, 96, 40],
                [5, 2],
                gating("d", 24, false, false),
                Activation::HardSwish,
            ),
        ]),
        [5, 48, 40],
    );
    check(
        &network(vec![
            stem(),
            inverted("a", [16, 96, 96], [3, 1], None, Activation::HardSwish),
            inverted(
                "b",
                [96, 200, 96],
                [5, 1],
                gating("b", 24, false, false),
                Activation::HardSwish,
            ),
            inverted(
                "c",
                [96, 144, 40],
                [5, 2],
                gating("c", 20, true, true),
                Activation::Swish,
            ),
            inverted(
                "d",
                [40, 240, 40],
                [3, 1],
                gating("d", 10, true, true),
                Activation::Swish,
            ),
        ]),
        [3, 22, 30],
    );
}

#[test]
fn batch_norm_and_length_of_rows() {
    let row_norm = |name: &str, channels, activation| {
        Block::RowNorm(RowNorm {
            norm: Norm::new(name),
            channels,
            activation,
        })
    };
    for (width, batch) in [(24, 5), (7, 3), (130, 19)] {
        let mut network = network(vec![Block::ConvNorm(same(
            "a",
            [3, 10],
            3,
            2,
            Activation::Swish,
        ))]);
        // A bias before a batch norm has no gradient but rounding.
        let unbiased = |name, input, output| match linear(name, input, output, Activation::Identity)
        {
            Block::Linear(layer) => Block::Linear(Linear {
                bias: false,
                ..layer
            }),
            other => other,
        };
        network.blocks.extend([
            unbiased("b", 10, width),
            row_norm("c", width, Activation::Relu),
            unbiased("d", width, 9),
            row_norm("e", 9, Activation::Identity),
            Block::UnitLength,
        ]);
        check(&network, [batch, 6, 7]);
    }
}

#[test]
fn kept_tensors_are_stored_and_change_nothing() {
    let mut network = network(vec![Block::ConvNorm(same(
        "a",
        [3, 10],
        3,
        2,
        Activation::Relu,
    ))]);
    let features = |network: &Network| {
        let mut features = vec![0.0; 20];
        let values = Numbers(4).take(2 * 4 * 4 * 3);
        let images = Images {
            batch: 2,
            height: 4,
            width: 4,
            values: &values,
        };
        let mut parameters = filled(network, 3);
        let mut executor = Executor::new(network.clone());
        executor.forward(
            &mut parameters,
            images,
            Mode::Train { draw: 1 },
            &mut features,
        );
        let mut gradient = vec![0.0; values.len()];
        executor.backward(&mut parameters, images, &features, Some(&mut gradient));
        (features, gradient, parameters)
    };
    let (without, gradient, _) = features(&network);
    network.blocks.push(Block::Kept(vec![Spec {
        name: "prototypes.weight".into(),
        shape: vec![4, 10],
        role: Role::Frozen,
        init: Init::FanIn { fan_in: 10 },
    }]));
    let (with, same_gradient, parameters) = features(&network);
    assert_eq!((without, gradient), (with, same_gradient));
    assert_eq!(parameters.weight("prototypes.weight").len(), 40);
    assert!(
        parameters
            .weight("prototypes.weight")
            .iter()
            .all(|v| *v != 0.0)
    );
    assert_eq!(network.width(), 10);
}

/// The reference's own gradients, against differences of its own output.
#[test]
fn the_reference_agrees_with_finite_differences() {
    let mut network = network(vec![
        Block::ConvNorm(same("stem", [3, 8], 3, 2, Activation::Swish)),
        Block::MaxPool {
            kernel: 3,
            stride: 2,
            padding: 1,
        },
        inverted(
            "a",
            [8, 12, 8],
            [3, 1],
            gating("a", 4, false, true),
            Activation::Swish,
        ),
        Block::Residual(Residual {
            path: vec![
                same("b.1", [8, 8], 3, 2, Activation::Swish),
                same("b.2", [8, 8], 3, 1, Activation::Identity),
            ],
            downsample: Some(conv(
                "b.d",
                [8, 8],
                [1, 2],
                Padding::even(0),
                1,
                Activation::Identity,
            )),
            activation: Activation::Swish,
        }),
    ]);
    network.blocks.extend([
        linear("c", 8, 5, Activation::Swish),
        Block::RowNorm(RowNorm {
            norm: Norm::new("d"),
            channels: 5,
            activation: Activation::Swish,
        }),
        Block::UnitLength,
    ]);
    let parameters = filled(&network, 5);
    let tensors = named(&parameters);
    let mut numbers = Numbers(3);
    let shape = [3, 16, 16, 3];
    let images = wide(&numbers.take(shape.iter().product()));
    let cotangent = wide(&numbers.take(15));
    let loss = |tensors: &Named, images: &[f64]| {
        let input = Tensor::new(shape, images.to_vec());
        let (y, _) = reference::run(&network, &mut tensors.clone(), input, Statistics::Batch);
        y.values
            .iter()
            .zip(&cotangent)
            .map(|(a, b)| a * b)
            .sum::<f64>()
    };
    let input = Tensor::new(shape, images.clone());
    let (y, back) = reference::run(&network, &mut tensors.clone(), input, Statistics::Batch);
    let mut gradients = Named::new();
    let dx = back(Tensor::new(y.shape, cotangent.clone()), &mut gradients);
    let step = 1e-5;
    let agree = |name: &str, difference: f64, gradient: f64| {
        assert!(
            (difference - gradient).abs() < 1e-6 * (1.0 + gradient.abs()),
            "{name}: {difference} {gradient}"
        );
    };
    for (name, gradient) in &gradients {
        for i in [0, gradient.len() / 2, gradient.len() - 1] {
            let mut moved = tensors.clone();
            moved.get_mut(name).unwrap()[i] += step;
            let above = loss(&moved, &images);
            moved.get_mut(name).unwrap()[i] -= 2.0 * step;
            agree(
                name,
                (above - loss(&moved, &images)) / (2.0 * step),
                gradient[i],
            );
        }
    }
    for i in (0..images.len()).step_by(97) {
        let mut moved = images.clone();
        moved[i] += step;
        let above = loss(&tensors, &moved);
        moved[i] -= 2.0 * step;
        agree(
            "images",
            (above - loss(&tensors, &moved)) / (2.0 * step),
            dx.values[i],
        );
    }
}

#[test]
fn impossible_networks_are_refused_with_a_reason() {
    let refused = |network: Network, part: &str| {
        let message = network.outputs(8, 8).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    let good = || same("a", [3, 8], 3, 1, Activation::Relu);
    refused(Network { blocks: vec![] }, "must end in rows");
    refused(
        Network {
            blocks: vec![Block::ConvNorm(good())],
        },
        "must end in rows",
    );
    refused(
        Network {
            blocks: vec![linear("l", 3, 4, Activation::Relu)],
        },
        "needs rows",
    );
    let mut bad = good();
    bad.convolution.input = 4;
    refused(
        network(vec![Block::ConvNorm(bad)]),
        "takes 4 channels but gets 3",
    );
    let mut bad = good();
    bad.convolution.groups = 2;
    refused(network(vec![Block::ConvNorm(bad)]), "groups do not divide");
    refused(
        network(vec![Block::ConvNorm(conv(
            "a",
            [3, 8],
            [11, 1],
            Padding::even(1),
            1,
            Activation::Relu,
        ))]),
        "does not fit",
    );
    let twice = vec![
        Block::ConvNorm(good()),
        Block::ConvNorm(same("a", [8, 8], 1, 1, Activation::Relu)),
    ];
    refused(network(twice), "two tensors are named `a.0.weight`");
}
