//! Passes over rows against plain `f64` loops, for every instruction set and widths with and without a rest.

use super::*;

/// Numbers of a wave, no two alike, around `middle`.
fn wave(len: usize, middle: f32) -> Vec<f32> {
    (0..len)
        .map(|i| middle + (i as f32 * 0.7).sin() + (i as f32 * 0.013).cos())
        .collect()
}

const WIDTHS: [usize; 5] = [3, 16, 24, 64, 77];

#[test]
fn moments_keep_their_digits_far_from_zero_and_in_any_pieces() {
    for level in Level::available() {
        for n in WIDTHS {
            let rows = 1000;
            let values = wave(rows * n, 1000.0);
            let mut whole = Moments::new(n);
            whole.add(level, &values);
            let mut parts = Moments::new(n);
            let mut rest = Moments::new(n);
            parts.add(level, &values[..300 * n]);
            rest.add(level, &values[300 * n..]);
            parts.merge(&rest);
            for moments in [&whole, &parts] {
                assert_eq!(moments.count(), rows as f64);
                for c in 0..n {
                    let column = || values[c..].iter().step_by(n).map(|&v| f64::from(v));
                    let mean = column().sum::<f64>() / rows as f64;
                    let squares: f64 = column().map(|v| (v - mean).powi(2)).sum();
                    assert!((moments.mean()[c] - mean).abs() < 1e-3, "{level} {n}");
                    assert!(
                        (moments.squares()[c] / squares - 1.0).abs() < 1e-3,
                        "{level} {n}: {} {squares}",
                        moments.squares()[c]
                    );
                }
            }
        }
    }
}

#[test]
fn a_constant_channel_has_no_variance() {
    let mut moments = Moments::new(5);
    moments.add(Level::current(), &[77.7; 5 * 700]);
    assert!(moments.squares().iter().all(|&s| s / 700.0 < 1e-8));
}

#[test]
fn normalising_and_its_gradient_follow_the_formulas() {
    let rows = 300;
    for level in Level::available() {
        for n in WIDTHS {
            let (x, other, d) = (
                wave(rows * n, 0.1),
                wave(rows * n, -0.4),
                wave(rows * n, 0.0),
            );
            let [scale, shift, scale2, shift2, inverse, mean] =
                [0.9, 0.2, 1.1, -0.3, 1.3, 0.05].map(|middle| wave(n, middle));
            let affine = Affine {
                scale: &scale,
                shift: &shift,
            };
            let own = Affine {
                scale: &scale2,
                shift: &shift2,
            };
            let standard = Affine {
                scale: &inverse,
                shift: &mean,
            };
            for affine_of_addend in [None, Some(own)] {
                let addend = Some(Addend {
                    values: &other,
                    affine: affine_of_addend,
                });
                let z = |i: usize| {
                    let c = i % n;
                    let side = match affine_of_addend {
                        Some(_) => scale2[c] * other[i] + shift2[c],
                        None => other[i],
                    };
                    scale[c] * x[i] + shift[c] + side
                };
                let mut y = vec![0.0; rows * n];
                normalise(level, Some(&x), affine, addend, Activation::Relu, &mut y);
                let mut in_place = x.clone();
                normalise(level, None, affine, addend, Activation::Relu, &mut in_place);
                assert_eq!(y, in_place);
                let mut gradient = d.clone();
                let mut sums = GradientSums::new(n);
                activation_gradient(
                    level,
                    &x,
                    affine,
                    addend,
                    Activation::Relu,
                    standard,
                    &mut gradient,
                    &mut sums,
                );
                let (mut plain, mut normalised) = (vec![0.0; n], vec![0.0; n]);
                for i in 0..rows * n {
                    let (z, c) = (z(i), i % n);
                    assert!((y[i] - z.max(0.0)).abs() < 1e-5);
                    if z.abs() > 1e-5 {
                        assert_eq!(gradient[i], if z > 0.0 { d[i] } else { 0.0 });
                    }
                    plain[c] += f64::from(gradient[i]);
                    normalised[c] +=
                        f64::from(gradient[i]) * f64::from(inverse[c] * x[i] + mean[c]);
                }
                for c in 0..n {
                    assert!((sums.plain[c] - plain[c]).abs() < 1e-3);
                    assert!((sums.normalised[c] - normalised[c]).abs() < 1e-3);
                }
                let mut out = vec![0.0; rows * n];
                let coefficients = [&scale[..], &shift, &mean];
                norm_gradient(level, coefficients, &x, &d, &mut out);
                for (i, out) in out.iter().enumerate() {
                    let expected = scale[i % n] * d[i] + shift[i % n] * x[i] + mean[i % n];
                    assert!((out - expected).abs() < 1e-5);
                }
            }
        }
    }
}
