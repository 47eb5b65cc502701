//! Times the blocks of a residual network at 224×224 by processor time: query forward and backward, momentum forward,
//! inference.
//!
//! `cargo run --release -p smallfry-nn --example dense [resnet18|resnet34|resnet50|resnext50_32x4d|wide_resnet50_2 [BATCH [STEPS]]]`
//!
//! Processor time of the whole process is a fair measure also on a machine that does other work; set `RAYON_NUM_THREADS=1`
//! for figures without waiting threads. The table has the least time of every block in milliseconds.

use smallfry_nn::{
    Executor, Images, Mode, Network, Parameters,
    init::Init,
    network::{
        Activation::{self, Identity, Relu},
        Block, ConvNorm, Convolution, Norm, Padding, Residual,
    },
};

fn conv(
    name: &str,
    [input, output]: [usize; 2],
    [kernel, stride, groups]: [usize; 3],
    activation: Activation,
) -> ConvNorm {
    ConvNorm {
        norm: Norm::new(format!("{name}.norm")),
        convolution: Convolution {
            name: name.into(),
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

/// Numbers of blocks, whether blocks are bottlenecks, groups, and width of a group at the first stage.
type Kind = ([usize; 4], bool, usize, usize);

fn network((blocks, bottleneck, groups, base): Kind) -> Network {
    let mut list = vec![
        Block::ConvNorm(conv("stem", [3, 64], [7, 2, 1], Relu)),
        Block::MaxPool {
            kernel: 3,
            stride: 2,
            padding: 1,
        },
    ];
    let mut input = 64;
    for (stage, count) in blocks.into_iter().enumerate() {
        let planes = 64 << stage;
        for i in 0..count {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let name = |part: &str| format!("{stage}.{i}.{part}");
            let inner = planes * base / 64 * groups;
            let output = if bottleneck { 4 * planes } else { planes };
            let path = if bottleneck {
                vec![
                    conv(&name("1"), [input, inner], [1, 1, 1], Relu),
                    conv(&name("2"), [inner, inner], [3, stride, groups], Relu),
                    conv(&name("3"), [inner, output], [1, 1, 1], Identity),
                ]
            } else {
                vec![
                    conv(&name("1"), [input, output], [3, stride, 1], Relu),
                    conv(&name("2"), [output, output], [3, 1, 1], Identity),
                ]
            };
            list.push(Block::Residual(Residual {
                path,
                downsample: (stride > 1 || input != output)
                    .then(|| conv(&name("side"), [input, output], [1, stride, 1], Identity)),
                activation: Relu,
            }));
            input = output;
        }
    }
    list.push(Block::GlobalAveragePool { dropout: 0.0 });
    Network { blocks: list }
}

/// Processor time of the process in seconds.
fn now() -> f64 {
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    }
    const PROCESS: i32 = 2;
    let mut time = Time {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: the structure is that of 64-bit Linux.
    let result = unsafe { clock_gettime(PROCESS, &mut time) };
    assert_eq!(result, 0, "this system has no clock of processor time");
    time.seconds as f64 + time.nanoseconds as f64 * 1e-9
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or("resnet18".into());
    let argument = |i: usize, default: usize| {
        let text = std::env::args().nth(i);
        text.map_or(default, |text| text.parse().expect("a number"))
    };
    let (batch, steps) = (argument(2, 32), argument(3, 3));
    let network = network(match name.as_str() {
        "resnet18" => ([2, 2, 2, 2], false, 1, 64),
        "resnet34" => ([3, 4, 6, 3], false, 1, 64),
        "resnet50" => ([3, 4, 6, 3], true, 1, 64),
        "resnext50_32x4d" => ([3, 4, 6, 3], true, 32, 4),
        "wide_resnet50_2" => ([3, 4, 6, 3], true, 1, 128),
        other => panic!("no network is named `{other}`"),
    });
    let side = 224;
    let values: Vec<f32> = (0..batch * side * side * 3)
        .map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let images = Images {
        batch,
        height: side,
        width: side,
        values: &values,
    };
    let mut parameters = Parameters::initialised(&network, 1);
    let mut key = parameters.clone();
    let (mut query, mut momentum) = (
        Executor::new(network.clone()),
        Executor::new(network.clone()),
    );
    let width = network.width();
    let mut features = vec![0.0; batch * width];
    let gradient: Vec<f32> = (0..features.len())
        .map(|i| 1e-3 * (i % 97) as f32 - 0.05)
        .collect();
    let mut times = vec![[f64::INFINITY; 4]; network.blocks.len()];
    for draw in 0..steps as u64 {
        for phase in [0, 1, 2, 3] {
            let mut last = now();
            let mut watch = |i: usize, _: f64| {
                let time = now();
                let best: &mut f64 = &mut times[i][phase];
                *best = best.min(1e3 * (time - last));
                last = time;
            };
            let train = Mode::Train { draw };
            match phase {
                0 => {
                    query.forward_timed(&mut parameters, images, train, &mut features, &mut watch);
                }
                1 => {
                    query.backward_timed(&mut parameters, images, &gradient, None, &mut watch);
                }
                _ => {
                    let mode = if phase == 2 {
                        Mode::Momentum { draw }
                    } else {
                        Mode::Infer
                    };
                    momentum.forward_timed(&mut key, images, mode, &mut features, &mut watch);
                }
            }
        }
    }
    println!("block   forward  backward  momentum     infer   (milliseconds)");
    let row = |name: &str, [a, b, c, d]: [f64; 4]| {
        println!("{name:>5} {a:9.1} {b:9.1} {c:9.1} {d:9.1}");
    };
    for (i, times) in times.iter().enumerate() {
        row(&i.to_string(), *times);
    }
    let sums = [0, 1, 2, 3].map(|k| times.iter().map(|times| times[k]).sum::<f64>());
    row("sum", sums);
    let step = sums[0] + sums[1] + sums[2];
    println!(
        "step {step:.1} ms: {:.2} images/s; inference {:.2} images/s",
        1e3 * batch as f64 / step,
        1e3 * batch as f64 / sums[3]
    );
    println!(
        "tensors: query {:.1} MB, momentum {:.1} MB",
        query.bytes() as f64 / 1e6,
        momentum.bytes() as f64 / 1e6
    );
}
