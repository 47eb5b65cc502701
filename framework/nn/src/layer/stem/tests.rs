//! The stem against the general convolution, which has its own tests against double precision.

use super::*;
use crate::{
    init::Init,
    layer::ConvNorm as General,
    network::{Block, Network, Norm as NormDescription},
    random::{Key, unit},
};

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let key = Key::of(seed, "test");
    (0..n as u64)
        .map(|i| (unit(key.at(i)) * 2.0 - 1.0) as f32)
        .collect()
}

#[derive(Debug)]
struct Case {
    size: [usize; 3],
    output: usize,
    stride: usize,
    padding: Padding,
    activation: Activation,
}

fn cases() -> Vec<Case> {
    let case = |size, output, stride, padding, activation| Case {
        size,
        output,
        stride,
        padding,
        activation,
    };
    let uneven = Padding {
        top: 0,
        left: 0,
        bottom: 1,
        right: 1,
    };
    let even = Padding::even;
    vec![
        case([20, 34, 3], 16, 2, even(1), Activation::HardSwish),
        case([17, 9, 3], 32, 2, even(1), Activation::Swish),
        case([12, 12, 3], 32, 2, uneven, Activation::Swish),
        case([9, 31, 3], 64, 1, even(1), Activation::Relu),
        case([5, 4, 1], 48, 1, even(2), Activation::Relu6),
        case([3, 3, 4], 16, 2, even(0), Activation::Relu),
        case([2, 1, 3], 16, 1, even(1), Activation::Identity),
    ]
}

impl Case {
    fn description(&self) -> ConvNorm {
        ConvNorm {
            convolution: Convolution {
                name: "conv".into(),
                input: self.size[2],
                output: self.output,
                kernel: 3,
                stride: self.stride,
                padding: self.padding,
                groups: 1,
                init: Init::FanOut,
            },
            norm: NormDescription::new("norm"),
            activation: self.activation,
        }
    }
}

const BATCH: usize = 9;

/// Output, input gradient and parameters after a pass.
fn run(
    layer: &mut dyn Layer,
    mut parameters: Parameters,
    input: usize,
    mode: Mode,
) -> (Vec<f32>, Vec<f32>, Parameters) {
    let x = numbers(BATCH * input, 1);
    let mut y = vec![f32::NAN; BATCH * layer.output().len()];
    let (mut saved, mut scratch) = (vec![f32::NAN; layer.saved()], vec![0.0; layer.scratch()]);
    let mut pass = Pass {
        parameters: &mut parameters,
        saved: &mut saved,
        scratch: &mut scratch,
        mode,
        position: 0,
    };
    layer.forward(&mut pass, &x, &mut y);
    let mut dx = vec![f32::NAN; x.len()];
    if matches!(mode, Mode::Train { .. }) {
        let mut dy = numbers(y.len(), 2);
        layer.backward(&mut pass, &x, &y, &mut dy, Some(&mut dx));
    }
    (y, dx, parameters)
}

#[track_caller]
fn close(found: &[f32], expected: &[f32], what: &str) {
    let (mut error, mut norm) = (0.0, 0.0);
    for (f, e) in found.iter().zip(expected) {
        error += f64::from(f - e).powi(2);
        norm += f64::from(*e).powi(2);
    }
    let relative = (error / f64::max(norm, 1e-30)).sqrt();
    assert!(relative <= 1e-5, "{what}: relative error {relative}");
}

#[test]
fn equals_the_general_convolution() {
    for case in cases() {
        let description = case.description();
        assert!(Stem::takes(&description.convolution));
        let network = Network {
            blocks: vec![Block::ConvNorm(description.clone())],
        };
        let [height, width, channels] = case.size;
        let input = Size {
            height,
            width,
            channels,
        };
        let output = input.after(&description.convolution);
        let mut parameters = Parameters::initialised(&network, 3);
        for (i, name) in [
            "norm.weight",
            "norm.bias",
            "norm.running_mean",
            "norm.running_var",
        ]
        .iter()
        .enumerate()
        {
            let place = parameters.position(name).unwrap();
            let values = parameters.floats_mut(place);
            let noise = numbers(values.len(), 10 + i as u64);
            for (value, noise) in values.iter_mut().zip(noise) {
                *value = if i % 3 == 0 { 1.0 + 0.5 * noise } else { noise };
            }
        }
        for mode in [
            Mode::Train { draw: 0 },
            Mode::Momentum { draw: 0 },
            Mode::Infer,
        ] {
            let purpose = match mode {
                Mode::Train { .. } => Purpose::Train,
                _ => Purpose::Forward,
            };
            let d = &description;
            let mut general = General::new(d, BATCH, input, output, purpose, &parameters);
            let expected = run(&mut general, parameters.clone(), input.len(), mode);
            for level in Level::available() {
                let mut stem = Stem::new(d, BATCH, input, output, purpose, &parameters);
                stem.level = level;
                let found = run(&mut stem, parameters.clone(), input.len(), mode);
                let what = format!("{level} {mode:?} {case:?}");
                close(&found.0, &expected.0, &what);
                close(found.2.statistics(), expected.2.statistics(), &what);
                assert_eq!(found.2.counters(), expected.2.counters());
                if purpose == Purpose::Train {
                    close(&found.1, &expected.1, &format!("dx {what}"));
                    for name in ["conv.weight", "norm.weight", "norm.bias"] {
                        let what = format!("gradient of {name} {what}");
                        close(found.2.gradient(name), expected.2.gradient(name), &what);
                    }
                }
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let case = &cases()[0];
    let description = case.description();
    let network = Network {
        blocks: vec![Block::ConvNorm(description.clone())],
    };
    let [height, width, channels] = case.size;
    let input = Size {
        height,
        width,
        channels,
    };
    let output = input.after(&description.convolution);
    let parameters = Parameters::initialised(&network, 3);
    let outcome = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let (d, purpose) = (&description, Purpose::Train);
        let mut stem = Stem::new(d, BATCH, input, output, purpose, &parameters);
        pool.expect("a small pool can be built").install(|| {
            let mode = Mode::Train { draw: 0 };
            run(&mut stem, parameters.clone(), input.len(), mode)
        })
    };
    let one = outcome(1);
    for threads in [2, 5] {
        let other = outcome(threads);
        assert_eq!(one.0, other.0);
        assert_eq!(one.1, other.1);
        assert_eq!(one.2.gradients(), other.2.gradients());
    }
}
