//! Sums in double precision over rows of single precision.
//!
//! What must be exact beside fast products: squared distances, products that decide a rank, Gram matrices. The terms are
//! exact in double precision or nearly so, and are added in eight partial sums, always the same ones; no instruction set
//! fuses a product with its sum here. So, unlike elsewhere, all [`Level`]s give the same bits.

use super::simd::{Kernel, Level, Simd};

/// Partial sums of a row.
const SUMS: usize = 8;

/// The product of two rows.
///
/// # Panics
/// If their lengths differ.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "two rows of one width");
    // SAFETY: the kernel works on slices.
    unsafe { Level::current().run(Terms(a, b, |a: f64, b: f64| a * b)) }
}

/// The squared distance of two rows.
///
/// # Panics
/// If their lengths differ.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "two rows of one width");
    let term = |a: f64, b: f64| (a - b) * (a - b);
    // SAFETY: the kernel works on slices.
    unsafe { Level::current().run(Terms(a, b, term)) }
}

/// Adds to `sums`, `[columns from first on]`, the products of column `first` of `rows`, `[rows, width]`, with itself and the
/// columns after it.
///
/// # Panics
/// If the sums are not as many as those columns.
pub fn add_column_products(rows: &[f64], width: usize, first: usize, sums: &mut [f64]) {
    assert_eq!(first + sums.len(), width, "a sum for each column");
    let kernel = ColumnProducts {
        rows,
        width,
        first,
        sums,
    };
    // SAFETY: the kernel works on slices.
    unsafe { Level::current().run(kernel) }
}

/// The sum of what a function makes of the numbers of two rows.
struct Terms<'a, F>(&'a [f32], &'a [f32], F);

impl<F: Fn(f64, f64) -> f64> Kernel for Terms<'_, F> {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<S: Simd>(self, _: S) -> f64 {
        let Self(a, b, term) = self;
        let mut sums = [0.0f64; SUMS];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<SUMS>(), b.as_chunks::<SUMS>());
        for (a, b) in a.iter().zip(b) {
            for i in 0..SUMS {
                sums[i] += term(f64::from(a[i]), f64::from(b[i]));
            }
        }
        for ((sum, &a), &b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
            *sum += term(f64::from(a), f64::from(b));
        }
        sums.iter().sum()
    }
}

/// A row of a Gram matrix, from its diagonal on.
struct ColumnProducts<'a> {
    rows: &'a [f64],
    width: usize,
    first: usize,
    sums: &'a mut [f64],
}

impl Kernel for ColumnProducts<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, _: S) {
        for row in self.rows.chunks_exact(self.width) {
            let factor = row[self.first];
            for (sum, &value) in self.sums.iter_mut().zip(&row[self.first..]) {
                *sum += factor * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 997.0 - 1.0;
        (0..count).map(number).collect()
    }

    #[test]
    fn sums_are_those_of_a_plain_loop() {
        for width in [0, 1, 7, 8, 9, 64, 333] {
            let (a, b) = (numbers(width, 1), numbers(width, 2));
            let pairs = || {
                a.iter()
                    .zip(&b)
                    .map(|(&a, &b)| (f64::from(a), f64::from(b)))
            };
            let product: f64 = pairs().map(|(a, b)| a * b).sum();
            let square: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
            assert!((dot(&a, &b) - product).abs() < 1e-12);
            assert!((distance(&a, &b) - square).abs() < 1e-12);
        }
    }

    #[test]
    fn all_levels_give_the_same_bits() {
        let (a, b) = (numbers(1001, 3), numbers(1001, 4));
        let mut found = Vec::new();
        for level in Level::available() {
            // SAFETY: the kernel works on slices.
            found.push(unsafe { level.run(Terms(&a, &b, |a: f64, b: f64| a * b)) }.to_bits());
        }
        assert!(found.iter().all(|bits| *bits == found[0]));
    }

    #[test]
    fn columns_are_multiplied_with_those_after_them() {
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut sums = [100.0, 0.0];
        add_column_products(&rows, 3, 1, &mut sums);
        assert_eq!(sums, [100.0 + 4.0 + 25.0, 6.0 + 30.0]);
    }
}
