//! Every level against loops in double precision, over odd and even sizes.

use super::*;
use crate::kernel::activation;

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
        (error / norm).sqrt() < 2e-6,
        "{what}: {}",
        (error / norm).sqrt()
    );
}

const SIZES: [(usize, usize, usize); 18] = [
    (1, 1, 1),
    (1, 7, 3),
    (2, 3, 5),
    (5, 16, 16),
    (7, 8, 24),
    (13, 40, 40),
    (14, 24, 72),
    (15, 1, 17),
    (17, 9, 33),
    (28, 72, 24),
    (29, 31, 63),
    (33, 96, 64),
    (49, 6, 100),
    (63, 130, 10),
    (100, 20, 129),
    (200, 27, 88),
    (9, 2100, 65),
    (301, 900, 31),
];

#[test]
fn products_equal_the_loops() {
    for level in Level::available() {
        for (i, &(m, k, n)) in SIZES.iter().enumerate() {
            let (lda, ldb, ldc) = (k + i % 3, n + i % 2, n + i % 4);
            let a = numbers(m * lda, 1);
            let b = numbers(k * ldb, 2);
            let start = numbers(n, 3);
            let before = numbers(m * ldc, 4);
            let mut product = vec![0.0f64; m * n];
            for r in 0..m {
                for j in 0..n {
                    for t in 0..k {
                        product[r * n + j] += f64::from(a[r * lda + t]) * f64::from(b[t * ldb + j]);
                    }
                }
            }
            let mut packed = Packed::new(level, k, n);
            for case in 0..6 {
                let accumulate = case % 2 == 1;
                let with_start = case >= 2;
                let activation = [
                    Activation::Identity,
                    Activation::HardSwish,
                    Activation::Swish,
                ][case / 2];
                let mut expected = product.clone();
                for r in 0..m {
                    for j in 0..n {
                        let e = &mut expected[r * n + j];
                        if accumulate {
                            *e += f64::from(before[r * ldc + j]);
                        }
                        if with_start {
                            *e += f64::from(start[j]);
                        }
                        *e = f64::from(activation::scalar(activation, *e as f32));
                    }
                }
                let sums: Vec<f64> = (0..n)
                    .map(|j| (0..m).map(|r| expected[r * n + j]).sum::<f64>() + 1.0)
                    .collect();
                let squares: Vec<f64> = (0..n)
                    .map(|j| (0..m).map(|r| expected[r * n + j].powi(2)).sum::<f64>() + 2.0)
                    .collect();
                for packing in 0..3 {
                    let mut c = before.clone();
                    let (mut sum, mut square) = (vec![1.0; n], vec![2.0; n]);
                    let finish = Finish {
                        start: with_start.then_some(&start[..]),
                        accumulate,
                        activation,
                        sums: Some((&mut sum, &mut square)),
                    };
                    let left = Rows {
                        values: &a,
                        stride: lda,
                    };
                    match packing {
                        0 => {
                            let right = Rows {
                                values: &b,
                                stride: ldb,
                            };
                            multiply(level, m, k, n, left, right, &mut c, ldc, finish);
                        }
                        1 => {
                            packed.set_rows(&b, ldb);
                            multiply_packed(m, left, &packed, &mut c, ldc, finish);
                        }
                        _ => {
                            let transposed: Vec<f32> =
                                (0..n * k).map(|e| b[e % k * ldb + e / k] * 0.5).collect();
                            packed.set_transposed(&transposed, k, Some(&vec![2.0; n]));
                            multiply_packed(m, left, &packed, &mut c, ldc, finish);
                        }
                    }
                    let what = format!("{level} {m}×{k}×{n} case {case} packing {packing}");
                    let dense: Vec<f32> = (0..m * n).map(|e| c[e / n * ldc + e % n]).collect();
                    close(&dense, &expected, &what);
                    close(&sum, &sums, &what);
                    close(&square, &squares, &what);
                    for r in 0..m {
                        assert_eq!(
                            c[r * ldc + n..(r + 1) * ldc],
                            before[r * ldc + n..(r + 1) * ldc]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn transposed_products_equal_the_loops() {
    for level in Level::available() {
        for (i, &(m, k, n)) in SIZES.iter().enumerate() {
            let (ldx, ldd, ldc) = (k + i % 3, n + i % 2, n + i % 4);
            let x = numbers(m * ldx, 5);
            let d = numbers(m * ldd, 6);
            let before = numbers(k * ldc, 7);
            let mut c = before.clone();
            let (left, right) = (
                Rows {
                    values: &x,
                    stride: ldx,
                },
                Rows {
                    values: &d,
                    stride: ldd,
                },
            );
            multiply_transposed(level, m, k, n, left, right, &mut c, ldc);
            let mut expected = vec![0.0; k * n];
            for t in 0..k {
                for j in 0..n {
                    expected[t * n + j] = f64::from(before[t * ldc + j])
                        + (0..m)
                            .map(|r| f64::from(x[r * ldx + t]) * f64::from(d[r * ldd + j]))
                            .sum::<f64>();
                }
            }
            let dense: Vec<f32> = (0..k * n).map(|e| c[e / n * ldc + e % n]).collect();
            close(&dense, &expected, &format!("{level} {m}×{k}×{n}"));
            for t in 0..k {
                assert_eq!(
                    c[t * ldc + n..(t + 1) * ldc],
                    before[t * ldc + n..(t + 1) * ldc]
                );
            }
        }
    }
}

#[test]
fn closures_pack_like_rows() {
    for level in Level::available() {
        let b = numbers(11 * 37, 8);
        let mut packed = Packed::new(level, 11, 37);
        packed.set_rows(&b, 37);
        let mut other = vec![9.0; packed_len(11, 37)];
        pack(level, 11, 37, &mut other, |k, n| b[k * 37 + n]);
        let used = 11 * 37usize.next_multiple_of(level.lanes());
        assert_eq!(packed.values()[..used], other[..used]);
    }
}

#[test]
fn columns_pack_like_closures() {
    for level in Level::available() {
        for (k, n) in [(11, 37), (64, 197), (3, 2), (16, 64)] {
            let b = numbers(n * (k + 3), 8);
            let scale = numbers(n, 9);
            let mut packed = vec![9.0; packed_len(k, n)];
            pack_transposed(level, k, n, &b, k + 3, Some(&scale), &mut packed);
            let mut other = vec![9.0; packed_len(k, n)];
            pack(level, k, n, &mut other, |i, j| {
                b[j * (k + 3) + i] * scale[j]
            });
            assert_eq!(packed, other, "{level} {k} {n}");
        }
    }
}

#[test]
#[should_panic(expected = "matrix A of 3 × 4 with row distance 4 does not fit into 11 numbers")]
fn short_slices_are_refused() {
    let level = Level::current();
    let rows = Rows::dense(&[0.0; 11], 4);
    let b = Rows::dense(&[0.0; 8], 2);
    multiply(level, 3, 4, 2, rows, b, &mut [0.0; 6], 2, Finish::default());
}
