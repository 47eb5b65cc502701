//! Times one step of momentum contrast on the encoder alone: query forward and backward, momentum forward, SGD, average.
//!
//! `cargo run --release -p smallfry-nn --example step [NETWORK [BATCH [SIDE [STEPS]]]]` prints images per second, the time
//! of every block, and the peak of the process's memory. The network is `mobilenetv3_small` (or else `resnet18`) with a
//! wide head.

use std::time::Instant;

use smallfry_nn::{
    Executor, Images, Mode, Network, Parameters,
    init::Init,
    network::{
        Activation::{self, HardSwish, Identity, Relu},
        Block, ConvNorm, Convolution, Gate, InvertedResidual, Linear, Norm, Padding, Residual,
        SqueezeExcite,
    },
    optimizer::{Sgd, average},
};

/// Kernel, input, hidden and output channels, squeeze-excite width, activation, stride.
type Row = (usize, [usize; 3], usize, Activation, usize);

const BLOCKS: [Row; 11] = [
    (3, [16, 16, 16], 8, Relu, 2),
    (3, [16, 72, 24], 0, Relu, 2),
    (3, [24, 88, 24], 0, Relu, 1),
    (5, [24, 96, 40], 24, HardSwish, 2),
    (5, [40, 240, 40], 64, HardSwish, 1),
    (5, [40, 240, 40], 64, HardSwish, 1),
    (5, [40, 120, 48], 32, HardSwish, 1),
    (5, [48, 144, 48], 40, HardSwish, 1),
    (5, [48, 288, 96], 72, HardSwish, 2),
    (5, [96, 576, 96], 144, HardSwish, 1),
    (5, [96, 576, 96], 144, HardSwish, 1),
];

fn conv(
    name: String,
    [input, output]: [usize; 2],
    [kernel, stride, groups]: [usize; 3],
    activation: Activation,
) -> ConvNorm {
    ConvNorm {
        norm: Norm::new(format!("{name}.norm")),
        convolution: Convolution {
            name,
            input,
            output,
            kernel,
            stride,
            padding: Padding::even(kernel / 2),
            groups,
            init: Init::FanOut,
        },
        activation,
    }
}

fn linear(name: &str, input: usize, output: usize, activation: Activation, dropout: f32) -> Block {
    Block::Linear(Linear {
        name: name.into(),
        input,
        output,
        bias: true,
        activation,
        dropout,
        init: Init::FanIn { fan_in: input },
        bias_init: Init::FanIn { fan_in: input },
    })
}

fn resnet() -> Network {
    let mut blocks = vec![
        Block::ConvNorm(conv("stem".into(), [3, 64], [7, 2, 1], Relu)),
        Block::MaxPool {
            kernel: 3,
            stride: 2,
            padding: 1,
        },
    ];
    let mut input = 64;
    for (i, output) in [64, 64, 128, 128, 256, 256, 512, 512]
        .into_iter()
        .enumerate()
    {
        let stride = output / input;
        let name = |part: &str| format!("{i}.{part}");
        blocks.push(Block::Residual(Residual {
            path: vec![
                conv(name("1"), [input, output], [3, stride, 1], Relu),
                conv(name("2"), [output, output], [3, 1, 1], Identity),
            ],
            downsample: (stride > 1)
                .then(|| conv(name("side"), [input, output], [1, stride, 1], Identity)),
            activation: Relu,
        }));
        input = output;
    }
    blocks.extend([
        Block::GlobalAveragePool { dropout: 0.0 },
        linear("head.0", 512, 1024, Relu, 0.0),
        linear("head.2", 1024, 128, Identity, 0.0),
    ]);
    Network { blocks }
}

fn mobilenet() -> Network {
    let mut blocks = vec![Block::ConvNorm(conv(
        "stem".into(),
        [3, 16],
        [3, 2, 1],
        HardSwish,
    ))];
    for (i, (kernel, [input, hidden, output], gating, activation, stride)) in
        BLOCKS.into_iter().enumerate()
    {
        let name = |part: &str| format!("{i}.{part}");
        blocks.push(Block::InvertedResidual(InvertedResidual {
            expand: (hidden != input)
                .then(|| conv(name("expand"), [input, hidden], [1, 1, 1], activation)),
            depthwise: conv(
                name("depthwise"),
                [hidden, hidden],
                [kernel, stride, hidden],
                activation,
            ),
            squeeze_excite: (gating > 0).then(|| SqueezeExcite {
                reduce: name("reduce"),
                expand: name("open"),
                width: gating,
                activation: Relu,
                gate: Gate::HardSigmoid,
                convolutional: false,
                after_activation: hidden == input,
                init: Init::Normal(0.01),
                bias_init: Init::Constant(0.0),
            }),
            project: conv(name("project"), [hidden, output], [1, 1, 1], Identity),
            shortcut: stride == 1 && input == output,
            drop_connect: 0.0,
        }));
    }
    blocks.extend([
        Block::ConvNorm(conv("last".into(), [96, 576], [1, 1, 1], HardSwish)),
        Block::GlobalAveragePool { dropout: 0.0 },
        linear("classifier", 576, 1024, HardSwish, 0.2),
        linear("head.0", 1024, 2048, Relu, 0.0),
        linear("head.2", 2048, 128, Identity, 0.0),
    ]);
    Network { blocks }
}

