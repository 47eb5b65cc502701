//! Every method and direction against loops in double precision, on every level.

use super::*;
use crate::{
    init::Init,
    network::{Block, ConvNorm, Network, Norm, Padding},
};

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len());
    let (mut error, mut norm) = (0.0, 1e-30);
    for (f, e) in found.iter().zip(expected) {
        error += (f64::from(*f) - e).powi(2);
        norm += e * e;
    }
    let error = (error / norm).sqrt();
    assert!(error < 5e-6, "{what}: {error:e}");
}

struct Case {
    batch: usize,
    size: [usize; 2],
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    groups: usize,
}

const fn case(
    batch: usize,
    size: [usize; 2],
    channels: [usize; 2],
    [kernel, stride, groups]: [usize; 3],
) -> Case {
    Case {
        batch,
        size,
        channels,
        kernel,
        stride,
        groups,
    }
}

const CASES: [Case; 28] = [
    // Winograd: edge tiles, tails of vectors, one and several chunks of a slice, all threads on one chunk.
    case(4, [8, 8], [16, 16], [3, 1, 1]),
    case(3, [9, 11], [16, 40], [3, 1, 1]),
    case(9, [5, 7], [37, 19], [3, 1, 1]),
    case(1, [30, 29], [20, 72], [3, 1, 1]),
    case(10, [7, 7], [176, 180], [3, 1, 1]),
    case(17, [4, 6], [180, 170], [3, 1, 1]),
    // Too small, or padded otherwise.
    case(1, [5, 5], [16, 16], [3, 1, 1]),
    case(2, [9, 9], [3, 16], [3, 1, 1]),
    // Rows of pixels: few and many weights, several chunks.
    case(3, [5, 4], [17, 35], [1, 1, 1]),
    case(9, [20, 17], [130, 24], [1, 1, 1]),
    case(2, [5, 5], [600, 530], [1, 1, 1]),
    // Segments of bands.
    case(2, [9, 8], [24, 40], [1, 2, 1]),
    case(9, [8, 7], [560, 600], [1, 2, 1]),
    case(3, [11, 8], [16, 24], [3, 2, 1]),
    case(2, [15, 14], [3, 16], [7, 2, 1]),
    case(2, [9, 9], [4, 6], [5, 1, 1]),
    case(2, [40, 33], [256, 130], [3, 2, 1]),
    case(9, [7, 5], [256, 160], [3, 2, 1]),
    // Groups.
    case(2, [6, 7], [16, 16], [3, 1, 4]),
    case(3, [9, 8], [64, 64], [3, 1, 16]),
    case(2, [9, 10], [64, 64], [3, 2, 8]),
    case(2, [5, 5], [96, 96], [3, 1, 3]),
    case(2, [5, 5], [12, 20], [1, 1, 2]),
    // Maps smaller than the kernel: few and many weights, a stride, more columns than rows.
    case(9, [1, 1], [37, 19], [3, 1, 1]),
    case(17, [2, 2], [160, 130], [3, 1, 1]),
    case(3, [2, 2], [17, 24], [3, 2, 1]),
    case(2, [1, 4], [16, 16], [3, 1, 1]),
    case(10, [3, 4], [8, 5], [7, 2, 1]),
];

impl Case {
    fn description(&self) -> Description {
        Description {
            name: "c".into(),
            input: self.channels[0],
            output: self.channels[1],
            kernel: self.kernel,
            stride: self.stride,
            padding: Padding::even(self.kernel / 2),
            groups: self.groups,
            init: Init::FanOut,
        }
    }

    fn what(&self, name: &str) -> String {
        format!(
            "{name} of {} × {:?}, {:?} channels, {}×{}, stride {}, {} groups",
            self.batch,
            self.size,
            self.channels,
            self.kernel,
            self.kernel,
            self.stride,
            self.groups
        )
    }

