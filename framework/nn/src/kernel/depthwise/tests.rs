//! Bands against loops in double precision, for every level, kernel, stride and uneven padding.

use super::*;
use crate::kernel::activation::{scalar, scalar_slope};

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
    let (mut error, mut norm) = (0.0, 1e-30);
    for (f, e) in found.iter().zip(expected) {
        error += (f64::from(*f) - e).powi(2);
        norm += e * e;
    }
    assert!(
        (error / norm).sqrt() < 3e-6,
        "{what}: {}",
        (error / norm).sqrt()
    );
}

struct Case {
    rows: Axis,
    columns: Axis,
    channels: usize,
    /// First and end of the output rows (forward) or input rows (backward), as shares of the height.
    band: (usize, usize),
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kernel in [3, 5, 7] {
        for stride in [1, 2] {
            for (i, (height, width)) in
                [(9, 11), (8, 15), (3, 3), (2, 2), (1, 1), (14, 7), (16, 29)]
                    .into_iter()
                    .enumerate()
            {
                let p = kernel / 2;
                let (before, after) = if i % 2 == 0 { (p, p) } else { (p - 1, p + 1) };
                cases.push(Case {
                    rows: Axis::new(height, kernel, stride, before, after),
                    columns: Axis::new(width, kernel, stride, after, before),
                    channels: [16, 24, 40, 3][i % 4],
                    band: [(0, 4), (1, 3), (0, 2), (2, 4)][(i + kernel + stride) % 4],
                });
            }
        }
    }
    cases
}

#[test]
fn forward_equals_the_loops() {
    for level in Level::available() {
        for case in cases() {
            let (rows, columns, n) = (case.rows, case.columns, case.channels);
            let (k, t) = (rows.kernel, rows.stride);
            let block = n.next_multiple_of(16);
            let (first, end) = (rows.output * case.band.0 / 4, rows.output * case.band.1 / 4);
            let x = numbers(rows.input * columns.input * n, 1);
            let w = numbers(k * k * n, 2);
            let padded_rows = (end - first) * t + k;
            let mut buffer = vec![0.0; padded_rows * columns.padded() * block];
            for r in 0..padded_rows {
                let row = (first * t + r) as isize - rows.before as isize;
                if row < 0 || row >= rows.input as isize {
                    continue;
                }
                for c in 0..columns.input {
                    for v in 0..n {
                        buffer[(r * columns.padded() + columns.before + c) * block + v] =
                            x[(row as usize * columns.input + c) * n + v];
                    }
                }
            }
            let mut weight = vec![0.0; k * k * block];
            for tap in 0..k * k {
                weight[tap * block..][..n].copy_from_slice(&w[tap * n..][..n]);
            }
            let mut y = vec![7.0; (end - first) * columns.output * n];
            let (mut sum, mut squares) = (vec![0.0; block], vec![0.0; block]);
            // SAFETY: the buffers were made for it.
            unsafe {
                forward(
                    level,
                    &Forward {
                        kernel: k,
                        stride: t,
                        rows: end - first,
                        width: columns.output,
                        channels: n,
                        input: buffer.as_ptr(),
                        pitch: columns.padded() * block,
                        block,
                        weight: weight.as_ptr(),
                        tap: block,
                        output: y.as_mut_ptr(),
                        pixel: n,
                        sum: sum.as_mut_ptr(),
                        squares: squares.as_mut_ptr(),
                    },
                );
            }
            let mut expected = Vec::new();
            for row in first..end {
                for column in 0..columns.output {
                    for v in 0..n {
                        let mut total = 0.0;
                        for (dy, dx) in (0..k * k).map(|i| (i / k, i % k)) {
                            let (r, c) = (row * t + dy, column * t + dx);
                            let inside = r >= rows.before
                                && r - rows.before < rows.input
                                && c >= columns.before
                                && c - columns.before < columns.input;
                            if inside {
                                let (r, c) = (r - rows.before, c - columns.before);
                                total += f64::from(x[(r * columns.input + c) * n + v])
                                    * f64::from(w[(dy * k + dx) * n + v]);
                            }
                        }
                        expected.push(total);
                    }
                }
            }
            let what = format!("{level} {rows:?} {columns:?}");
            close(&y, &expected, &what);
            let channel = |f: fn(f64) -> f64| -> Vec<f64> {
                (0..n)
                    .map(|v| expected.iter().skip(v).step_by(n).map(|&e| f(e)).sum())
                    .collect()
            };
            if end > first {
                close(&squares, &channel(|e| e * e), &what);
                let scale: f64 = channel(f64::abs).iter().sum();
                for (found, e) in sum.iter().zip(channel(|e| e)) {
                    assert!((f64::from(*found) - e).abs() < 1e-6 * scale, "{what}");
                }
            }
        }
    }
}

