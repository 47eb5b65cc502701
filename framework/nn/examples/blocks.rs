//! Times every layer of a MobileNetV3 trunk at 224×224: the query's forward and backward pass, the key's
//! forward pass, and inference.
//!
//! `cargo run --release -p smallfry-nn --example blocks [small|large|b0] [batch] [repeats]`; `large:14:7` is block 14
//! alone on maps of 7×7.
//!
//! The layers run in sequence as in a training step, so caches are as cold as there. Times are the best of the repeats,
//! in milliseconds: of the processor where there is one thread (other programs disturb it less), else of the clock; GFLOP/s count two for every multiply-add of the convolutions, two forward passes' worth for backward.

use smallfry_nn::{
    Executor, Images, Mode, Parameters,
    init::Init,
    layer::{Layer, Pass, Purpose, Size, plan},
    memory::Memory,
    network::{
        Activation, Block, ConvNorm, Convolution, Gate, InvertedResidual, Network, Norm, Padding,
        SqueezeExcite,
    },
};

/// Input, hidden and output channels, kernel, stride, width of squeeze-excite.
type Row = (usize, usize, usize, usize, usize, usize);

const SMALL: &[Row] = &[
    (16, 16, 16, 3, 2, 8),
    (16, 72, 24, 3, 2, 0),
    (24, 88, 24, 3, 1, 0),
    (24, 96, 40, 5, 2, 24),
    (40, 240, 40, 5, 1, 64),
    (40, 240, 40, 5, 1, 64),
    (40, 120, 48, 5, 1, 32),
    (48, 144, 48, 5, 1, 40),
    (48, 288, 96, 5, 2, 72),
    (96, 576, 96, 5, 1, 144),
    (96, 576, 96, 5, 1, 144),
];

const LARGE: &[Row] = &[
    (16, 16, 16, 3, 1, 0),
    (16, 64, 24, 3, 2, 0),
    (24, 72, 24, 3, 1, 0),
    (24, 72, 40, 5, 2, 24),
    (40, 120, 40, 5, 1, 32),
    (40, 120, 40, 5, 1, 32),
    (40, 240, 80, 3, 2, 0),
    (80, 200, 80, 3, 1, 0),
    (80, 184, 80, 3, 1, 0),
    (80, 184, 80, 3, 1, 0),
    (80, 480, 112, 3, 1, 120),
    (112, 672, 112, 3, 1, 168),
    (112, 672, 160, 5, 2, 168),
    (160, 960, 160, 5, 1, 240),
    (160, 960, 160, 5, 1, 240),
];

const B0: &[Row] = &[
    (32, 32, 16, 3, 1, 8),
    (16, 96, 24, 3, 2, 4),
    (24, 144, 24, 3, 1, 6),
    (24, 144, 40, 5, 2, 6),
    (40, 240, 40, 5, 1, 10),
    (40, 240, 80, 3, 2, 10),
    (80, 480, 80, 3, 1, 20),
    (80, 480, 80, 3, 1, 20),
    (80, 480, 112, 5, 1, 20),
    (112, 672, 112, 5, 1, 28),
    (112, 672, 112, 5, 1, 28),
    (112, 672, 192, 5, 2, 28),
    (192, 1152, 192, 5, 1, 48),
    (192, 1152, 192, 5, 1, 48),
    (192, 1152, 192, 5, 1, 48),
    (192, 1152, 320, 3, 1, 48),
];

fn conv(name: &str, sizes: [usize; 4], groups: usize, activation: Activation) -> ConvNorm {
    let [input, output, kernel, stride] = sizes;
    ConvNorm {
        convolution: Convolution {
            name: format!("{name}.conv"),
            input,
            output,
            kernel,
            stride,
            padding: Padding::even(kernel / 2),
            groups,
            init: Init::FanOut,
        },
        norm: Norm::new(format!("{name}.norm")),
        activation,
    }
}

fn network(name: &str) -> Network {
    let (name, part) = match name.split_once(':') {
        Some((name, part)) => (name, part.split_once(':')),
        None => (name, None),
    };
    let (rows, stem, last) = match name {
        "large" => (LARGE, 16, 960),
        "b0" => (B0, 32, 1280),
        _ => (SMALL, 16, 576),
    };
    let swish = name == "b0";
    let hard = if swish {
        Activation::Swish
    } else {
        Activation::HardSwish
    };
    let mut blocks = vec![Block::ConvNorm(conv("stem", [3, stem, 3, 2], 1, hard))];
    let mut output = stem;
    for (i, &(k, n, o, kernel, stride, gate)) in rows.iter().enumerate() {
        let activation = if !swish && i < rows.len() / 3 {
            Activation::Relu
        } else {
            hard
        };
        let name = |part: &str| format!("blocks.{i}.{part}");
        blocks.push(Block::InvertedResidual(InvertedResidual {
            expand: (i > 0).then(|| conv(&name("expand"), [k, n, 1, 1], 1, activation)),
            depthwise: conv(&name("depthwise"), [n, n, kernel, stride], n, activation),
            squeeze_excite: (gate > 0).then(|| SqueezeExcite {
                reduce: name("reduce"),
                expand: name("excite"),
                width: gate,
                activation: if swish {
                    Activation::Swish
                } else {
                    Activation::Relu
                },
                gate: if swish {
                    Gate::Sigmoid
                } else {
                    Gate::HardSigmoid
                },
                convolutional: swish,
                after_activation: swish,
                init: Init::FanOut,
                bias_init: Init::Constant(0.0),
            }),
            project: conv(&name("project"), [n, o, 1, 1], 1, Activation::Identity),
            shortcut: stride == 1 && k == o,
            drop_connect: 0.0,
        }));
        output = o;
    }
    if let Some((i, _)) = part {
        let i = i.parse().expect("a number of a block");
        blocks = vec![blocks.swap_remove(i)];
        return Network { blocks };
    }
    blocks.push(Block::ConvNorm(conv("last", [output, last, 1, 1], 1, hard)));
    Network { blocks }
}

