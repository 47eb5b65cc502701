//! Bands of every operand against their definition.

use super::*;

fn numbers(n: usize, step: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * step).sin()).collect()
}

#[test]
fn bands_are_the_mapped_image_between_zeros() {
    let (height, width) = (5, 4);
    for channels in [1, 3, 16, 37, 64, 83] {
        let len = height * width * channels;
        let (raw, d) = (numbers(len, 0.7), numbers(len, 1.3));
        let [a, b, c] = [0.3, 0.9, 1.7].map(|step| numbers(channels, step));
        let operands = [
            Operand::Plain(&raw),
            Operand::Activated {
                raw: &raw,
                scale: &a,
                shift: &b,
                activation: Activation::Relu,
            },
            Operand::Gradient {
                d: &d,
                raw: &raw,
                coefficients: [&a, &b, &c],
            },
        ];
        for (kind, operand) in operands.into_iter().enumerate() {
            let value = |i: usize| {
                let k = i % channels;
                match kind {
                    0 => raw[i],
                    1 => (a[k] * raw[i] + b[k]).max(0.0),
                    _ => a[k] * d[i] + b[k] * raw[i] + c[k],
                }
            };
            let band = Band {
                operand,
                height,
                width,
                channels,
                first: -1,
                rows: 7,
                left: 1,
                columns: 7,
            };
            for level in Level::available() {
                let mut out = vec![f32::NAN; band.len()];
                band.fill(level, &mut out);
                for (at, &found) in out.iter().enumerate() {
                    let (pixel, k) = (at / channels, at % channels);
                    let (i, j) = ((pixel / 7).wrapping_sub(1), (pixel % 7).wrapping_sub(1));
                    let expected = if i < height && j < width {
                        value((i * width + j) * channels + k)
                    } else {
                        0.0
                    };
                    assert!(
                        (found - expected).abs() < 1e-6,
                        "{level}, operand {kind}, {channels} channels, number {at}: {found}, not {expected}"
                    );
                }
                let mut all = vec![f32::NAN; len];
                operand.write(level, channels, &mut all);
                let worst = all.iter().enumerate().map(|(i, v)| (v - value(i)).abs());
                assert!(worst.fold(0.0, f32::max) < 1e-6);
            }
        }
    }
}

#[test]
fn sums_are_activated() {
    for level in Level::available() {
        for len in [1, 15, 64, 200] {
            let x = numbers(len, 0.7);
            let before = numbers(len, 1.9);
            let mut y = before.clone();
            add_and_activate(level, &x, Activation::Relu, &mut y);
            for i in 0..len {
                assert_eq!(y[i], (x[i] + before[i]).max(0.0), "{level} {len} {i}");
            }
        }
    }
}
