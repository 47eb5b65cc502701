//! The block against a slow reference in double precision, and that against finite differences.

use super::*;
use crate::{
    init::Init,
    network::{
        ConvNorm, Gate as Function, Norm as NormDescription, Padding, Role, Spec, SqueezeExcite,
    },
    parameter::Values,
};

mod reference;

/// A block to test: sizes, and what it is made of.
#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    input: Size,
    hidden: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    padding: Padding,
    /// Width, whether after the activation.
    gate: Option<(usize, bool)>,
    expands: bool,
    activation: Activation,
    shortcut: bool,
    drop_connect: f32,
}

impl Case {
    fn new(input: [usize; 3], hidden: usize, output: usize, kernel: usize, stride: usize) -> Self {
        let [height, width, channels] = input;
        Self {
            batch: 5,
            input: Size {
                height,
                width,
                channels,
            },
            hidden,
            output,
            kernel,
            stride,
            padding: Padding::even(kernel / 2),
            gate: None,
            expands: true,
            activation: Activation::Relu,
            shortcut: stride == 1 && channels == output,
            drop_connect: 0.0,
        }
    }

    fn act(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    fn gate(mut self, width: usize, after: bool) -> Self {
        self.gate = Some((width, after));
        self
    }

    fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    fn pad(mut self, top: usize, left: usize, bottom: usize, right: usize) -> Self {
        self.padding = Padding {
            top,
            left,
            bottom,
            right,
        };
        self
    }

    fn drop(mut self, probability: f32) -> Self {
        self.drop_connect = probability;
        self
    }

    /// Without an expand convolution.
    fn narrow(mut self) -> Self {
        self.expands = false;
        self.hidden = self.input.channels;
        self
    }

    fn description(&self) -> Description {
        let conv =
            |name: &str, input, output, kernel, stride, padding, groups, activation| ConvNorm {
                convolution: Convolution {
                    name: name.into(),
                    input,
                    output,
                    kernel,
                    stride,
                    padding,
                    groups,
                    init: Init::FanOut,
                },
                norm: NormDescription {
                    name: format!("{name}.norm"),
                    epsilon: 1e-3,
                    momentum: 0.1,
                },
                activation,
            };
        let (k, n, o) = (self.input.channels, self.hidden, self.output);
        let none = Padding::even(0);
        Description {
            expand: self
                .expands
                .then(|| conv("expand", k, n, 1, 1, none, 1, self.activation)),
            depthwise: conv(
                "depthwise",
                n,
                n,
                self.kernel,
                self.stride,
                self.padding,
                n,
                self.activation,
            ),
            squeeze_excite: self.gate.map(|(width, after)| SqueezeExcite {
                reduce: "reduce".into(),
                expand: "excite".into(),
                width,
                activation: if after {
                    Activation::Swish
                } else {
                    Activation::Relu
                },
                gate: if after {
                    Function::Sigmoid
                } else {
                    Function::HardSigmoid
                },
                convolutional: after,
                after_activation: after,
                init: Init::FanOut,
                bias_init: Init::Constant(0.0),
            }),
            project: conv("project", n, o, 1, 1, none, 1, Activation::Identity),
            shortcut: self.shortcut,
            drop_connect: self.drop_connect,
        }
    }

    fn parameters(&self) -> Parameters {
        let mut specs = Vec::new();
        let mut spec = |name: String, shape: Vec<usize>, role| {
            specs.push(Spec {
                name,
                shape,
                role,
                init: Init::FanOut,
            });
        };
        let (k, n, o) = (self.input.channels, self.hidden, self.output);
        let mut convs = vec![
            ("depthwise", n, vec![n, 1, self.kernel, self.kernel]),
            ("project", o, vec![o, n, 1, 1]),
        ];
        if self.expands {
            convs.push(("expand", n, vec![n, k, 1, 1]));
        }
        for (name, channels, shape) in convs {
            spec(format!("{name}.weight"), shape, Role::Weight);
            spec(format!("{name}.norm.weight"), vec![channels], Role::Weight);
            spec(format!("{name}.norm.bias"), vec![channels], Role::Weight);
            spec(
                format!("{name}.norm.running_mean"),
                vec![channels],
                Role::Statistic,
            );
            spec(
                format!("{name}.norm.running_var"),
                vec![channels],
                Role::Statistic,
            );
            spec(
                format!("{name}.norm.num_batches_tracked"),
                vec![],
                Role::Counter,
            );
        }
        if let Some((width, _)) = self.gate {
            spec("reduce.weight".into(), vec![width, n], Role::Weight);
            spec("reduce.bias".into(), vec![width], Role::Weight);
            spec("excite.weight".into(), vec![n, width], Role::Weight);
            spec("excite.bias".into(), vec![n], Role::Weight);
        }
        let mut parameters = Parameters::new(specs.clone());
        for (i, spec) in specs.iter().enumerate() {
            let noise = numbers(spec.len(), 100 + i as u64);
            let (middle, spread) = match spec.name.rsplit('.').next().unwrap() {
                "weight" if spec.name.contains("norm") => (1.0, 0.4),
                "bias" => (0.1, 0.5),
                "running_var" => (1.0, 0.5),
                "running_mean" => (0.0, 0.3),
                _ => {
                    let inputs: usize = spec.shape.iter().skip(1).product();
                    (0.0, 1.5 / (inputs as f32).sqrt())
                }
            };
            for (value, noise) in parameters.floats_mut(i).iter_mut().zip(noise) {
                *value = middle + spread * noise;
            }
        }
        parameters
    }

    fn input(&self) -> Vec<f32> {
        let mut x = numbers(self.batch * self.input.len(), 1);
        // Channels with means of their own, as after a shortcut.
        for (i, x) in x.iter_mut().enumerate() {
            *x = *x * 1.5 + 0.3 * (i % self.input.channels % 5) as f32;
        }
        x
    }
}

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let key = Key::of(seed, "test");
    (0..n as u64)
        .map(|i| (unit(key.at(i)) * 2.0 - 1.0) as f32)
        .collect()
}