/// The kernel's record of the largest memory that the process had, in megabytes.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}

fn main() {
    let argument = |i: usize, default: usize| {
        let text = std::env::args().nth(i);
        text.map_or(default, |text| text.parse().expect("a number"))
    };
    let (batch, side, steps) = (argument(2, 32), argument(3, 224), argument(4, 12));
    let network = match std::env::args().nth(1).as_deref() {
        None | Some("mobilenetv3_small") => mobilenet(),
        Some("resnet18") => resnet(),
        Some(other) => panic!("no network is named `{other}`"),
    };
    let count = network.blocks.len();
    let values: Vec<f32> = (0..batch * side * side * 3)
        .map(|i| (i as f32 * 0.37).sin())
        .collect();
    let images = Images {
        batch,
        height: side,
        width: side,
        values: &values,
    };
    let mut query = Parameters::initialised(&network, 1);
    let mut key = query.clone();
    let ranges = query.trained_ranges();
    let mut velocity = vec![0.0; query.values().len()];
    let (mut of_query, mut of_key) = (Executor::new(network.clone()), Executor::new(network));
    let mut features = vec![0.0; batch * 128];
    let gradient: Vec<f32> = (0..features.len())
        .map(|i| 1e-3 * (i as f32).cos())
        .collect();
    let mut phases = vec![[0.0; 3]; count];
    let (mut rest, mut best, mut total) = (0.0, f64::INFINITY, 0.0);
    let warm_up = 2;
    for step in 0..warm_up + steps {
        let mut now = vec![[0.0; 3]; count];
        let start = Instant::now();
        query.clear_gradients();
        let draw = step as u64;
        of_query.forward_timed(
            &mut query,
            images,
            Mode::Train { draw },
            &mut features,
            &mut |i, t| now[i][0] += t,
        );
        of_query.backward_timed(&mut query, images, &gradient, None, &mut |i, t| {
            now[i][1] += t;
        });
        let update = Instant::now();
        average(&mut key, &query, 0.999);
        let sgd = Sgd {
            rate: 0.06,
            momentum: 0.9,
            decay: 1e-4,
            nesterov: false,
        };
        sgd.step(&mut query, &mut velocity, &ranges);
        let update = update.elapsed().as_secs_f64();
        of_key.forward_timed(
            &mut key,
            images,
            Mode::Momentum { draw },
            &mut features,
            &mut |i, t| now[i][2] += t,
        );
        let seconds = start.elapsed().as_secs_f64();
        if step >= warm_up {
            best = seconds.min(best);
            total += seconds;
            rest += update;
            for (sum, now) in phases.iter_mut().zip(now) {
                for (sum, now) in sum.iter_mut().zip(now) {
                    *sum += now;
                }
            }
        }
    }
    let per_step = 1e3 / steps as f64;
    println!("block   forward  backward  momentum   (milliseconds)");
    for (i, phase) in phases.iter().enumerate() {
        let [forward, backward, momentum] = phase.map(|t| t * per_step);
        println!("{i:5} {forward:9.2} {backward:9.2} {momentum:9.2}");
    }
    let [forward, backward, momentum] =
        [0, 1, 2].map(|k| phases.iter().map(|phase| phase[k]).sum::<f64>() * per_step);
    println!("  sum {forward:9.2} {backward:9.2} {momentum:9.2}");
    println!("SGD and average {:.2}", rest * per_step);
    println!(
        "step: mean {:.1} ms, best {:.1} ms; {:.1} images/s, at best {:.1}",
        total * per_step,
        best * 1e3,
        batch as f64 * steps as f64 / total,
        batch as f64 / best
    );
    println!(
        "tensors: query {:.1} MB, momentum {:.1} MB",
        of_query.bytes() as f64 / 1e6,
        of_key.bytes() as f64 / 1e6
    );
    if let Some(peak) = peak_memory() {
        println!("peak memory {peak:.1} MB");
    }
}
