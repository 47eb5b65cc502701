//! The activations and their derivatives on vectors.
//!
//! Kernels take the [`Activation`] as a value and choose once per group of vectors, not per vector: one copy of the
//! expensive part of a kernel serves all activations. The order of operands of minimum and maximum is such that what is
//! not a number stays so: a diverged network must not look healthy behind a ReLU.

use super::simd::Simd;
use crate::network::Activation;

/// Runs a statement for every index below `$n`, at most seven, without a loop: an array that is indexed by a loop
/// variable which the compiler does not unroll would lie in memory instead of registers.
macro_rules! each {
    ($n:expr, $i:ident, $body:block) => {
        each!(@ $n, $i, $body, 0 1 2 3 4 5 6)
    };
    (@ $n:expr, $i:ident, $body:block, $($index:literal)*) => {{
        $(if $index < $n {
            #[allow(non_upper_case_globals, reason = "reads as a loop variable")]
            const $i: usize = $index;
            $body
        })*
    }};
}
pub(super) use each;

/// Replaces every vector, at most seven, by its activation.
#[inline(always)]
pub fn apply<S: Simd, const Q: usize>(s: S, activation: Activation, z: &mut [S::Vector; Q]) {
    match activation {
        Activation::Identity => {}
        Activation::Relu => each!(Q, i, { z[i] = s.max(s.zero(), z[i]) }),
        Activation::Relu6 => {
            each!(Q, i, {
                z[i] = s.min(s.splat(6.0), s.max(s.zero(), z[i]));
            });
        }
        Activation::HardSwish => each!(Q, i, { z[i] = hard_swish(s, z[i]) }),
        Activation::Swish => each!(Q, i, { z[i] = s.mul(z[i], s.sigmoid(z[i])) }),
    }
}

/// Replaces every `z`, at most seven, by its activation, and every `d` by its product with the derivative at `z`.
#[inline(always)]
pub fn gradient<S: Simd, const Q: usize>(
    s: S,
    activation: Activation,
    z: &mut [S::Vector; Q],
    d: &mut [S::Vector; Q],
) {
    match activation {
        Activation::Identity => {}
        Activation::Relu => each!(Q, i, {
            d[i] = s.where_greater(z[i], s.zero(), d[i]);
            z[i] = s.max(s.zero(), z[i]);
        }),
        Activation::Relu6 => each!(Q, i, {
            let six = s.splat(6.0);
            d[i] = s.where_greater(six, z[i], s.where_greater(z[i], s.zero(), d[i]));
            z[i] = s.min(six, s.max(s.zero(), z[i]));
        }),
        Activation::HardSwish => each!(Q, i, {
            // Where the clamp is not active the derivative is t + z/6, elsewhere t itself (0 or 1).
            let (open, t) = hard_sigmoid(s, z[i]);
            let slope = s.where_equal(open, t, s.mul(z[i], s.splat(1.0 / 6.0)));
            d[i] = s.mul(d[i], s.add(t, slope));
            z[i] = s.mul(z[i], t);
        }),
        Activation::Swish => each!(Q, i, {
            // σ + z σ (1 − σ)
            let t = s.sigmoid(z[i]);
            let a = s.mul(z[i], t);
            d[i] = s.mul(d[i], s.add(t, s.sub(a, s.mul(a, t))));
            z[i] = a;
        }),
    }
}

/// z · min(max(z/6 + 1/2, 0), 1).
#[inline(always)]
pub fn hard_swish<S: Simd>(s: S, z: S::Vector) -> S::Vector {
    s.mul(z, hard_sigmoid(s, z).1)
}

/// z/6 + 1/2, and that between 0 and 1.
#[inline(always)]
fn hard_sigmoid<S: Simd>(s: S, z: S::Vector) -> (S::Vector, S::Vector) {
    let open = s.fmadd(z, s.splat(1.0 / 6.0), s.splat(0.5));
    (open, s.min(s.max(open, s.zero()), s.splat(1.0)))
}

/// The activation of one number; the vectors' formulas, for the few places that are not worth a vector.
pub fn scalar(activation: Activation, z: f32) -> f32 {
    match activation {
        Activation::Identity => z,
        Activation::Relu => z.max(0.0),
        Activation::Relu6 => z.clamp(0.0, 6.0),
        Activation::HardSwish => z * (z / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::Swish => z / (1.0 + (-z).exp()),
    }
}

/// The derivative of the activation at `z`.
pub fn scalar_slope(activation: Activation, z: f32) -> f32 {
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu => f32::from(z > 0.0),
        Activation::Relu6 => f32::from(z > 0.0 && z < 6.0),
        Activation::HardSwish if z <= -3.0 => 0.0,
        Activation::HardSwish if z >= 3.0 => 1.0,
        Activation::HardSwish => z / 3.0 + 0.5,
        Activation::Swish => {
            let t = 1.0 / (1.0 + (-z).exp());
            t + z * t * (1.0 - t)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::{Kernel, Level};

    struct Both<'a>(Activation, &'a [f32; 16], &'a mut [[f32; 16]; 3]);

    impl Kernel for Both<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<S: Simd>(self, s: S) {
            // SAFETY: the arrays have 16 numbers, a multiple of the lanes.
            unsafe {
                for i in (0..16).step_by(S::LANES) {
                    let z = s.load(self.1.as_ptr().add(i));
                    let mut a = [z];
                    apply(s, self.0, &mut a);
                    s.store(self.2[0].as_mut_ptr().add(i), a[0]);
                    let (mut a, mut d) = ([z], [s.splat(2.0)]);
                    gradient(s, self.0, &mut a, &mut d);
                    s.store(self.2[1].as_mut_ptr().add(i), a[0]);
                    s.store(self.2[2].as_mut_ptr().add(i), d[0]);
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for level in Level::available() {
            for activation in [
                Activation::Identity,
                Activation::Relu,
                Activation::Relu6,
                Activation::HardSwish,
                Activation::Swish,
            ] {
                let mut out = [[0.0; 16]; 3];
                // SAFETY: the arguments are arrays.
                unsafe { level.run(Both(activation, &[f32::NAN; 16], &mut out)) };
                assert!(out[0].iter().chain(&out[1]).all(|v| v.is_nan()));
            }
        }
    }

    #[test]
    fn vectors_agree_with_the_formulas_and_their_differences() {
        let all = [
            Activation::Identity,
            Activation::Relu,
            Activation::Relu6,
            Activation::HardSwish,
            Activation::Swish,
        ];
        // None of the points is within the step of a kink.
        let z: [f32; 16] = std::array::from_fn(|i| (i as f32 - 7.6) * 1.1);
        for level in Level::available() {
            for activation in all {
                let mut out = [[0.0; 16]; 3];
                // SAFETY: the arguments are arrays.
                unsafe { level.run(Both(activation, &z, &mut out)) };
                for i in 0..16 {
                    let a = scalar(activation, z[i]);
                    let h = 1e-2;
                    let slope =
                        (scalar(activation, z[i] + h) - scalar(activation, z[i] - h)) / 0.02;
                    assert!((out[0][i] - a).abs() < 1e-5, "{level} {activation:?}");
                    assert!((out[1][i] - a).abs() < 1e-5, "{level} {activation:?}");
                    assert!(
                        (out[2][i] - 2.0 * slope).abs() < 1e-3,
                        "{level} {activation:?}"
                    );
                    assert!((scalar_slope(activation, z[i]) - slope).abs() < 1e-3);
                }
            }
        }
    }
}