    /// Calls `f` with the places of x, y and w of every product.
    fn products(&self, mut f: impl FnMut(usize, usize, usize)) {
        let ([h, w], [c, o]) = (self.size, self.channels);
        let (own, outputs, pad) = (c / self.groups, o / self.groups, self.kernel / 2);
        let side = |n: usize| (n + 2 * pad - self.kernel) / self.stride + 1;
        for image in 0..self.batch {
            for (y, x) in (0..side(h)).flat_map(|y| (0..side(w)).map(move |x| (y, x))) {
                for tap in 0..self.kernel * self.kernel {
                    let i = (y * self.stride + tap / self.kernel).wrapping_sub(pad);
                    let j = (x * self.stride + tap % self.kernel).wrapping_sub(pad);
                    if i >= h || j >= w {
                        continue;
                    }
                    for output in 0..o {
                        for k in 0..own {
                            f(
                                ((image * h + i) * w + j) * c + output / outputs * own + k,
                                ((image * side(h) + y) * side(w) + x) * o + output,
                                (output * own + k) * self.kernel * self.kernel + tap,
                            );
                        }
                    }
                }
            }
        }
    }

    fn check(&self, level: Level) {
        let c = self.description();
        let input = Size {
            height: self.size[0],
            width: self.size[1],
            channels: c.input,
        };
        let output = input.after(&c);
        let network = Network {
            blocks: vec![Block::ConvNorm(ConvNorm {
                convolution: c.clone(),
                norm: Norm::new("n"),
                activation: Activation::Identity,
            })],
        };
        let mut parameters = Parameters::initialised(&network, 3);
        let convolution = Convolution::on(level, &c, self.batch, input, output, &parameters);
        let weights = parameters.values()[parameters.weight_place("c.weight")].to_vec();
        let (x_len, y_len) = (self.batch * input.len(), self.batch * output.len());
        let mut scratch = vec![f32::NAN; convolution.forward_scratch()];
        let parts = super::super::slices(self.batch).len();

        // The input is relu(scale · raw + shift), the gradient a linear map of two tensors.
        let (raw, d, other) = (numbers(x_len, 1), numbers(y_len, 2), numbers(y_len, 3));
        let [scale, shift] = [4, 5].map(|seed| numbers(c.input, seed));
        let coefficients = [6, 7, 8].map(|seed| numbers(c.output, seed));
        let x = Operand::Activated {
            raw: &raw,
            scale: &scale,
            shift: &shift,
            activation: Activation::Relu,
        };
        let dy = Operand::Gradient {
            d: &d,
            raw: &other,
            coefficients: [&coefficients[0], &coefficients[1], &coefficients[2]],
        };
        let (mut stored_x, mut stored_dy) = (vec![0.0; x_len], vec![0.0; y_len]);
        x.write(level, c.input, &mut stored_x);
        dy.write(level, c.output, &mut stored_dy);

        let mut y_true = vec![0.0f64; y_len];
        let mut dx_true = vec![0.0f64; x_len];
        let mut dw_true = vec![0.0f64; weights.len()];
        self.products(|i, j, k| {
            let (x, dy) = (f64::from(stored_x[i]), f64::from(stored_dy[j]));
            let w = f64::from(weights[k]);
            y_true[j] += x * w;
            dx_true[i] += dy * w;
            dw_true[k] += dy * x;
        });

        let mut y = vec![f32::NAN; y_len];
        // Every number is reported exactly once, complete.
        let mut seen: Vec<f64> = vec![0.0; parts];
        convolution.forward(
            &parameters,
            x,
            &mut y,
            &mut scratch,
            &mut seen,
            |seen, first, y| {
                let weighted = y.iter().zip(first..);
                *seen += weighted
                    .map(|(y, i)| f64::from(*y) * (i % 7) as f64)
                    .sum::<f64>();
            },
        );
        close(&y, &y_true, &self.what("y"));
        let reported = y.iter().enumerate();
        let reported: f64 = reported.map(|(i, y)| f64::from(*y) * (i % 7) as f64).sum();
        assert!((seen.iter().sum::<f64>() - reported).abs() < 1e-6 * y_len as f64);

        let (factor, start) = (numbers(c.output, 9), numbers(c.output, 10));
        let folded = Folded {
            scale: &factor,
            shift: &start,
            activation: Activation::Relu,
        };
        // The first pass prepares other weights, the second these, the third finds them prepared.
        let mut kept = Prepared::default();
        let mut others = parameters.clone();
        others.values_mut().fill(3.0);
        for parameters in [&others, &parameters, &parameters] {
            y.fill(f32::NAN);
            scratch.fill(f32::NAN);
            convolution.infer(
                parameters,
                &stored_x,
                &mut y,
                folded,
                &mut kept,
                &mut scratch,
                |_, _| {},
            );
        }
        let expected: Vec<f64> = y_true
            .iter()
            .enumerate()
            .map(|(i, y)| {
                let o = i % c.output;
                (y * f64::from(factor[o]) + f64::from(start[o])).max(0.0)
            })
            .collect();
        close(&y, &expected, &self.what("folded y"));

        let mut scratch = vec![f32::NAN; convolution.backward_scratch()];
        let mut nothing = vec![(); parts];
        let (before, other) = (numbers(x_len, 11), numbers(x_len, 12));
        let zeros = vec![0.0; x_len];
        for (sum, added) in [
            (Sum::Set, &zeros),
            (Sum::Add, &before),
            (Sum::With(&other), &other),
        ] {
            let mut dx = before.clone();
            convolution.input_gradient(
                &parameters,
                dy,
                &mut dx,
                sum,
                &mut scratch,
                &mut nothing,
                |(), _, dx| dx.iter_mut().for_each(|v| *v *= 2.0),
            );
            let expected: Vec<f64> = dx_true
                .iter()
                .zip(added)
                .map(|(dx, added)| 2.0 * (dx + f64::from(*added)))
                .collect();
            close(&dx, &expected, &self.what("dx"));
        }
        for times in 1..=2 {
            convolution.weight_gradient(&mut parameters, x, dy, &mut scratch);
            let expected: Vec<f64> = dw_true.iter().map(|dw| f64::from(times) * dw).collect();
            let found = &parameters.gradients()[parameters.weight_place("c.weight")];
            close(found, &expected, &self.what("dw"));
        }
    }
}

