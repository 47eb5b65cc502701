//! Every transform by its algebra: one tile forward and back equals the direct sums.

use super::*;
use crate::{
    kernel::{Level, gemm::packed_len},
    network::Activation,
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

/// The element (k, n) of a packed matrix.
fn unpack(level: Level, packed: &[f32], k: usize, n: usize, [i, j]: [usize; 2]) -> f32 {
    let panel = crate::kernel::gemm::panels(level, n)
        .find(|(column, vectors)| (*column..column + vectors * level.lanes()).contains(&j));
    let (column, vectors) = panel.unwrap();
    packed[k * column + i * vectors * level.lanes() + j - column]
}

#[test]
fn a_tile_of_products_is_a_tile_of_direct_sums() {
    for level in Level::available() {
        for (inputs, outputs) in [(1, 1), (3, 17), (16, 64), (21, 5)] {
            let weights = numbers(outputs * inputs * 9, 1);
            let band = numbers(SIDE * SIDE * inputs, 2);
            let mut points = vec![0.0; POINTS * inputs];
            let tiles = InputTiles {
                line: Input,
                band: band.as_ptr(),
                pitch: SIDE * inputs,
                channels: inputs,
                tiles: (1, 1),
                out: points.as_mut_ptr(),
                plane: inputs,
            };
            // SAFETY: one tile, and room for it at every point.
            unsafe { level.run(tiles) };
            let plane = packed_len(inputs, outputs) + 3;
            let mut packed = vec![f32::NAN; POINTS * plane];
            let source = FilterSource {
                weights: &weights,
                row: 9,
                column: inputs * 9,
                flip: false,
                scale: None,
            };
            filters(level, source, inputs, 0, outputs, plane, &mut packed);
            let mut products = vec![0.0; POINTS * outputs];
            for point in 0..POINTS {
                for o in 0..outputs {
                    products[point * outputs + o] = (0..inputs)
                        .map(|c| {
                            let at = [c, o];
                            points[point * inputs + c]
                                * unpack(level, &packed[point * plane..], inputs, outputs, at)
                        })
                        .sum();
                }
            }
            let (rows, columns) = (3, 4);
            let start = numbers(outputs, 3);
            let before = numbers(rows * columns * outputs, 4);
            let mut out = vec![0.0; before.len()];
            let tiles = OutputTiles {
                points: products.as_ptr(),
                plane: outputs,
                channels: outputs,
                tiles: (1, 1),
                out: out.as_mut_ptr(),
                size: (rows, columns),
                start: start.as_ptr(),
                addend: before.as_ptr(),
                activation: Activation::Identity,
            };
            // SAFETY: the tile lies at every point, and the pixels of the size in `out`.
            unsafe { level.run(tiles) };
            for (at, found) in out.iter().enumerate() {
                let (pixel, o) = (at / outputs, at % outputs);
                let (y, x) = (pixel / columns, pixel % columns);
                let mut sum = f64::from(before[at]) + f64::from(start[o]);
                for tap in 0..9 {
                    for c in 0..inputs {
                        let place = (y + tap / 3) * SIDE + x + tap % 3;
                        sum += f64::from(band[place * inputs + c])
                            * f64::from(weights[(o * inputs + c) * 9 + tap]);
                    }
                }
                assert!(
                    (f64::from(*found) - sum).abs() < 2e-5 * (inputs as f64).sqrt(),
                    "{level} {inputs} {outputs}: {found} {sum}"
                );
            }
        }
    }
}

#[test]
fn sums_over_points_are_the_gradient_of_a_filter() {
    for level in Level::available() {
        for inputs in [1, 16, 19] {
            let band = numbers(SIDE * SIDE * inputs, 5);
            let gradient = numbers(TILE * TILE, 6);
            let mut points = vec![0.0; POINTS * inputs];
            let mut outputs = vec![0.0; POINTS];
            // SAFETY: one tile each, and room for it at every point.
            unsafe {
                level.run(InputTiles {
                    line: Input,
                    band: band.as_ptr(),
                    pitch: SIDE * inputs,
                    channels: inputs,
                    tiles: (1, 1),
                    out: points.as_mut_ptr(),
                    plane: inputs,
                });
                level.run(GradientTiles {
                    line: Gradient,
                    band: gradient.as_ptr(),
                    pitch: TILE,
                    channels: 1,
                    tiles: (1, 1),
                    out: outputs.as_mut_ptr(),
                    plane: 1,
                });
            }
            // Two copies that add up to the sums.
            let mut sums = vec![0.0; 2 * POINTS * inputs];
            for (i, point) in points.iter().enumerate() {
                let sum = point * outputs[i / inputs];
                sums[i] = 0.25 * sum;
                sums[POINTS * inputs + i] = 0.75 * sum;
            }
            let mut out = vec![1.0; inputs * 9];
            let kernel = WeightGradient {
                sums: sums.as_ptr(),
                copies: 2,
                copy: POINTS * inputs,
                plane: inputs,
                inputs,
                out: out.as_mut_ptr(),
            };
            // SAFETY: both copies have all points, and there are nine gradients for every input.
            unsafe { level.run(kernel) };
            for (at, found) in out.iter().enumerate() {
                let (c, tap) = (at / 9, at % 9);
                let mut sum = 1.0;
                for (pixel, gradient) in gradient.iter().enumerate() {
                    let place = (pixel / TILE + tap / 3) * SIDE + pixel % TILE + tap % 3;
                    sum += f64::from(*gradient) * f64::from(band[place * inputs + c]);
                }
                assert!(
                    (f64::from(*found) - sum).abs() < 5e-5,
                    "{level} {inputs}: {found} {sum}"
                );
            }
        }
    }
}
