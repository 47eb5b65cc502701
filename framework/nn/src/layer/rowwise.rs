//! Passes over tensors whose rows are pixels, with one set of numbers for each channel: batch norm and what follows it.
//!
//! Rows are taken in groups, and within a group the channels in columns of up to four vectors, so that channel sums stay
//! in registers. Sums of a group are taken in `f32` and added to `f64` totals: a plain `f32` sum over a hundred thousand
//! pixels would lose the digits that a variance needs.

use crate::{
    kernel::{Level, dense::Operand},
    network::Activation,
};

mod kernels;
#[cfg(test)]
mod tests;

use kernels::{ActivationGradient, MomentsOf, Normalise};

/// Rows of a group.
const GROUP: usize = 256;
/// A factor and a start value for each channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine<'a> {
    /// Factors.
    pub scale: &'a [f32],
    /// Start values.
    pub shift: &'a [f32],
}

/// A tensor to be added, after its own affine map where it has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addend<'a> {
    /// The tensor.
    pub values: &'a [f32],
    /// Its map.
    pub affine: Option<Affine<'a>>,
}

/// Count, mean and sum of squared deviations of every channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// Nothing seen yet, of `n` channels.
    pub fn new(n: usize) -> Self {
        Self {
            count: 0.0,
            mean: vec![0.0; n],
            squares: vec![0.0; n],
        }
    }

    /// Forgets what was seen.
    pub fn clear(&mut self) {
        self.count = 0.0;
        self.mean.fill(0.0);
        self.squares.fill(0.0);
    }

    /// Takes in all rows of `values`.
    pub fn add(&mut self, level: Level, values: &[f32]) {
        let n = self.mean.len();
        let rows = values.len() / n;
        assert_eq!(values.len(), rows * n, "rows are incomplete");
        for group in values.chunks(GROUP * n) {
            let count = (group.len() / n) as f64;
            let total = self.count + count;
            let kernel = MomentsOf {
                values: group.as_ptr(),
                rows: group.len() / n,
                n,
                old: self.count / total * count,
                share: count / total,
                mean: &mut self.mean,
                squares: &mut self.squares,
            };
            // SAFETY: the group has that many rows of n numbers.
            unsafe { level.run(kernel) };
            self.count = total;
        }
    }

    /// Takes in what `other` saw.
    pub fn merge(&mut self, other: &Self) {
        let total = self.count + other.count;
        if other.count == 0.0 {
            return;
        }
        let pairs = other.mean.iter().zip(&other.squares);
        for ((mean, squares), (m, s)) in self.mean.iter_mut().zip(&mut self.squares).zip(pairs) {
            let difference = m - *mean;
            *mean += difference * (other.count / total);
            *squares += s + difference * difference * (self.count / total * other.count);
        }
        self.count = total;
    }

    /// Number of rows seen.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Mean of every channel.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Sum of squared deviations from the mean of every channel.
    pub fn squares(&self) -> &[f64] {
        &self.squares
    }
}

/// y = activation(scale · x + shift + addend) for rows of n numbers; x is `y` itself where absent.
pub(crate) fn normalise(
    level: Level,
    x: Option<&[f32]>,
    affine: Affine<'_>,
    addend: Option<Addend<'_>>,
    activation: Activation,
    y: &mut [f32],
) {
    let n = affine.scale.len();
    let rows = y.len() / n;
    assert!(y.len() == rows * n && x.is_none_or(|x| x.len() == y.len()));
    check(affine, addend, y.len());
    let out = y.as_mut_ptr();
    let kernel = Normalise {
        x: x.map_or(out.cast_const(), <[f32]>::as_ptr),
        y: out,
        n,
        rows,
        affine,
        addend,
        activation,
    };
    // SAFETY: all lengths were checked; x may be y because every number is read before it is written.
    unsafe { level.run(kernel) }
}

fn check(affine: Affine<'_>, addend: Option<Addend<'_>>, len: usize) {
    let n = affine.scale.len();
    assert_eq!(affine.shift.len(), n);
    if let Some(addend) = addend {
        assert_eq!(addend.values.len(), len);
        if let Some(affine) = addend.affine {
            assert!(affine.scale.len() == n && affine.shift.len() == n);
        }
    }
}

/// Sums over rows that the backward pass of a batch norm needs, of every channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GradientSums {
    /// Σ dz.
    pub plain: Vec<f64>,
    /// Σ dz · (x − mean) / deviation.
    pub normalised: Vec<f64>,
}

impl GradientSums {
    /// Zeros for `n` channels.
    pub fn new(n: usize) -> Self {
        Self {
            plain: vec![0.0; n],
            normalised: vec![0.0; n],
        }
    }

    /// Sets all to zero.
    pub fn clear(&mut self) {
        self.plain.fill(0.0);
        self.normalised.fill(0.0);
    }

    /// Adds those of another part of the batch.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.plain.iter_mut().zip(&other.plain) {
            *a += b;
        }
        for (a, b) in self.normalised.iter_mut().zip(&other.normalised) {
            *a += b;
        }
    }
}

/// Multiplies the gradient `d` by the activation's derivative at scale · x + shift + addend, and adds channel sums of
/// the result, `standard` being the map from x to mean 0 and deviation 1.
#[expect(
    clippy::too_many_arguments,
    reason = "every operand is a tensor or a channel array of its own"
)]
pub(crate) fn activation_gradient(
    level: Level,
    x: &[f32],
    affine: Affine<'_>,
    addend: Option<Addend<'_>>,
    activation: Activation,
    standard: Affine<'_>,
    d: &mut [f32],
    sums: &mut GradientSums,
) {
    let n = affine.scale.len();
    let rows = d.len() / n;
    assert!(d.len() == rows * n && x.len() == d.len());
    check(affine, addend, d.len());
    check(standard, None, d.len());
    assert!(standard.scale.len() == n && sums.plain.len() == n && sums.normalised.len() == n);
    let kernel = ActivationGradient {
        x: x.as_ptr(),
        d: d.as_mut_ptr(),
        n,
        rows,
        affine,
        addend,
        activation,
        standard,
        sums,
    };
    // SAFETY: all lengths were checked.
    unsafe { level.run(kernel) }
}

/// out = factor · d + slope · x + shift with one of each for every channel: the backward pass of a batch norm.
pub(crate) fn norm_gradient(
    level: Level,
    coefficients: [&[f32]; 3],
    x: &[f32],
    d: &[f32],
    out: &mut [f32],
) {
    let operand = Operand::Gradient {
        d,
        raw: x,
        coefficients,
    };
    operand.write(level, coefficients[0].len(), out);
}