fn cases() -> Vec<Case> {
    use Activation::{HardSwish, Relu, Relu6, Swish};
    vec![
        // MobileNetV3-Small.
        Case::new([12, 12, 16], 16, 16, 3, 2)
            .narrow()
            .gate(4, false),
        Case::new([14, 14, 16], 72, 24, 3, 2),
        Case::new([9, 11, 24], 88, 24, 3, 1),
        Case::new([14, 14, 24], 96, 40, 5, 2)
            .gate(24, false)
            .act(HardSwish),
        Case::new([7, 7, 40], 240, 40, 5, 1)
            .gate(64, false)
            .act(HardSwish)
            .batch(9),
        Case::new([5, 6, 48], 144, 48, 5, 1)
            .gate(40, false)
            .act(HardSwish),
        Case::new([4, 4, 96], 576, 96, 5, 1)
            .gate(144, false)
            .act(HardSwish),
        Case::new([8, 8, 48], 288, 96, 5, 2)
            .gate(72, false)
            .act(HardSwish),
        // MobileNetV3-Large.
        Case::new([13, 10, 16], 16, 16, 3, 1).narrow(),
        Case::new([12, 9, 16], 64, 24, 3, 2),
        Case::new([6, 6, 80], 184, 80, 3, 1).act(HardSwish),
        Case::new([5, 5, 112], 480, 160, 5, 2)
            .gate(120, false)
            .act(HardSwish),
        // EfficientNet-B0, padded unevenly.
        Case::new([10, 10, 32], 32, 16, 3, 1)
            .narrow()
            .gate(8, true)
            .act(Swish),
        Case::new([9, 9, 16], 96, 24, 3, 2)
            .gate(4, true)
            .act(Swish)
            .pad(0, 0, 1, 1),
        Case::new([8, 8, 24], 144, 24, 3, 1)
            .gate(6, true)
            .act(Swish)
            .drop(0.4)
            .batch(11),
        Case::new([7, 8, 24], 144, 40, 5, 2)
            .gate(6, true)
            .act(Swish)
            .pad(1, 1, 2, 2),
        Case::new([5, 5, 40], 240, 40, 5, 1)
            .gate(10, true)
            .act(Swish),
        Case::new([4, 4, 80], 480, 112, 5, 1)
            .gate(20, true)
            .act(Swish),
        // Odd ones.
        Case::new([3, 3, 24], 72, 24, 3, 1),
        Case::new([2, 2, 10], 37, 10, 5, 1).act(Relu6).batch(20),
        Case::new([1, 1, 8], 24, 8, 3, 1).batch(30).act(HardSwish),
        Case::new([6, 5, 7], 19, 7, 7, 1).act(Relu6).drop(0.3),
        Case::new([9, 8, 5], 21, 6, 7, 2).act(Relu).gate(3, false),
        Case::new([7, 7, 9], 9, 9, 5, 1).narrow().act(Relu6),
        Case::new([40, 37, 6], 33, 6, 3, 1).batch(2).act(HardSwish),
        Case::new([4, 4, 90], 100, 11, 3, 1).batch(1).gate(5, true),
    ]
}