#[test]
fn backward_equals_the_loops() {
    let activations = [
        Activation::Relu,
        Activation::HardSwish,
        Activation::Swish,
        Activation::Relu6,
        Activation::Identity,
    ];
    for level in Level::available() {
        for (number, case) in cases().into_iter().enumerate() {
            let (rows, columns) = (case.rows, case.columns);
            let (k, t) = (rows.kernel, rows.stride);
            let n = case.channels.next_multiple_of(16);
            let activation = activations[number % 5];
            let (first, end) = (rows.input * case.band.0 / 4, rows.input * case.band.1 / 4);
            if first == end {
                continue;
            }
            let xhat = numbers((end - first) * columns.input * n, 3);
            let dy = numbers(rows.output * columns.output * n, 4);
            let w = numbers(k * k * n, 5);
            let (gamma, beta) = (numbers(n, 6), numbers(n, 7));
            let (lines, line) = (rows.reached(first, end), columns.reached(0, columns.input));
            let mut buffer = Vec::new();
            for r in lines.clone() {
                for c in line.clone() {
                    for v in 0..n {
                        let inside = (0..rows.output as isize).contains(&r)
                            && (0..columns.output as isize).contains(&c);
                        buffer.push(if inside {
                            dy[(r as usize * columns.output + c as usize) * n + v]
                        } else {
                            0.0
                        });
                    }
                }
            }
            let mut normalised = xhat.clone();
            let mut activated = vec![0.0; xhat.len()];
            let (mut sum, mut product) = (vec![0.0; n], vec![0.0; n]);
            let mut dw = vec![0.0; k * k * n];
            // SAFETY: the buffers were made for it.
            unsafe {
                backward(
                    level,
                    &Backward {
                        rows,
                        columns,
                        first,
                        end,
                        block: n,
                        gradient: buffer.as_ptr(),
                        weight: w.as_ptr(),
                        tap: n,
                        normalised: normalised.as_mut_ptr(),
                        activated: activated.as_mut_ptr(),
                        activation,
                        gamma: gamma.as_ptr(),
                        beta: beta.as_ptr(),
                        sum: sum.as_mut_ptr(),
                        product: product.as_mut_ptr(),
                        weight_gradient: dw.as_mut_ptr(),
                    },
                );
            }
            let mut expected_dz = vec![0.0; xhat.len()];
            let mut expected_dw = vec![0.0; k * k * n];
            let (mut sums, mut products) = (vec![0.0; n], vec![0.0; n]);
            for i in 0..xhat.len() {
                let (row, column, v) =
                    (first + i / n / columns.input, i / n % columns.input, i % n);
                let z = gamma[v] * xhat[i] + beta[v];
                let mut da = 0.0;
                for (ty, tx) in (0..k * k).map(|i| (i / k, i % k)) {
                    let (r, c) = (row + rows.before, column + columns.before);
                    if r < ty || c < tx || (r - ty) % t != 0 || (c - tx) % t != 0 {
                        continue;
                    }
                    let (r, c) = ((r - ty) / t, (c - tx) / t);
                    if r < rows.output && c < columns.output {
                        let d = f64::from(dy[(r * columns.output + c) * n + v]);
                        da += d * f64::from(w[(ty * k + tx) * n + v]);
                        expected_dw[(ty * k + tx) * n + v] += d * f64::from(scalar(activation, z));
                    }
                }
                let dz = da * f64::from(scalar_slope(activation, z));
                expected_dz[i] = dz;
                sums[v] += dz;
                products[v] += dz * f64::from(xhat[i]);
            }
            let what = format!("{level} {activation:?} {rows:?} {columns:?}");
            close(&normalised, &expected_dz, &what);
            close(&dw, &expected_dw, &what);
            close(&sum, &sums, &what);
            close(&product, &products, &what);
        }
    }
}