#[test]
fn every_method_equals_the_sums() {
    for level in Level::available() {
        for case in &CASES {
            case.check(level);
        }
    }
}

#[test]
fn methods_are_chosen_by_shape() {
    let expected = "WWWWWWDDPPPPPDDDDDDDDDDUUUUU";
    for (case, expected) in CASES.iter().zip(expected.chars()) {
        let c = case.description();
        let input = Size {
            height: case.size[0],
            width: case.size[1],
            channels: c.input,
        };
        let found = if Unrolled::takes(&c, input) {
            'U'
        } else if Winograd::takes(&c, case.batch, input) {
            'W'
        } else if Pointwise::takes(&c) {
            'P'
        } else {
            'D'
        };
        assert_eq!(found, expected, "{}", case.what("method"));
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for case in [
        &CASES[2], &CASES[4], &CASES[9], &CASES[10], &CASES[11], &CASES[13], &CASES[17], &CASES[24],
    ] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let c = case.description();
                let input = Size {
                    height: case.size[0],
                    width: case.size[1],
                    channels: c.input,
                };
                let output = input.after(&c);
                let network = Network {
                    blocks: vec![Block::ConvNorm(ConvNorm {
                        convolution: c.clone(),
                        norm: Norm::new("n"),
                        activation: Activation::Identity,
                    })],
                };
                let mut parameters = Parameters::initialised(&network, 3);
                let convolution = Convolution::new(&c, case.batch, input, output, &parameters);
                let x = numbers(case.batch * input.len(), 1);
                let dy = numbers(case.batch * output.len(), 2);
                let mut y = vec![0.0; dy.len()];
                let scratch = convolution
                    .forward_scratch()
                    .max(convolution.backward_scratch());
                let mut scratch = vec![0.0; scratch];
                let mut nothing = [(); 8];
                convolution.forward(
                    &parameters,
                    Operand::Plain(&x),
                    &mut y,
                    &mut scratch,
                    &mut nothing,
                    |(), _, _| {},
                );
                let (x, dy) = (Operand::Plain(&x), Operand::Plain(&dy));
                convolution.weight_gradient(&mut parameters, x, dy, &mut scratch);
                (y, parameters.gradients().to_vec())
            })
        };
        assert!(run(1) == run(3), "{}", case.what("threads"));
    }
}