/// Everything a pass leaves behind.
struct Outcome {
    y: Vec<f32>,
    dx: Vec<f32>,
    parameters: Parameters,
}

fn run(case: &Case, level: Level, mode: Mode) -> Outcome {
    run_cut(case, level, CACHE, mode)
}

/// With work cut as if the cache held only `cache` numbers.
fn run_cut(case: &Case, level: Level, cache: usize, mode: Mode) -> Outcome {
    let mut parameters = case.parameters();
    let purpose = match mode {
        Mode::Train { .. } => Purpose::Train,
        _ => Purpose::Forward,
    };
    let description = case.description();
    let block = InvertedResidual::new(&description, case.batch, case.input, purpose, &parameters);
    let mut block = block.with_level(level).with_cache(cache);
    let x = case.input();
    let mut y = vec![f32::NAN; case.batch * block.output().len()];
    let train = purpose == Purpose::Train;
    // Memory starts with rubbish: nothing may depend on what was there.
    let mut saved = vec![f32::NAN; if train { block.saved() } else { 0 }];
    let mut scratch = vec![f32::NAN; block.scratch()];
    let mut pass = Pass {
        parameters: &mut parameters,
        saved: &mut saved,
        scratch: &mut scratch,
        mode,
        position: 3,
    };
    block.forward(&mut pass, &x, &mut y);
    let mut dx = vec![f32::NAN; x.len()];
    if train {
        pass.scratch.fill(f32::NAN);
        let mut dy = numbers(y.len(), 2);
        block.backward(&mut pass, &x, &y, &mut dy, Some(&mut dx));
    }
    Outcome { y, dx, parameters }
}

#[track_caller]
fn close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let (mut error, mut norm) = (0.0, 0.0);
    for (f, e) in found.iter().zip(expected) {
        error += (f64::from(*f) - e).powi(2);
        norm += e * e;
    }
    let relative = (error / norm.max(1e-30)).sqrt();
    // A NaN fails too.
    assert!(relative <= 1e-5, "{what}: relative error {relative}");
}

fn compare_statistics(found: &Parameters, expected: &reference::Result, what: &str) {
    for (i, spec) in found.specs().iter().enumerate() {
        match found.get(i) {
            Values::Integer(batches) => assert_eq!(batches, 1, "{what} {}", spec.name),
            Values::Float(values) if spec.role == Role::Statistic => {
                close(
                    values,
                    &expected.statistics[&spec.name],
                    &format!("{what} {}", spec.name),
                );
            }
            Values::Float(_) => {}
        }
    }
}

#[test]
fn training_equals_the_reference() {
    for case in cases() {
        let mode = Mode::Train { draw: 77 };
        let expected = reference::run(&case, mode);
        for level in Level::available() {
            let what = format!("{level} {case:?}");
            let found = run(&case, level, mode);
            close(&found.y, &expected.y, &format!("y {what}"));
            close(&found.dx, &expected.dx, &format!("dx {what}"));
            for (name, gradient) in &expected.gradients {
                let what = format!("gradient of {name} {what}");
                close(found.parameters.gradient(name), gradient, &what);
            }
            compare_statistics(&found.parameters, &expected, &what);
        }
    }
}