/// The size after a block, and its multiply-adds per image.
fn follow(block: &Block, size: Size) -> (Size, usize) {
    let step = |size: Size, c: &Convolution| {
        let next = Size {
            height: size.height.div_ceil(c.stride),
            width: size.width.div_ceil(c.stride),
            channels: c.output,
        };
        let work = next.len() * c.kernel * c.kernel * c.input / c.groups;
        (next, work)
    };
    let convolutions: Vec<&Convolution> = match block {
        Block::ConvNorm(c) => vec![&c.convolution],
        Block::InvertedResidual(b) => b
            .expand
            .iter()
            .chain([&b.depthwise, &b.project])
            .map(|c| &c.convolution)
            .collect(),
        _ => unreachable!("the trunk has no other blocks"),
    };
    convolutions.iter().fold((size, 0), |(size, work), c| {
        let (next, more) = step(size, c);
        (next, work + more)
    })
}

/// All numbers of a block of memory.
fn all(memory: &mut Memory) -> &mut [f32] {
    let len = memory.len();
    memory.cut().take(len)
}

/// Milliseconds of the thread where there is only one, else of the clock.
fn now() -> f64 {
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    const MONOTONIC: i32 = 1;
    const THREAD: i32 = 3;
    let clock = if rayon::current_num_threads() == 1 {
        THREAD
    } else {
        MONOTONIC
    };
    let mut time = [0; 2];
    // SAFETY: the system writes seconds and nanoseconds of 64 bits each.
    unsafe { clock_gettime(clock, &mut time) };
    time[0] as f64 * 1e3 + time[1] as f64 * 1e-6
}

struct Net {
    parameters: Parameters,
    layers: Vec<Box<dyn Layer>>,
    /// The images, then the output of every layer.
    tensors: Vec<Memory>,
    saved: Vec<Memory>,
    scratch: Memory,
}

impl Net {
    fn new(network: &Network, batch: usize, image: Size, purpose: Purpose) -> Self {
        let parameters = Parameters::initialised(network, 1);
        let (mut size, mut layers) = (image, Vec::new());
        let mut tensors = vec![Memory::new(Memory::pad(batch * image.len()))];
        for (i, value) in all(&mut tensors[0]).iter_mut().enumerate() {
            *value = (i * 7919 % 1000) as f32 / 500.0 - 1.0;
        }
        for block in &network.blocks {
            let next = follow(block, size).0;
            layers.push(plan(block, batch, size, next, purpose, &parameters));
            tensors.push(Memory::new(Memory::pad(batch * next.len())));
            size = next;
        }
        let train = purpose == Purpose::Train;
        let saved = layers
            .iter()
            .map(|layer| Memory::new(if train { Memory::pad(layer.saved()) } else { 0 }))
            .collect();
        let scratch = layers.iter().map(|layer| layer.scratch()).max();
        Self {
            parameters,
            layers,
            tensors,
            saved,
            scratch: Memory::new(Memory::pad(scratch.unwrap_or(0))),
        }
    }