#[test]
fn training_in_small_pieces_equals_the_reference() {
    let mut cases = cases();
    // Several blocks of channels, several bands of lines, with and without padding in front.
    cases.extend([
        Case::new([12, 10, 16], 208, 24, 3, 2),
        Case::new([12, 10, 16], 208, 24, 3, 2).pad(0, 0, 1, 1),
        Case::new([11, 10, 16], 208, 24, 5, 2).act(Activation::HardSwish),
        Case::new([12, 9, 16], 208, 16, 5, 2).pad(1, 1, 2, 2),
        Case::new([12, 9, 16], 208, 16, 3, 1).gate(5, true),
        Case::new([13, 9, 16], 208, 16, 7, 2),
    ]);
    for case in cases {
        let mode = Mode::Train { draw: 77 };
        let expected = reference::run(&case, mode);
        for cache in [1, 6000] {
            let what = format!("cache {cache} {case:?}");
            let found = run_cut(&case, Level::current(), cache, mode);
            close(&found.y, &expected.y, &format!("y {what}"));
            close(&found.dx, &expected.dx, &format!("dx {what}"));
            for (name, gradient) in &expected.gradients {
                let what = format!("gradient of {name} {what}");
                close(found.parameters.gradient(name), gradient, &what);
            }
        }
    }
}

#[test]
fn momentum_equals_the_reference() {
    for case in cases() {
        let mode = Mode::Momentum { draw: 5 };
        let expected = reference::run(&case, mode);
        for level in Level::available() {
            let what = format!("{level} {case:?}");
            let found = run(&case, level, mode);
            close(&found.y, &expected.y, &what);
            compare_statistics(&found.parameters, &expected, &what);
        }
    }
}

#[test]
fn inference_equals_the_reference() {
    for case in cases() {
        let expected = reference::run(&case, Mode::Infer);
        for level in Level::available() {
            let found = run(&case, level, Mode::Infer);
            close(&found.y, &expected.y, &format!("{level} {case:?}"));
            assert_eq!(
                found.parameters.statistics(),
                case.parameters().statistics()
            );
        }
    }
}

#[test]
fn gradients_add_up() {
    let case = Case::new([6, 6, 16], 48, 16, 3, 1).gate(8, false);
    let once = run(&case, Level::current(), Mode::Train { draw: 1 });
    let mut parameters = case.parameters();
    let description = case.description();
    let purpose = Purpose::Train;
    let mut block =
        InvertedResidual::new(&description, case.batch, case.input, purpose, &parameters);
    let x = case.input();
    let mut y = vec![0.0; case.batch * block.output().len()];
    let (mut saved, mut scratch) = (vec![0.0; block.saved()], vec![0.0; block.scratch()]);
    for _ in 0..2 {
        let mut pass = Pass {
            parameters: &mut parameters,
            saved: &mut saved,
            scratch: &mut scratch,
            mode: Mode::Train { draw: 1 },
            position: 3,
        };
        block.forward(&mut pass, &x, &mut y);
        let mut dy = numbers(y.len(), 2);
        // The weights' gradients must not need that of the input.
        block.backward(&mut pass, &x, &y, &mut dy, None);
    }
    for (one, two) in once
        .parameters
        .gradients()
        .iter()
        .zip(parameters.gradients())
    {
        // Sums that start from another value round differently.
        assert!((2.0 * one - two).abs() <= 1e-5 * two.abs().max(1.0));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for case in [
        Case::new([14, 14, 24], 96, 24, 5, 1)
            .gate(24, false)
            .batch(13),
        Case::new([7, 7, 96], 200, 96, 5, 1)
            .gate(24, true)
            .batch(10),
        Case::new([14, 14, 16], 16, 16, 3, 2).narrow().batch(9),
    ] {
        let outcome = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.expect("a small pool can be built");
            pool.install(|| run(&case, Level::current(), Mode::Train { draw: 1 }))
        };
        let one = outcome(1);
        for threads in [2, 3, 8] {
            let other = outcome(threads);
            assert_eq!(one.y, other.y);
            assert_eq!(one.dx, other.dx);
            assert_eq!(one.parameters.gradients(), other.parameters.gradients());
            assert_eq!(one.parameters.statistics(), other.parameters.statistics());
        }
    }
}

#[test]
fn reference_equals_finite_differences() {
    let case = Case::new([5, 4, 4], 6, 4, 3, 1)
        .gate(3, true)
        .act(Activation::Swish)
        .drop(0.3)
        .batch(4);
    reference::check_differences(&case);
    reference::check_differences(&Case::new([5, 5, 4], 7, 3, 3, 2).gate(3, false));
}