    /// Runs layer `i`, forward or (given the gradients of its output and input) backward.
    fn run(&mut self, i: usize, mode: Mode, lens: [usize; 2], back: Option<[&mut Memory; 2]>) {
        let (before, after) = self.tensors.split_at_mut(i + 1);
        let (x, y) = (
            &all(&mut before[i])[..lens[0]],
            &mut all(&mut after[0])[..lens[1]],
        );
        let mut pass = Pass {
            parameters: &mut self.parameters,
            saved: all(&mut self.saved[i]),
            scratch: all(&mut self.scratch),
            mode,
            position: i,
        };
        match back {
            None => self.layers[i].forward(&mut pass, x, y),
            Some([dy, dx]) => {
                let dy = &mut all(dy)[..lens[1]];
                // Nobody asks for the gradient of the images.
                let dx = (i > 0 || self.layers.len() == 1).then(|| &mut all(dx)[..lens[0]]);
                self.layers[i].backward(&mut pass, x, y, dy, dx);
            }
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "small".into());
    let mut number = |default| {
        arguments
            .next()
            .and_then(|a| a.parse().ok())
            .unwrap_or(default)
    };
    let (batch, repeats): (usize, usize) = (number(32), number(20));
    let network = network(&name);
    let side = name.split(':').nth(2).and_then(|side| side.parse().ok());
    let side = side.unwrap_or(224);
    let channels = match &network.blocks[0] {
        Block::InvertedResidual(b) => b.depthwise.convolution.input,
        _ => 3,
    };
    let channels = match &network.blocks[0] {
        Block::InvertedResidual(InvertedResidual {
            expand: Some(e), ..
        }) => e.convolution.input,
        _ => channels,
    };
    let image = Size {
        height: side,
        width: side,
        channels,
    };
    let mut query = Net::new(&network, batch, image, Purpose::Train);
    let mut key = Net::new(&network, batch, image, Purpose::Forward);
    let count = network.blocks.len();
    let mut lens = vec![batch * image.len()];
    let mut size = image;
    for block in &network.blocks {
        size = follow(block, size).0;
        lens.push(batch * size.len());
    }
    let mut gradients: Vec<Memory> = lens.iter().map(|&n| Memory::new(Memory::pad(n))).collect();
    let mut times = vec![[f64::INFINITY; 4]; count];
    let mut steps = Vec::new();
    rayon::scope(|_| {
        for _ in 0..repeats {
            for (i, g) in all(&mut gradients[count]).iter_mut().enumerate() {
                *g = (i % 97) as f32 / 97.0 - 0.5;
            }
            let mut clock = |i: usize, kind: usize, work: &mut dyn FnMut()| {
                let start = now();
                work();
                let time = &mut times[i][kind];
                *time = time.min(now() - start);
            };
            for i in 0..count {
                let lens = [lens[i], lens[i + 1]];
                clock(i, 3, &mut || key.run(i, Mode::Infer, lens, None));
            }
            let start = now();
            for i in 0..count {
                let lens = [lens[i], lens[i + 1]];
                clock(i, 0, &mut || {
                    query.run(i, Mode::Train { draw: 0 }, lens, None)
                });
            }
            for i in 0..count {
                let lens = [lens[i], lens[i + 1]];
                clock(i, 2, &mut || {
                    key.run(i, Mode::Momentum { draw: 0 }, lens, None)
                });
            }
            for i in (0..count).rev() {
                let lens = [lens[i], lens[i + 1]];
                let (before, after) = gradients.split_at_mut(i + 1);
                clock(i, 1, &mut || {
                    let back = Some([&mut after[0], &mut before[i]]);
                    query.run(i, Mode::Train { draw: 0 }, lens, back);
                });
            }
            steps.push(now() - start);
        }
    });
    println!("layer  forward  GFLOP/s | backward  GFLOP/s | momentum  GFLOP/s |    infer  GFLOP/s");
    let mut size = image;
    for (i, (block, [forward, backward, momentum, infer])) in
        network.blocks.iter().zip(&times).enumerate()
    {
        let (next, work) = follow(block, size);
        let speed = |units: f64, time: f64| units * 2.0 * (batch * work) as f64 / time * 1e-6;
        println!(
            "{i:>5} {forward:>8.2} {:>8.0} | {backward:>8.2} {:>8.0} | {momentum:>8.2} {:>8.0} | {infer:>8.2} {:>8.0}   {}×{}×{}",
            speed(1.0, *forward),
            speed(2.0, *backward),
            speed(1.0, *momentum),
            speed(1.0, *infer),
            next.height,
            next.width,
            next.channels
        );
        size = next;
    }
    let sum = |kind: usize| times.iter().map(|t| t[kind]).sum::<f64>();
    println!(
        "sum   {:>8.2}          | {:>8.2}          | {:>8.2}          | {:>8.2}",
        sum(0),
        sum(1),
        sum(2),
        sum(3)
    );
    drop((query, key));
    let mut network = network;
    network
        .blocks
        .push(Block::GlobalAveragePool { dropout: 0.0 });
    if let Ok(sizes) = network.outputs(side, side) {
        let last = sizes.last().map_or(0, |size| batch * size.len());
        let mut parameters = Parameters::initialised(&network, 1);
        let values = vec![0.5; batch * image.len()];
        let mut features = vec![0.0; last];
        for mode in [Mode::Train { draw: 0 }, Mode::Momentum { draw: 0 }] {
            let images = Images {
                batch,
                height: side,
                width: side,
                values: &values,
            };
            let mut executor = Executor::new(network.clone());
            executor.forward(&mut parameters, images, mode, &mut features);
            println!("{mode:?}: {} MB", executor.bytes() >> 20);
        }
    }
    steps.sort_by(f64::total_cmp);
    let (best, median) = (steps[0], steps[steps.len() / 2]);
    println!(
        "step: best {best:.1} ms, median {median:.1} ms; {:.0} images/s at best",
        batch as f64 / best * 1e3
    );
}
